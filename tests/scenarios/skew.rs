//! Versions beside each other: clients and nodes of today among those of the released API.

use harness::cluster::NODES;
use harness::content::noise;
use harness::older::Older;
use harness::{Cluster, Output};

use crate::PROGRAMS;

/// A cluster whose nodes take each other for older ones, and the addresses at which a client
/// takes them for such.
fn older() -> (Cluster, [Older; 4]) {
    let cluster = Cluster::written(PROGRAMS);
    let older = cluster.addresses().map(Older::to);
    for node in NODES {
        let mut peers = older.each_ref().map(|older| older.address().to_string());
        peers[node - 1] = cluster.address(node).to_string();
        cluster.configure(node, "peers", &format!("[{}]", peers.join(", ")));
    }
    (cluster.started(), older)
}

#[test]
fn a_client_works_with_nodes_that_are_older_and_they_with_each_other() {
    let (mut cluster, older) = older();
    // Half of them, as in the middle of an upgrade, and then all.
    let mixed = [older[0].address(), cluster.address(2), older[2].address(), cluster.address(4)];
    let all = older.each_ref().map(Older::address);
    for (round, addresses) in [mixed, all].into_iter().enumerate() {
        let config = cluster.client_config_with("older.yaml", addresses);
        let ctl = |args: &[&str], input: Vec<u8>| -> Output {
            let ctl = cluster.bare_dfsctl().env("DFS_CONFIG", &config);
            ctl.args(args.iter().copied()).stdin(input).run()
        };
        let (small, large) = (noise(round as u64, 900), noise(7, 6 << 20));
        ctl(&["put", "-", "small"], small.clone()).ok().does_not_say("left out");
        ctl(&["put", "-", "large"], large.clone()).ok().does_not_say("left out");
        for (name, content) in [("small", &small), ("large", &large)] {
            for pair in ["1,3", "2,4"] {
                let got = ctl(&["get", "--pair", pair, name, "-"], Vec::new()).ok();
                assert!(got.stdout == *content, "{name} of {pair} in round {round}");
            }
        }
        assert_eq!(ctl(&["list"], Vec::new()).ok().lines(), ["large", "small"]);
        ctl(&["stat", "large"], Vec::new()).ok().prints("state      complete");
        ctl(&["verify"], Vec::new()).ok();
        for node in NODES {
            ctl(&["status"], Vec::new()).ok().prints(&format!("node {node}  serving"));
        }
        ctl(&["rm", "small"], Vec::new()).ok();
        assert_eq!(ctl(&["list"], Vec::new()).ok().lines(), ["large"]);
        // The released API has no such method: what is not there is said, and does no harm.
        let logout = ctl(&["logout"], Vec::new());
        logout.says("node 1").says("no such method; its token ends by itself");
        ctl(&["list"], Vec::new()).ok();
    }

    // Healing asks the other nodes, and all of them are older.
    let config = cluster.client_config_with("older.yaml", all);
    cluster.kill(3);
    let ctl = cluster.bare_dfsctl().env("DFS_CONFIG", &config);
    ctl.args(["put", "-", "spilled"]).stdin(noise(8, 400_000)).run().ok();
    cluster.start_node(3);
    let ctl = || cluster.bare_dfsctl().env("DFS_CONFIG", &config);
    ctl().arg("repair").run().ok().prints("repaired     1");
    ctl().args(["stat", "spilled"]).run().ok().prints("state      complete");
    let got = cluster.ctl(["get", "--pair", "1,3", "spilled", "-"]).ok();
    assert!(got.stdout == noise(8, 400_000));
}
