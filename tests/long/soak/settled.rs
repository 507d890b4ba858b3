//! What has to be so once nothing goes wrong any more: all nodes agree, every chunk is where
//! it lives, and nothing else is anywhere.

use std::collections::BTreeMap;
use std::fs;

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::Residue;
use dfs_proto::placement::{NodeId, home_chunks};
use dfs_proto::wire::pb;
use harness::cluster::{NODES, USER};
use harness::content::files;
use harness::{Cluster, NodeApi};

/// Longer chunks are files of their own.
const LARGE_CHUNK: u64 = 64 << 10;

/// What a chunk file has besides a chunk of one block: what it says of itself, two checksums.
const AROUND_A_CHUNK: u64 = 4096 + 4 + 4;

/// The node that holds the other complete copy.
pub(super) fn opposite(node: usize) -> usize {
    (node + 1) % 4 + 1
}

/// Whether a node whose disk was replaced serves, and has all that was on it.
pub(super) fn is_whole_again(cluster: &Cluster, node: usize) -> bool {
    let status = cluster.ctl(["--output", "json", "status"]);
    if status.code != Some(0) {
        return false;
    }
    let status = &status.json()[node - 1];
    status["status"] == "serving" && status["rejoin"] == ""
}

/// Speaks to the four nodes without the library.
pub(super) async fn apis(cluster: &Cluster) -> Vec<NodeApi> {
    let mut apis = Vec::new();
    for node in NODES {
        apis.push(cluster.api(node).await);
    }
    apis
}

/// Everything that is not yet, or not at all, as it has to be in the end.
pub(super) async fn complaints(cluster: &Cluster, apis: &mut [NodeApi]) -> Vec<String> {
    let mut found = Vec::new();
    let mut first: Option<BTreeMap<String, pb::ListEntry>> = None;
    for (node, api) in NODES.into_iter().zip(apis) {
        let mut complain = |what: String| found.push(format!("node {node}: {what}"));
        let request = pb::GetNodeInfoRequest {};
        match api.client.get_node_info(request).await {
            Ok(info) => match info.into_inner().pending_uploads {
                0 => {}
                pending => complain(format!("{pending} pending uploads")),
            },
            Err(status) => complain(format!("no information: {status}")),
        }
        let request = pb::ListRequest { page_size: 10_000, ..Default::default() };
        let listing = match api.client.list(request).await {
            Ok(listing) => listing.into_inner(),
            Err(status) => {
                complain(format!("no listing: {status}"));
                continue;
            }
        };
        let entries = listing.entries.into_iter().map(|entry| (entry.path.clone(), entry));
        let entries: BTreeMap<_, _> = entries.collect();
        for wrong in entries.values().filter_map(|entry| wrong_in_row(node, entry)) {
            complain(wrong);
        }
        wrong_on_disk(cluster, node, entries.values()).into_iter().for_each(&mut complain);
        let first = first.get_or_insert_with(|| entries.clone());
        if versions(first) != versions(&entries) {
            let (one, other) = (versions(first), versions(&entries));
            complain(format!("has other versions than node 1: {other:?}, {one:?}"));
        }
    }
    found
}

/// The newest version of each path.
fn versions(
    entries: &BTreeMap<String, pb::ListEntry>,
) -> Vec<(&String, &Option<pb::Tag>, i32, &[u8])> {
    entries.iter().map(|(path, row)| (path, &row.tag, row.kind, &row.upload_id[..])).collect()
}

/// The chunks that live on a node.
fn home(node: usize, entry: &pb::ListEntry) -> ChunkSet {
    if entry.kind() != pb::Kind::File {
        return ChunkSet::EMPTY;
    }
    let x = Residue::new(entry.x).expect("0..3");
    let node = u32::try_from(node).ok().and_then(NodeId::new).expect("1..4");
    home_chunks(x, node)
}

fn wrong_in_row(node: usize, entry: &pb::ListEntry) -> Option<String> {
    let (path, home) = (&entry.path, home(node, entry));
    if entry.have != u32::from(home.mask()) {
        Some(format!("{path} has chunks {:04b}, not {:04b}", entry.have, home.mask()))
    } else if !entry.confirmed {
        Some(format!("{path} is not confirmed"))
    } else {
        None
    }
}

/// Compares the chunk files with those that there should be, by name and length.
fn wrong_on_disk<'a>(
    cluster: &Cluster,
    node: usize,
    entries: impl Iterator<Item = &'a pb::ListEntry>,
) -> Option<String> {
    let mut expected = BTreeMap::new();
    for entry in entries {
        let upload: String = entry.upload_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let lengths = ChunkId::ALL.map(|chunk| (chunk, chunk.length(entry.size)));
        for (chunk, length) in lengths {
            if home(node, entry).contains(chunk) && length > LARGE_CHUNK {
                let name = format!("{}/{upload}.{}", &upload[..2], chunk.get());
                expected.insert(name, length + AROUND_A_CHUNK);
            }
        }
    }
    let data = cluster.data_dir(node);
    let chunks = data.join("chunks").join(USER);
    let length = |name: &String| fs::metadata(chunks.join(name)).map_or(0, |file| file.len());
    let there: BTreeMap<_, _> =
        files(&chunks).into_iter().map(|name| (name.clone(), length(&name))).collect();
    let staged = files(&data.join("staging"));
    if there != expected {
        Some(format!("has the chunk files {there:?}, not {expected:?}"))
    } else if !staged.is_empty() {
        Some(format!("still stages {staged:?}"))
    } else {
        None
    }
}
