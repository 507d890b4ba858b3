#![allow(clippy::field_reassign_with_default, reason = "a census keeps one field to itself")]

use super::*;
use dfs_proto::identity::{Boot, Identity};
use dfs_proto::manifest::Incarnation;
use dfs_proto::name::ClusterName;

fn report(node: NodeId) -> PeerReport {
    PeerReport {
        identity: Identity {
            cluster: ClusterName::new("demo").unwrap(),
            node,
            incarnation: Incarnation::new([node.get(); 16]),
            boot: Boot { count: 3, nonce: 1 },
            rejoining: false,
        },
        version: "1.2.3".into(),
        uptime_seconds: 90,
        disk_total_bytes: 100 << 30,
        disk_free_bytes: 60 << 30,
        index_bytes: 5 << 20,
        clock_ms: 1_000_000_000_000,
        pending_uploads: 0,
        heals: true,
        backlog: 0,
        bad_chunks: 0,
        last_scrub_ms: 0,
        rejoin: String::new(),
    }
}

fn facts(down: &[NodeId], census: Option<Census>) -> Facts {
    Facts {
        cluster: "demo<".into(),
        own: NodeId::N1,
        now_ms: 1_000_000_000_000,
        addresses: NodeId::ALL.map(|id| format!("127.0.0.1:1000{id}")),
        reports: NodeId::ALL.map(|id| match down.contains(&id) {
            true => Err(PeerError::Status("tcp connect error".into())),
            false => Ok(report(id)),
        }),
        last_seen_ms: [0; 4],
        census,
        counts_files: true,
        recent: Vec::new(),
    }
}

/// Ten files that are whole, or of which a node holds nothing.
fn census(without: Option<NodeId>) -> Census {
    let mut census = Census::default();
    census.at_ms = 999_999_990_000;
    census.took_part = [true; 4];
    if let Some(id) = without {
        census.took_part[id.index()] = false;
    }
    for x in Residue::ALL {
        census.count_sample(x, without);
    }
    census
}

#[test]
fn a_whole_cluster_says_what_it_can_still_lose() {
    let status = Status::of(facts(&[], Some(census(None))));
    assert_eq!(status.verdict.level, Level::Good);
    assert_eq!(
        status.verdict.text,
        "What may fail next without loss: any one node; or nodes 1 and 3; or nodes 2 and 4."
    );
    assert!(status.losses.iter().all(Loss::is_harmless));
    assert_eq!(
        status.placement[0].clone().map(|cell| cell.chunks),
        [[1, 2], [2, 3], [3, 4], [4, 1]]
    );
    assert_eq!(status.placement[1][0].chunks, [4, 1]);
    assert_eq!(status.placement[1][0].held, Some([1, 1]));
    let page = super::super::page::page(&status);
    assert!(page.contains("demo&lt;") && !page.contains("demo<"));
    assert!(!page.contains("<script") && !page.contains("http://"), "{page}");
    assert!(page.contains("4, 1<small>✓ 1</small>"));
}

#[test]
fn with_a_node_down_only_its_opposite_may_fail() {
    for census in [census(None), census(Some(NodeId::N3))] {
        let status = Status::of(facts(&[NodeId::N3], Some(census)));
        assert_eq!(status.verdict.level, Level::Warn);
        assert_eq!(status.verdict.title, "One node is down: everything works.");
        assert_eq!(status.verdict.text, "What may fail next without loss: node 1.");
        assert_eq!(status.nodes[2].state, State::Down);
        assert_eq!(status.nodes[2].note.as_deref(), Some("not reached: tcp connect error"));
    }
}

#[test]
fn what_is_not_known_is_not_promised() {
    let status = Status::of(facts(&[], None));
    assert_eq!(status.verdict.level, Level::Warn);
    assert_eq!(status.verdict.text, "What may fail next without loss is unknown.");
    assert!(status.files.is_none() && status.losses.is_empty());
    assert!(status.files_unknown.is_some_and(|why| why.contains("since its start")));
    let mut alone = census(None);
    alone.took_part = [true, false, false, false];
    let status = Status::of(facts(&[], Some(alone)));
    assert!(status.files.is_none(), "one node alone counts nothing");
}

#[test]
fn losses_are_told_as_such() {
    let status = Status::of(facts(&[NodeId::N1, NodeId::N2], Some(census(None))));
    assert_eq!(status.verdict.level, Level::Bad);
    assert_eq!(status.verdict.title, "4 files cannot be read while nodes are down.");
    assert_eq!(status.verdict.text, "No further node may fail.");
    let status = Status::of(facts(&[NodeId::N1, NodeId::N3], Some(census(None))));
    assert_eq!(status.verdict.level, Level::Bad);
    assert!(status.verdict.title.contains("read, not written"), "{}", status.verdict.title);
    assert!(status.losses.iter().all(|loss| !loss.enough_nodes));
    let mut rejoining = facts(&[], Some(census(None)));
    if let Ok(report) = &mut rejoining.reports[1] {
        report.identity.rejoining = true;
        report.rejoin = "waits for node 3".into();
    }
    let status = Status::of(rejoining);
    assert_eq!(status.nodes[1].state, State::Rejoining);
    assert_eq!(status.verdict.text, "What may fail next without loss: node 4.");
}
