//! Expiry: the time of a file is over, and a tombstone follows it.
//!
//! The tombstone has the place right after the version that expires: no writer can choose one in
//! between, so whatever was written since is newer than the tombstone and stays, also where it
//! arrives later. It follows from the version alone: nodes that come to it at the same time make
//! the same one.

use crate::digest::Md5Digest;
use crate::manifest::{Content, UploadId, Version};
use crate::placement::PerNode;
use crate::protocol::decide::QUORUM;
use crate::protocol::read::Reply;
use crate::tag::Tag;

/// The tombstone that `version` expires with, if it is time: three nodes have it as their newest
/// version and their clocks are past its end, and no node that answered has a newer one.
pub fn due(version: &Version, replies: &PerNode<Option<Reply>>) -> Option<Version> {
    let end_ms = version.manifest()?.expires_ms()?;
    let tag = |reply: &Reply| reply.current.as_ref().map(|record| record.version.tag);
    let answers = || replies.iter().flatten();
    if answers().any(|reply| tag(reply) > Some(version.tag)) {
        return None;
    }
    let agrees = |reply: &&Reply| tag(reply) == Some(version.tag) && reply.proposed.ms() >= end_ms;
    if answers().filter(agrees).count() < QUORUM {
        return None;
    }
    successor(version)
}

/// The tombstone right after `version`; `None` at the very end of the order.
fn successor(version: &Version) -> Option<Version> {
    let Tag { hlc, writer } = version.tag;
    let writer = u128::from_be_bytes(writer).checked_add(1)?.to_be_bytes();
    let upload = Md5Digest::of(&[b"expired ".as_slice(), version.upload.bytes()].concat());
    Some(Version {
        tag: Tag { hlc, writer },
        upload: UploadId::new(*upload.bytes()),
        content: Content::Tombstone,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::chunk::ChunkSet;
    use crate::digest::Crc32c;
    use crate::manifest::{EXPIRES, Manifest, Record};
    use crate::placement::NodeId;
    use crate::protocol::samples::{all_of, file, life, tag, upload};
    use crate::tag::{Hlc, TagAnswer, choose_hlc};

    const END_MS: u64 = 1_000;

    fn expiring() -> Version {
        let notes = BTreeMap::from([(EXPIRES.to_owned(), "1970-01-01T00:00:01Z".to_owned())]);
        let md5 = Md5Digest::of(b"1");
        let manifest =
            Manifest::new(md5, 1, [0, 0, 0, 7].map(Crc32c::new), "2026-11-22T10:00:00Z", notes);
        Version { tag: tag(5), upload: upload(1), content: Content::File(manifest.unwrap()) }
    }

    /// What a node may say: its newest version, and its clock.
    fn reply(current: &Version, clock_ms: u64) -> Reply {
        let record = Record { version: current.clone(), have: ChunkSet::ALL };
        let proposed = Hlc::from_ms(clock_ms);
        Reply { incarnation: life(1), current: Some(record), confirmed: true, proposed }
    }

    #[test]
    fn takes_three_nodes_that_agree_and_none_that_knows_better() {
        let (version, older, newer) = (expiring(), file(4, 2), file(6, 3));
        let answers = [
            None,
            Some(reply(&version, END_MS)),
            Some(reply(&version, END_MS - 1)),
            Some(reply(&older, END_MS)),
            Some(reply(&newer, END_MS)),
        ];
        for which in all_of(&[0, 1, 2, 3, 4]) {
            let replies = which.map(|which: usize| answers[which].clone());
            let agree = which.iter().filter(|which| **which == 1).count();
            let expected = agree >= 3 && !which.contains(&4);
            assert_eq!(due(&version, &replies).is_some(), expected, "{which:?}");
        }
    }

    #[test]
    fn what_has_no_end_never_expires() {
        let replies = |version: &Version| NodeId::ALL.map(|_| Some(reply(version, u64::MAX >> 16)));
        assert!(due(&expiring(), &replies(&expiring())).is_some());
        assert_eq!(due(&file(5, 1), &replies(&file(5, 1))), None);
        let tombstone = Version { content: Content::Tombstone, ..expiring() };
        assert_eq!(due(&tombstone, &replies(&tombstone)), None);
    }

    #[test]
    fn no_writer_gets_between_a_version_and_its_end() {
        let version = expiring();
        let end = successor(&version).unwrap();
        assert!(end.tag > version.tag);
        assert_eq!(successor(&version), Some(end.clone()), "all nodes make the same one");
        assert_ne!(end.upload, version.upload);
        let seen = TagAnswer { current: Some(version.tag.hlc), proposed: Hlc::new(0) };
        assert!(choose_hlc(&[seen, seen]) > Some(end.tag.hlc), "who has seen it comes later");
        let last = Version { tag: Tag { writer: [0xFF; 16], ..version.tag }, ..version };
        assert_eq!(successor(&last), None);
    }
}
