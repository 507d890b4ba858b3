//! `dfsctl doctor` on clusters that are broken in known ways: it names what is wrong, where, and
//! what to do.

use std::fs;
use std::time::Duration;

use harness::cluster::{NODES, set_key};
use harness::{Cluster, Output};
use serde_json::Value;

use crate::{PROGRAMS, cluster};

/// A diagnosis takes no longer than its slowest wait.
const LIMIT: Duration = Duration::from_secs(20);

#[track_caller]
fn examine(cluster: &Cluster, more: &[&str]) -> Output {
    let run = cluster.dfsctl().args(["doctor", "--output", "json"]).args(more).run();
    run.within(LIMIT)
}

/// The checks of a kind that are not `ok`, as `warn 3` or `fail`.
fn bad(run: &Output, name: &str) -> Vec<String> {
    let checks = run.json()["checks"].clone();
    let checks: Vec<Value> = checks.as_array().expect("an array").clone();
    let bad = checks.iter().filter(|check| check["check"] == name && check["status"] != "ok");
    bad.map(|check| {
        assert!(check["advice"].is_string(), "nothing to do about {check}");
        let status = check["status"].as_str().expect("a word");
        check["node"].as_u64().map_or(status.to_owned(), |node| format!("{status} {node}"))
    })
    .collect()
}

#[test]
fn a_healthy_cluster_passes() {
    let cluster = Cluster::start(PROGRAMS);
    let run = examine(&cluster, &[]).exits(0);
    for name in ["configuration", "node", "identity", "login", "cluster", "versions", "clocks"] {
        assert_eq!(bad(&run, name), [""; 0], "{run}");
    }
    let text = cluster.ctl(["doctor"]).ok();
    text.prints("ok    login").prints("4 of 4 nodes take part");
}

#[test]
fn a_node_that_is_down_and_one_that_does_not_answer_are_told_apart() {
    let mut cluster = cluster();
    cluster.kill(3);
    let run = examine(&cluster, &[]).exits(5);
    assert_eq!(bad(&run, "node"), ["fail 3"]);
    assert_eq!(bad(&run, "cluster"), ["warn"]);
    cluster.ctl(["doctor"]).exits(5).prints("nothing listens there").prints("start dfsd");
    cluster.freeze(2);
    let run = examine(&cluster, &[]).exits(5);
    assert_eq!(bad(&run, "node"), ["fail 2", "fail 3"]);
    assert_eq!(bad(&run, "cluster"), ["fail"]);
    cluster.thaw(2);
}

#[test]
fn addresses_that_are_swapped_and_nodes_of_others_are_named() {
    let cluster = cluster();
    let [a, b, c, d] = cluster.addresses();
    let config = cluster.client_config_with("swapped.yaml", [b, a, c, d]);
    let config = config.to_str().expect("UTF-8");
    let run = examine(&cluster, &["--config", config]).exits(2);
    assert_eq!(bad(&run, "identity"), ["fail 1", "fail 2"]);
    assert!(run.text().contains(&format!("[{a}, {b}, {c}, {d}]")), "the right order: {run}");
    let run = examine(&cluster, &["--cluster", "foreign"]).exits(2);
    assert_eq!(bad(&run, "identity"), ["fail 1", "fail 2", "fail 3", "fail 4"]);
    assert!(run.text().contains("not to foreign"), "{run}");
}

#[test]
fn a_wrong_password_is_named_and_never_shown() {
    let cluster = cluster();
    let wrong = cluster.file("wrong.pass", "swordfish\n");
    let run = examine(&cluster, &["--password-file", wrong.to_str().expect("UTF-8")]).exits(4);
    assert_eq!(bad(&run, "login"), ["fail"]);
    assert_eq!(bad(&run, "node"), [""; 0], "they can be reached");
    assert_eq!(bad(&run, "secrecy"), ["warn"], "others can read it");
    assert!(!run.text().contains("swordfish"), "{run}");
}

#[test]
fn mistakes_in_the_configuration_are_all_named() {
    let cluster = Cluster::written(PROGRAMS);
    set_key(&cluster.client_config(), "nodes", "[a, b]");
    set_key(&cluster.client_config(), "user", "Not A User");
    let run = examine(&cluster, &[]).exits(2);
    let wrong = bad(&run, "configuration");
    assert!(wrong.len() >= 3 && wrong.iter().all(|status| status == "fail"), "{run}");
    let run = cluster.dfsctl().env("DFS_NODS", "x").args(["doctor"]).run().exits(2);
    run.prints("DFS_NODS");
}

#[test]
fn tls_on_one_side_only_is_named() {
    let mut cluster = Cluster::written_with_tls(PROGRAMS);
    cluster.run_only(&NODES);
    let config = cluster.client_config();
    assert_eq!(bad(&examine(&cluster, &[]).exits(0), "node"), [""; 0]);
    let good = fs::read_to_string(&config).expect("dfsd dev made it");
    let plain: Vec<&str> = good.lines().filter(|line| !line.starts_with("tls:")).collect();
    fs::write(&config, plain.join("\n")).expect("a configuration can be written");
    let run = examine(&cluster, &[]).exits(5);
    assert_eq!(bad(&run, "node"), ["fail 1", "fail 2", "fail 3", "fail 4"]);
    assert!(run.text().contains("tls: { ca"), "{run}");

    let plaintext = Cluster::start(PROGRAMS);
    let ca = cluster.dir().join("ca.pem");
    let run = examine(&plaintext, &["--tls-ca", ca.to_str().expect("UTF-8")]).exits(5);
    assert_eq!(bad(&run, "node"), ["fail 1", "fail 2", "fail 3", "fail 4"]);
    assert!(run.text().contains("does not speak TLS"), "{run}");
}
