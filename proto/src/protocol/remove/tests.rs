use super::*;
use crate::chunk::ChunkSet;
use crate::manifest::Record;
use crate::protocol::Refused;
use crate::protocol::T_OP;
use crate::protocol::samples::{
    N1, N2, N3, N4, START, all_of, file, life, node_ref, orders, tombstone, upload,
};
use crate::tag::Hlc;

/// A removal whose effects are checked after every event.
struct Run {
    remove: Remove,
    now: Duration,
    outcome: Option<Outcome>,
}

impl Run {
    fn start() -> Self {
        let (remove, effects) = Remove::start(upload(9), [7; 16]);
        assert_eq!(effects.len(), 4);
        Self { remove, now: START, outcome: None }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let ended = self.outcome;
        let effects = self.remove.on(event, self.now);
        for effect in &effects {
            match (effect, ended) {
                (Effect::Confirm(..) | Effect::Commit(..), Some(Outcome::Removed)) => {}
                (other, Some(_)) => panic!("{other:?} after the end"),
                (Effect::Finish(outcome), None) => {
                    assert_eq!(self.outcome.replace(*outcome), None, "ended twice");
                }
                (_, None) => {}
            }
        }
        effects
    }

    fn reply(&mut self, id: NodeId, reply: read::Reply) -> Vec<Effect> {
        self.on(Event::Read(read::Event::Reply(id, Box::new(reply))))
    }

    fn ack(&mut self, id: NodeId) -> Vec<Effect> {
        self.on(Event::Commit(id, CommitAnswer::Acked))
    }
}

/// Has a file since long.
fn has(tag_number: u64) -> read::Reply {
    read::Reply {
        incarnation: life(1),
        current: Some(Record { version: file(tag_number, tag_number as u8), have: ChunkSet::ALL }),
        confirmed: true,
        proposed: Hlc::from_ms(1_000_000),
    }
}

#[test]
fn nothing_is_sent_after_the_end() {
    let mut run = Run::start();
    run.on(Event::Interrupted);
    assert_eq!(run.outcome, Some(Outcome::Interrupted));
    let unconfirmed = |tag| read::Reply { confirmed: false, ..has(tag) };
    for (id, tag) in [(N1, 2), (N2, 1), (N3, 1)] {
        run.reply(id, unconfirmed(tag));
    }

    let mut run = Run::start();
    [N1, N2, N3].into_iter().for_each(|id| drop(run.reply(id, has(1))));
    [N1, N2, N3].into_iter().for_each(|id| drop(run.ack(id)));
    assert_eq!(run.outcome, Some(Outcome::Removed));
    assert_eq!(run.on(Event::GiveUp), []);
    assert_eq!(run.ack(N1), [], "a duplicate");
    assert_eq!(run.ack(N4).len(), 1);

    let mut run = Run::start();
    [N1, N2, N3].into_iter().for_each(|id| drop(run.reply(id, has(1))));
    run.on(Event::GiveUp);
    assert_eq!(run.outcome, Some(Outcome::Unknown));
    assert_eq!(run.on(Event::Commit(N1, CommitAnswer::NoAnswer)), []);
}

fn says(version: Option<Version>) -> read::Reply {
    read::Reply {
        current: version.map(|version| Record { version, have: ChunkSet::ALL }),
        ..has(1)
    }
}

/// The tombstones sent.
fn tombstones(effects: &[Effect]) -> Vec<(NodeId, Version)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(id, version) => Some((*id, version.clone())),
            _ => None,
        })
        .collect()
}

/// What a node answers first: nothing, or a version known to three nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Out,
    Absent,
    File,
    Tombstone,
}

fn version(node: Node) -> Option<Version> {
    match node {
        Node::Out | Node::Absent => None,
        Node::File => Some(file(1, 1)),
        Node::Tombstone => Some(tombstone(2, 2)),
    }
}

/// Whatever the nodes have: a tombstone above all that is known, sent only when three nodes
/// answered and a file was found; else nothing is written.
#[test]
fn writes_a_tombstone_only_over_a_file_and_with_three_answers() {
    let nodes = [Node::Out, Node::Absent, Node::File, Node::Tombstone];
    for nodes in all_of(&nodes) {
        for order in orders() {
            let mut run = Run::start();
            let mut sent = Vec::new();
            for id in order {
                let node = nodes[id.index()];
                let effects = match node {
                    Node::Out => run.on(Event::Read(read::Event::Failed(id))),
                    _ => run.reply(id, says(version(node))),
                };
                sent.extend(tombstones(&effects));
            }
            check_sent(&run, &nodes, &sent, &format!("{nodes:?} {order:?}"));
        }
    }
}

fn check_sent(run: &Run, nodes: &[Node; 4], sent: &[(NodeId, Version)], context: &str) {
    let answers = nodes.iter().filter(|node| **node != Node::Out).count();
    let has = |node| nodes.contains(&node);
    match run.outcome {
        Some(Outcome::NotFound) => {
            // Two absent answers decide before a third tells of what one node has.
            let missing = nodes.iter().filter(|node| **node == Node::Absent).count() >= 2;
            assert!(!has(Node::File) || has(Node::Tombstone) || missing, "{context}");
        }
        Some(Outcome::Unavailable) => {
            assert!(answers < 2 || answers < 3 && has(Node::File), "{context}");
        }
        None => {
            assert!(answers >= 3 && has(Node::File) && sent.len() == 4, "{context}");
            let (to, versions): (Vec<NodeId>, Vec<Version>) = sent.iter().cloned().unzip();
            assert_eq!(to, NodeId::ALL, "{context}");
            for version in versions {
                assert_eq!(version.content, Content::Tombstone);
                assert_eq!(version.upload, upload(9));
                assert!(version.tag > file(1, 1).tag && version.tag.writer == [7; 16]);
            }
            return;
        }
        other => panic!("{other:?}: {context}"),
    }
    assert!(sent.is_empty() && !run.remove.commit_sent(), "{context}");
}

#[test]
fn an_unconfirmed_newest_version_is_spread_before_it_is_removed() {
    let mut run = Run::start();
    for (id, tag_number) in [(N1, 2), (N2, 1), (N3, 1)] {
        let reply = read::Reply { confirmed: false, ..has(tag_number) };
        let effects = run.reply(id, reply);
        assert_eq!(tombstones(&effects), []);
    }
    for id in [N2, N3] {
        let written = read::Event::WriteBack(id, CommitAnswer::Acked);
        let effects = run.on(Event::Read(written));
        assert_eq!(tombstones(&effects).len(), if id == N3 { 4 } else { 0 });
    }
}

fn removing() -> Run {
    let mut run = Run::start();
    for id in [N1, N2, N3] {
        run.reply(id, has(1));
    }
    assert!(run.remove.commit_sent());
    run
}

#[test]
fn ends_as_its_commit_round_does() {
    let refused = || CommitAnswer::Refused(Refused::Rejoining);
    let lost = || CommitAnswer::Refused(Refused::PrepareLost(node_ref(N1, 2)));
    let acked = || CommitAnswer::Acked;
    let cases = [
        ([acked(), acked(), acked(), refused()], Outcome::Removed),
        ([acked(), acked(), refused(), CommitAnswer::NotSent], Outcome::Unknown),
        ([acked(), lost(), lost(), lost()], Outcome::Unknown),
        ([lost(), lost(), lost(), lost()], Outcome::Refused),
        ([refused(), refused(), CommitAnswer::NotSent, refused()], Outcome::Refused),
    ];
    for (answers, outcome) in cases {
        for order in orders() {
            let mut run = removing();
            for id in order {
                run.on(Event::Commit(id, answers[id.index()].clone()));
            }
            assert_eq!(run.outcome, Some(outcome), "{answers:?} in order {order:?}");
        }
    }
}

#[test]
fn a_late_or_interrupted_commit_is_unknown() {
    let mut run = removing();
    assert_eq!(run.on(Event::Interrupted), []);
    assert_eq!(run.on(Event::GiveUp), [Effect::Finish(Outcome::Unknown)]);
    let mut run = removing();
    run.now += T_OP + Duration::from_millis(1);
    for id in [N1, N2, N3] {
        run.ack(id);
    }
    assert_eq!(run.outcome, Some(Outcome::Unknown));
}

#[test]
fn a_clock_too_far_behind_counts_as_a_node_that_failed() {
    let behind = || read::Reply { proposed: Hlc::from_ms(1_000_000 - 60_001), ..has(1) };
    let mut run = Run::start();
    for (id, reply) in [(N1, has(1)), (N2, has(1)), (N3, behind())] {
        assert_eq!(tombstones(&run.reply(id, reply)), []);
    }
    let mut with_fourth = run.remove.clone();
    let fourth = read::Event::Reply(N4, Box::new(has(1)));
    assert_eq!(tombstones(&with_fourth.on(Event::Read(fourth), START)).len(), 4);
    run.on(Event::Read(read::Event::Failed(N4)));
    assert_eq!(run.outcome, Some(Outcome::Unavailable));
}
