//! The help of each command and the main messages, word by word: what changes here changes what
//! people see. `DFS_BLESS=1 cargo test -p dfs-tests --test scenarios golden` writes them anew; read
//! the difference before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Cluster, Output};

use crate::{PROGRAMS, cluster};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Compares with what is written down, or writes it down.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let file = golden(name);
    if std::env::var_os("DFS_BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder for it");
        fs::write(&file, text).expect("it can be written");
        return;
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    let changed = known.lines().zip(text.lines()).find(|(known, new)| known != new);
    assert!(
        known == text,
        "tests/golden/{name} is not what is printed (DFS_BLESS=1 writes it); first: {changed:?}\n{text}"
    );
}

/// The names under the headings of the help, which is where everybody looks for them.
fn commands(help: &str) -> Vec<String> {
    let groups = help.split("\nOptions:").next().unwrap_or_default();
    let groups = groups.split("Usage:").nth(1).unwrap_or_default();
    let lines = groups.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_help_of_each_command_is_what_is_written_down() {
    let cluster = Cluster::written(PROGRAMS);
    let help = |words: &[&str]| {
        let help = cluster.bare_dfsctl().args(words).run().ok();
        let text: Vec<&str> = help.text().lines().map(str::trim_end).collect();
        text.join("\n") + "\n"
    };
    let root = help(&["-h"]);
    assert_golden("help/dfsctl.txt", &root);
    let commands = commands(&root);
    assert!(commands.len() > 10, "{commands:?}");
    let mut written: Vec<String> = vec!["dfsctl.txt".to_owned()];
    for command in &commands {
        assert_golden(&format!("help/{command}.txt"), &help(&[command, "-h"]));
        written.push(format!("{command}.txt"));
    }
    assert_golden("help/put-long.txt", &help(&["put", "--help"]));
    written.push("put-long.txt".to_owned());
    let mut files = harness::content::files(&golden("help"));
    files.sort();
    written.sort();
    assert_eq!(files, written, "every command has its help, and no other text is there");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.ctl(["man", "--out", "man1"]).ok();
    let pages = harness::content::files(&cluster.work_dir().join("man1"));
    let help = cluster.bare_dfsctl().arg("-h").run().ok();
    for command in commands(help.text()) {
        let page = format!("dfsctl-{command}.1");
        assert!(pages.contains(&page), "no {page} in {pages:?}");
        let text = fs::read_to_string(cluster.work_dir().join("man1").join(&page));
        assert!(text.expect("text").contains("Examples:"), "{page}");
    }
    cluster.ctl(["man", "put"]).ok().prints("dfsctl\\-put");
    cluster.ctl(["man", "nonsense"]).exits(2).says("dfsctl --help");
}

/// What was typed and what was said, with the names of this run taken out.
fn told(cluster: &Cluster, typed: &str, run: &Output) -> String {
    let mut said = run.stderr.clone();
    for (number, address) in cluster.addresses().iter().enumerate() {
        said = said.replace(&address.to_string(), &format!("n{}:7001", number + 1));
    }
    let folder = cluster.dir();
    let folder = folder.parent().expect("it is in one").to_str().expect("UTF-8");
    said = said.replace(folder, "/home/alice");
    let own = fs::read_to_string(cluster.client_config()).unwrap_or_default();
    if let Some(name) = own.lines().find_map(|line| line.strip_prefix("cluster: ")) {
        said = said.replace(name, "demo");
    }
    // They are told as they are found out, in any order.
    let (mut out, rest): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.ends_with("; left out"));
    out.sort_unstable();
    let said: String = out.into_iter().chain(rest).map(|line| format!("{line}\n")).collect();
    let code = run.code.expect("it ends by itself");
    format!("$ dfsctl {typed}\n{said}exit code {code}\n\n")
}

#[test]
fn messages_say_what_failed_why_and_what_to_do() {
    let mut cluster = cluster();
    cluster.put("notes/today.txt", "content");
    cluster.file("wrong.pass", "wrong\n");
    cluster.file("local.txt", "content");
    cluster.file("unknown.yaml", "cluster: demo\nnodes: [a:1, b:1, c:1, d:1]\ncolour: blue\n");
    cluster.file("wrong.yaml", "cluster: demo\nnodes: [a, 'b:0', c:1]\nuser: Alice\n");
    let [a, b, c, d] = cluster.addresses();
    let swapped = cluster.client_config_with("swapped.yaml", [b, a, c, d]);
    let mut story = String::new();
    let mut tell = |cluster: &Cluster, typed: &str| {
        let words = typed.split(' ').map(|word| match word {
            "swapped.yaml" => swapped.to_str().expect("UTF-8"),
            word => word,
        });
        let words: Vec<&str> = words.collect();
        let bare = words.contains(&"--bare");
        let ctl = if bare { cluster.bare_dfsctl() } else { cluster.dfsctl() };
        let run = ctl.args(words.iter().filter(|word| **word != "--bare")).run();
        story += &told(cluster, typed, &run);
    };
    tell(&cluster, "get notes/tody.txt");
    tell(&cluster, "get notes");
    tell(&cluster, "get notes/");
    tell(&cluster, "get /notes/today.txt");
    tell(&cluster, "get -r notes/today.txt");
    tell(&cluster, "get -r note");
    tell(&cluster, "get -r ");
    tell(&cluster, "get -r /");
    tell(&cluster, "get -r notes local.txt");
    tell(&cluster, "get notes/today.txt nowhere/today.txt");
    tell(&cluster, "get notes/today.txt --range 100- part");
    tell(&cluster, "stat nothing");
    tell(&cluster, "stat nothing/here");
    tell(&cluster, "stat notes");
    tell(&cluster, "--quiet stat notes");
    tell(&cluster, "rm nothing");
    tell(&cluster, "rm notes");
    tell(&cluster, "rm -r /");
    tell(&cluster, "list nothing");
    tell(&cluster, "get ../secret");
    tell(&cluster, "put missing.txt");
    tell(&cluster, "put .");
    tell(&cluster, "put -r /");
    tell(&cluster, "put -r local.txt");
    tell(&cluster, "put --expire soon local.txt");
    tell(&cluster, "put --expire 2020-01-01T00:00:00Z local.txt over.txt");
    tell(&cluster, "list --bare");
    tell(&cluster, "list --config missing.yaml");
    tell(&cluster, "list --config unknown.yaml");
    tell(&cluster, "list --config wrong.yaml");
    tell(&cluster, "list --context work");
    tell(&cluster, "config use work");
    tell(&cluster, "config contexts");
    tell(&cluster, "list --password-file wrong.pass");
    tell(&cluster, "list --user bob");
    tell(&cluster, "list --password-file missing.pass");
    tell(&cluster, "list --config swapped.yaml");
    tell(&cluster, "list --cluster another");
    tell(&cluster, "list --jobs many");
    tell(&cluster, "put local.txt --bwlimit 1X");
    tell(&cluster, "lst");
    tell(&cluster, "put --exclud x local.txt");
    cluster.run_without(&[2]);
    tell(&cluster, "put local.txt");
    tell(&cluster, "repair");
    cluster.run_only(&[1, 3]);
    tell(&cluster, "put local.txt");
    cluster.run_only(&[]);
    tell(&cluster, "get notes/today.txt");
    tell(&cluster, "list");
    assert_golden("messages.txt", &story);
}
