//! Quotas: a user who is over one is told so, nothing else suffers, and removing files helps.

use std::time::Duration;

use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::wire::pb;
use dfs_proto::wire::status::Reason;
use harness::api::block_on;
use harness::cluster::NODES;
use harness::content::noise;
use harness::{Cluster, Output, Rng, wait};
use tonic::Code;

use crate::PROGRAMS;

/// Alice under these limits, and Bob without any. What is removed is forgotten soon.
fn cluster(limits: &str) -> Cluster {
    let cluster = Cluster::written(PROGRAMS);
    cluster.add_user("bob");
    let quota =
        format!("{{ {limits}, users: {{ bob: {{ bytes: off, files: off, staged: off }} }} }}");
    for node in NODES {
        cluster.configure(node, "quota", &quota);
        cluster.configure(node, "prune_grace", "200ms");
    }
    cluster.started()
}

/// A file of 2 MiB: half of it is on each node.
fn put(cluster: &Cluster, name: &str) -> Output {
    cluster.dfsctl().args(["put", "-", name]).stdin(noise(1, 2 << 20)).run()
}

/// The figures of one kind that the nodes tell the user.
fn usage(cluster: &Cluster, figure: &str) -> Vec<u64> {
    let status = cluster.ctl(["--output", "json", "status"]).ok().json();
    let nodes = status.as_array().expect("four nodes");
    nodes.iter().map(|node| node["usage"][figure]["used"].as_u64().expect("a figure")).collect()
}

/// Waits until the user holds this much on each node: what was refused is dropped behind.
fn await_usage(cluster: &Cluster, figure: &str, expected: u64) {
    wait::until_true(figure, Duration::from_secs(20), || usage(cluster, figure) == [expected; 4]);
}

#[test]
fn who_is_over_his_quota_is_told_once_and_may_still_do_all_else() {
    let mut cluster = cluster("bytes: 3MiB");
    for name in ["a", "b", "c"] {
        put(&cluster, name).ok();
    }
    let refused = put(&cluster, "d").exits(5).says("d put failed, nothing was changed: node ");
    let refused = refused.says("alice is over the quota 'bytes' of this node: 3145728 allowed");
    assert_eq!(refused.stderr.matches("over the quota").count(), 1, "{refused}");
    refused.says("remove files").within(Duration::from_secs(10));
    // What replaces a file needs room too, as both are there for a while.
    put(&cluster, "a").exits(5).says("over the quota 'bytes'");
    assert_eq!(cluster.list(), ["a", "b", "c"]);
    assert_eq!(cluster.get("a"), noise(1, 2 << 20));
    cluster.dfsctl_as("bob").args(["put", "-", "d"]).stdin(noise(2, 8 << 20)).run().ok();
    cluster.ctl(["status"]).ok().prints("quota: 3145728 of 3145728 bytes used");
    await_usage(&cluster, "staged_bytes", 0);
    assert_eq!(usage(&cluster, "bytes"), [3 << 20; 4]);

    cluster.kill(2);
    cluster.start_node(2);
    assert_eq!(usage(&cluster, "bytes"), [3 << 20; 4], "counted anew at a start");
    put(&cluster, "d").exits(5).says("over the quota 'bytes'");
    cluster.ctl(["rm", "b"]).ok();
    wait::until_true("room for another", Duration::from_secs(20), || {
        put(&cluster, "d").code == Some(0)
    });
    assert_eq!(cluster.list(), ["a", "c", "d"]);
}

#[test]
fn copies_that_are_written_back_or_copied_home_are_not_refused() {
    let mut cluster = cluster("bytes: 4MiB");
    cluster.run_without(&[4]);
    for name in ["a", "b"] {
        put(&cluster, name).ok();
    }
    // Node 2 holds what node 4 should, beside its own.
    assert_eq!(usage_of(&cluster, 2), 4 << 20);
    put(&cluster, "c").exits(5).says("over the quota 'bytes'");
    for node in NODES {
        cluster.configure(node, "quota", "{ bytes: 1 }");
    }
    cluster.run_only(&[]);
    cluster.run_only(&NODES);
    cluster.ctl(["repair"]).ok();
    assert_eq!(usage(&cluster, "bytes"), [2 << 20; 4]);
    cluster.run_only(&[2, 4]);
    assert_eq!(cluster.get("b"), noise(1, 2 << 20));
}

/// What the user holds on a node, others being down.
fn usage_of(cluster: &Cluster, node: usize) -> u64 {
    block_on(async {
        let mut api = cluster.api(node).await;
        let info = api.client.get_node_info(pb::GetNodeInfoRequest {}).await.expect("an answer");
        info.into_inner().usage.expect("what he holds").bytes
    })
}

#[test]
fn of_many_small_files_those_are_stored_that_fit() {
    let cluster = cluster("files: 6");
    for number in 0..20 {
        cluster.file(&format!("many/{number:02}"), format!("content {number}"));
    }
    let some = cluster.ctl(["put", "-r", "many"]);
    assert!(matches!(some.code, Some(5 | 8)), "{some}");
    let stored = cluster.list();
    assert!(stored.len() <= 6, "{stored:?}");
    assert_eq!(some.stderr.matches("over the quota 'files'").count(), 20 - stored.len(), "{some}");
    await_usage(&cluster, "files", stored.len() as u64);
    for number in stored.len()..6 {
        cluster.put(&format!("one-{number}"), "content");
    }
    let more = cluster.dfsctl().args(["put", "-", "more"]).stdin("x").run();
    more.exits(5).says("6 allowed, 6 used, 1 needed");
    cluster.put(&cluster.list()[0], "replacing is no new file");
    await_usage(&cluster, "files", 6);
    cluster.ctl(["rm", &cluster.list()[0]]).ok();
    cluster.put("more", "x");
}

/// The answer comes while the client waits with the first block in its hands.
#[test]
fn a_chunk_is_refused_before_its_bytes_have_come() {
    let cluster = cluster("staged: 3MiB");
    let content = noise(3, 16 << 20);
    let md5 = Md5Digest::of(&content);
    let chunks = content
        .chunks(4 << 20)
        .map(|chunk| pb::ChunkInfo { length: 4 << 20, crc32c: Crc32c::of(chunk).get() });
    let manifest = pb::Manifest {
        size: 16 << 20,
        md5: md5.bytes().to_vec(),
        x: md5.residue().get().into(),
        layout: pb::Layout::Pairs.into(),
        chunks: chunks.collect(),
        modified: "2026-11-22T10:00:00Z".into(),
        metadata: Default::default(),
    };
    let header = pb::ChunkHeader {
        path: "large".into(),
        upload_id: Rng::new(7).id(),
        chunk: 1,
        manifest: Some(manifest),
        first_block: None,
    };
    let message = Some(pb::put_chunk_request::Message::Header(header));
    let header = pb::PutChunkRequest { message };
    block_on(async {
        let mut api = cluster.api(1).await;
        let (send, receive) = tokio::sync::mpsc::channel(1);
        send.send(header).await.expect("the receiver is here");
        let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
        let refused = tokio::time::timeout(Duration::from_secs(5), api.client.put_chunk(stream));
        let status = refused.await.expect("at once").expect_err("it is too large");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(Reason::of(&status), Some(Reason::QuotaExceeded));
        let facts = [("limit", "staged"), ("used", "0"), ("needed", "4194304")];
        for (key, value) in facts.into_iter().chain([("allowed", "3145728")]) {
            let (k, v) = (key.len() as u8, value.len() as u8);
            let entry = [&[10, k][..], key.as_bytes(), &[18, v], value.as_bytes()].concat();
            let found = status.details().windows(entry.len()).any(|bytes| bytes == entry);
            assert!(found, "{key} is {value}: {status:?}");
        }
        drop(send);
        let info = api.client.get_node_info(pb::GetNodeInfoRequest {}).await.expect("an answer");
        assert_eq!(info.into_inner().usage.expect("what he holds").staged_bytes, 0);
    });
}
