//! Many clients at once.

use std::thread;
use std::time::Duration;

use harness::Cluster;
use harness::content::noise;

use crate::PROGRAMS;

const CLIENTS: usize = 50;
const FILES_EACH: usize = 4;

/// What one of the clients does: put, get, list, overwrite, get.
fn client(cluster: &Cluster, number: usize) {
    let folder = format!("client-{number:02}");
    let name = |file: usize| format!("{folder}/file-{file}");
    let content = |file: usize| noise((number * FILES_EACH + file) as u64, 1 + 997 * file);
    let limit = Duration::from_secs(60);
    let run = |args: &[&str]| cluster.dfsctl().args(args).limit(limit).run().ok();

    for file in 0..FILES_EACH {
        cluster.file(&name(file), content(file));
    }
    run(&["put", "-r", &folder]);
    let listing = run(&["list", &format!("{folder}/")]);
    let names: Vec<String> = (0..FILES_EACH).map(name).collect();
    assert_eq!(listing.lines(), names);
    for file in 0..FILES_EACH {
        let get = run(&["get", &name(file), "-"]);
        assert!(get.stdout == content(file), "{}", name(file));
    }
    // Everybody writes and reads the same file, too.
    run(&["put", &name(1), "shared"]);
    let shared = run(&["get", "shared", "-"]).stdout;
    assert_eq!(shared.len(), content(1).len(), "one client's file, whole");
}

#[test]
fn fifty_clients_at_once_are_all_served() {
    let cluster = Cluster::start_alone(PROGRAMS);
    thread::scope(|scope| {
        let cluster = &cluster;
        for number in 0..CLIENTS {
            scope.spawn(move || client(cluster, number));
        }
    });
    assert_eq!(cluster.list().len(), CLIENTS * FILES_EACH + 1);
    let states = cluster.ctl(["list", "-l"]).ok();
    for line in states.lines() {
        assert!(line.contains("complete"), "{line}");
    }
}
