//! Logins: what spares a password, and what ends it.

use std::time::Duration;

use harness::admin::get;
use harness::cluster::{NODES, USER};
use harness::{Cluster, wait};

use crate::{PROGRAMS, cluster};

/// Nodes look at the users file every two seconds.
const SOON: Duration = Duration::from_secs(10);

/// Logins that a node has let in since the cluster began.
fn logins(cluster: &Cluster, node: usize) -> usize {
    cluster.log(node).matches("logged in").count()
}

/// A configuration that says no password.
fn without_password(cluster: &Cluster) -> std::path::PathBuf {
    let config = cluster.client_config_with("bare.yaml", cluster.addresses());
    let text = std::fs::read_to_string(&config).expect("it was just written");
    let kept = text.lines().filter(|line| !line.starts_with("password_file"));
    std::fs::write(&config, kept.collect::<Vec<_>>().join("\n") + "\n").expect("a file");
    config
}

#[test]
fn many_calls_are_one_login_until_a_node_forgets_it() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    for _ in 0..4 {
        assert_eq!(cluster.get("file"), b"content");
    }
    for node in [1, 2, 3, 4] {
        assert_eq!(logins(&cluster, node), 1, "{}", cluster.log(node));
    }
    cluster.dfsctl().args(["--no-token-cache", "list"]).run().ok();
    assert_eq!(logins(&cluster, 1), 2, "told to");

    cluster.stop(2);
    cluster.start_node(2);
    let before = logins(&cluster, 2);
    let got = cluster.dfsctl().args(["list", "-l"]).run().ok();
    assert!(!got.to_string().contains("left out"), "{got}");
    assert!(logins(&cluster, 2) > before, "logged in again by itself");
    assert_eq!(logins(&cluster, 1), 2, "and only there");
}

#[test]
fn after_a_login_no_password_is_needed_until_the_logout() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    let config = without_password(&cluster);
    let ctl = || cluster.bare_dfsctl().env("DFS_CONFIG", &config);
    // The calls before were no logins: their tokens need their password.
    ctl().arg("list").run().exits(2).says("dfsctl login");
    ctl().arg("login").run().exits(2).says("no password");
    let login = ctl().env("DFS_PASSWORD", cluster.password()).arg("login");
    login.run().ok().prints("logged in to 4 of 4 nodes");
    assert_eq!(ctl().arg("list").run().ok().lines(), ["file"]);
    ctl().env("DFS_PASSWORD", "wrong").arg("list").run().exits(4);
    ctl().env("DFS_PASSWORD", "wrong").arg("login").run().exits(4);
    assert_eq!(ctl().arg("list").run().ok().lines(), ["file"], "still logged in");
    ctl().args(["--user", "bob", "list"]).run().exits(2);
    ctl().arg("logout").run().ok().prints("logged out");
    ctl().arg("list").run().exits(2);
    assert!(cluster.log(3).contains("logged out"), "{}", cluster.log(3));

    let login = ctl().env("DFS_PASSWORD", cluster.password()).arg("login");
    login.run().ok();
    for node in [1, 3] {
        cluster.stop(node);
        cluster.start_node(node);
    }
    let ctl = || cluster.bare_dfsctl().env("DFS_CONFIG", &config);
    let listed = ctl().arg("list").run().ok();
    assert_eq!(listed.lines(), ["file"], "two nodes know it still");
    listed.says("not logged in to any more; 'dfsctl login'");
    for node in [2, 4] {
        cluster.stop(node);
        cluster.start_node(node);
    }
    let ctl = cluster.bare_dfsctl().env("DFS_CONFIG", &config);
    ctl.arg("list").run().exits(2).says("dfsctl login");
}

#[test]
fn users_come_and_go_while_the_nodes_run() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.add_user("bob");
    let cluster = cluster.started();
    cluster.file("f", "x");
    cluster.dfsctl_as("bob").args(["put", "f"]).run().ok();
    cluster.add_user("carol");
    // Not more often: of logins that fail only ten are looked at at once.
    let seconds = |what: &str, done: &dyn Fn() -> bool| {
        let mut tries = (0..8).map(|_| std::thread::sleep(Duration::from_secs(1)));
        assert!(tries.any(|()| done()), "{what}");
    };
    seconds("carol is let in", &|| cluster.dfsctl_as("carol").arg("list").run().code == Some(0));
    assert_eq!(cluster.dfsctl_as("bob").arg("list").run().ok().lines(), ["f"]);

    let users = cluster.dir().join("users.yaml");
    let users = users.to_str().unwrap();
    let args = ["user", "passwd", "bob", "--password-stdin", "--users", users];
    assert!(cluster.dfsd_with_input(args, "new password\n").0.success());
    // The kept token does not outlive the password that it was got with.
    seconds("the old password is refused", &|| {
        cluster.dfsctl_as("bob").arg("list").run().code == Some(4)
    });
    let bob = cluster.dfsctl().args(["--user", "bob", "list"]);
    assert_eq!(bob.env("DFS_PASSWORD", "new password").run().ok().lines(), ["f"]);
    assert!(cluster.dfsd(["user", "remove", "bob", "--users", users]).0.success());
    seconds("bob is shut out", &|| {
        let bob = cluster.dfsctl().args(["--user", "bob", "list"]);
        bob.env("DFS_PASSWORD", "new password").run().code == Some(4)
    });
    cluster.dfsctl_as("carol").arg("list").run().ok();
}

#[test]
fn only_an_administrator_repairs_the_files_of_all() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.add_user("bob");
    let mut cluster = cluster.started();
    cluster.run_without(&[4]);
    cluster.file("hers", "x".repeat(100_000));
    cluster.file("his", "y".repeat(100_000));
    cluster.dfsctl().args(["put", "hers"]).run().ok();
    cluster.dfsctl_as("bob").args(["put", "his"]).run().ok();
    cluster.start_node(4);
    let refused = cluster.dfsctl_as("bob").args(["repair", "--all-users"]).run();
    refused.exits(1).says("only an administrator");
    let repaired = cluster.ctl(["repair", "--all-users"]).ok();
    repaired.prints("bob: his: repaired").prints(&format!("{USER}: hers: repaired"));
    cluster.dfsctl_as("bob").args(["repair"]).run().ok().prints("healthy      1");
    cluster.ctl(["repair", "--all-users", "h"]).exits(2);

    // A role is changed like a password: at once, and the logins end.
    let users = cluster.dir().join("users.yaml");
    let users = users.to_str().unwrap();
    assert!(cluster.dfsd(["user", "role", "bob", "admin", "--users", users]).0.success());
    wait::until_true("bob is an administrator", SOON, || {
        cluster.dfsctl_as("bob").args(["repair", "--all-users"]).run().code == Some(0)
    });
    let (_, roles) = cluster.dfsd(["user", "list", "--roles", "--users", users]);
    assert_eq!(roles, format!("{USER} admin\nbob admin\n"));
}

#[test]
fn it_is_written_down_who_did_what_and_never_a_secret() {
    let mut cluster = Cluster::written(PROGRAMS);
    for node in NODES {
        cluster.configure(node, "audit_log", &format!("audit{node}.log"));
        cluster.set_env(node, &[("DFS_LOG".to_owned(), "trace".to_owned())]);
    }
    let cluster = cluster.started();
    cluster.put("some/file", "content");
    assert_eq!(cluster.get("some/file"), b"content");
    cluster.ctl(["rm", "some/file"]).ok();
    let (canary, password) = ("wrong-and-secret", cluster.password());
    cluster.dfsctl().env("DFS_PASSWORD", canary).arg("list").run().exits(4);
    cluster.dfsctl().env("DFS_PASSWORD", canary).args(["--user", "eve", "list"]).run().exits(4);
    cluster.ctl(["repair"]).ok();

    let file = cluster.work_dir().join("../cache/dfs/tokens.yaml");
    let kept = std::fs::read_to_string(file).expect("tokens are kept");
    let tokens: Vec<&str> = kept.lines().filter_map(|l| l.trim().strip_prefix("token: ")).collect();
    assert_eq!(tokens.len(), 4, "{kept}");
    // Nor is one in what is kept beside the tokens, shown, or said by a client that talks much.
    let secrets: Vec<&str> = tokens.iter().copied().chain([canary, &*password]).collect();
    assert!(!kept.contains(&*password) && !kept.contains(canary), "{kept}");
    let talk =
        |ctl: harness::ctl::Ctl| ctl.args(["--verbose", "list"]).env("DFS_LOG", "trace").run();
    let mut said = vec![
        talk(cluster.dfsctl()).to_string(),
        talk(cluster.dfsctl().env("DFS_PASSWORD", canary).arg("--no-token-cache")).to_string(),
    ];
    for path in ["/", "/status.json", "/metrics", "/nothing"] {
        said.push(get(cluster.admin_address(1), path).body);
    }
    for (text, secret) in said.iter().flat_map(|text| secrets.iter().map(move |s| (text, s))) {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    cluster.ctl(["logout"]).ok();
    for node in NODES {
        let audit = cluster.dir().join(format!("audit{node}.log"));
        let read = || std::fs::read_to_string(&audit).expect("the node made it");
        wait::until_true("the last line is written", SOON, || read().contains("logout"));
        let (audit, log) = (read(), cluster.log(node));
        for expected in [
            r#""event":"login","user":"alice""#,
            r#""event":"put","user":"alice","path":"some/file","bytes":7,"#,
            r#""event":"removed","user":"alice","path":"some/file""#,
            r#""event":"login_refused","user":"alice""#,
            r#""event":"login_refused","user":"eve""#,
            r#""from":"127.0.0.1""#,
        ] {
            assert!(audit.contains(expected), "node {node}: no {expected} in {audit}");
        }
        assert_eq!(audit.matches(r#""event":"put""#).count(), 1, "{audit}");
        for secret in tokens.iter().copied().chain([canary, &*password]) {
            assert!(!audit.contains(secret), "node {node}: {secret} is in {audit}");
            assert!(!log.contains(secret), "node {node}: {secret} is in {log}");
        }
    }
    let repairs = |node: usize| {
        let audit = cluster.dir().join(format!("audit{node}.log"));
        std::fs::read_to_string(audit).expect("it is there").matches("\"repair\"").count()
    };
    assert_eq!(NODES.map(repairs).iter().sum::<usize>(), 1);
}
