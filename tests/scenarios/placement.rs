//! The table: which node holds which chunk of a file.

use harness::api::block_on;
use harness::cluster::{NODES, USER};
use harness::content::{noise, with_x, x_by_python, x_of};
use harness::table::{TABLE, home_mask};
use serde_json::{Value, json};

use crate::cluster;

/// Its chunks are inside the index.
const SMALL: usize = 1000;
/// Its chunks are files of their own.
const LARGE: usize = 1_000_003;

fn sorted(value: &Value) -> Vec<u64> {
    let chunks = value.as_array().expect("a node that answered");
    let mut chunks: Vec<u64> = chunks.iter().filter_map(Value::as_u64).collect();
    chunks.sort_unstable();
    chunks
}

#[test]
fn each_node_holds_its_cell_of_the_table_for_every_x() {
    let cluster = cluster();
    let mut large_files = 0;
    for (x, length) in [SMALL, LARGE].into_iter().flat_map(|l| (0..4).map(move |x| (x, l))) {
        let name = format!("x{x}-{length}");
        let content = with_x(x, 1, length);
        let file = cluster.file(&name, &content);
        cluster.ctl(["put", &name]).ok();
        assert_eq!(x_by_python(&[file]), [x]);

        let stat = cluster.ctl(["--output", "json", "stat", &name]).ok().json();
        assert_eq!(stat["path"], json!(name));
        assert_eq!(stat["x"], json!(x));
        assert_eq!(stat["size"], json!(length));
        assert_eq!(stat["state"], json!("complete"));
        assert_eq!(stat["unconfirmed"], json!(false));
        for node in NODES {
            let mut cell = TABLE[usize::from(x)][node - 1];
            cell.sort_unstable();
            assert_eq!(sorted(&stat["nodes"][node - 1]), cell, "x {x}, node {node}");
        }

        large_files += usize::from(length == LARGE);
        block_on(async {
            for node in NODES {
                let stat = cluster.api(node).await.stat(&name).await;
                let current = stat.current.expect("every node has the record");
                assert_eq!(current.have, home_mask(x, node), "x {x}, node {node}");
                let files = cluster.chunk_files(node, USER);
                assert_eq!(files.len(), 2 * large_files, "two chunks a file: {files:?}");
            }
        });
    }
}

#[test]
fn x_is_the_md5_mod_4_as_python_computes_it() {
    let cluster = cluster();
    let golden: [(&[u8], u8); 5] =
        [(b"", 2), (b"a", 1), (b"b", 3), (b"abc", 2), (b"message digest", 0)];
    let mut files = Vec::new();
    for (content, x) in golden {
        assert_eq!(x_of(content), x);
        let name = format!("tree/golden-{}", content.len() * 10 + usize::from(x));
        files.push(cluster.file(&name, content));
    }
    for seed in 0..60u64 {
        let name = format!("tree/noise-{seed:02}");
        let length = usize::try_from(seed * seed * 7).expect("small");
        files.push(cluster.file(&name, noise(seed, length)));
    }
    cluster.ctl(["put", "-r", "tree"]).ok();
    let listing = cluster.ctl(["--output", "json", "list"]).ok().json();
    let listing = listing.as_array().expect("an array");
    assert_eq!(listing.len(), files.len());

    for (file, x) in files.iter().zip(x_by_python(&files)) {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let path = json!(format!("tree/{name}"));
        let entry = listing.iter().find(|entry| entry["path"] == path);
        assert_eq!(entry.expect("it is listed")["x"], json!(x), "{name}");
    }
}

#[test]
fn a_users_data_is_in_a_folder_of_his_own() {
    let cluster = harness::Cluster::written(crate::PROGRAMS);
    cluster.add_user("bob");
    let cluster = cluster.started();
    cluster.file("large", noise(1, LARGE));
    cluster.dfsctl_as("bob").args(["put", "large"]).run().ok();
    for node in NODES {
        let folder = cluster.data_dir(node).join("chunks").join("bob");
        assert_eq!(harness::content::files(&folder).len(), 2, "node {node}");
        assert_eq!(cluster.chunk_files(node, USER), [""; 0], "node {node}");
    }
}
