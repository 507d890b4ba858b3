//! What goes wrong meanwhile: nodes that stop or end, wires that break, a disk that is lost,
//! bits that flip. Drawn from a seed, one fault at a time or two in opposite nodes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::cluster::{NODES, USER};
use harness::content::files;
use harness::load::Told;
use harness::proxy::Mode;
use harness::{Cluster, Proxy, Rng};

use super::clocks::Clocks;
use super::links::{self, Links};
use super::settled::{is_whole_again, opposite};

/// Bytes a second through a wire that is slow.
const SLOW: u64 = 100 << 10;

/// The faults of one run.
pub(super) struct Faults<'a> {
    cluster: &'a mut Cluster,
    links: &'a Links,
    told: &'a Told,
    clocks: &'a Clocks,
    clients: u64,
    rng: Rng,
    began: Instant,
    /// The node whose disk was replaced, until it is whole again.
    rejoining: Option<usize>,
    /// Uploads of which a copy was damaged; the other copy must stay good.
    damaged: BTreeSet<String>,
}

impl<'a> Faults<'a> {
    /// Faults of this cluster and these links to it.
    pub(super) fn new(
        cluster: &'a mut Cluster,
        links: &'a Links,
        (told, clocks): (&'a Told, &'a Clocks),
        clients: u64,
        seed: u64,
        began: Instant,
    ) -> Self {
        let (rng, rejoining, damaged) = (Rng::new(seed), None, BTreeSet::new());
        Self { cluster, links, told, clocks, clients, rng, began, rejoining, damaged }
    }

    /// Breaks and mends for so long. With `loses_a_disk` one node gets a new one, early on;
    /// bits flip only after that, so that no chunk loses both copies.
    pub(super) fn run(mut self, length: Duration, loses_a_disk: bool) {
        let mut disk_is_due = loses_a_disk;
        while self.began.elapsed() < length {
            // What rejoins needs all the others at times.
            let calm = if self.rejoining.is_some() { 3000 } else { 1000 };
            let calm = 200 + self.rng.below(calm);
            sleep(Duration::from_millis(calm));
            if disk_is_due && self.began.elapsed() > length / 12 {
                disk_is_due = false;
                self.replace_a_disk();
            } else if !disk_is_due && self.rejoining.is_none() && self.rng.below(8) == 0 {
                self.flip_a_bit();
            } else {
                self.disturb();
            }
            if self.rejoining.is_some_and(|node| is_whole_again(self.cluster, node)) {
                self.say("whole again", &[]);
                self.rejoining = None;
            }
            for node in NODES {
                let ended = self.cluster.ended(node);
                assert!(ended.is_none(), "node {node} ended by itself: {ended:?}");
            }
        }
    }

    /// Starts a node, with another clock than it had.
    fn start(&mut self, node: usize) {
        self.clocks.set(self.cluster, node, &mut self.rng);
        self.cluster.start_node(node);
    }

    fn say(&self, what: &str, nodes: &[usize]) {
        println!("{:7.2} s: {what} {nodes:?}", self.began.elapsed().as_secs_f64());
    }

    /// One node, now and then two opposite ones; beside a node that rejoins, mostly its opposite.
    fn victims(&mut self) -> Vec<usize> {
        let node = self.a_node();
        if let Some(rejoining) = self.rejoining {
            let other = node != rejoining && self.rng.below(2) == 0;
            return vec![if other { node } else { opposite(rejoining) }];
        }
        match self.rng.below(5) {
            0 => vec![node, opposite(node)],
            _ => vec![node],
        }
    }

    fn a_node(&mut self) -> usize {
        NODES[usize::try_from(self.rng.below(4)).expect("an index")]
    }

    /// Most faults are short; some outlast every deadline of a client.
    fn length(&mut self) -> Duration {
        Duration::from_millis(match self.rng.below(10) {
            0 => 6000 + self.rng.below(7000),
            _ => 100 + self.rng.below(2500),
        })
    }

    fn disturb(&mut self) {
        let victims = self.victims();
        let length = self.length();
        match self.rng.below(13) {
            10.. => self.part_views(length.min(Duration::from_secs(4))),
            0..2 => {
                self.say("killed", &victims);
                victims.iter().for_each(|node| self.cluster.kill(*node));
                sleep(length);
                victims.iter().for_each(|node| self.start(*node));
            }
            2..4 => {
                self.say("frozen", &victims);
                victims.iter().for_each(|node| self.cluster.freeze(*node));
                sleep(length);
                victims.iter().for_each(|node| self.cluster.thaw(*node));
            }
            4 => {
                self.say("frozen and killed", &victims);
                victims.iter().for_each(|node| self.cluster.freeze(*node));
                sleep(length);
                victims.iter().for_each(|node| self.cluster.kill(*node));
                victims.iter().for_each(|node| self.start(*node));
            }
            _ => self.break_links(&victims, length),
        }
    }

    /// Breaks some of the wires to these nodes: those of one client, of all, of the other nodes.
    fn break_links(&mut self, victims: &[usize], length: Duration) {
        let kind = self.rng.below(5);
        let (client, whose) = (self.rng.below(self.clients), self.rng.below(4));
        let mut broken: Vec<&Proxy> = Vec::new();
        for node in victims {
            broken.extend(match whose {
                0 => self.links.of_client(client, *node),
                1 => self.links.of_clients(*node),
                2 => self.links.of_peers(*node),
                _ => [self.links.of_clients(*node), self.links.of_peers(*node)].concat(),
            });
        }
        let whose = ["one client", "the clients", "the nodes", "all"]
            [usize::try_from(whose).expect("an index")];
        let (what, mode) = match kind {
            0 => ("closed to", Mode::Close),
            1 => ("swallows all from", Mode::Swallow),
            2 => ("answers are lost to", Mode::Mute),
            3 => ("late to", Mode::Hold),
            _ => ("slow to", Mode::Forward),
        };
        self.say(&format!("{what} {whose}"), victims);
        for proxy in &broken {
            proxy.set(mode);
            if mode == Mode::Forward {
                proxy.pace(SLOW);
            }
        }
        sleep(length);
        for proxy in broken {
            match mode {
                // What was late arrives now.
                Mode::Hold => proxy.set(Mode::Forward),
                Mode::Forward => proxy.pace(u64::MAX),
                Mode::Close | Mode::Swallow | Mode::Mute => links::mend(proxy),
            }
        }
    }

    /// Each client sees another part of the nodes, and some of what it sends comes late: Commits
    /// come to some nodes while others are read. All hurry, to meet what lasts so short.
    fn part_views(&mut self, length: Duration) {
        let missing: Vec<usize> = (0..self.clients).map(|_| self.a_node()).collect();
        self.say("late at times, and each client misses a node:", &missing);
        // Its own numbers: how many are drawn depends on the machine.
        let mut rng = Rng::new(self.rng.next_u64());
        let ends = Instant::now() + length;
        self.told.hurry.store(true, Ordering::Relaxed);
        while Instant::now() < ends {
            for (client, missing) in (0..).zip(&missing) {
                for node in NODES {
                    let mode = match rng.below(5) {
                        _ if node == *missing => Mode::Close,
                        0..2 => Mode::Hold,
                        _ => Mode::Forward,
                    };
                    self.links.of_client(client, node).iter().for_each(|proxy| proxy.set(mode));
                }
            }
            sleep(Duration::from_millis(10 + rng.below(150)));
        }
        self.told.hurry.store(false, Ordering::Relaxed);
        for node in NODES {
            self.links.of_clients(node).into_iter().for_each(links::mend);
        }
    }

    fn replace_a_disk(&mut self) {
        let node = self.a_node();
        self.say("loses its disk", &[node]);
        self.cluster.kill(node);
        fs::remove_dir_all(self.cluster.data_dir(node)).expect("its data");
        let config = self.cluster.node_config(node);
        let config = config.to_str().expect("a plain path");
        let (made, text) = self.cluster.dfsd(["rejoin", "--config", config]);
        assert!(made.success(), "{text}");
        self.start(node);
        self.rejoining = Some(node);
    }

    /// Changes a byte of a chunk file of an upload that has no damage yet.
    fn flip_a_bit(&mut self) {
        let node = self.a_node();
        let folder = self.cluster.data_dir(node).join("chunks").join(USER);
        let names = files(&folder);
        if names.is_empty() {
            return;
        }
        let pick = self.rng.below(names.len() as u64);
        let name = &names[usize::try_from(pick).expect("an index")];
        let upload = name.split(['/', '.']).nth(1).expect("HH/UPLOAD.N").to_owned();
        if !self.damaged.insert(upload) {
            return;
        }
        let place = self.rng.next_u64();
        // It may go at any moment; a file that was removed is not made again.
        let Ok(file) = File::options().read(true).write(true).open(folder.join(name)) else {
            return;
        };
        let length = file.metadata().expect("an open file").len();
        let mut byte = [0];
        file.read_exact_at(&mut byte, place % length).expect("a chunk file");
        file.write_all_at(&[byte[0] ^ 0x10], place % length).expect("a chunk file");
        self.say(&format!("a bit flips at {} of {length} in", place % length), &[node]);
    }
}
