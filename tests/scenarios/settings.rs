//! Flags, environment and files of `dfsctl`: which counts, and who said so.

use std::fs;

use harness::Cluster;
use harness::content::noise;
use serde_json::Value;

use crate::{PROGRAMS, cluster};

/// The user's file, with this cluster as the context `here`.
fn users_file(cluster: &Cluster, more: &str) -> std::path::PathBuf {
    let own = fs::read_to_string(cluster.client_config()).expect("dfsd dev made it");
    let pass = cluster.dir().join("alice.pass");
    let own = own.replace("alice.pass", pass.to_str().expect("UTF-8"));
    let inside: String = own.lines().map(|line| format!("    {line}\n")).collect();
    let folder = cluster.work_dir().join(".config/dfs");
    fs::create_dir_all(&folder).expect("a new directory");
    let file = folder.join("dfs.yaml");
    fs::write(&file, format!("{more}contexts:\n  here:\n{inside}")).expect("a new file");
    file
}

/// A setting of `config show`: its value and where that comes from.
fn setting(shown: &Value, name: &str) -> (Value, String) {
    let all = shown["settings"].as_array().expect("an array");
    let found = all.iter().find(|setting| setting["name"] == name).expect("every setting is there");
    (found["value"].clone(), found["source"].as_str().expect("a word").to_owned())
}

#[test]
fn config_show_tells_where_each_value_comes_from_and_no_secret() {
    let cluster = Cluster::written(PROGRAMS);
    users_file(&cluster, "context: here\njobs: 3\nbwlimit: 1MiB\n");
    cluster.file("dfs.yaml", "jobs: 5\n");
    let show = || cluster.bare_dfsctl().args(["config", "show", "--output", "json"]);
    let shown = show().env("DFS_USER", "eve").arg("--color=never").run().ok().json();
    let from = |name| setting(&shown, name).1;
    assert_eq!(from("nodes"), "user file");
    assert_eq!(setting(&shown, "context"), ("here".into(), "user file".into()));
    assert_eq!(setting(&shown, "jobs"), (5.into(), "project file".into()));
    assert_eq!(setting(&shown, "bwlimit"), ((1 << 20).into(), "user file".into()));
    assert_eq!(setting(&shown, "user"), ("eve".into(), "environment".into()));
    assert_eq!(setting(&shown, "color"), ("never".into(), "flag".into()));
    assert_eq!(setting(&shown, "token_cache"), (true.into(), "default".into()));

    let secret = "not for anybody's eyes";
    for format in ["text", "json"] {
        let shown = cluster.bare_dfsctl().args(["config", "show", "--output", format]);
        let shown = shown.env("DFS_PASSWORD", secret).run().ok();
        assert!(!shown.text().contains(secret), "{shown}");
        assert!(!shown.text().contains(&cluster.password()), "{shown}");
        assert!(shown.text().contains("DFS_PASSWORD"), "{shown}");
    }
}

#[test]
fn a_context_is_chosen_once_or_for_one_command() {
    let cluster = cluster();
    cluster.put("file", "content");
    let file = users_file(&cluster, "# mine\n");
    let ctl = |args: &[&str]| cluster.bare_dfsctl().args(args).run();
    ctl(&["list"]).exits(2).says("here").says("--context").says("dfsctl config use");
    ctl(&["--context", "here", "list"]).ok().prints("file");
    cluster.bare_dfsctl().env("DFS_CONTEXT", "here").arg("list").run().ok().prints("file");
    let before = fs::read_to_string(&file).expect("it is there");
    ctl(&["config", "use", "there"]).exits(2).says("here");
    assert_eq!(fs::read_to_string(&file).expect("it stays"), before);
    ctl(&["config", "use", "here"]).ok();
    ctl(&["list"]).ok().prints("file");
    let after = fs::read_to_string(&file).expect("it stays");
    assert_eq!(after, before.replace("contexts:", "context: here\ncontexts:"));
    let contexts = ctl(&["config", "contexts", "--output", "json"]).ok().json();
    assert_eq!(contexts[0]["name"], "here");
    assert_eq!(contexts[0]["current"], true);
    // A project's own cluster goes before what the user has chosen.
    cluster.file("dfs.yaml", "cluster: other\nnodes: [a:1, b:1, c:1, d:1]\n");
    ctl(&["config", "show"]).prints("other  (dfs.yaml:1)");
}

#[test]
fn without_files_flags_or_the_environment_say_it_all() {
    let cluster = cluster();
    let nodes = cluster.addresses().map(|address| address.to_string()).join(",");
    let own = fs::read_to_string(cluster.client_config()).expect("dfsd dev made it");
    let name = own.lines().find_map(|line| line.strip_prefix("cluster: ")).expect("it has a name");
    let bare = || cluster.bare_dfsctl().env("DFS_PASSWORD", cluster.password());
    let flags = ["--cluster", name, "--nodes", &nodes, "--user", "alice"];
    bare().args(flags).args(["put", "-", "file"]).stdin("content").run().ok();
    let env = bare().env("DFS_CLUSTER", name).env("DFS_NODES", &nodes).env("DFS_USER", "alice");
    assert_eq!(env.args(["get", "file", "-"]).run().ok().stdout, b"content");
    let foreign = ["--cluster", "foreign", "--nodes", &nodes, "--user", "alice", "list"];
    bare().args(foreign).run().exits(2).says("--nodes").says(name);
}

#[test]
fn a_limit_bounds_what_all_transfers_move() {
    let cluster = cluster();
    cluster.file("file", noise(7, 700_000));
    let limited = |args: &[&str]| {
        let run = cluster.dfsctl().args(["--bwlimit", "512K", "--jobs", "1"]).args(args).run().ok();
        // What has been let through at any time is at most the rate by the time and a tenth of a
        // second more.
        let moved: u64 = run.stats().per_node.iter().sum();
        let least = moved as f64 / f64::from(512 << 10) - 0.1;
        assert!(run.elapsed.as_secs_f64() >= least, "{moved} bytes in {:?}", run.elapsed);
        moved
    };
    assert_eq!(limited(&["put", "--stats", "file"]), 2 * 700_000);
    limited(&["get", "--stats", "file", "copy"]);
    assert_eq!(cluster.read("copy"), cluster.read("file"));
    cluster.ctl(["--bwlimit", "1K", "list"]).exits(2).says("at least 512K");
}
