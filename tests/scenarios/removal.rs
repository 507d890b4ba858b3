//! Removed files stay removed.

use dfs_proto::wire::pb;
use harness::cluster::NODES;
use harness::content::noise;

use crate::cluster;

#[test]
fn a_node_that_missed_a_removal_does_not_bring_the_file_back() {
    let mut cluster = cluster();
    for missing in NODES {
        cluster.run_only(&NODES);
        let name = format!("missed-by-{missing}");
        cluster.put(&name, noise(1, 300_000));
        cluster.run_without(&[missing]);
        cluster.ctl(["rm", &name]).ok();
        cluster.ctl(["get", &name, "-"]).exits(3);
    }
    for lost in [&[][..], &[1], &[2], &[3], &[4], &[1, 3], &[2, 4]] {
        cluster.run_without(lost);
        assert_eq!(cluster.list(), [""; 0], "{lost:?} lost");
        for missing in NODES {
            let name = format!("missed-by-{missing}");
            cluster.ctl(["get", &name, "-"]).exits(3);
        }
    }
}

#[test]
fn a_path_can_be_put_again_after_its_removal() {
    let mut cluster = cluster();
    for (round, missing) in NODES.into_iter().enumerate() {
        let content = noise(round as u64, 2000);
        cluster.put("file", &content);
        cluster.run_without(&[missing]);
        assert!(cluster.get("file") == content);
        cluster.ctl(["rm", "file"]).ok();
        cluster.ctl(["rm", "file"]).exits(3);
        cluster.run_only(&NODES);
    }
    cluster.put("file", "again");
    assert_eq!(cluster.get("file"), b"again");
    assert_eq!(cluster.list(), ["file"]);
}

#[test]
fn a_removal_needs_three_nodes() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    for live in [&[1, 3][..], &[2, 4], &[1, 2], &[3]] {
        cluster.run_only(live);
        cluster.ctl(["rm", "file"]).exits(5).says("file");
    }
    cluster.run_only(&NODES);
    assert_eq!(cluster.get("file"), b"content");
}

#[test]
fn a_removal_that_is_on_two_nodes_only_is_no_answer_where_certainty_is_asked_for() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    harness::api::block_on(async {
        // A client that dies after its second Commit.
        for node in [1, 3] {
            let mut api = cluster.api(node).await;
            let hlc = api.stat("file").await.current.expect("a version").tag.expect("a tag").hlc;
            let record = pb::Record {
                tag: Some(pb::Tag { hlc: hlc + 1, writer: vec![5; 16] }),
                kind: pb::Kind::Tombstone.into(),
                upload_id: vec![6; 16],
                ..Default::default()
            };
            let path = "file".to_owned();
            let entry = pb::CommitEntry { path, record: Some(record), ..Default::default() };
            let request = pb::CommitRequest { entries: vec![entry] };
            let answer = api.client.commit(request).await.expect("an answer").into_inner();
            assert_eq!(answer.results[0].refusal, None);
        }
    });
    // The next reader might ask the two that still have the file.
    cluster.run_only(&[1, 3]);
    cluster.ctl(["get", "--strict", "file", "-"]).exits(5).says("unconfirmed");
    for command in [&["get", "file", "-"][..], &["stat", "file"]] {
        let gone = cluster.dfsctl().args(command).run();
        gone.exits(3).says("file not found, but unconfirmed: its removal could not be shown");
    }
    cluster.ctl(["rm", "file"]).exits(5).says("too few nodes");
    // Nobody will find it again: nothing is unconfirmed of what was never there.
    cluster.ctl(["get", "nothing", "-"]).exits(3).does_not_say("unconfirmed");
    cluster.run_only(&[1, 2, 3]);
    cluster.ctl(["stat", "file"]).exits(3).says("unconfirmed");
    let gone = cluster.ctl(["get", "--strict", "file", "-"]).exits(3);
    gone.says("file not found").does_not_say("unconfirmed");
    cluster.ctl(["stat", "file"]).exits(3).does_not_say("unconfirmed");
}
