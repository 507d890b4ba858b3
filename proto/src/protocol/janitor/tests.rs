use super::*;
use crate::chunk::ChunkSet;
use crate::manifest::Record;
use crate::protocol::Refused;
use crate::protocol::samples::{all_of, file, life, orders};

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Down,
    /// Never committed it.
    Free,
    /// Has it committed.
    Committed,
    /// Fences, and refuses what comes then.
    Stubborn,
}

fn run(nodes: PerNode<Node>, order: [NodeId; 4]) -> (Outcome, Vec<Effect>) {
    let (mut janitor, mut waiting) = Janitor::start();
    let mut sent = waiting.clone();
    for _ in 0..100 {
        if let Some(Effect::Finish(outcome)) = waiting.first() {
            assert_eq!(janitor.on(Event::Failed(NodeId::N1)), [], "nothing after the end");
            return (*outcome, sent);
        }
        // Those asked answer in `order`.
        let place = order.iter().find_map(|id| {
            waiting.iter().position(|effect| match effect {
                Effect::Fence(to) | Effect::Drop(to, _) | Effect::WriteBack { to, .. } => to == id,
                Effect::Finish(_) => false,
            })
        });
        let effect = waiting.remove(place.expect("somebody was asked"));
        let more = janitor.on(answer(nodes, &effect));
        sent.extend(more.clone());
        waiting.extend(more);
    }
    panic!("it does not end");
}

fn answer(nodes: PerNode<Node>, effect: &Effect) -> Event {
    match effect {
        Effect::Fence(id) => {
            let incarnation = life(id.get());
            match nodes[id.index()] {
                Node::Down => Event::Failed(*id),
                Node::Free | Node::Stubborn => Event::Fence(*id, incarnation, FenceAnswer::Fenced),
                Node::Committed => {
                    let record = Record { version: file(3, 3), have: ChunkSet::EMPTY };
                    Event::Fence(*id, incarnation, FenceAnswer::Committed(record))
                }
            }
        }
        Effect::WriteBack { to, .. } => Event::WriteBack(
            *to,
            match nodes[to.index()] {
                Node::Stubborn => CommitAnswer::Refused(Refused::TagConflict),
                _ => CommitAnswer::Acked,
            },
        ),
        Effect::Drop(to, _) => Event::Drop(*to, nodes[to.index()] != Node::Stubborn),
        Effect::Finish(_) => unreachable!("not sent"),
    }
}

#[test]
fn drops_only_what_all_four_fenced_and_finishes_what_anyone_committed() {
    let kinds = [Node::Down, Node::Free, Node::Committed, Node::Stubborn];
    for nodes in all_of(&kinds) {
        for order in orders() {
            let (outcome, sent) = run(nodes, order);
            let is = |kind| nodes.contains(&kind);
            let dropped: Vec<&Effect> =
                sent.iter().filter(|effect| matches!(effect, Effect::Drop(..))).collect();
            if is(Node::Down) || is(Node::Committed) {
                assert!(dropped.is_empty(), "{nodes:?} {order:?}");
            } else {
                let lives = NodeId::ALL.map(|id| life(id.get()));
                assert_eq!(dropped.len(), 4);
                assert!(dropped.iter().all(|e| matches!(e, Effect::Drop(_, by) if *by == lives)));
            }
            let expected = match () {
                () if is(Node::Down) => Outcome::Unfinished,
                () if is(Node::Stubborn) => Outcome::Refused,
                () if is(Node::Committed) => Outcome::Committed,
                () => Outcome::Dropped,
            };
            assert_eq!(outcome, expected, "{nodes:?} {order:?}");
            // Whoever fenced a committed upload is told of it, by one who has it.
            for id in NodeId::ALL {
                let told = sent.iter().any(|effect| {
                    matches!(effect, Effect::WriteBack { to, source, .. }
                        if *to == id && nodes[source.node.index()] == Node::Committed)
                });
                let fenced = matches!(nodes[id.index()], Node::Free | Node::Stubborn);
                assert_eq!(told, fenced && is(Node::Committed), "{nodes:?} {order:?}");
            }
        }
    }
}
