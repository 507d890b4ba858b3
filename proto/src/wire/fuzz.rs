//! What must hold for whatever arrives: each function takes any bytes, panics where something
//! does not hold, and tells whether the bytes were read at all.
//!
//! `fuzz/` feeds them invented bytes, the tests below those kept in `fuzz/corpus`.

use prost::Message;
use tonic_types::StatusExt;

use crate::identity::Identity;
use crate::manifest::{Manifest, Record};
use crate::name::{ClusterName, FilePath, MAX_PATH_BYTES, MAX_SEGMENT_BYTES, Prefix, UserName};
use crate::placement::NodeId;
use crate::protocol::NodeRef;
use crate::protocol::listing::Entry;
use crate::tag::Tag;
use crate::wire::status::{DOMAIN, Reason};
use crate::wire::{convert, pb};

/// Paths, prefixes and the names of users and clusters: taken as they are, and never a trick.
pub fn names(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(FilePath::from_bytes(bytes).is_err());
        return false;
    };
    assert_eq!(FilePath::from_bytes(bytes), FilePath::new(text));
    let plain = !text.chars().any(|c| c.is_control() || c == '\\');
    if let Ok(prefix) = Prefix::new(text) {
        assert_eq!(prefix.as_str(), text);
        assert!(plain && text.len() <= MAX_PATH_BYTES && !text.starts_with('/'));
    }
    if let Ok(user) = UserName::new(text) {
        assert_eq!(user.as_str(), text);
        assert!(FilePath::new(text).is_ok() && !text.contains('/') && text.is_ascii());
    }
    if let Ok(cluster) = ClusterName::new(text) {
        assert_eq!(cluster.as_str(), text);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let Ok(path) = FilePath::new(text) else { return false };
    assert_eq!(path.as_str(), text);
    assert!(plain && (1..=MAX_PATH_BYTES).contains(&text.len()));
    for segment in text.split('/') {
        assert!((1..=MAX_SEGMENT_BYTES).contains(&segment.len()));
        assert!(segment != "." && segment != "..");
    }
    assert!(FilePath::new(path.base_name()).is_ok() && text.ends_with(path.base_name()));
    for (end, _) in text.char_indices() {
        assert!(Prefix::new(&text[..end]).is_ok(), "each front of a path is a prefix");
    }
    true
}

/// Messages: the first byte chooses one, the others are its encoding.
pub fn messages(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind % 9 {
        0 => same(bytes, |tag: &pb::Tag| Tag::try_from(tag), |tag| (*tag).into()),
        1 => same(
            bytes,
            |manifest: &pb::Manifest| Manifest::try_from(manifest),
            |value| value.into(),
        ),
        2 => same(bytes, |record: &pb::Record| Record::try_from(record), |value| value.into()),
        3 => same(bytes, |node: &pb::NodeIdentity| Identity::try_from(node), |value| value.into()),
        4 => same(bytes, |node: &pb::NodeRef| NodeRef::try_from(node), |node| (*node).into()),
        5 => path_stat(bytes),
        6 => drop_entry(bytes),
        7 => list_entry(bytes),
        _ => hello(bytes),
    }
}

/// Reads a message, converts it and converts it back: nothing may be lost or made up.
fn same<M, T, E>(bytes: &[u8], read: impl Fn(&M) -> Result<T, E>, back: impl Fn(&T) -> M) -> bool
where
    M: Message + Default + PartialEq + std::fmt::Debug,
    T: PartialEq + std::fmt::Debug,
    E: PartialEq + std::fmt::Debug,
{
    let Ok(message) = M::decode(bytes) else { return false };
    let Ok(value) = read(&message) else { return false };
    let sent = back(&value);
    assert_eq!(sent, message);
    let arrived = M::decode(&*sent.encode_to_vec()).expect("an encoded message is one");
    assert_eq!(read(&arrived), Ok(value));
    true
}

fn path_stat(bytes: &[u8]) -> bool {
    let Ok(stat) = pb::PathStat::decode(bytes) else { return false };
    let node = pb::NodeIdentity {
        cluster: "demo".into(),
        position: 1,
        incarnation: vec![7; 16],
        boot: 1,
        boot_nonce: 1,
        status: pb::NodeStatus::Serving.into(),
    };
    let node = convert::identity(Some(&node)).expect("a valid identity");
    let Ok(reply) = convert::reply(&node, &stat) else { return false };
    assert_eq!(reply.current.as_ref().map(pb::Record::from), stat.current);
    assert_eq!(reply.incarnation, node.incarnation);
    assert_eq!((reply.confirmed, reply.proposed.get()), (stat.confirmed, stat.proposed_hlc));
    true
}

fn drop_entry(bytes: &[u8]) -> bool {
    let Ok(entry) = pb::DropEntry::decode(bytes) else { return false };
    let evidence = convert::drop_evidence(&entry);
    let Ok(nodes) = convert::fenced_by(&entry.fenced_by) else {
        assert_eq!(evidence.is_ok(), entry.never_committed);
        return evidence.is_ok();
    };
    assert!(evidence.is_ok());
    let refs: Vec<pb::NodeRef> = NodeId::ALL
        .into_iter()
        .map(|node| NodeRef { node, incarnation: nodes[node.index()] }.into())
        .collect();
    assert!(refs.iter().all(|node| entry.fenced_by.contains(node)), "none is made up");
    assert_eq!(convert::fenced_by(&refs), Ok(nodes));
    true
}

fn list_entry(bytes: &[u8]) -> bool {
    let Ok(message) = pb::ListEntry::decode(bytes) else { return false };
    if let Ok((path, version, confirmed)) = convert::listed_version(&message) {
        assert_eq!((path.as_str(), confirmed), (&*message.path, message.confirmed));
        let record = pb::Record::from(&version);
        assert_eq!((record.tag.as_ref(), record.kind), (message.tag.as_ref(), message.kind));
        assert_eq!(record.upload_id, message.upload_id);
        if message.kind() == pb::Kind::File {
            assert_eq!(record.manifest, message.manifest);
        }
    }
    let Ok(entry) = Entry::try_from(&message) else { return false };
    assert_eq!((entry.path.as_str(), entry.confirmed), (&*message.path, message.confirmed));
    assert_eq!(Some(pb::Tag::from(entry.tag)), message.tag);
    assert_eq!(entry.file.is_some(), message.kind() == pb::Kind::File);
    if let Some(file) = entry.file {
        assert_eq!(&file.upload.bytes()[..], &message.upload_id[..]);
        assert_eq!((file.size, u32::from(file.x.get())), (message.size, message.x));
        assert_eq!(u32::from(file.have.mask()), message.have);
        assert_eq!(file.manifest.as_deref().map(pb::Manifest::from), message.manifest);
    }
    true
}

fn hello(bytes: &[u8]) -> bool {
    let Ok(message) = pb::HelloRequest::decode(bytes) else { return false };
    let Ok(node) = convert::identity(message.node.as_ref()) else { return false };
    assert_eq!(message.node, Some(pb::NodeIdentity::from(&node)));
    true
}

/// The details of an error: a reason is ours or none at all.
pub fn errors(bytes: &[u8]) -> bool {
    let code = bytes.first().map_or(0, |byte| i32::from(byte % 17));
    let details = bytes.get(1..).unwrap_or_default().to_vec();
    let status =
        tonic::Status::with_details(tonic::Code::from_i32(code), "a message", details.into());
    let _ = status.get_error_details();
    let Some(reason) = Reason::of(&status) else { return false };
    assert_eq!(Reason::from_name(reason.name()), Some(reason));
    assert_eq!(Reason::of(&reason.status(DOMAIN)), Some(reason));
    true
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_holds_and_so_does_what_is_a_bit_away() {
        kept::feed(&[("names", names), ("messages", messages), ("errors", errors)]);
    }
}
