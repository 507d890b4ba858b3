//! What fixed work costs, in things that can be counted: calls, syncs, bytes, system calls and
//! memory. No clock is asked, so a ceiling holds on any machine.
//!
//! Every cost is the least of three times, so that what a node does for itself meanwhile is not
//! counted. All of it is done by `dfsctl`, whose logins, one for each node, are counted as well.
//! Where a number depends on what happens to meet in a batch its ceiling is a quarter above the
//! most that was seen.

use std::fs;
use std::time::Duration;

use harness::cluster::{NODES, Programs};
use harness::content::noise;
use harness::counts::{Count, Counts};
use harness::skip::skipped;
use harness::{Cluster, Proxy, wait};

const TIMES: u64 = 3;

const COUNTED: Programs = Programs {
    dfsd: env!("CARGO_BIN_EXE_dfsd-counted"),
    dfsctl: env!("CARGO_BIN_EXE_dfsctl-counted"),
};

/// What some work cost, all nodes together.
#[derive(Debug, Clone, Copy)]
struct Cost {
    calls: u64,
    /// Bytes over the network.
    sent: u64,
    received: u64,
    /// Bytes written to disk, in whole pages; 0 where the kernel does not count them.
    written: u64,
    /// What `dfsctl` and the nodes asked for; only the nodes sync. 0 where there is no C compiler.
    asked: Count,
}

impl Cost {
    fn minus(self, before: Self) -> Self {
        self.with(before, |after, before| after - before)
    }

    fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            calls: join(self.calls, other.calls),
            sent: join(self.sent, other.sent),
            received: join(self.received, other.received),
            written: join(self.written, other.written),
            asked: self.asked.with(other.asked, join),
        }
    }

    /// Fails if any part of it is more than `ceiling` allows.
    #[track_caller]
    fn within(self, ceiling: Self) {
        eprintln!("{self:?}\nof {ceiling:?}");
        let parts = [
            ("calls", self.calls, ceiling.calls),
            ("bytes sent", self.sent, ceiling.sent),
            ("bytes received", self.received, ceiling.received),
            ("bytes written", self.written, ceiling.written),
            ("system calls that read", self.asked.reads, ceiling.asked.reads),
            ("system calls that write", self.asked.writes, ceiling.asked.writes),
            ("syncs", self.asked.syncs, ceiling.asked.syncs),
            ("allocations", self.asked.allocations, ceiling.asked.allocations),
            ("bytes allocated", self.asked.allocated, ceiling.asked.allocated),
        ];
        for (what, cost, ceiling) in parts {
            assert!(cost <= ceiling, "{what}: {cost}, not more than {ceiling}");
        }
    }
}

/// A cluster that is watched.
struct Watched {
    cluster: Cluster,
    proxies: [Proxy; 4],
    config: String,
    counts: Option<Counts>,
}

/// As what `dfsctl` is counted, and a node.
const CLIENT: &str = "client";

fn name(node: usize) -> String {
    format!("node{node}")
}

impl Watched {
    fn start() -> Self {
        let mut cluster = Cluster::written(COUNTED);
        let counts = Counts::compile().map_err(|why| skipped("counting system calls", &why)).ok();
        if let Some(counts) = &counts {
            NODES.into_iter().for_each(|node| cluster.set_env(node, &counts.env(&name(node))));
        }
        let cluster = cluster.started();
        let proxies = Proxy::to_all(cluster.addresses());
        let addresses = proxies.each_ref().map(Proxy::address);
        let config = cluster.client_config_with("watched.yaml", addresses);
        let config = config.to_str().expect("UTF-8").to_owned();
        let watched = Self { cluster, proxies, config, counts };
        // The nodes have met, and the first of everything is done.
        wait::until_true("the nodes have met", Duration::from_secs(30), || {
            let status = watched.cluster.ctl(["status"]);
            status.code == Some(0)
        });
        watched.cluster.put("first", noise(1, 1000));
        if watched.written(1).is_none() {
            skipped("counting bytes on disk", "the kernel does not");
        }
        watched
    }

    fn so_far(&self) -> Cost {
        let sum = |part: &dyn Fn(&Proxy) -> u64| self.proxies.iter().map(part).sum();
        let asked = |counts: &Counts| {
            let nodes = NODES.into_iter().map(|node| counts.of(&name(node)));
            nodes.fold(counts.of(CLIENT), |sum, node| sum.with(node, u64::wrapping_add))
        };
        Cost {
            calls: sum(&Proxy::calls),
            sent: sum(&Proxy::to_node),
            received: sum(&Proxy::from_node),
            written: NODES.into_iter().filter_map(|node| self.written(node)).sum(),
            asked: self.counts.as_ref().map(asked).unwrap_or_default(),
        }
    }

    /// Bytes that a node caused to be written to its disk.
    fn written(&self, node: usize) -> Option<u64> {
        let pid = self.cluster.process(node).pid();
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let field = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        Some(field("write_bytes:")?.saturating_sub(field("cancelled_write_bytes:")?))
    }

    /// The least that `dfsctl` with these arguments costs.
    #[track_caller]
    fn cost<const N: usize>(&self, arguments: impl Fn(u64) -> [String; N]) -> Cost {
        let env = self.counts.as_ref().map(|counts| counts.env(CLIENT)).unwrap_or_default();
        let costs = (0..TIMES).map(|time| {
            let before = self.so_far();
            let arguments = arguments(time);
            let ctl = self.cluster.dfsctl().args(["--config", &self.config]);
            let ctl = env.iter().fold(ctl, |ctl, (name, value)| ctl.env(name, value));
            ctl.args(arguments.each_ref().map(String::as_str)).run().ok();
            self.so_far().minus(before)
        });
        let least = costs.reduce(|least, cost| least.with(cost, u64::min)).expect("it was done");
        assert!(least.calls > 0, "calls are counted");
        let asked = least.asked;
        let counted = asked.reads > 0 && asked.writes > 0 && asked.allocations > 0;
        assert!(self.counts.is_none() || counted, "{asked:?} is counted");
        least
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

#[test]
fn a_small_put_costs_four_calls_and_two_syncs_a_node() {
    let watched = Watched::start();
    watched.cluster.file("file", noise(2, 4096));
    let cost = watched.cost(|time| ["put".into(), "file".into(), format!("small/{time}")]);
    cost.within(Cost {
        // On each node: Authenticate, PutChunk, Commit, Confirm.
        calls: 4 * 4,
        // The content twice; the rest is heads, tokens and manifests.
        sent: 2 * 4 * KIB + 8 * KIB,
        received: 4 * KIB,
        // On each node three pages: chunks, rows, the end of the journal.
        written: 4 * 3 * 4 * KIB,
        asked: Count {
            // On each node: the prepared chunks, which go into the index together, and the flipped
            // row. Confirm is not synced.
            syncs: 4 * 2,
            reads: 95,
            writes: 195,
            allocations: 8_000,
            allocated: 4 * MIB,
        },
    });
}

#[test]
fn a_small_get_costs_two_calls_a_node_and_nothing_on_disk() {
    let watched = Watched::start();
    watched.cluster.put("small", noise(2, 4096));
    let cost = watched.cost(|time| ["get".into(), "small".into(), format!("copy{time}")]);
    cost.within(Cost {
        // On each node: Authenticate, GetChunks: record and data in one answer.
        calls: 4 * 2,
        sent: 3 * KIB,
        received: 4 * KIB + 4 * KIB,
        written: 0,
        asked: Count { syncs: 0, reads: 70, writes: 105, allocations: 5_800, allocated: 3 * MIB },
    });
}

#[test]
fn a_put_of_16_mib_moves_it_twice_and_no_more() {
    let watched = Watched::start();
    watched.cluster.file("file", noise(3, 16 << 20));
    let cost = watched.cost(|time| ["put".into(), "file".into(), format!("large/{time}")]);
    cost.within(Cost {
        // As for a small one: both chunks of a node go in one stream.
        calls: 4 * 4,
        sent: 2 * 16 * MIB + 32 * KIB,
        received: 16 * KIB,
        // Heads and checksums of eight files, whole pages, and the index.
        written: 2 * 16 * MIB + 256 * KIB,
        asked: Count {
            // On each node, for two chunks: file, directories where it was and where it goes; once
            // the rows of the prepared chunks, the new folder, the flipped row. Nine, and two more
            // where the chunks end so far apart that they do not share a commit of the index.
            syncs: 4 * 11,
            reads: 290,
            writes: 420,
            allocations: 9_200,
            // Twice what is sent and a little: who sends it, and who receives it.
            allocated: 90 * MIB,
        },
    });
}

#[test]
fn a_get_of_16_mib_moves_it_once_and_no_more() {
    let watched = Watched::start();
    watched.cluster.put("large", noise(3, 16 << 20));
    let cost = watched.cost(|time| ["get".into(), "large".into(), format!("copy{time}")]);
    cost.within(Cost {
        // On each node: Authenticate, what there is, one chunk.
        calls: 4 * 3,
        sent: 16 * KIB,
        received: 16 * MIB + 64 * KIB,
        written: 0,
        asked: Count {
            syncs: 0,
            reads: 210,
            writes: 245,
            allocations: 6_800,
            // Three times what is read: the node's buffer, HTTP/2's, the message.
            allocated: 56 * MIB,
        },
    });
}

#[test]
fn a_thousand_small_files_share_calls_and_syncs() {
    let watched = Watched::start();
    (0..1000).for_each(|n| drop(watched.cluster.file(&format!("many/{n}"), noise(n, 1024))));
    let cost = watched.cost(|time| ["put".into(), "-r".into(), "many".into(), format!("m{time}")]);
    cost.within(Cost {
        // Those that are under way at the same time share them: thirty to fifty to a call. One by
        // one they would be twelve thousand, and eight thousand syncs.
        calls: 420,
        // Of 1 KiB, twice; as much again for paths and manifests, which go with each chunk.
        sent: 5 * MIB,
        received: MIB,
        // About three times what is stored twice: index rows, and the journal before them.
        written: 6 * MIB + 512 * KIB,
        asked: Count {
            syncs: 300,
            reads: 1_750,
            writes: 4_200,
            allocations: 1_150_000,
            allocated: 300 * MIB,
        },
    });
    let cost = watched.cost(|_| ["list".into()]);
    cost.within(Cost {
        // On each node: Authenticate, two pages for three thousand files, the second asked for
        // while the first is merged.
        calls: 4 * 3,
        sent: 4 * KIB,
        // Of each file and from each node, less than 100 bytes.
        received: 3001 * 4 * 100,
        written: 0,
        asked: Count {
            syncs: 0,
            reads: 110,
            writes: 145,
            allocations: 44_000,
            allocated: 16 * MIB,
        },
    });
    let listed = watched.cluster.list();
    assert!(listed.len() == 3001 && listed.is_sorted(), "{} files", listed.len());
    let cost = watched.cost(|time| ["get".into(), "-r".into(), "m0".into(), format!("g{time}")]);
    cost.within(Cost {
        // On each node: Authenticate, a page, and a call for about thirty files: those that were
        // written together are followed by others that are asked for together.
        calls: 4 * (2 + 60),
        // Each file is asked of two nodes, which hold all of it.
        sent: 80 * KIB,
        // The listing, the content, and from two nodes the record of each file.
        received: 2 * MIB,
        written: 0,
        asked: Count {
            syncs: 0,
            reads: 900,
            writes: 3_450,
            allocations: 200_000,
            allocated: 80 * MIB,
        },
    });
}
