use super::*;
use crate::chunk::ChunkSet;
use crate::manifest::Record;
use crate::protocol::samples::{N1, N2, N3, N4, START, file, life, upload};
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
        Self {
            remove,
            now: START,
            outcome: None,
        }
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
        current: Some(Record {
            version: file(tag_number, tag_number as u8),
            have: ChunkSet::ALL,
        }),
        confirmed: true,
        proposed: Hlc::from_ms(1_000_000),
    }
}

#[test]
fn nothing_is_sent_after_the_end() {
    let mut run = Run::start();
    run.on(Event::Interrupted);
    assert_eq!(run.outcome, Some(Outcome::Interrupted));
    let unconfirmed = |tag| read::Reply {
        confirmed: false,
        ..has(tag)
    };
    for (id, tag) in [(N1, 2), (N2, 1), (N3, 1)] {
        run.reply(id, unconfirmed(tag));
    }

    let mut run = Run::start();
    [N1, N2, N3]
        .into_iter()
        .for_each(|id| drop(run.reply(id, has(1))));
    [N1, N2, N3].into_iter().for_each(|id| drop(run.ack(id)));
    assert_eq!(run.outcome, Some(Outcome::Removed));
    assert_eq!(run.on(Event::GiveUp), []);
    assert_eq!(run.ack(N1), [], "a duplicate");
    assert_eq!(run.ack(N4).len(), 1);

    let mut run = Run::start();
    [N1, N2, N3]
        .into_iter()
        .for_each(|id| drop(run.reply(id, has(1))));
    run.on(Event::GiveUp);
    assert_eq!(run.outcome, Some(Outcome::Unknown));
    assert_eq!(run.on(Event::Commit(N1, CommitAnswer::NoAnswer)), []);
}
