use super::*;
use std::collections::VecDeque;

use crate::protocol::samples::{N1, N2, N3, N4, START, all_of, file, life, node_ref, orders, tag};

fn reply(tag_number: u64) -> Reply {
    Reply {
        incarnation: life(1),
        current: (tag_number > 0)
            .then(|| Record { version: file(tag_number, tag_number as u8), have: ChunkSet::ALL }),
        confirmed: tag_number == 0,
        proposed: Hlc::new(0),
    }
}

/// A read whose effects are checked after every event.
struct Run {
    read: Read,
    now: Duration,
    outcome: Option<Outcome>,
}

impl Run {
    fn start() -> Self {
        let (read, effects) = Read::start();
        assert_eq!(effects, NodeId::ALL.map(Effect::Ask));
        Self { read, now: START, outcome: None }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.read.on(event, self.now);
        assert!(self.outcome.is_none() || effects.is_empty(), "{effects:?} after the end");
        for effect in &effects {
            if let Effect::Finish(outcome) = effect {
                assert_eq!(self.outcome.replace(outcome.clone()), None, "ended twice");
            }
        }
        effects
    }

    fn reply(&mut self, id: NodeId, tag_number: u64) -> Vec<Effect> {
        self.on(Event::Reply(id, Box::new(reply(tag_number))))
    }

    fn replies<const N: usize>(&mut self, replies: [(NodeId, u64); N]) {
        for (id, tag_number) in replies {
            self.reply(id, tag_number);
        }
    }

    fn written(&mut self, id: NodeId, answer: CommitAnswer) -> Vec<Effect> {
        self.on(Event::WriteBack(id, answer))
    }
}

fn decided(tag_number: u64, unconfirmed: bool) -> Option<Outcome> {
    Some(Outcome::Decided {
        version: (tag_number > 0).then(|| file(tag_number, tag_number as u8)),
        unconfirmed,
    })
}

fn lost(id: NodeId) -> CommitAnswer {
    CommitAnswer::Refused(Refused::PrepareLost(node_ref(id, 2)))
}

fn write_back(to: NodeId, tag_number: u64, source: NodeId) -> Effect {
    Effect::WriteBack {
        to,
        version: file(tag_number, tag_number as u8),
        source: node_ref(source, 1),
    }
}

#[test]
fn a_duplicated_write_back_answer_counts_once() {
    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 1), (N3, 1)]);
    assert_eq!(run.written(N2, CommitAnswer::Acked), []);
    assert_eq!(run.written(N2, CommitAnswer::Acked), [], "two nodes are not three");
    run.written(N3, CommitAnswer::Acked);
    assert_eq!(run.outcome, decided(2, false));
}

#[test]
fn an_answer_to_an_earlier_write_back_does_not_count_for_a_later_one() {
    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 1), (N3, 1)]);
    run.reply(N4, 3);
    run.written(N2, lost(N1));
    run.written(N3, CommitAnswer::Acked); // of version 2
    run.written(N2, CommitAnswer::Acked); // of version 3
    assert_eq!(run.outcome, None, "version 3 is on two nodes");
    run.written(N3, CommitAnswer::Acked);
    assert_eq!(run.outcome, decided(3, false));
}

#[test]
fn what_was_written_back_is_what_is_returned() {
    for event in [Event::Failed(N1), Event::Reply(N1, Box::new(reply(3)))] {
        let mut run = Run::start();
        run.replies([(N1, 2), (N2, 1), (N3, 1)]);
        run.on(event);
        [N2, N3].into_iter().for_each(|id| drop(run.written(id, CommitAnswer::Acked)));
        assert_eq!(run.outcome, decided(2, false));
    }
}

#[test]
fn a_failed_write_back_waits_for_the_fourth_node() {
    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 1), (N3, 1)]);
    run.written(N2, CommitAnswer::Acked);
    run.written(N3, CommitAnswer::NoAnswer);
    assert_eq!(run.outcome, None);
    assert_eq!(run.reply(N4, 1), [write_back(N4, 2, N1)]);
    run.written(N4, CommitAnswer::Acked);
    assert_eq!(run.outcome, decided(2, false));
}

/// What a node has, and whether it takes a write-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Out,
    Has(u64),
    HasAndRefuses(u64),
    HasConfirmed(u64),
}

const NODES: [Node; 7] = [
    Node::Out,
    Node::Has(0),
    Node::HasAndRefuses(0),
    Node::Has(1),
    Node::HasAndRefuses(1),
    Node::Has(2),
    Node::HasConfirmed(2),
];

impl Node {
    fn tag(self) -> Option<u64> {
        match self {
            Self::Out => None,
            Self::Has(tag) | Self::HasAndRefuses(tag) | Self::HasConfirmed(tag) => Some(tag),
        }
    }
}

/// What four nodes have while a read goes on.
struct Truth {
    nodes: PerNode<Node>,
    tags: PerNode<Option<u64>>,
}

impl Truth {
    fn new(nodes: PerNode<Node>) -> Self {
        let tags = nodes.map(Node::tag);
        Self { nodes, tags }
    }

    /// A confirmed version is on three nodes, a node that is out perhaps among them.
    fn is_possible(&self) -> bool {
        let confirmed = self.nodes.contains(&Node::HasConfirmed(2));
        let without = self.tags.iter().flatten().filter(|tag| **tag < 2).count();
        !confirmed || without <= 1
    }

    fn with(&self, number: u64) -> usize {
        self.tags.iter().flatten().filter(|tag| **tag >= number).count()
    }

    /// Whether an operation with this tag may have been completed before the read began.
    fn may_be_completed(&self, number: u64) -> bool {
        let without = |node: &&Node| node.tag().is_some_and(|tag| tag < number);
        self.nodes.iter().filter(without).count() <= 1
    }

    fn write(&mut self, id: NodeId, number: u64) -> CommitAnswer {
        let tag = &mut self.tags[id.index()];
        match self.nodes[id.index()] {
            Node::Out | Node::HasAndRefuses(_) => CommitAnswer::NotSent,
            _ => {
                *tag = (*tag).max(Some(number));
                CommitAnswer::Acked
            }
        }
    }
}

fn event_of(id: NodeId, node: Node) -> Event {
    let confirmed = matches!(node, Node::HasConfirmed(_) | Node::Has(0) | Node::HasAndRefuses(0));
    node.tag().map_or(Event::Failed(id), |number| {
        let reply = Reply { confirmed, ..reply(number) };
        Event::Reply(id, Box::new(reply))
    })
}

/// Runs a read; write-backs are answered at once, or when every node has answered.
fn read_all(truth: &mut Truth, order: [NodeId; 4], at_once: bool) -> Outcome {
    let mut run = Run::start();
    let mut events: VecDeque<Event> =
        order.into_iter().map(|id| event_of(id, truth.nodes[id.index()])).collect();
    while let Some(event) = events.pop_front() {
        for effect in run.on(event) {
            match effect {
                Effect::WriteBack { to, version, .. } => {
                    let event = Event::WriteBack(to, truth.write(to, version.tag.hlc.get()));
                    match at_once {
                        true => events.push_front(event),
                        false => events.push_back(event),
                    }
                }
                Effect::Confirm(id, confirmed) => {
                    assert!(truth.with(confirmed.hlc.get()) >= QUORUM);
                    assert!(truth.tags[id.index()] >= Some(confirmed.hlc.get()));
                }
                Effect::Finish(_) => {}
                Effect::Ask(_) => panic!("it is not late"),
            }
        }
    }
    run.outcome.expect("a read ends when all has been answered")
}

fn check(truth: &Truth, outcome: &Outcome, context: impl Fn() -> String) {
    let replies = truth.nodes.iter().filter(|node| node.tag().is_some()).count();
    let Outcome::Decided { version, unconfirmed } = outcome else {
        return assert!(replies < 2, "{}", context());
    };
    let number = version.as_ref().map_or(0, |version| version.tag.hlc.get());
    for completed in [1, 2] {
        assert!(
            number >= completed || !truth.may_be_completed(completed),
            "too old: {}",
            context()
        );
    }
    let confirmed = truth.nodes.contains(&Node::HasConfirmed(number));
    let refused = truth.nodes.iter().any(|node| matches!(node, Node::HasAndRefuses(_)));
    match unconfirmed {
        false => assert!(number == 0 || confirmed || truth.with(number) >= QUORUM, "{}", context()),
        true => {
            assert!(replies == 2 || replies == 3 && refused, "flagged: {}", context());
            let largest = truth.nodes.iter().filter_map(|node| node.tag()).max();
            assert_eq!(Some(number), largest, "{}", context());
        }
    }
}

#[test]
fn no_read_is_too_old_nor_unflagged_without_three_nodes() {
    let orders = orders();
    for nodes in all_of(&NODES).filter(|nodes| Truth::new(*nodes).is_possible()) {
        for order in &orders {
            for at_once in [false, true] {
                let mut truth = Truth::new(nodes);
                let outcome = read_all(&mut truth, *order, at_once);
                let context = || format!("{nodes:?} {order:?} {at_once}: {outcome:?}");
                check(&truth, &outcome, context);
            }
        }
    }
}

#[test]
fn decides_as_soon_as_a_rule_allows() {
    let confirmed = |number| Reply { confirmed: true, ..reply(number) };
    let mut run = Run::start();
    run.reply(N2, 1);
    run.on(Event::Reply(N4, Box::new(confirmed(2))));
    assert_eq!(run.outcome, decided(2, false), "two answers, the larger confirmed");
    let mut run = Run::start();
    run.replies([(N2, 0), (N4, 0)]);
    assert_eq!(run.outcome, decided(0, false), "never written");
    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 2)]);
    assert_eq!(run.outcome, None, "two equal answers are not enough");
    run.reply(N3, 2);
    assert_eq!(run.outcome, decided(2, false));
}

#[test]
fn the_third_largest_counts_where_nothing_can_be_written_back() {
    let mut run = Run::start();
    run.replies([(N1, 3), (N2, 2), (N3, 1)]);
    for id in [N2, N3] {
        run.written(id, CommitAnswer::NoAnswer);
    }
    assert_eq!(run.outcome, None);
    run.reply(N4, 1);
    run.written(N4, CommitAnswer::NoAnswer);
    assert_eq!(run.outcome, decided(1, false));
}

#[test]
fn with_two_nodes_the_larger_is_flagged() {
    let mut run = Run::start();
    run.replies([(N1, 2), (N3, 1)]);
    run.on(Event::Failed(N2));
    assert_eq!(run.outcome, None);
    run.on(Event::Failed(N4));
    assert_eq!(run.outcome, decided(2, true));
}

#[test]
fn a_lost_source_is_replaced_by_another_or_its_version_forgotten() {
    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 2)]);
    assert_eq!(run.reply(N3, 1), [write_back(N3, 2, N2)]);
    assert_eq!(run.reply(N4, 1), [write_back(N4, 2, N2)], "it may be the quicker");
    assert_eq!(run.written(N3, lost(N2)), [write_back(N3, 2, N1)]);
    assert_eq!(run.written(N4, lost(N2)), [write_back(N4, 2, N1)]);
    run.written(N3, CommitAnswer::Acked);
    assert_eq!(run.outcome, None);
    run.written(N4, CommitAnswer::Acked);
    assert_eq!(run.outcome, decided(2, false));

    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 1), (N3, 1)]);
    run.reply(N4, 1);
    run.written(N2, lost(N1));
    assert_eq!(run.outcome, decided(1, false), "three nodes have it");
}

#[test]
fn a_decision_too_late_starts_again() {
    let mut run = Run::start();
    run.reply(N1, 1);
    run.now = T_OP + Duration::from_millis(1);
    assert_eq!(run.reply(N2, 0), [], "nothing to decide yet");
    assert_eq!(run.reply(N3, 0), NodeId::ALL.map(Effect::Ask));
    run.replies([(N1, 2), (N2, 2), (N3, 2)]);
    assert_eq!(run.outcome, decided(2, false));
}

#[test]
fn starting_again_waits_for_the_write_backs_that_are_due() {
    let mut run = Run::start();
    run.replies([(N1, 2), (N2, 1), (N3, 1)]);
    run.now = T_OP + Duration::from_millis(1);
    assert_eq!(run.written(N2, CommitAnswer::Acked), []);
    let effects = run.written(N3, CommitAnswer::Acked);
    assert_eq!(effects, NodeId::ALL.map(Effect::Ask));
    assert_eq!(run.written(N3, CommitAnswer::Acked), [], "a duplicate");
}

#[test]
fn tells_what_was_answered() {
    let mut run = Run::start();
    run.replies([(N1, 1), (N2, 2)]);
    assert_eq!(NodeId::ALL.map(|id| run.read.waiting(id)), [false, false, true, true]);
    let have = run.read.have(&file(2, 2));
    assert_eq!(have, [Some(ChunkSet::EMPTY), Some(ChunkSet::ALL), None, None]);
    let answer = run.read.replies()[1].map(Reply::tag_answer);
    assert_eq!(answer.and_then(|answer| answer.current), Some(tag(2).hlc));
}
