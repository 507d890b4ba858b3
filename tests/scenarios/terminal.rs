//! `dfsctl` at a terminal and in scripts: which files of a folder are meant, what would be done,
//! and the JSON of each command.

use std::fs;
use std::path::Path;

use harness::process::copy_program;
use harness::{Cluster, Ctl};
use serde_json::Value;

use crate::{PROGRAMS, cluster};

/// Some files in folders, as `tree`.
fn tree(cluster: &Cluster) {
    for (name, content) in [
        ("a.txt", "1"),
        ("b.log", "22"),
        ("cache/x.txt", "333"),
        ("src/a.txt", "4444"),
        ("src/cache/y.log", "55555"),
    ] {
        cluster.file(&format!("tree/{name}"), content);
    }
}

#[test]
fn of_a_folder_only_what_is_meant_is_moved() {
    let cluster = cluster();
    tree(&cluster);
    std::os::unix::fs::symlink("nowhere", cluster.work_dir().join("tree/cache/link"))
        .expect("a new link");
    // The link is not meant either, and nobody complains.
    cluster.ctl(["put", "-r", "tree", "--exclude", "cache/", "--include", "*.txt"]).ok();
    assert_eq!(cluster.list(), ["tree/a.txt", "tree/src/a.txt"]);
    cluster.ctl(["put", "-r", "--exclude", "link", "tree", "all"]).ok();
    cluster.ctl(["get", "-r", "all", "back", "--include", "src/**/*.log"]).ok();
    assert_eq!(harness::content::files(&cluster.work_dir().join("back")), ["src/cache/y.log"]);
    cluster.ctl(["get", "-r", "all", "back2", "--exclude", "/*.txt", "--exclude", "cache"]).ok();
    let back = harness::content::files(&cluster.work_dir().join("back2"));
    assert_eq!(back, ["b.log", "src/a.txt"]);
    cluster.ctl(["put", "-r", "tree", "--include", "a["]).exits(2).says("a[");
    cluster.ctl(["put", "tree/a.txt", "--include", "*"]).exits(2).says("--recursive");
}

/// The rule: both names are the folders themselves, whether they end in a slash or not.
#[test]
fn a_slash_after_a_folder_means_nothing() {
    let cluster = cluster();
    cluster.file("tree/a", "content");
    for (number, (local, remote)) in
        [("tree", "to"), ("tree/", "to"), ("tree", "to/"), ("tree/", "to/")].into_iter().enumerate()
    {
        cluster.ctl(["put", "-r", local, remote]).ok();
        assert_eq!(cluster.list(), ["to/a"], "put -r {local} {remote}");
        let back = format!("back{number}{}", if number > 1 { "/" } else { "" });
        cluster.ctl(["get", "-r", remote, &back]).ok();
        cluster.ctl(["get", "-r", remote, &back]).ok();
        let back = cluster.work_dir().join(back);
        assert_eq!(harness::content::files(&back), ["a"], "get -r {remote}");
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let cluster = cluster();
    tree(&cluster);
    let put = cluster.ctl(["put", "-r", "--dry-run", "tree", "to"]).ok();
    let put = put.prints("would store tree/src/a.txt as to/src/a.txt, 4 bytes\n");
    assert_eq!(put.lines().len(), 5, "{put}");
    assert_eq!(cluster.list(), [""; 0]);
    cluster.ctl(["put", "-r", "tree", "to"]).ok();
    let get = cluster.ctl(["get", "-r", "--dry-run", "to", "back"]).ok();
    get.prints("would get to/b.log as back/b.log, 2 bytes\n");
    cluster.ctl(["get", "-n", "to/a.txt"]).ok().prints("would get to/a.txt as a.txt, 1 bytes\n");
    cluster.ctl(["get", "-n", "to/c.txt"]).exits(3);
    let work = |name: &str| cluster.work_dir().join(name);
    assert!(!work("back").exists() && !work("a.txt").exists());
    cluster.ctl(["rm", "-r", "-n", "to"]).ok().prints("would remove to/cache/x.txt\n");
    cluster.ctl(["rm", "-n", "to/a.txt", "to/c.txt"]).exits(8).prints("would remove to/a.txt\n");
    assert_eq!(cluster.list().len(), 5);
}

#[test]
fn what_is_there_is_left_alone_if_that_is_wanted() {
    let cluster = cluster();
    tree(&cluster);
    cluster.put("to/a.txt", "old");
    cluster.put("to/src/a.txt", "old");
    let put = cluster.ctl(["put", "-r", "--no-clobber", "tree", "to"]).ok();
    put.says("to/a.txt skipped").says("to/src/a.txt skipped");
    assert_eq!(cluster.get("to/a.txt"), b"old");
    assert_eq!(cluster.get("to/b.log"), b"22");
    cluster.ctl(["put", "--no-clobber", "tree/a.txt", "to/a.txt"]).ok().says("skipped");
    cluster.ctl(["put", "-q", "--no-clobber", "tree/a.txt", "to/a.txt"]).ok().does_not_say("skip");
    assert_eq!(cluster.get("to/a.txt"), b"old");

    cluster.file("back/b.log", "mine");
    cluster.ctl(["get", "-r", "--no-clobber", "to", "back"]).ok().says("back/b.log skipped");
    assert_eq!(cluster.read("back/b.log"), b"mine");
    assert_eq!(cluster.read("back/a.txt"), b"old");
    cluster.ctl(["get", "--no-clobber", "to/b.log", "back/b.log"]).ok().says("skipped");
    assert_eq!(cluster.read("back/b.log"), b"mine");
}

/// The example under a heading of docs/json.md.
fn documented(command: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let text = fs::read_to_string(file).expect("the page is there");
    let section = text.split("\n## ").find(|part| part.starts_with(&format!("{command}\n")));
    let section = section.unwrap_or_else(|| panic!("docs/json.md has nothing about {command}"));
    let example = section.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.unwrap_or_else(|| panic!("no example of {command}"));
    serde_json::from_str(example).unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Where two documents have other members or other kinds of values; `null` goes with all.
fn difference(place: &str, documented: &Value, printed: &Value) -> Option<String> {
    match (documented, printed) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Object(known), Value::Object(found)) => {
            let (mut names, mut others): (Vec<&String>, Vec<&String>) =
                (known.keys().collect(), found.keys().collect());
            names.sort();
            others.sort();
            if names != others {
                return Some(format!("{place}: documented {names:?}, printed {others:?}"));
            }
            known.iter().find_map(|(name, value)| {
                difference(&format!("{place}.{name}"), value, &found[name])
            })
        }
        (Value::Array(known), Value::Array(found)) => found.iter().find_map(|element| {
            let mut all = known.iter().map(|like| difference(&format!("{place}[]"), like, element));
            // It is like one of those that are documented.
            let first = all.next()??;
            all.all(|other| other.is_some()).then_some(first)
        }),
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => None,
        _ => Some(format!("{place}: documented {documented}, printed {printed}")),
    }
}

#[track_caller]
fn assert_documented(command: &str, run: &harness::Output) {
    let printed = run.json();
    let different = difference(command, &documented(command), &printed);
    assert!(different.is_none(), "{}\n{run}", different.unwrap_or_default());
    let empty = printed.as_array().is_some_and(Vec::is_empty);
    assert!(!empty, "{command}: nothing to compare: {run}");
}

#[test]
fn the_json_of_each_command_is_as_documented() {
    let mut cluster = cluster();
    tree(&cluster);
    let json = |cluster: &Cluster, args: &[&str]| {
        cluster.dfsctl().args(["--output", "json"]).args(args).run()
    };
    let check = |cluster: &Cluster, command: &str, more: &[&str]| {
        let words: Vec<&str> = command.split(' ').chain(more.iter().copied()).collect();
        let run = json(cluster, &words);
        assert_documented(command, &run);
        run
    };
    check(&cluster, "put", &["-r", "tree"]).ok();
    check(&cluster, "put", &["-r", "tree", "--no-clobber"]).ok();
    let put = check(&cluster, "put", &["tree/a.txt", "tree/nothing", "to/"]).exits(8);
    assert_eq!(put.json().as_array().map(Vec::len), Some(2), "{put}");
    check(&cluster, "get", &["-r", "tree", "back"]).ok();
    check(&cluster, "get", &["tree/nothing"]).exits(3);
    assert_eq!(json(&cluster, &["get", "tree/a.txt", "-"]).ok().stdout, b"1");
    check(&cluster, "list", &[]).ok();
    check(&cluster, "stat", &["tree/a.txt"]).ok();
    check(&cluster, "du", &[]).ok();
    check(&cluster, "status", &[]).ok();
    check(&cluster, "rm", &["to/a.txt", "to/b.txt"]).exits(8);
    check(&cluster, "doctor", &[]).ok();
    check(&cluster, "login", &[]).ok();
    check(&cluster, "logout", &[]).ok();
    check(&cluster, "config show", &[]).ok();
    check(&cluster, "config path", &[]).ok();
    check(&cluster, "config check", &[]).ok();
    let own = fs::read_to_string(cluster.client_config()).expect("dfsd dev made it");
    let inside: String = own.lines().map(|line| format!("    {line}\n")).collect();
    fs::write(cluster.work_dir().join("all.yaml"), format!("contexts:\n  home:\n{inside}"))
        .expect("a new file");
    check(&cluster, "config use", &["home", "--config", "all.yaml"]).ok();
    check(&cluster, "config contexts", &["--config", "all.yaml"]).ok();
    cluster.kill(1);
    check(&cluster, "status", &[]).ok();
    assert!(!check(&cluster, "verify", &[]).exits(5).json()["problems"][0].is_null());
    assert!(!check(&cluster, "repair", &[]).exits(5).json()["problems"][0].is_null());
    cluster.run_only(&[]);
    let [a, b] = [2, 4].map(|node| cluster.data_dir(node));
    let dirs = [a.to_str().expect("UTF-8"), b.to_str().expect("UTF-8"), "rescued"];
    // It runs the dfsd beside it: a folder of its own has the two that belong together.
    let folder = cluster.work_dir().join("bin");
    fs::create_dir(&folder).expect("a new folder");
    let program = folder.join("dfsctl");
    copy_program(PROGRAMS.dfsctl, &program);
    std::os::unix::fs::symlink(PROGRAMS.dfsd, folder.join("dfsd")).expect("a new link");
    let recover = Ctl::new(program.to_str().expect("UTF-8"), &cluster.work_dir());
    let recover = recover.args(["--output", "json", "recover", "--from"]);
    assert_documented("recover", &recover.args(dirs).run().ok());
}
