//! Several files, folders, and standard input and output.

use std::fs;
use std::os::unix::fs::symlink;

use harness::Cluster;
use harness::content::{files, noise};

use crate::cluster;

/// A tree with names of all sorts, an empty file and a large one.
fn tree(cluster: &Cluster) -> Vec<String> {
    let names = [
        "plain.txt",
        "sub/with space",
        "sub/grüße 🦀",
        "sub/deeper/-dash",
        "sub/deeper/it's",
        "sub/deeper/empty",
        "sub.txt",
        "zz/large",
    ];
    for (seed, name) in names.iter().enumerate() {
        let length = match *name {
            "sub/deeper/empty" => 0,
            "zz/large" => 5_000_000,
            _ => 100 + seed,
        };
        cluster.file(&format!("tree/{name}"), noise(seed as u64, length));
    }
    files(&cluster.work_dir().join("tree"))
}

#[test]
fn a_folder_goes_there_and_back() {
    let cluster = cluster();
    let names = tree(&cluster);

    cluster.ctl(["put", "-r", "tree", "away/from/home"]).ok();
    let remote = |name: &String| format!("away/from/home/{name}");
    let mut expected: Vec<String> = names.iter().map(remote).collect();
    expected.sort();
    assert_eq!(cluster.list(), expected);

    cluster.ctl(["get", "-r", "away/from/home", "back"]).ok();
    assert_eq!(files(&cluster.work_dir().join("back")), names);
    for name in &names {
        let (there, back) = (format!("tree/{name}"), format!("back/{name}"));
        assert!(cluster.read(&there) == cluster.read(&back), "{name}");
    }

    cluster.put("away/from/homeless", "a neighbour, not inside");
    cluster.ctl(["rm", "-r", "away/from/home"]).ok();
    assert_eq!(cluster.list(), ["away/from/homeless"]);
    cluster.ctl(["rm", "-r", "away/from/home"]).exits(3);
    cluster.ctl(["get", "-r", "away/from/home", "again"]).exits(3);
}

#[test]
fn a_slash_alone_is_everything() {
    let cluster = cluster();
    cluster.ctl(["get", "-r", "/", "none"]).exits(3).says("nothing is stored yet");
    let names = tree(&cluster);
    cluster.ctl(["put", "-r", "tree", "/"]).ok();
    assert_eq!(cluster.list(), names);
    cluster.ctl(["put", "tree/plain.txt", "tree/sub.txt", "/"]).ok();
    assert_eq!(cluster.list(), names);
    let again = cluster.ctl(["put", "-r", "--no-clobber", "tree", "/"]).ok();
    assert_eq!(again.stderr.matches("is there already").count(), names.len());
    assert_eq!(
        cluster.ctl(["list", "/"]).ok().stdout.len(),
        cluster.ctl(["list"]).ok().stdout.len()
    );

    cluster.ctl(["get", "-r", "/"]).exits(2).says("name a folder");
    cluster.ctl(["get", "-r", "/", "back"]).ok();
    assert_eq!(files(&cluster.work_dir().join("back")), names);
    cluster.ctl(["rm", "-r", "/"]).exits(2).says("everything");
    assert_eq!(cluster.list(), names);
}

#[test]
fn a_folder_without_a_remote_name_keeps_its_own() {
    let cluster = cluster();
    cluster.file("outer/inner/a", "a");
    cluster.ctl(["put", "-r", "outer/inner"]).ok();
    assert_eq!(cluster.list(), ["inner/a"]);
    cluster.ctl(["get", "-r", "inner", "copy"]).ok();
    assert_eq!(cluster.read("copy/a"), b"a");
}

#[test]
fn several_files_go_under_one_folder() {
    let cluster = cluster();
    for name in ["a", "sub/b", "c"] {
        cluster.file(name, name);
    }
    cluster.ctl(["put", "a", "sub/b", "c", "folder"]).ok();
    assert_eq!(cluster.list(), ["folder/a", "folder/b", "folder/c"]);
    cluster.ctl(["put", "a", "other/"]).ok();
    cluster.ctl(["put", "a", "renamed"]).ok();
    assert_eq!(cluster.list(), ["folder/a", "folder/b", "folder/c", "other/a", "renamed"]);
    assert_eq!(cluster.get("folder/b"), b"sub/b");
    cluster.ctl(["put", "a", ""]).exits(2);
}

#[test]
fn a_file_can_be_fetched_to_a_file_a_directory_and_standard_output() {
    let cluster = cluster();
    cluster.put("remote/name", "content");
    cluster.ctl(["get", "remote/name"]).ok();
    assert_eq!(cluster.read("name"), b"content");
    fs::create_dir(cluster.work_dir().join("dir")).expect("a new directory");
    cluster.ctl(["get", "remote/name", "dir"]).ok();
    assert_eq!(cluster.read("dir/name"), b"content");
    cluster.ctl(["get", "remote/name", "other"]).ok();
    assert_eq!(cluster.read("other"), b"content");
    let piped = cluster.ctl(["get", "remote/name", "-"]).ok();
    assert_eq!(piped.stdout, b"content");
    assert_eq!(piped.stderr, "", "no progress where nobody looks");
}

#[test]
fn standard_input_can_be_stored_whatever_its_length() {
    let cluster = cluster();
    for length in [0, 1, 70_000, 9_000_001] {
        let content = noise(length as u64, length);
        let put = cluster.dfsctl().args(["put", "-", "piped"]);
        put.stdin(content.clone()).run().ok();
        assert!(cluster.get("piped") == content, "{length} bytes");
    }
    cluster.dfsctl().args(["put", "-"]).stdin("x").run().exits(2);
}

#[test]
fn links_and_special_files_are_skipped_and_named() {
    let cluster = cluster();
    cluster.file("tree/regular", "regular");
    cluster.file("outside", "outside");
    let tree = cluster.work_dir().join("tree");
    symlink("../outside", tree.join("link")).expect("a new link");
    symlink("..", tree.join("loop")).expect("a new link");
    let fifo = tree.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo is installed").success());

    let put = cluster.ctl(["put", "-r", "tree"]).exits(8);
    put.says("link").says("loop").says("pipe");
    assert_eq!(cluster.list(), ["tree/regular"]);
}

#[test]
fn a_folder_is_never_fetched_out_of_its_target() {
    let cluster = cluster();
    cluster.put("folder/link/file", "content");
    cluster.put("folder/other", "content");
    let [outside, target] = ["outside", "target"].map(|name| cluster.work_dir().join(name));
    fs::create_dir(&outside).and_then(|()| fs::create_dir(&target)).expect("new directories");
    symlink("../outside", target.join("link")).expect("a new link");
    cluster.ctl(["get", "-r", "folder", "target"]).exits(8).says("link");
    assert_eq!(files(&outside), [""; 0], "nothing went through the link");
    assert_eq!(cluster.read("target/other"), b"content");
}

#[test]
fn of_several_files_the_good_ones_are_stored_and_the_others_named() {
    let cluster = cluster();
    cluster.file("a", "a");
    cluster.file("c", "c");
    let put = cluster.ctl(["put", "a", "missing", "c", "folder"]);
    put.exits(8).says("missing");
    assert_eq!(cluster.list(), ["folder/a", "folder/c"]);

    let rm = cluster.ctl(["rm", "folder/a", "folder/b", "folder/c"]);
    rm.exits(8).says("folder/b");
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let cluster = cluster();
    cluster.ctl(["get", "nothing"]).exits(3).says("nothing");
    cluster.ctl(["stat", "nothing"]).exits(3).says("nothing");
    cluster.ctl(["rm", "nothing"]).exits(3).says("nothing");
    assert_eq!(files(&cluster.work_dir()), [""; 0]);
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn the_prompt_puts_gets_and_lists() {
    let cluster = cluster();
    cluster.file("local file", "typed in");
    let typed = "help\nput 'local file' remote\n\nlist\nget remote copy\nquit\nrm remote\n";
    let shell = cluster.dfsctl().arg("shell").stdin(typed).run().ok();
    assert!(shell.lines().contains(&"remote"), "{shell}");
    assert_eq!(cluster.read("copy"), b"typed in");

    // It goes on after a mistake, and a script learns of it at the end.
    let typed = "nonsense\nput 'unclosed\nget nothing\nput 'local file' second\n";
    let shell = cluster.dfsctl().arg("shell").stdin(typed).run();
    shell.exits(3).says("nonsense").says("quote").says("nothing not found");
    assert_eq!(cluster.list(), ["remote", "second"]);
}
