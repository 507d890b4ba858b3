use super::*;
use crate::protocol::samples::{N1, N2, N3, N4, START, all_of, node_ref, orders};

/// What becomes of a Commit on one node, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acks,
    AcksSecond,
    Refuses,
    RefusesSecond,
    Silent,
    NotSent,
    NotSentSecond,
}

const FATES: [Fate; 7] = [
    Fate::Acks,
    Fate::AcksSecond,
    Fate::Refuses,
    Fate::RefusesSecond,
    Fate::Silent,
    Fate::NotSent,
    Fate::NotSentSecond,
];

impl Fate {
    fn answers(self) -> Vec<CommitAnswer> {
        let refused = CommitAnswer::Refused(Refused::NotPrepared);
        match self {
            Self::Acks => vec![CommitAnswer::Acked],
            Self::AcksSecond => vec![CommitAnswer::NoAnswer, CommitAnswer::Acked],
            Self::Refuses => vec![refused],
            Self::RefusesSecond => vec![CommitAnswer::NoAnswer, refused],
            Self::Silent => vec![CommitAnswer::NoAnswer; usize::from(ATTEMPTS)],
            Self::NotSent => vec![CommitAnswer::NotSent],
            Self::NotSentSecond => vec![CommitAnswer::NoAnswer, CommitAnswer::NotSent],
        }
    }

    fn acks(self) -> bool {
        matches!(self, Self::Acks | Self::AcksSecond)
    }

    /// Whether the Commit certainly did not happen there.
    fn never(self) -> bool {
        matches!(self, Self::Refuses | Self::NotSent)
    }
}

fn expected(fates: &[Fate]) -> End {
    match () {
        () if fates.iter().filter(|fate| fate.acks()).count() >= 3 => End::Done,
        () if fates.iter().all(|fate| fate.never()) => End::Refused,
        () => End::Unknown,
    }
}

/// Gives a node all its answers; returns what it led to.
fn answer_all(round: &mut CommitRound, node: NodeId, fate: Fate) -> Vec<End> {
    let mut ends = Vec::new();
    for answer in fate.answers() {
        match round.answer(node, answer, START) {
            Next::Ended(end) => ends.push(end),
            Next::Again(again) => assert_eq!(again, node),
            Next::Wait => {}
            Next::Lost(_) => panic!("nothing was lost"),
        }
    }
    ends
}

#[test]
fn ends_once_with_what_all_answers_in_any_order_say() {
    let orders = orders();
    for fates in all_of(&FATES) {
        for order in &orders {
            let mut round = CommitRound::start(START);
            let ends: Vec<End> = order
                .iter()
                .flat_map(|id| answer_all(&mut round, *id, fates[id.index()]))
                .collect();
            assert_eq!(ends, [expected(&fates)], "{fates:?} in order {order:?}");
            assert_eq!(round.done(), ends == [End::Done]);
        }
    }
}

#[test]
fn ends_as_soon_as_it_can() {
    let mut round = CommitRound::start(START);
    assert_eq!(round.answer(N1, CommitAnswer::Acked, START), Next::Wait);
    assert_eq!(round.answer(N2, CommitAnswer::Acked, START), Next::Wait);
    let third = round.answer(N3, CommitAnswer::Acked, START);
    assert_eq!(third, Next::Ended(End::Done));
    assert_eq!(round.answer(N4, CommitAnswer::NoAnswer, START), Next::Again(N4), "it goes on");
    assert_eq!(round.answer(N4, CommitAnswer::Acked, START), Next::Wait);
    assert!(round.acked(N4));

    let mut round = CommitRound::start(START);
    assert_eq!(round.answer(N1, CommitAnswer::Acked, START), Next::Wait);
    assert_eq!(round.answer(N2, CommitAnswer::NotSent, START), Next::Wait);
    let second = round.answer(N3, CommitAnswer::NotSent, START);
    assert_eq!(second, Next::Ended(End::Unknown), "three are out of reach");
    assert_eq!(round.answer(N4, CommitAnswer::NoAnswer, START), Next::Wait);
}

#[test]
fn a_third_acknowledgement_too_late_leaves_it_unknown() {
    for (at, end) in [(T_OP, End::Done), (T_OP + Duration::from_millis(1), End::Unknown)] {
        let mut round = CommitRound::start(Duration::from_secs(5));
        let now = Duration::from_secs(5) + at;
        for id in [N1, N2] {
            round.answer(id, CommitAnswer::Acked, now);
        }
        assert_eq!(round.answer(N3, CommitAnswer::Acked, now), Next::Ended(end));
        assert_eq!(round.done(), end == End::Done);
    }
}

#[test]
fn giving_up_is_not_knowing_unless_it_is_over() {
    let mut round = CommitRound::start(START);
    assert_eq!(round.give_up(), End::Unknown);
    for id in NodeId::ALL {
        assert_eq!(round.answer(id, CommitAnswer::Acked, START), Next::Wait);
    }
    assert!(!round.done());
    let mut round = CommitRound::start(START);
    for id in [N1, N2, N3] {
        round.answer(id, CommitAnswer::Acked, START);
    }
    assert_eq!(round.give_up(), End::Done);
}

fn lost() -> CommitAnswer {
    CommitAnswer::Refused(Refused::PrepareLost(node_ref(N1, 2)))
}

#[test]
fn lost_data_is_asked_for_a_bounded_number_of_times() {
    let mut round = CommitRound::start(START);
    for _ in 1..ATTEMPTS {
        assert_eq!(round.answer(N2, lost(), START), Next::Lost(node_ref(N1, 2)));
        assert_eq!(round.answer(N2, lost(), START), Next::Wait, "a duplicate");
        assert_eq!(round.resend(), [N2]);
        assert_eq!(round.resend(), []);
    }
    assert_eq!(round.answer(N2, lost(), START), Next::Wait, "refused for good");
    assert_eq!(round.resend(), []);
}

#[test]
fn data_that_cannot_be_prepared_again_is_a_refusal() {
    for (before, end) in [(None, End::Refused), (Some(CommitAnswer::NoAnswer), End::Unknown)] {
        let mut round = CommitRound::start(START);
        if let Some(answer) = before {
            assert_eq!(round.answer(N1, answer, START), Next::Again(N1));
        }
        for id in NodeId::ALL {
            assert_eq!(round.answer(id, lost(), START), Next::Lost(node_ref(N1, 2)));
        }
        assert_eq!(round.abandon_waiting(START), Next::Ended(end));
        assert_eq!(round.abandon_waiting(START), Next::Wait, "only once");
    }
}
