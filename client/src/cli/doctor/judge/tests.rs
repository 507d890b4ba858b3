use dfs_proto::identity::{Boot, Identity};
use dfs_proto::manifest::Incarnation;
use dfs_proto::name::ClusterName;

use super::*;
use crate::Usage;

fn info(id: NodeId) -> NodeInfo {
    NodeInfo {
        identity: Identity {
            cluster: ClusterName::new("c").unwrap(),
            node: id,
            incarnation: Incarnation::new([id.get(); 16]),
            boot: Boot { count: 1, nonce: 1 },
            rejoining: false,
        },
        version: "1.0.0".to_owned(),
        uptime_seconds: 1,
        disk_total_bytes: 100 << 30,
        disk_free_bytes: 50 << 30,
        clock_ms: 0,
        ahead_ms: 10,
        rejoin: String::new(),
        heals: true,
        backlog: 0,
        healed_paths: 0,
        copied_bytes: 0,
        bad_chunks: 0,
        last_scrub_ms: 0,
        pending_uploads: 0,
        usage: Usage::default(),
    }
}

fn good() -> PerNode<Seen> {
    NodeId::ALL.map(|id| Seen {
        id,
        address: format!("n{id}:1"),
        reached: Reached::Connected,
        info: Ok(info(id)),
    })
}

/// What is not in order, in the form in which it is printed.
fn wrong(seen: &PerNode<Seen>) -> Vec<String> {
    let bad = judge(seen, "dfs.yaml:2", "1.0.0").into_iter().filter(|c| c.status != Status::Ok);
    bad.map(|check| {
        let node = check.node.map_or(String::new(), |node| format!(" {node}"));
        let advice = check.advice.expect("what is wrong can be mended");
        format!("{} {}{node}: {} -> {advice}", check.status.word(), check.name, check.found)
    })
    .collect()
}

/// Changes what node 3 says of itself.
fn node_3(change: impl FnOnce(&mut NodeInfo)) -> Vec<String> {
    let mut seen = good();
    change(seen[2].info.as_mut().unwrap());
    wrong(&seen)
}

fn fail(seen: &mut Seen, cause: Cause) {
    let (node, address) = (seen.id, seen.address.clone());
    seen.info = Err(NodeError { node, address, cause });
}

#[track_caller]
fn assert_one(wrong: &[String], words: &[&str]) {
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    for word in words {
        assert!(wrong[0].contains(word), "no {word} in {}", wrong[0]);
    }
}

#[test]
fn nothing_is_wrong_with_a_good_cluster() {
    assert_eq!(wrong(&good()), [""; 0]);
    let names: Vec<&str> = judge(&good(), "", "1.0.0").iter().map(|check| check.name).collect();
    let rest = ["identity", "login", "cluster", "state", "versions", "clocks", "space"];
    let rest = rest.into_iter().chain(["healing", "disk", "quota"]);
    assert_eq!(names, ["node"; 4].into_iter().chain(rest).collect::<Vec<_>>());
}

#[test]
fn clocks_that_are_off_are_named() {
    assert_eq!(node_3(|info| info.ahead_ms = 1_900), [""; 0]);
    assert_one(&node_3(|info| info.ahead_ms = 12_010), &["warn clocks 3", "12.0 s ahead of"]);
    assert_one(&node_3(|info| info.ahead_ms = -40_000), &["fail clocks 3", "40.0 s behind"]);
    let mut all = good();
    all.iter_mut().for_each(|seen| seen.info.as_mut().unwrap().ahead_ms = -5_000);
    assert_one(&wrong(&all), &["warn clocks: this machine's clock is 5.0 s ahead of the nodes'"]);
}

#[test]
fn a_disk_that_fills_up_is_told_before_it_is_full() {
    assert_one(&node_3(|info| info.disk_free_bytes = 9 << 30), &["warn space 3", "9216 MiB"]);
    assert_one(&node_3(|info| info.disk_free_bytes = 1 << 30), &["fail space 3", "full"]);
    assert_eq!(node_3(|info| info.disk_free_bytes = 11 << 30), [""; 0]);
}

#[test]
fn what_waits_and_what_is_damaged_is_told() {
    assert_one(&node_3(|info| info.backlog = 7), &["warn healing 3", "7 files", "dfsctl repair"]);
    assert_one(&node_3(|info| info.heals = false), &["warn healing 3", "heal_every"]);
    assert_one(&node_3(|info| info.bad_chunks = 2), &["warn disk 3", "2 bad chunks"]);
    assert_one(&node_3(|info| info.version = "0.9.0".into()), &["warn versions", "node 3 0.9.0"]);
    assert_one(&node_3(|info| info.rejoin = "copies".into()), &["warn state 3", "copies"]);
    let nearly = Limited { used: 95, allowed: Some(100) };
    assert_one(&node_3(|info| info.usage.bytes = nearly), &["warn quota 3", "95 %", "bytes"]);
    let rejoining = node_3(|info| info.identity.rejoining = true);
    assert_eq!(rejoining.len(), 2, "{rejoining:?}");
    assert!(rejoining[0].starts_with("warn cluster: 3 of 4"), "{rejoining:?}");
}

#[test]
fn the_right_order_of_addresses_is_written_out() {
    let mut seen = good();
    for (place, position) in [(0, NodeId::ALL[1]), (1, NodeId::ALL[0])] {
        let wrong = Cause::WrongNode {
            position,
            cluster: "c".into(),
            expected: NodeId::ALL[place],
            expected_cluster: "c".into(),
        };
        fail(&mut seen[place], wrong);
    }
    let found = wrong(&seen);
    assert!(found[0].contains("n1:1 is node 2, not node 1"), "{found:?}");
    assert!(found[0].contains("dfs.yaml:2: nodes: [n2:1, n1:1, n3:1, n4:1]"), "{found:?}");
    fail(&mut seen[3], Cause::Credentials);
    assert!(wrong(&seen)[0].contains("[n2:1, n1:1, n3:1, n4:1]"), "the last one is at the last");
}

#[test]
fn who_cannot_be_reached_is_told_apart_by_how_far_it_went() {
    let reached = |reached, cause| {
        let mut seen = good();
        fail(&mut seen[3], cause);
        seen[3].reached = reached;
        wrong(&seen).remove(0)
    };
    let connect = || Cause::Connect("no".into());
    assert!(reached(Reached::Unknown("?".into()), connect()).contains("cannot be looked up"));
    assert!(reached(Reached::Refused("?".into()), connect()).contains("start dfsd"));
    assert!(reached(Reached::Silent(Duration::from_secs(2)), connect()).contains("firewall"));
    let tls = reached(Reached::Connected, Cause::Untrusted("unsigned".into()));
    assert!(tls.contains("n4:1: TLS: unsigned"), "{tls}");
    let slow = reached(Reached::Connected, Cause::Timeout { what: "x", seconds: 5 });
    assert!(slow.contains("does not answer"), "{slow}");
}

#[test]
fn a_password_that_only_some_refuse_is_told_apart() {
    let mut seen = good();
    fail(&mut seen[1], Cause::Credentials);
    assert!(wrong(&seen)[0].contains("fail login 2") && wrong(&seen)[0].contains("users_file"));
    seen.iter_mut().for_each(|seen| fail(seen, Cause::Credentials));
    assert!(wrong(&seen)[0].contains("fail login: user or password are refused"));
}
