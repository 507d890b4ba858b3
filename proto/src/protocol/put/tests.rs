use super::*;
use crate::protocol::Refused;
use crate::protocol::samples::{N1, N2, N3, N4, START, life, node_ref};
use crate::tag::Hlc;

/// What every node's clock shows at first.
const NODE_MS: u64 = 1_000_000;

/// A PUT whose effects are checked after every event.
struct Run {
    put: Put,
    now: Duration,
    effects: Vec<Effect>,
}

impl Run {
    fn start(x: Residue) -> Self {
        let (put, effects) = Put::start(x, [7; 16]);
        Self {
            put,
            now: START,
            effects,
        }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let context = format!("{event:?} after {:?}", self.effects);
        let new = self.put.on(event, self.now);
        self.effects.extend(new.iter().cloned());
        self.check(&context);
        new
    }

    /// Rules for the effects of any PUT.
    fn check(&self, context: &str) {
        let finished = self.place(|effect| matches!(effect, Effect::Finish(_)));
        let (before, after) = self
            .effects
            .split_at(finished.map_or(self.effects.len(), |i| i + 1));
        let stored = matches!(self.outcome(), Some(Outcome::Stored(_)));
        for effect in after {
            match effect {
                Effect::Confirm(..) if stored => {}
                Effect::Commit(..) if stored => {}
                other => panic!("{other:?} after the end: {context}"),
            }
        }
        let committing = self.place(|effect| matches!(effect, Effect::Commit(..)));
        let discarding = self.place(|effect| matches!(effect, Effect::Discard(_)));
        assert!(committing.is_none() || discarding.is_none(), "{context}");
        assert!(
            before
                .iter()
                .all(|effect| !matches!(effect, Effect::Confirm(..))),
            "{context}"
        );
        let mut tags: Vec<Tag> = self.commits().map(|(_, tag, _)| tag).collect();
        tags.dedup();
        assert!(tags.len() <= 1, "a second tag: {context}");
    }

    fn place(&self, wanted: fn(&Effect) -> bool) -> Option<usize> {
        self.effects.iter().position(wanted)
    }

    fn outcome(&self) -> Option<Outcome> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Finish(outcome) => Some(*outcome),
            _ => None,
        })
    }

    fn commits(&self) -> impl Iterator<Item = (NodeId, Tag, &[NodeRef])> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Commit(id, tag, sources) => Some((*id, *tag, sources.as_slice())),
            _ => None,
        })
    }

    /// Sources of the latest Commit to a node.
    fn sources(&self, id: NodeId) -> Vec<NodeRef> {
        let mine = self.commits().filter(|(to, ..)| *to == id);
        mine.last()
            .map_or(Vec::new(), |(_, _, sources)| sources.to_vec())
    }

    /// The node stores all that is on its way to it.
    fn prepare(&mut self, id: NodeId) -> Vec<Effect> {
        self.prepare_as(id, says(1, NODE_MS))
    }

    fn prepare_as(&mut self, id: NodeId, prepared: Prepared) -> Vec<Effect> {
        let chunks = self.put.sending(id);
        self.on(Event::Prepared(id, chunks, prepared))
    }

    fn prepare_all(&mut self) {
        for id in NodeId::ALL {
            self.prepare(id);
        }
    }

    fn ack(&mut self, id: NodeId) -> Vec<Effect> {
        self.on(Event::Commit(id, CommitAnswer::Acked))
    }

    fn acks<const N: usize>(&mut self, ids: [NodeId; N]) {
        for id in ids {
            self.ack(id);
        }
    }

    fn refuse(&mut self, id: NodeId, why: Refused) -> Vec<Effect> {
        self.on(Event::Commit(id, CommitAnswer::Refused(why)))
    }
}

fn says(life_number: u8, proposed_ms: u64) -> Prepared {
    Prepared {
        incarnation: life(life_number),
        tag: TagAnswer {
            current: None,
            proposed: Hlc::from_ms(proposed_ms),
        },
    }
}

fn stored(run: &Run) -> bool {
    matches!(run.outcome(), Some(Outcome::Stored(_)))
}

#[test]
fn data_prepared_on_a_disk_that_is_gone_is_sent_again() {
    let x = Residue::R0;
    let mut run = Run::start(x);
    for id in [N2, N3, N4] {
        run.prepare(id);
    }
    run.on(Event::PrepareFailed(N1));
    let effects = run.prepare_as(N3, says(2, NODE_MS));
    assert_eq!(
        effects,
        [Effect::Prepare(N3, home_chunks(x, N3))],
        "spilled to its second life"
    );
    run.prepare_as(N3, says(2, NODE_MS));
    assert_eq!(
        run.sources(N2),
        [node_ref(N2, 1), node_ref(N3, 2), node_ref(N4, 1)]
    );
}

#[test]
fn a_clock_read_long_ago_is_not_a_slow_clock() {
    let mut run = Run::start(Residue::R0);
    run.prepare(N1);
    run.prepare(N2);
    let minutes = 10 * 60_000;
    run.now = Duration::from_millis(minutes);
    run.prepare_as(N3, says(1, NODE_MS + minutes));
    run.prepare_as(N4, says(1, NODE_MS + minutes));
    assert_eq!(run.commits().count(), 4);
    assert_eq!(run.sources(N1).len(), 4);
    let skew = |effect: &Effect| matches!(effect, Effect::ReportSkew(..));
    assert!(!run.effects.iter().any(skew), "nor is it reported");
}

#[test]
fn a_node_too_far_behind_counts_as_failed_and_is_reported() {
    let x = Residue::R2;
    let mut run = Run::start(x);
    for id in [N1, N2, N3] {
        run.prepare(id);
    }
    let effects = run.prepare_as(N4, says(1, NODE_MS - 61_000));
    assert_eq!(
        effects,
        [
            Effect::ReportSkew(N4, 61_000),
            Effect::Prepare(N2, home_chunks(x, N4)),
        ]
    );
    run.prepare(N2);
    assert_eq!(run.commits().count(), 4);
    assert_eq!(run.sources(N1), [N1, N2, N3].map(|id| node_ref(id, 1)));
}

#[test]
fn nothing_is_sent_after_the_end() {
    // A stream that breaks because the PUT was interrupted is no reason to spill.
    let mut run = Run::start(Residue::R0);
    run.on(Event::Interrupted);
    for id in NodeId::ALL {
        assert_eq!(run.on(Event::PrepareFailed(id)), []);
    }
    // Nor is a disk lost after the third acknowledgement.
    let mut run = Run::start(Residue::R0);
    run.prepare_all();
    run.acks([N1, N2, N3]);
    assert!(stored(&run));
    assert_eq!(run.refuse(N4, Refused::PrepareLost(node_ref(N4, 2))), []);
    // Nor is a Commit that found nobody, once the outcome is unknown.
    let mut run = Run::start(Residue::R0);
    run.prepare_all();
    run.on(Event::GiveUp);
    assert_eq!(run.on(Event::Commit(N1, CommitAnswer::NoAnswer)), []);
}

#[test]
fn a_duplicated_acknowledgement_confirms_once() {
    let mut run = Run::start(Residue::R0);
    run.prepare_all();
    run.acks([N1, N2, N3]);
    assert_eq!(run.ack(N1), []);
    assert_eq!(run.ack(N4).len(), 1);
    assert_eq!(run.ack(N4), []);
}

#[test]
fn a_node_that_always_reports_lost_data_does_not_keep_a_put_going() {
    for liar in NodeId::ALL {
        let mut run = Run::start(Residue::R0);
        run.prepare_all();
        for id in NodeId::ALL.into_iter().filter(|id| *id != liar) {
            run.refuse(id, Refused::NotPrepared);
        }
        for _ in 0..100 {
            run.refuse(liar, Refused::PrepareLost(node_ref(N1, 1)));
        }
        assert_eq!(run.outcome(), Some(Outcome::Refused));
    }
}
