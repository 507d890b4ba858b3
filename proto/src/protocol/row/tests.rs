use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::protocol::samples::{N1, N2, N3, N4, file, life, node_ref, tag, tombstone, upload};
use crate::tag::Hlc;

const GRACE_MS: u64 = 1_000;

/// Node 1 in its first life, with a clock that is never ahead.
fn node() -> NodeView {
    NodeView { now_ms: 5, position: N1, rejoining: false, incarnations: [Some(life(1)); 4] }
}

fn later(ms: u64) -> NodeView {
    NodeView { now_ms: 5 + ms, ..node() }
}

fn rejoining() -> NodeView {
    NodeView { rejoining: true, ..node() }
}

/// A plain Commit that rests on these nodes in their first lives.
fn plain(version: Version, nodes: &[NodeId]) -> CommitOrder {
    CommitOrder {
        version,
        write_back: false,
        sources: nodes.iter().map(|id| node_ref(*id, 1)).collect(),
    }
}

fn write_back(version: Version) -> CommitOrder {
    CommitOrder { version, write_back: true, sources: vec![node_ref(N2, 1)] }
}

fn prepared(uploads: &[u8]) -> Row {
    let mut row = Row::default();
    for number in uploads {
        row.prepare(&node(), upload(*number), ChunkId::C1).unwrap();
    }
    row
}

/// A row where `old` was current and `new` is, both with a chunk.
fn superseded(confirmed: bool) -> Row {
    let mut row = prepared(&[1, 2]);
    for number in [1, 2] {
        let order = plain(file(u64::from(number), number), &[N1, N2, N3]);
        row.commit(&node(), &order).unwrap();
    }
    if confirmed {
        row.confirm(tag(2));
    }
    row
}

/// What can be asked of a row, with two uploads and three tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Prepare(u8),
    Commit(u8, u64),
    CommitElsewhere(u8, u64),
    WriteBack(u8, u64),
    Confirm(u64),
    Fence(u8),
    Drop(u8),
    Prune(u8),
}

fn messages() -> Vec<Message> {
    let mut messages = vec![];
    for number in [1, 2] {
        messages.extend([
            Message::Prepare(number),
            Message::Fence(number),
            Message::Drop(number),
            Message::Prune(number),
        ]);
        for t in 1..=3 {
            messages.extend([
                Message::Commit(number, t),
                Message::CommitElsewhere(number, t),
                Message::WriteBack(number, t),
            ]);
        }
    }
    messages.extend((1..=3).map(Message::Confirm));
    messages
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Done,
    Acked(Ack),
    Fence(FenceAnswer),
    Removed(ChunkSet),
    Kept,
    Refused(Refused),
}

fn apply(row: &mut Row, message: Message) -> Answer {
    let refused = Answer::Refused;
    let commit = |row: &mut Row, order| row.commit(&node(), &order).map(Answer::Acked);
    match message {
        Message::Prepare(u) => {
            row.prepare(&node(), upload(u), ChunkId::C1).map_or_else(refused, |()| Answer::Done)
        }
        Message::Commit(u, t) => {
            commit(row, plain(file(t, u), &[N1, N2, N3])).unwrap_or_else(refused)
        }
        Message::CommitElsewhere(u, t) => {
            commit(row, plain(file(t, u), &[N2, N3, N4])).unwrap_or_else(refused)
        }
        Message::WriteBack(u, t) => commit(row, write_back(file(t, u))).unwrap_or_else(refused),
        Message::Confirm(t) => {
            row.confirm(tag(t));
            Answer::Done
        }
        Message::Fence(u) => row.fence(&node(), upload(u)).map_or_else(refused, Answer::Fence),
        Message::Drop(u) => row
            .drop_upload(&node(), upload(u), &DropEvidence::NeverCommitted)
            .map_or_else(refused, Answer::Removed),
        Message::Prune(u) => row.prune(5, 0, upload(u)).map_or(Answer::Kept, Answer::Removed),
    }
}

fn is_fenced(row: &Row, u: u8) -> bool {
    row.uploads.get(&upload(u)).is_some_and(|upload| upload.state == UploadState::Fenced)
}

fn tag_of(row: &Row, u: u8) -> Option<Tag> {
    row.committed(upload(u)).map(|record| record.version.tag)
}

/// What one message may do to any row.
fn check_step(before: &Row, message: Message, answer: &Answer, after: &Row) {
    let context = format!("{before:?} {message:?} {answer:?} {after:?}");
    assert!(after.tag() >= before.tag(), "{context}");
    if let Answer::Refused(_) = answer {
        assert_eq!(before, after, "{context}");
    }
    for u in [1, 2] {
        let (had, has) = (before.have(upload(u)), after.have(upload(u)));
        let removing = matches!(message, Message::Drop(n) | Message::Prune(n) if n == u);
        assert!(has.covers(had) || removing, "data went: {context}");
        let pruned = message == Message::Prune(u);
        let (was, is) = (tag_of(before, u), tag_of(after, u));
        assert!(was.is_none() || was == is || pruned, "second tag: {context}");
        let unfenced = matches!(message, Message::WriteBack(n, _) if n == u);
        assert!(!is_fenced(before, u) || is_fenced(after, u) || unfenced, "{context}");
    }
    check_answer(before, message, answer, after, &context);
}

fn check_answer(before: &Row, message: Message, answer: &Answer, after: &Row, context: &str) {
    let confirmed = |row: &Row| row.current.as_ref().is_some_and(|current| current.confirmed);
    match (message, answer) {
        (Message::Commit(u, t) | Message::CommitElsewhere(u, t), Answer::Acked(ack)) => {
            assert!(!is_fenced(before, u), "{context}");
            assert_eq!(tag_of(after, u), Some(tag(t)), "{context}");
            assert_eq!(ack.superseded, after.tag() > Some(tag(t)), "{context}");
        }
        (Message::WriteBack(u, t), Answer::Acked(ack)) => {
            assert_eq!(tag_of(after, u), Some(tag(t)), "{context}");
            assert_eq!(ack.superseded, after.tag() > Some(tag(t)), "{context}");
        }
        (Message::Fence(u), Answer::Fence(fence)) => {
            let committed = before.committed(upload(u));
            let expected = committed.map_or(FenceAnswer::Fenced, FenceAnswer::Committed);
            assert_eq!(*fence, expected, "{context}");
        }
        (Message::Drop(u), Answer::Removed(_)) => assert!(is_fenced(before, u), "{context}"),
        (Message::Prune(u), Answer::Removed(_)) => {
            assert!(confirmed(before) && tag_of(before, u) < before.tag(), "{context}");
        }
        (Message::Confirm(t), _) => {
            let now = confirmed(before) || before.tag() == Some(tag(t));
            assert_eq!(confirmed(after), now, "{context}");
        }
        _ => {}
    }
    if after.tag() > before.tag() {
        assert!(!confirmed(after), "{context}");
    }
}

/// Every row that any sequence of messages, of any length, can lead to.
#[test]
fn rules_hold_in_every_reachable_row() {
    let mut seen = BTreeSet::new();
    let mut open = VecDeque::from([Row::default()]);
    while let Some(row) = open.pop_front() {
        if !seen.insert(format!("{row:?}")) {
            continue;
        }
        for message in messages() {
            let mut after = row.clone();
            let answer = apply(&mut after, message);
            check_step(&row, message, &answer, &after);
            let mut twice = after.clone();
            let again = apply(&mut twice, message);
            assert_eq!(after, twice, "a duplicate changed the row: {message:?}");
            let removal = matches!(answer, Answer::Removed(_));
            assert!(again == answer || removal, "{row:?} {message:?}: {answer:?}, {again:?}");
            open.push_back(after);
        }
    }
    assert!(seen.len() > 100, "only {} rows", seen.len());
}

/// The order in which Commits arrive changes neither what is current nor what is kept.
#[test]
fn commits_in_any_order_lead_to_the_same_row() {
    let versions = [file(1, 1), file(2, 2), file(3, 3)];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut rows = BTreeMap::new();
    for order in orders {
        let mut row = prepared(&[1, 2, 3]);
        for place in order {
            let commit = plain(versions[place].clone(), &[N1, N2, N3]);
            let ack = row.commit(&node(), &commit).unwrap();
            assert_eq!(ack.superseded, row.tag() != Some(versions[place].tag));
        }
        assert_eq!(row.tag(), Some(tag(3)), "{order:?}");
        assert_eq!(row.uploads.len(), 2, "{order:?}");
        rows.insert(format!("{row:?}"), order);
    }
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn a_plain_commit_rests_on_three_prepared_nodes() {
    let one = file(1, 1);
    let cases: [(&[NodeId], bool, Result<Ack, Refused>); 7] = [
        (&[N1, N2, N3, N4], true, Ok(Ack { superseded: false })),
        (&[N1, N2, N3], true, Ok(Ack { superseded: false })),
        (&[N2, N3, N4], false, Ok(Ack { superseded: false })),
        (&[N1, N2, N3], false, Err(Refused::NotPrepared)),
        (&[N1, N2], true, Err(Refused::NotPrepared)),
        (&[N1, N1, N2, N2], true, Err(Refused::NotPrepared)),
        (&[], true, Err(Refused::NotPrepared)),
    ];
    for (sources, here, expected) in cases {
        let mut row = if here { prepared(&[1]) } else { Row::default() };
        let answer = row.commit(&node(), &plain(one.clone(), sources));
        assert_eq!(answer, expected, "{sources:?}, here: {here}");
        let have = row.committed(upload(1)).map(|record| record.have.len());
        assert_eq!(have, expected.is_ok().then_some(u32::from(here)));
    }
    let removal = plain(tombstone(1, 1), &[]);
    assert!(Row::default().commit(&node(), &removal).is_ok(), "a tombstone rests on none");
}

#[test]
fn a_commit_or_write_back_that_rests_on_a_lost_disk_is_refused() {
    for lost in NodeId::ALL {
        let mut known = node();
        known.incarnations[lost.index()] = Some(life(2));
        let refused = Err(Refused::PrepareLost(node_ref(lost, 2)));
        let order = plain(file(1, 1), &NodeId::ALL);
        let mut row = prepared(&[1]);
        assert_eq!(row.commit(&known, &order), refused);
        let from =
            CommitOrder { write_back: true, sources: vec![node_ref(lost, 1)], ..order.clone() };
        assert_eq!(row.commit(&known, &from), refused);
        assert_eq!(row, prepared(&[1]));
        let evidence = DropEvidence::FencedBy([life(1); 4]);
        row.fence(&known, upload(1)).unwrap();
        assert_eq!(
            row.drop_upload(&known, upload(1), &evidence),
            refused.map(|_: Ack| ChunkSet::EMPTY)
        );
        // A node that never heard of the other cannot know better.
        known.incarnations[lost.index()] = None;
        assert!(prepared(&[1]).commit(&known, &order).is_ok());
    }
}

#[test]
fn a_rejoining_node_takes_write_backs_and_confirms_only() {
    let mut row = prepared(&[1]);
    let refused = Err(Refused::Rejoining);
    assert_eq!(row.may_prepare(&rejoining(), upload(2)), refused);
    assert_eq!(row.prepare(&rejoining(), upload(2), ChunkId::C1), refused);
    assert_eq!(row.fence(&rejoining(), upload(1)), Err(Refused::Rejoining));
    let order = plain(file(1, 1), &[N1, N2, N3]);
    assert_eq!(row.commit(&rejoining(), &order), Err(Refused::Rejoining));
    assert_eq!(row, prepared(&[1]));
    assert!(row.commit(&rejoining(), &write_back(file(1, 1))).is_ok());
    row.confirm(tag(1));
    assert!(row.current.unwrap().confirmed);
}

#[test]
fn a_rejoining_node_takes_no_write_back_from_a_node_that_it_has_not_met() {
    let mut view = rejoining();
    view.incarnations[N2.index()] = None;
    let mut row = Row::default();
    assert_eq!(row.commit(&view, &write_back(file(1, 1))), Err(Refused::Rejoining));
    assert_eq!(row, Row::default());
}

#[test]
fn a_tag_more_than_a_minute_ahead_is_refused_from_anybody() {
    let at =
        |ms: u64| Version { tag: Tag { hlc: Hlc::from_ms(ms), writer: [1; 16] }, ..file(1, 1) };
    for order in [plain(at(60_006), &[N1, N2, N3]), write_back(at(60_006))] {
        let mut row = prepared(&[1]);
        let ahead = Err(Refused::FutureTag { ahead_ms: 60_001 });
        assert_eq!(row.commit(&node(), &order), ahead);
        assert!(row.commit(&later(1), &order).is_ok());
    }
}

#[test]
fn a_tag_names_one_upload_and_an_upload_one_tag() {
    let row = superseded(false);
    let cases = [
        (file(2, 3), "another upload under the current tag"),
        (file(3, 2), "the current upload under another tag"),
        (file(3, 1), "a superseded upload under another tag"),
    ];
    for (version, case) in cases {
        for order in [plain(version.clone(), &[N2, N3, N4]), write_back(version)] {
            let answer = row.clone().commit(&node(), &order);
            assert_eq!(answer, Err(Refused::TagConflict), "{case}");
        }
    }
}

#[test]
fn a_fence_stops_the_commit_but_not_the_write_back() {
    let mut row = prepared(&[1]);
    assert_eq!(row.fence(&node(), upload(1)), Ok(FenceAnswer::Fenced));
    assert_eq!(row.fence(&later(9), upload(2)), Ok(FenceAnswer::Fenced), "never heard of");
    for number in [1, 2] {
        let order = plain(file(1, number), &[N2, N3, N4]);
        assert_eq!(row.commit(&node(), &order), Err(Refused::Fenced));
        let chunk = row.prepare(&node(), upload(number), ChunkId::C2);
        assert_eq!(chunk, Err(Refused::Fenced));
    }
    row.commit(&node(), &write_back(file(1, 1))).unwrap();
    let record = row.committed(upload(1)).unwrap();
    assert_eq!(record.have.len(), 1, "with the data it had");
    let committed = Ok(FenceAnswer::Committed(record));
    assert_eq!(row.fence(&node(), upload(1)), committed);
}

#[test]
fn a_fence_begins_when_it_is_set() {
    let mut row = prepared(&[1]);
    for ms in [10, 20] {
        row.fence(&later(ms), upload(1)).unwrap();
        assert_eq!(row.uploads[&upload(1)].since_ms, 15);
    }
}

#[test]
fn only_fenced_data_is_dropped_and_its_fence_stays() {
    let evidence = DropEvidence::FencedBy([life(1); 4]);
    for mut row in [Row::default(), prepared(&[1]), superseded(false), superseded(true)] {
        let before = row.clone();
        let dropped = row.drop_upload(&node(), upload(1), &evidence);
        assert_eq!(dropped, Err(Refused::NotFenced));
        assert_eq!(row, before);
    }
    let mut row = prepared(&[1]);
    row.fence(&node(), upload(1)).unwrap();
    let chunks = row.drop_upload(&node(), upload(1), &evidence);
    assert_eq!(chunks, Ok(ChunkSet::EMPTY.with(ChunkId::C1)));
    assert!(is_fenced(&row, 1));
}

#[test]
fn superseded_data_goes_when_the_newer_is_confirmed_and_the_grace_over() {
    for (confirmed, waited, goes) in
        [(false, GRACE_MS, false), (true, GRACE_MS - 1, false), (true, GRACE_MS, true)]
    {
        let mut row = superseded(confirmed);
        let now_ms = later(waited).now_ms;
        assert_eq!(row.prune(now_ms, GRACE_MS, upload(2)), None, "the current one stays");
        let gone = row.prune(now_ms, GRACE_MS, upload(1));
        assert_eq!(gone, goes.then_some(ChunkSet::EMPTY.with(ChunkId::C1)));
        assert_eq!(row.have(upload(1)).is_empty(), goes);
    }
    let mut row = superseded(true);
    assert_eq!(row.prune(0, GRACE_MS, upload(1)), None, "a clock that went back");
}

#[test]
fn a_lost_chunk_is_not_a_removal() {
    let mut row = superseded(true);
    for number in [1, 2] {
        row.lose_chunks(upload(number), ChunkSet::ALL);
        assert!(row.have(upload(number)).is_empty());
        assert!(row.committed(upload(number)).is_some());
        row.prepare(&node(), upload(number), ChunkId::C2).unwrap();
        assert_eq!(row.have(upload(number)).len(), 1, "it can be put back");
    }
}

#[test]
fn only_versions_get_their_chunks_back() {
    for (mut row, answer) in [
        (Row::default(), Err(Refused::NotCommitted)),
        (prepared(&[1]), Err(Refused::NotCommitted)),
        (superseded(false), Ok(())),
    ] {
        let before = row.clone();
        assert_eq!(row.restore(&rejoining(), upload(1), ChunkId::C3), Err(Refused::Rejoining));
        assert_eq!(row.restore(&node(), upload(1), ChunkId::C3), answer);
        assert_eq!(row != before, answer.is_ok());
        assert_eq!(row.have(upload(1)).contains(ChunkId::C3), answer.is_ok());
    }
    let mut row = superseded(false);
    row.restore(&node(), upload(2), ChunkId::C3).unwrap();
    assert!(row.have(upload(2)).contains(ChunkId::C3), "of the current version too");
}

#[test]
fn chunks_taken_in_for_another_node_go_only_when_all_is_named() {
    let manifest = file(2, 2).manifest().unwrap().clone();
    let own = home_chunks(manifest.x(), N1);
    let foreign = ChunkSet::ALL.minus(own);
    let spilled = |confirmed| {
        let mut row = superseded(confirmed);
        for chunk in ChunkSet::ALL.iter() {
            row.restore(&node(), upload(2), chunk).unwrap();
        }
        row
    };
    let all = vec![node_ref(N2, 1), node_ref(N3, 1), node_ref(N4, 1)];
    let order = ReleaseOrder { tag: tag(2), upload: upload(2), chunks: foreign, homes: all };
    let mut row = spilled(true);
    assert_eq!(row.release(&node(), &order), Ok(foreign));
    assert_eq!(row.have(upload(2)), own);
    assert_eq!(row.release(&node(), &order), Ok(ChunkSet::EMPTY), "again");

    let refused = |row: &Row, order: ReleaseOrder, why: Refused| {
        let mut after = row.clone();
        assert_eq!(after.release(&node(), &order), Err(why));
        assert_eq!(&after, row);
    };
    refused(&spilled(false), order.clone(), Refused::NotCurrent);
    let row = spilled(true);
    refused(&row, ReleaseOrder { tag: tag(1), ..order.clone() }, Refused::NotCurrent);
    refused(&row, ReleaseOrder { upload: upload(1), ..order.clone() }, Refused::NotCurrent);
    refused(&row, ReleaseOrder { chunks: ChunkSet::ALL, ..order.clone() }, Refused::AtHome);
    let fewer = order.homes[1..].to_vec();
    refused(&row, ReleaseOrder { homes: fewer, ..order.clone() }, Refused::NotPrepared);
    let swapped = vec![node_ref(N2, 2), node_ref(N3, 1), node_ref(N4, 1)];
    let lost = Refused::PrepareLost(node_ref(N2, 1));
    refused(&row, ReleaseOrder { homes: swapped, ..order }, lost);
}

/// Whatever the order in which the peers are read, the largest version stays and a fence holds.
#[test]
fn adopting_keeps_the_largest_tag_its_mark_and_all_fences() {
    let found = [(file(1, 1), true), (tombstone(3, 3), false), (file(2, 2), true)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut row = Row::default();
        for place in order {
            let (version, confirmed) = found[place].clone();
            row.adopt(5, version, confirmed);
            row.adopt_fence(5, upload(4));
        }
        let current = row.current.clone().unwrap();
        assert_eq!((current.record.version, current.confirmed), (tombstone(3, 3), false));
        assert!(current.record.have.is_empty(), "a peer's chunks are not here");
        assert!(is_fenced(&row, 4));
        row.adopt(6, tombstone(3, 3), true);
        assert!(row.current.unwrap().confirmed, "one peer knows that it is on three nodes");
    }
}

#[test]
fn adopting_keeps_the_data_that_is_here() {
    let mut row = prepared(&[1]);
    row.adopt_fence(5, upload(1));
    assert!(is_fenced(&row, 1));
    row.adopt(5, file(1, 1), false);
    assert_eq!(row.current.as_ref().unwrap().record.have.len(), 1);
    let before = row.clone();
    row.adopt_fence(5, upload(1));
    assert_eq!(row, before, "it is committed here");
    row.adopt(5, file(2, 1), true);
    assert_eq!(row, before, "an upload has one tag");
    row.adopt(7, file(2, 2), true);
    let old = &row.uploads[&upload(1)];
    assert_eq!((old.have.len(), old.since_ms), (1, 7));
    row.adopt_fence(8, upload(1));
    assert!(!is_fenced(&row, 1), "a superseded version is committed");
}
