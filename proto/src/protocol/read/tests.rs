use super::*;
use crate::protocol::samples::{N1, N2, N3, N4, START, file, life, node_ref};

fn reply(tag_number: u64) -> Reply {
    Reply {
        incarnation: life(1),
        current: (tag_number > 0).then(|| Record {
            version: file(tag_number, tag_number as u8),
            have: ChunkSet::ALL,
        }),
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
        Self {
            read,
            now: START,
            outcome: None,
        }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.read.on(event, self.now);
        assert!(
            self.outcome.is_none() || effects.is_empty(),
            "{effects:?} after the end"
        );
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
    assert_eq!(
        run.written(N2, CommitAnswer::Acked),
        [],
        "two nodes are not three"
    );
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
        [N2, N3]
            .into_iter()
            .for_each(|id| drop(run.written(id, CommitAnswer::Acked)));
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
