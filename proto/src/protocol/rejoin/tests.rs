use super::*;
use crate::protocol::samples::{N1, N2, N3, N4, START, life};

const NEW: u8 = 9;

/// A peer in its first life that serves and knows the new disk.
fn well() -> Peer {
    Peer { incarnation: life(1), serving: true, remembers: Some(life(NEW)) }
}

fn page(from: NodeId, peer: Peer, last: bool) -> Event {
    Event::Adopted { from, peer, last }
}

fn first(from: NodeId) -> Effect {
    Effect::Read { from, first: true }
}

/// Node 4 after its wait, about to meet the other three.
fn quiet() -> (Rejoin, Duration) {
    let (mut rejoin, effects) = Rejoin::start(N4, life(NEW), None, START);
    assert_eq!(effects, [Effect::Wake(QUIET)]);
    let now = START + QUIET;
    assert_eq!(rejoin.on(Event::Tick, now), [N1, N2, N3].map(Effect::Meet));
    (rejoin, now)
}

/// Reads one peer from beginning to end.
fn read(rejoin: &mut Rejoin, id: NodeId, now: Duration) -> Vec<Effect> {
    assert_eq!(rejoin.on(Event::Met(id, well()), now)[0], first(id));
    let mut effects = rejoin.on(page(id, well(), true), now);
    effects.retain(|effect| !matches!(effect, Effect::Wake(_)));
    effects
}

#[test]
fn waits_longer_than_any_operation_before_it_asks_anybody() {
    assert!(QUIET > T_OP);
    let (mut rejoin, _) = Rejoin::start(N2, life(NEW), None, Duration::from_secs(7));
    let early = Duration::from_secs(7) + QUIET - Duration::from_millis(1);
    for id in NodeId::ALL {
        let wake = Effect::Wake(Duration::from_millis(1));
        assert_eq!(rejoin.on(Event::Met(id, well()), early), [wake], "nobody was asked");
        assert_eq!(rejoin.on(page(id, well(), true), early), [wake]);
        assert_eq!(rejoin.on(Event::Failed(id), early), [wake]);
    }
    let now = Duration::from_secs(7) + QUIET;
    assert_eq!(rejoin.on(Event::Tick, now), [N1, N3, N4].map(Effect::Meet));
}

#[test]
fn serves_after_all_three_were_read_to_the_end() {
    let (mut rejoin, now) = quiet();
    assert_eq!(read(&mut rejoin, N2, now), []);
    assert_eq!(rejoin.on(Event::Met(N1, well()), now), [first(N1)]);
    let next = Effect::Read { from: N1, first: false };
    assert_eq!(rejoin.on(page(N1, well(), false), now), [next]);
    assert_eq!(read(&mut rejoin, N3, now), []);
    assert_eq!(rejoin.waiting_for(), [(N1, Obstacle::Reading)]);
    assert!(!rejoin.serving());
    assert_eq!(rejoin.on(page(N1, well(), true), now), [Effect::Serve]);
    assert!(rejoin.serving() && rejoin.waiting_for().is_empty());
    assert_eq!(rejoin.on(Event::Met(N1, Peer { incarnation: life(2), ..well() }), now), []);
}

#[test]
fn a_peer_declared_lost_is_not_waited_for() {
    let (mut rejoin, _) = Rejoin::start(N4, life(NEW), Some(N2), START);
    let now = START + QUIET;
    assert_eq!(rejoin.on(Event::Tick, now), [N1, N3].map(Effect::Meet));
    assert_eq!(read(&mut rejoin, N1, now), []);
    assert_eq!(read(&mut rejoin, N3, now), [Effect::Serve]);
}

#[test]
fn a_peer_that_cannot_be_read_is_asked_again_after_a_pause() {
    let cases = [
        (Event::Failed(N1), Obstacle::Failed),
        (Event::Met(N1, Peer { serving: false, ..well() }), Obstacle::Rejoining),
        (Event::Met(N1, Peer { remembers: Some(life(1)), ..well() }), Obstacle::NotRemembered),
        (Event::Met(N1, Peer { remembers: None, ..well() }), Obstacle::NotRemembered),
    ];
    for (event, why) in cases {
        let (mut rejoin, now) = quiet();
        assert_eq!(rejoin.on(event, now), [Effect::Wake(PAUSE)]);
        let others = [N2, N3].map(|id| (id, Obstacle::Pending));
        assert_eq!(rejoin.waiting_for(), [&[(N1, why)], &others[..]].concat());
        [N2, N3].into_iter().for_each(|id| drop(read(&mut rejoin, id, now)));
        assert_eq!(rejoin.on(Event::Tick, now + PAUSE), [Effect::Meet(N1)]);
        assert_eq!(read(&mut rejoin, N1, now + PAUSE), [Effect::Serve]);
    }
}

#[test]
fn a_reading_that_breaks_off_begins_again_at_the_beginning() {
    let breaks = [
        Event::Failed(N1),
        page(N1, Peer { serving: false, ..well() }, true),
        page(N1, Peer { incarnation: life(2), ..well() }, true),
        page(N1, Peer { remembers: Some(life(1)), ..well() }, true),
        page(N1, Peer { incarnation: life(2), ..well() }, false),
    ];
    for event in breaks {
        let (mut rejoin, now) = quiet();
        [N2, N3].into_iter().for_each(|id| drop(read(&mut rejoin, id, now)));
        rejoin.on(Event::Met(N1, well()), now);
        assert_eq!(rejoin.on(event, now), [Effect::Wake(PAUSE)], "{event:?}");
        assert_eq!(rejoin.on(page(N1, well(), true), now), [Effect::Wake(PAUSE)], "too late");
        assert_eq!(rejoin.on(Event::Tick, now + PAUSE), [Effect::Meet(N1)]);
        assert_eq!(rejoin.on(Event::Met(N1, well()), now + PAUSE), [first(N1)]);
    }
}

#[test]
fn what_was_read_from_a_disk_that_is_gone_does_not_count() {
    let (mut rejoin, now) = quiet();
    [N1, N2].into_iter().for_each(|id| drop(read(&mut rejoin, id, now)));
    assert_eq!(rejoin.on(Event::Met(N1, well()), now), [], "the same disk");
    assert_eq!(rejoin.on(Event::Failed(N1), now), [], "it was read already");
    let replaced = Peer { incarnation: life(2), serving: false, remembers: None };
    assert_eq!(rejoin.on(Event::Met(N1, replaced), now), [Effect::Wake(PAUSE)]);
    assert_eq!(rejoin.waiting_for()[0], (N1, Obstacle::Replaced));
    assert_eq!(read(&mut rejoin, N3, now), []);
    assert!(!rejoin.serving());
}
