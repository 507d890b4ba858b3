use super::*;
use crate::protocol::Refused;
use crate::protocol::T_OP;
use crate::protocol::samples::{N1, N2, N3, N4, START, all_of, life, node_ref, orders};
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
        Self { put, now: START, effects }
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
        let (before, after) = self.effects.split_at(finished.map_or(self.effects.len(), |i| i + 1));
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
        assert!(before.iter().all(|effect| !matches!(effect, Effect::Confirm(..))), "{context}");
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
        mine.last().map_or(Vec::new(), |(_, _, sources)| sources.to_vec())
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
        tag: TagAnswer { current: None, proposed: Hlc::from_ms(proposed_ms) },
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
    assert_eq!(effects, [Effect::Prepare(N3, home_chunks(x, N3))], "spilled to its second life");
    run.prepare_as(N3, says(2, NODE_MS));
    assert_eq!(run.sources(N2), [node_ref(N2, 1), node_ref(N3, 2), node_ref(N4, 1)]);
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
    assert_eq!(effects, [Effect::ReportSkew(N4, 61_000), Effect::Prepare(N2, home_chunks(x, N4)),]);
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

/// What becomes of one node while chunks are sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stores,
    FailsAtOnce,
    FailsAfterItsFirstChunk,
    FailsAfterBoth,
}

fn meet(run: &mut Run, id: NodeId, fate: Fate) {
    let home = home_chunks(run.put.x, id);
    let stored = match fate {
        Fate::FailsAtOnce => ChunkSet::EMPTY,
        Fate::FailsAfterItsFirstChunk => home.iter().take(1).collect(),
        Fate::Stores | Fate::FailsAfterBoth => home,
    };
    if !stored.is_empty() {
        run.on(Event::Prepared(id, stored, says(1, NODE_MS)));
    }
    if fate != Fate::Stores {
        run.on(Event::PrepareFailed(id));
    }
}

/// Every subset of nodes fails, early or late, in every order.
#[test]
fn one_failed_node_is_spilled_to_its_opposite_and_two_end_the_put() {
    let fates = [Fate::Stores, Fate::FailsAtOnce, Fate::FailsAfterItsFirstChunk];
    for x in Residue::ALL {
        for fates in all_of(&fates) {
            for order in orders() {
                let mut run = Run::start(x);
                for id in order {
                    meet(&mut run, id, fates[id.index()]);
                }
                check_prepared(&mut run, x, &fates);
            }
        }
    }
}

fn check_prepared(run: &mut Run, x: Residue, fates: &[Fate; 4]) {
    let failed: Vec<NodeId> =
        NodeId::ALL.into_iter().filter(|id| fates[id.index()] != Fate::Stores).collect();
    let discarded = run.effects.iter().filter(|effect| matches!(effect, Effect::Discard(_)));
    match failed[..] {
        [] => {}
        [failed] => {
            assert_eq!(run.commits().count(), 0, "two copies of every chunk first: {fates:?}");
            let prepares =
                run.effects.iter().filter(|effect| matches!(effect, Effect::Prepare(..)));
            let spill = Effect::Prepare(failed.opposite(), home_chunks(x, failed));
            assert_eq!(prepares.skip(4).collect::<Vec<_>>(), [&spill], "{fates:?}");
            run.prepare(failed.opposite());
        }
        _ => {
            assert_eq!(discarded.count(), 4, "{fates:?}");
            assert_eq!(run.outcome(), Some(Outcome::Unavailable), "{fates:?}");
            assert!(!run.put.commit_sent());
            return;
        }
    }
    let to: Vec<NodeId> = run.commits().map(|(id, ..)| id).collect();
    assert_eq!(to, NodeId::ALL, "{fates:?}");
    for id in NodeId::ALL {
        let live = NodeId::ALL.into_iter().filter(|id| !failed.contains(id));
        let sources: Vec<NodeRef> = live.map(|id| node_ref(id, 1)).collect();
        assert_eq!(run.sources(id), sources, "{fates:?}");
    }
}

#[test]
fn a_node_that_fails_while_it_takes_the_spill_ends_the_put() {
    for failed in NodeId::ALL {
        for second in NodeId::ALL.into_iter().filter(|id| *id != failed) {
            let mut run = Run::start(Residue::R1);
            for id in NodeId::ALL.into_iter().filter(|id| *id != failed) {
                run.prepare(id);
            }
            meet(&mut run, failed, Fate::FailsAtOnce);
            meet(&mut run, second, Fate::FailsAfterBoth);
            let stopped = run.outcome() == Some(Outcome::Unavailable);
            let spilled = second == failed.opposite();
            assert!(stopped || spilled && run.put.commit_sent(), "{failed} then {second}");
        }
    }
}

/// Before the Commit whatever happens is "nothing happened"; after it nothing is discarded.
#[test]
fn an_interrupt_discards_before_the_commit_and_waits_after_it() {
    for stored in 0..=4 {
        let mut run = Run::start(Residue::R3);
        for id in NodeId::ALL.into_iter().take(stored) {
            run.prepare(id);
        }
        let effects = run.on(Event::Interrupted);
        if stored < 4 {
            assert_eq!(effects[..4], NodeId::ALL.map(Effect::Discard));
            assert_eq!(effects[4..], [Effect::Finish(Outcome::Interrupted)]);
            assert_eq!(run.on(Event::GiveUp), []);
            continue;
        }
        assert_eq!(effects, []);
        let mut patient = run.put.clone();
        assert_eq!(run.on(Event::GiveUp), [Effect::Finish(Outcome::Unknown)]);
        for id in [N4, N3] {
            patient.on(Event::Commit(id, CommitAnswer::Acked), START);
        }
        let third = patient.on(Event::Commit(N2, CommitAnswer::Acked), START);
        assert!(matches!(third[0], Effect::Finish(Outcome::Stored(_))));
    }
}

#[test]
fn stored_after_three_acknowledgements_and_confirmed_on_all_that_gave_one() {
    for order in orders() {
        let mut run = Run::start(Residue::R0);
        run.prepare_all();
        run.ack(order[0]);
        run.ack(order[1]);
        assert_eq!(run.outcome(), None, "two are not enough");
        let effects = run.ack(order[2]);
        let Some(Outcome::Stored(tag)) = run.outcome() else {
            panic!("not stored");
        };
        let mut confirmed = [order[0], order[1], order[2]];
        confirmed.sort_unstable();
        assert_eq!(
            effects[1..],
            confirmed.iter().map(|id| Effect::Confirm(*id, tag)).collect::<Vec<_>>()
        );
        assert_eq!(run.ack(order[3]), [Effect::Confirm(order[3], tag)]);
    }
}

#[test]
fn a_third_acknowledgement_after_t_op_is_unknown() {
    let mut run = Run::start(Residue::R0);
    run.now = Duration::from_secs(3_600);
    run.prepare_all();
    run.acks([N1, N2]);
    run.now += T_OP + Duration::from_millis(1);
    run.ack(N3);
    assert_eq!(run.outcome(), Some(Outcome::Unknown));
    assert_eq!(run.ack(N4), [], "nothing is confirmed");
}

#[test]
fn the_tag_is_above_all_seen_and_not_below_the_second_largest_clock() {
    let current = |hlc: u64, ms: u64| Prepared {
        incarnation: life(1),
        tag: TagAnswer { current: Some(Hlc::new(hlc)), proposed: Hlc::from_ms(ms) },
    };
    let seen = Hlc::from_ms(NODE_MS + 7).get();
    let at = |ms| says(1, NODE_MS + ms);
    let cases = [
        ([at(0), at(1), at(2), at(50_000)], Hlc::from_ms(NODE_MS + 2)),
        ([at(0), at(0), at(0), current(seen, NODE_MS)], Hlc::new(seen + 1)),
        ([at(0), at(0), at(0), current(3, NODE_MS)], Hlc::from_ms(NODE_MS)),
    ];
    for (answers, hlc) in cases {
        let mut run = Run::start(Residue::R0);
        for id in NodeId::ALL {
            run.prepare_as(id, answers[id.index()]);
        }
        let tag = run.commits().next().map(|(_, tag, _)| tag);
        let writer = [7; 16];
        assert_eq!(tag, Some(Tag { hlc, writer }));
    }
}

#[test]
fn a_lost_prepare_is_made_again_under_the_same_tag() {
    for order in orders() {
        let [lost, others @ ..] = order;
        let mut run = Run::start(Residue::R0);
        run.prepare_all();
        let refused = || Refused::PrepareLost(node_ref(lost, 2));
        let effects = run.refuse(others[0], refused());
        assert_eq!(effects, [Effect::Prepare(lost, home_chunks(Residue::R0, lost))]);
        assert_eq!(run.refuse(lost, refused()), [], "it is on its way");
        run.ack(others[1]);
        let effects = run.prepare_as(lost, says(2, NODE_MS + 9));
        assert_eq!(effects.len(), 2, "only to those that refused: {effects:?}");
        let sources = run.sources(lost);
        assert!(sources.contains(&node_ref(lost, 2)) && sources.len() == 4);
        // The last one refuses the first order late: it is simply sent the new one.
        let late = run.refuse(others[2], refused());
        assert!(
            matches!(&late[..], [Effect::Commit(id, _, s)] if *id == others[2] && *s == sources)
        );
        run.acks(order);
        assert!(stored(&run));
    }
}

#[test]
fn a_quota_ends_the_put_without_a_spill() {
    let mut run = Run::start(Residue::R0);
    run.prepare(N2);
    let effects = run.on(Event::PrepareRefused(N1));
    let discards = effects.iter().filter(|effect| matches!(effect, Effect::Discard(_)));
    assert_eq!((discards.count(), effects.len()), (4, 5), "{effects:?}");
    assert_eq!(run.outcome(), Some(Outcome::Refused));
    assert_eq!(run.on(Event::PrepareRefused(N3)), []);

    // With Commits sent it is a node that cannot take what another lost.
    let mut run = Run::start(Residue::R0);
    run.prepare_all();
    run.refuse(N2, Refused::PrepareLost(node_ref(N1, 2)));
    let effects = run.on(Event::PrepareRefused(N1));
    assert_eq!(effects, [Effect::Prepare(N3, home_chunks(Residue::R0, N1))]);
    assert_eq!(run.outcome(), None);
}

#[test]
fn a_lost_prepare_is_spilled_where_it_cannot_be_made_again() {
    let x = Residue::R0;
    let mut run = Run::start(x);
    run.prepare_all();
    run.refuse(N1, Refused::Rejoining);
    run.refuse(N2, Refused::PrepareLost(node_ref(N1, 2)));
    let effects = run.on(Event::PrepareFailed(N1));
    assert_eq!(effects, [Effect::Prepare(N3, home_chunks(x, N1))]);
    let effects = run.prepare(N3);
    assert!(matches!(&effects[..], [Effect::Commit(N2, _, sources)] if sources.len() == 3));
    run.acks([N2, N3, N4]);
    assert!(stored(&run));
}

/// While lost chunks are prepared elsewhere, a Commit that was not answered is sent again as it
/// was: resting on fewer nodes, it would be taken before every chunk is on two disks.
#[test]
fn a_commit_that_was_not_answered_is_sent_again_as_it_was() {
    let x = Residue::R0;
    let mut run = Run::start(x);
    run.prepare_all();
    let all = run.sources(N2);
    assert_eq!(all.len(), 4);
    run.refuse(N3, Refused::PrepareLost(node_ref(N1, 2)));
    let again = |run: &mut Run| run.on(Event::Commit(N2, CommitAnswer::NoAnswer));
    assert!(matches!(&again(&mut run)[..], [Effect::Commit(N2, _, sources)] if *sources == all));
    let effects = run.on(Event::PrepareFailed(N1));
    assert_eq!(effects, [Effect::Prepare(N3, home_chunks(x, N1))]);
    assert!(matches!(&again(&mut run)[..], [Effect::Commit(N2, _, sources)] if *sources == all));
    run.prepare(N3);
    assert_eq!(run.sources(N3).len(), 3, "now every chunk is on two disks");
}

#[test]
fn refused_by_all_after_a_lost_prepare_is_a_refusal_and_else_unknown() {
    for (first, outcome) in
        [(CommitAnswer::NotSent, Outcome::Refused), (CommitAnswer::Acked, Outcome::Unknown)]
    {
        let mut run = Run::start(Residue::R0);
        run.prepare_all();
        for id in [N1, N2, N3] {
            run.refuse(id, Refused::PrepareLost(node_ref(N1, 2)));
        }
        run.on(Event::Commit(N4, first));
        run.on(Event::PrepareFailed(N1));
        assert_eq!(run.outcome(), None, "node 3 takes the spill");
        run.on(Event::PrepareFailed(N3));
        assert_eq!(run.outcome(), Some(outcome));
    }
}

#[test]
fn late_and_repeated_prepares_change_nothing() {
    let mut run = Run::start(Residue::R0);
    run.prepare_all();
    let again = Event::Prepared(N1, home_chunks(Residue::R0, N1), says(1, NODE_MS));
    assert_eq!(run.on(again.clone()), []);
    run.acks([N1, N2, N3]);
    assert_eq!(run.on(again), []);
    // A stream that breaks after its chunks were acknowledged is a failed node like another.
    let mut run = Run::start(Residue::R0);
    run.prepare(N1);
    run.on(Event::PrepareFailed(N1));
    run.prepare(N2);
    run.prepare(N3);
    run.prepare(N4);
    assert_eq!(run.sources(N2), [N2, N3, N4].map(|id| node_ref(id, 1)));
}
