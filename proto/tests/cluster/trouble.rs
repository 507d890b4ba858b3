//! What a store of four nodes has to bear.

use std::time::Duration;

use dfs_proto::placement::NodeId;

use crate::actor::Kind;
use crate::mistake::Mistake;
use crate::world::{CLIENT_HOSTS, World, skew};

const HOUR_MS: i64 = 3_600_000;

impl World {
    /// Something goes wrong.
    pub(crate) fn go_wrong(&mut self) {
        let node = NodeId::ALL[self.random.below(4)];
        if self.random.chance(self.disk_trouble) {
            if self.hurt.is_none_or(|hurt| hurt == node) {
                self.replace_disk(node);
            }
            return;
        }
        match self.random.below(26) {
            0..4 => self.stop_or_start(node),
            4..6 => self.stop_somebody(),
            6..8 => {
                let (actor, patience) =
                    (self.random.below(self.actors.len()), self.random.chance(50));
                self.interrupt(actor, patience);
            }
            8..11 => self.time_out(),
            11..14 => self.lose_some(),
            14 => self.now += Duration::from_millis(self.random.below(50_000) as u64),
            15 | 16 => self.cut(),
            17 => self.pause(),
            18 => self.shift_clock(node),
            19 => self.nodes[node.index()].full ^= true,
            20 | 21 => self.rot(node),
            22 | 23 => {
                if self.hurt.is_none_or(|hurt| hurt == node) {
                    self.replace_disk(node);
                }
            }
            24 => self.copy_disk(node),
            _ => self.restore_disk(),
        }
    }

    /// A process crashes, or starts again.
    pub(crate) fn stop_or_start(&mut self, id: NodeId) {
        if self.nodes[id.index()].up {
            self.log(|| format!("node {id} crashes"));
            self.nodes[id.index()].crash();
            (0..self.paths).for_each(|path| self.look(path));
            return;
        }
        self.log(|| format!("node {id} starts"));
        self.starts += 1;
        let node = &mut self.nodes[id.index()];
        node.start(self.starts);
        let (incarnation, age) = (node.incarnation, (node.boot, node.index.now));
        self.nodes.iter_mut().for_each(|other| other.hear_of(id, incarnation, age));
        self.rejoin(id);
    }

    /// A client, or the process that heals, is gone for good.
    fn stop_somebody(&mut self) {
        let place = self.random.below(self.actors.len());
        if let Some(actor) = self.actors.get_mut(place)
            && !matches!(actor.kind, Kind::Rejoin(..))
        {
            actor.stopped = true;
        }
    }

    /// Some cannot reach others, in both directions or in one; or all can again.
    fn cut(&mut self) {
        if self.random.chance(40) {
            return self.join();
        }
        let side = self.random.next();
        let (to, back) = [(true, true), (true, false), (false, true)][self.random.below(3)];
        let at = |place: usize| side >> (20 + place) & 1;
        for host in 0..self.cut_to.len() {
            for node in 0..4 {
                let apart = at(host) != at(CLIENT_HOSTS + node);
                self.cut_to[host][node] |= apart && to;
                self.cut_back[host][node] |= apart && back;
            }
        }
    }

    pub(crate) fn join(&mut self) {
        for host in 0..self.cut_to.len() {
            self.cut_to[host] = [false; 4];
            self.cut_back[host] = [false; 4];
        }
    }

    /// A client sleeps for longer than an operation may take.
    fn pause(&mut self) {
        let place = self.random.below(self.actors.len());
        let until = self.now + Duration::from_secs(70);
        if let Some(actor) = self.actors.get_mut(place) {
            actor.paused_until = until;
            self.now += Duration::from_secs(40);
        }
    }

    fn shift_clock(&mut self, id: NodeId) {
        let hour = [HOUR_MS, -HOUR_MS][self.random.below(2)];
        let off = if self.random.chance(50) { hour } else { 0 };
        self.nodes[id.index()].skew_ms = skew(&mut self.random) + off;
    }

    /// A chunk of a current version turns bad, unless another node is hurt already.
    fn rot(&mut self, id: NodeId) {
        let path = self.random.below(self.paths);
        if self.hurt.is_some_and(|hurt| hurt != id) {
            return;
        }
        let node = &mut self.nodes[id.index()];
        let Some(current) = &node.rows[path].current else {
            return;
        };
        let upload = current.record.version.upload;
        let chunks: Vec<_> = current.record.have.iter().collect();
        if let Some(chunk) = chunks.get(self.random.below(chunks.len())) {
            node.rotten.insert((path, upload, *chunk));
            self.hurt = Some(id);
            self.log(|| format!("chunk {chunk} of {upload} rots on node {id}"));
        }
    }

    fn copy_disk(&mut self, id: NodeId) {
        let node = &self.nodes[id.index()];
        if !node.rejoining && self.hurt.is_none() {
            self.image = Some(Box::new(node.clone()));
        }
    }

    /// An old copy of a disk is put in: the others remember a later start, or later changes, so it
    /// does not serve, and is given up for a new one.
    fn restore_disk(&mut self) {
        let Some(mut node) = self.image.take() else {
            return;
        };
        let id = node.id;
        self.starts += 1;
        node.start(self.starts);
        let others = || self.nodes.iter().filter(|other| other.id != id);
        let knows = |mistake| others().any(|other| other.knows_more(&node, mistake));
        // What nobody has heard of cannot be missed.
        if !knows(Mistake::None) || self.hurt.is_some_and(|hurt| hurt != id) {
            return;
        }
        if self.mistake == Mistake::ServeOldImage || !knows(self.mistake) {
            self.log(|| format!("node {id} serves from an old copy of its disk"));
            node.up = true;
            self.nodes[id.index()] = *node;
            self.hurt = Some(id);
            self.rejoin(id);
            (0..self.paths).for_each(|path| self.look(path));
        } else {
            self.replace_disk(id);
        }
    }
}
