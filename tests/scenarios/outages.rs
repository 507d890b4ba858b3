//! Every set of nodes that can be up: what works, with which exit code, message and state.

use harness::cluster::NODES;
use harness::content::noise;
use serde_json::json;

use crate::cluster;

/// In an order in which few nodes have to be started. `put` is of an existing path and of a
/// new one; the states are those of `list`.
const TABLE: &str = "
    up    put  get  list  state
    1234  0    0    0     complete
    123   0    0    0     degraded
    12    5    5    0     incomplete
    124   0    0    0     degraded
    24    5    0    0     degraded
    234   0    0    0     degraded
    23    5    5    0     incomplete
    3     5    5    5     unknown
    34    5    5    0     incomplete
    134   0    0    0     degraded
    14    5    5    0     incomplete
    4     5    5    5     unknown
    -     5    5    5     -
    1     5    5    5     unknown
    13    5    0    0     degraded
    2     5    5    5     unknown
";

struct Expected {
    up: Vec<usize>,
    put: i32,
    get: i32,
    list: i32,
    state: Option<&'static str>,
}

fn table() -> Vec<Expected> {
    let row = |line: &'static str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let code = |index: usize| fields[index].parse().expect("an exit code");
        Expected {
            up: NODES.into_iter().filter(|n| fields[0].contains(&n.to_string())).collect(),
            put: code(1),
            get: code(2),
            list: code(3),
            state: (fields[4] != "-").then_some(fields[4]),
        }
    };
    TABLE.lines().filter(|line| line.contains(char::is_numeric)).map(row).collect()
}

#[test]
fn every_set_of_live_nodes_does_what_it_should_and_says_so() {
    let mut cluster = cluster();
    let kept = noise(1, 300_000);
    cluster.put("kept", &kept);
    let mut overwritten = noise(2, 1000);
    cluster.put("overwritten", &overwritten);
    let mut stored = vec!["kept".to_owned(), "overwritten".to_owned()];

    let table = table();
    assert_eq!(table.len(), 16);
    for (round, row) in table.iter().enumerate() {
        cluster.run_only(&row.up);
        let context = format!("with {:?} up", row.up);

        let get = cluster.ctl(["get", "kept", "copy"]);
        assert_eq!(get.code, Some(row.get), "{context}: {get}");
        if row.get == 0 {
            assert!(cluster.read("copy") == kept, "{context}");
        } else {
            get.says(if row.up.len() < 2 {
                "dfsctl: kept get failed: too few nodes"
            } else {
                "dfsctl: kept is incomplete: "
            });
        }

        let listing = cluster.ctl(["list", "kept"]);
        assert_eq!(listing.code, Some(row.list), "{context}: {listing}");
        let expected: &[&str] = match row.state {
            None => &[],
            Some("complete" | "degraded") => &["kept"],
            Some(_) => &["kept [incomplete]"],
        };
        assert_eq!(listing.lines(), expected, "{context}");
        if let Some(state) = row.state {
            let json = cluster.ctl(["--output", "json", "list", "kept"]).json();
            assert_eq!(json[0]["state"], json!(state), "{context}");
            assert_eq!(json[0]["unconfirmed"], json!(row.up.len() < 2), "{context}");
            for node in NODES {
                let answered = !json[0]["nodes"][node - 1].is_null();
                assert_eq!(answered, row.up.contains(&node), "{context}: {json}");
            }
        }

        let new = format!("new-{round:02}");
        let content = noise(100 + round as u64, 1000);
        for name in ["overwritten", &new] {
            let put = cluster.dfsctl().args(["put", "-", name]);
            let put = put.stdin(content.clone()).run();
            assert_eq!(put.code, Some(row.put), "{context}: {put}");
            if row.put != 0 {
                put.says(&format!("dfsctl: {name} put failed: "));
            }
        }
        if row.put == 0 {
            overwritten.clone_from(&content);
            stored.push(new);
        }
    }

    cluster.run_only(&NODES);
    stored.sort();
    assert_eq!(cluster.list(), stored, "what failed has left nothing");
    assert!(cluster.get("kept") == kept);
    assert!(cluster.get("overwritten") == overwritten);
    for name in stored.iter().filter(|name| name.starts_with("new-")) {
        let round: u64 = name["new-".len()..].parse().expect("a number");
        assert!(cluster.get(name) == noise(100 + round, 1000), "{name}");
    }
}

#[test]
fn nodes_that_are_down_are_named() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    cluster.run_without(&[2]);
    let put = cluster.dfsctl().args(["put", "-", "other"]);
    put.stdin("new").run().ok().says("node 2");
    cluster.run_without(&[2, 3]);
    let get = cluster.ctl(["get", "file", "copy"]).exits(5);
    get.says("node 2").says("node 3");
}

#[test]
fn a_put_that_failed_leaves_no_data_on_the_nodes_that_are_up() {
    let mut cluster = cluster();
    cluster.file("large", noise(1, 5_000_000));
    cluster.run_only(&[2, 4]);
    cluster.ctl(["put", "large"]).exits(5).says("put failed");
    for node in [2, 4] {
        let files = cluster.chunk_files(node, harness::cluster::USER);
        assert_eq!(files, [""; 0], "node {node}");
    }
}
