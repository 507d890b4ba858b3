use super::*;

fn connections(all: usize, per_address: usize, handshakes: usize) -> Arc<Connections> {
    let first_call = Duration::from_millis(1);
    let limits = LimitSettings {
        connections: all,
        connections_per_address: per_address,
        handshakes,
        first_call,
        ..LimitSettings::default()
    };
    Connections::with_patience(limits, Duration::from_millis(300))
}

fn from(text: &str) -> IpAddr {
    share(text.parse().unwrap())
}

fn is_closed(place: &Place) -> bool {
    place.caller.0.closed.load(Ordering::Relaxed)
}

fn silent(all: &Arc<Connections>, address: &str) -> Place {
    let place = all.take(from(address)).unwrap();
    place.caller.advance(Stage::Silent);
    place
}

#[test]
fn the_oldest_that_has_not_logged_in_goes_and_first_one_that_asked_nothing() {
    let all = connections(4, 10, 10);
    let asked = silent(&all, "10.0.0.1");
    asked.caller.asked();
    let admitted = silent(&all, "10.0.0.2");
    admitted.caller.admitted();
    admitted.caller.asked();
    let first = silent(&all, "10.0.0.3");
    let second = all.take(from("10.0.0.4")).unwrap();
    let third = silent(&all, "10.0.0.5");
    assert!(is_closed(&first), "the first that asked nothing");
    third.caller.admitted();
    let fourth = silent(&all, "10.0.0.6");
    assert!(is_closed(&second), "the next one, in its handshake");
    fourth.caller.admitted();
    let last = silent(&all, "10.0.0.7");
    assert!(is_closed(&asked), "the only one that did not log in");
    last.caller.admitted();
    assert!(all.take(from("10.0.0.8")).is_none(), "never one that logged in");
    assert!([&admitted, &third, &fourth, &last].iter().all(|place| !is_closed(place)));
    assert_eq!(all.turned_away(), (3, 0));
}

#[test]
fn an_address_takes_places_from_itself_only() {
    let all = connections(10, 2, 10);
    let other = silent(&all, "10.0.0.1");
    let mine: Vec<Place> = (0..3).map(|_| silent(&all, "10.0.0.2")).collect();
    assert_eq!(mine.iter().map(is_closed).collect::<Vec<_>>(), [true, false, false]);
    assert!(!is_closed(&other));
    mine.iter().for_each(|place| place.caller.admitted());
    assert!(all.take(from("10.0.0.2")).is_none());
    assert!(all.take(from("::ffff:10.0.0.2")).is_none(), "the same in other words");
    assert!(all.take(from("10.0.0.3")).is_some());
    let same = ["2001:db8::1", "2001:db8::2:0:0:9"].map(|address| silent(&all, address));
    assert!(!is_closed(&same[0]));
    let third = silent(&all, "2001:db8::3");
    assert!(is_closed(&same[0]) && !is_closed(&third), "one network is one address");
}

#[test]
fn handshakes_make_way_for_handshakes() {
    let all = connections(10, 10, 2);
    let open = silent(&all, "10.0.0.1");
    let shaking: Vec<Place> = (0..3).map(|_| all.take(from("10.0.0.1")).unwrap()).collect();
    assert_eq!(shaking.iter().map(is_closed).collect::<Vec<_>>(), [true, false, false]);
    assert!(!is_closed(&open));
}

#[tokio::test]
async fn who_finds_no_place_waits_for_one() {
    let all = connections(1, 1, 1);
    let address = from("10.0.0.1");
    let first = silent(&all, "10.0.0.1");
    first.caller.admitted();
    assert!(all.place(address).await.is_none(), "not for ever");
    assert_eq!(all.turned_away(), (0, 1));
    let waiting = tokio::spawn({
        let all = Arc::clone(&all);
        async move { all.place(address).await.is_some() }
    });
    tokio::task::yield_now().await;
    drop(first);
    assert!(waiting.await.unwrap());
}

#[test]
fn who_asks_for_nothing_is_closed_after_a_while() {
    let all = connections(10, 10, 10);
    let [silent_one, asked, admitted] = [(); 3].map(|()| silent(&all, "10.0.0.1"));
    asked.caller.asked();
    admitted.caller.admitted();
    std::thread::sleep(Duration::from_millis(2));
    all.sweep();
    assert_eq!([&silent_one, &asked, &admitted].map(is_closed), [true, false, false]);
    let calls: Vec<_> = (0..3).map(|_| asked.caller.open_call(2)).collect();
    assert_eq!(calls.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    drop(calls);
    assert!(asked.caller.open_call(1).is_some());
}
