//! Files come out of data directories when no node runs any more.

use std::fs;
use std::path::{Path, PathBuf};

use harness::cluster::{NODES, USER};
use harness::content::{files, noise};
use harness::mount::Mount;
use harness::process::copy_program;
use harness::skip::skipped;
use harness::{Cluster, Ctl};
use serde_json::{Value, json};

use crate::cluster;

/// Its chunks are inside the index.
const SMALL: usize = 500;
/// Its chunks are files of their own.
const LARGE: usize = 400_000;

/// A cluster that has stopped, with files large and small, one of them written twice, and one
/// removed.
fn stopped() -> Cluster {
    let mut cluster = cluster();
    for (name, seed, length) in
        [("a", 1, LARGE), ("a/b", 2, SMALL), ("twice", 3, LARGE), ("gone", 4, LARGE)]
    {
        cluster.put(name, noise(seed, length));
    }
    cluster.put("twice", noise(5, LARGE));
    cluster.put("empty", "");
    cluster.ctl(["rm", "gone"]).ok();
    cluster.run_only(&[]);
    cluster
}

fn recover(cluster: &Cluster, nodes: &[usize], out: &Path) -> (Option<i32>, String) {
    let dirs: Vec<PathBuf> = nodes.iter().map(|node| cluster.data_dir(*node)).collect();
    recover_from(cluster, &dirs, out)
}

fn recover_from(cluster: &Cluster, dirs: &[PathBuf], out: &Path) -> (Option<i32>, String) {
    let dirs = dirs.iter().map(|dir| dir.to_str().expect("a plain path"));
    let out = out.to_str().expect("a plain path");
    let args = ["recover", "--json", "--from"].into_iter().chain(dirs).chain([out]);
    let (status, text) = cluster.dfsd(args);
    (status.code(), text)
}

/// What is printed for programs, behind what is told to people.
fn result(text: &str) -> Value {
    let last = text.lines().last().expect("a result");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn assert_current(out: &Path) {
    let user = out.join(USER);
    let read = |name: &str| fs::read(user.join(name)).expect("it was recovered");
    assert_eq!(files(&user).len(), 4, "{:?}", files(&user));
    assert!(read("a") == noise(1, LARGE));
    assert!(read("a~/b") == noise(2, SMALL), "a file and a folder of one name");
    assert!(read("twice") == noise(5, LARGE));
    assert!(read("empty").is_empty());
}

#[test]
fn any_two_opposite_disks_give_every_file_back() {
    let cluster = stopped();
    for nodes in [&NODES[..], &[1, 3], &[2, 4]] {
        let out = cluster.work_dir().join(format!("out-{}", nodes.len() + nodes[0]));
        let (code, text) = recover(&cluster, nodes, &out);
        assert_eq!(code, Some(0), "{nodes:?}: {text}");
        assert_current(&out);
    }
    let out = cluster.work_dir().join("two-neighbours");
    let (code, text) = recover(&cluster, &[1, 2], &out);
    assert_eq!((code, text.contains("is in none of the directories")), (Some(1), true), "{text}");
    assert_eq!(files(&out.join(USER)), ["empty"], "nothing that is not whole");
    let (code, text) = recover(&cluster, &[1], &out);
    assert_eq!((code, text.contains("is not empty")), (Some(2), true), "{text}");
}

#[test]
fn without_an_index_every_whole_upload_is_written_with_its_time() {
    let cluster = stopped();
    for node in [1, 3] {
        fs::remove_dir_all(cluster.data_dir(node).join("index")).expect("its index");
    }
    let out = cluster.work_dir().join("out");
    let (code, text) = recover(&cluster, &[1, 3], &out);
    assert_eq!(code, Some(0), "{text}");
    let dirs = [1, 3].map(|node| cluster.data_dir(node));
    let said = result(&text);
    assert_eq!((&said["files"], &said["guessed"]), (&json!(0), &json!(4)), "{text}");
    assert_eq!(said["without_index"], json!(dirs), "{text}");
    let warning = said["warning"].as_str().expect("a warning");
    assert!(warning.contains("nobody can tell") && warning.contains("64 KiB"), "{text}");
    let found = files(&out.join(USER));
    let of = |name: &str| found.iter().filter(|file| file.starts_with(name)).count();
    assert_eq!((of("a~"), of("twice~"), of("gone~")), (1, 2, 1), "{found:?}");
    let twice = found.iter().filter(|file| file.starts_with("twice~"));
    let read = |file: &String| fs::read(out.join(USER).join(file)).expect("it was recovered");
    let contents: Vec<Vec<u8>> = twice.map(read).collect();
    assert!(contents.contains(&noise(3, LARGE)) && contents.contains(&noise(5, LARGE)));
    // One index is enough to tell what is current.
    let out = cluster.work_dir().join("with-one-index");
    let (code, text) = recover(&cluster, &[1, 3, 2, 4], &out);
    assert_eq!(code, Some(0), "{text}");
    assert!(fs::read(out.join(USER).join("twice")).expect("recovered") == noise(5, LARGE));
}

/// As a disk that may be dying is looked at.
#[test]
fn what_may_only_be_read_gives_every_file_back() {
    let cluster = stopped();
    let mut mounts = Vec::new();
    for node in [1, 3] {
        match Mount::read_only(&cluster.data_dir(node)) {
            Ok(mount) => mounts.push(mount),
            Err(why) => return skipped("recovery from a disk that may only be read", &why),
        }
    }
    let dirs: Vec<PathBuf> = mounts.iter().map(Mount::path).collect();
    let out = cluster.work_dir().join("out");
    let (code, text) = recover_from(&cluster, &dirs, &out);
    assert_eq!(code, Some(0), "{text}");
    assert_current(&out);
    assert_eq!(result(&text)["without_index"], json!([]), "{text}");
    let left: Vec<_> = fs::read_dir(&out).expect("it was made").flatten().collect();
    assert_eq!(left.len(), 1, "nothing but the user's files: {left:?}");
}

#[test]
fn what_cannot_be_looked_at_is_named() {
    let cluster = stopped();
    // Not even root can list a file.
    let quarantine = cluster.data_dir(1).join("quarantine");
    fs::remove_dir(&quarantine).expect("it is empty");
    fs::write(&quarantine, "").expect("a free name");
    let chunks = cluster.data_dir(3).join("chunks");
    fs::write(chunks.join("noise"), "no chunk").expect("a new file");
    let out = cluster.work_dir().join("out");
    let (code, text) = recover(&cluster, &[1, 3], &out);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{}: Not a directory", quarantine.display())), "{text}");
    assert!(text.contains(&format!("{}: its file has 8 bytes", chunks.join("noise").display())));
    assert_eq!(result(&text)["unreadable"], 2, "{text}");
    assert_current(&out);
}

#[test]
fn dfsctl_has_dfsd_do_it() {
    use std::os::unix::fs::symlink;
    let cluster = stopped();
    // A dfsctl with no dfsd beside it.
    let programs = cluster.work_dir().join("programs");
    fs::create_dir(&programs).expect("a new directory");
    let dfsctl = programs.join("dfsctl");
    copy_program(crate::PROGRAMS.dfsctl, &dfsctl);
    let dirs = NODES.map(|node| cluster.data_dir(node));
    let run = || {
        let program = dfsctl.to_str().expect("a plain path");
        let ctl = Ctl::new(program, &cluster.work_dir()).env("PATH", &programs);
        ctl.arg("recover").arg("--from").args(&dirs).arg("out").run()
    };
    run().exits(1).says("needs dfsd beside dfsctl");
    symlink(crate::PROGRAMS.dfsd, programs.join("dfsd")).expect("a link");
    run().ok().prints("recovered 4 files");
    assert_current(&cluster.work_dir().join("out"));
}

#[test]
fn a_directory_in_use_or_of_something_else_is_refused() {
    let cluster = cluster();
    let out = cluster.work_dir().join("out");
    let (code, text) = recover(&cluster, &[1], &out);
    assert_eq!((code, text.contains("in use")), (Some(2), true), "{text}");
    let dir = cluster.work_dir();
    let dir = dir.to_str().expect("a plain path");
    let (status, text) = cluster.dfsd(["recover", "--from", dir, "out"]);
    assert_eq!((status.code(), text.contains("no data directory")), (Some(2), true), "{text}");
}
