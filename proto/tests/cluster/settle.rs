//! The end of a run: all troubles are over, and everything must come out right (I10).

use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::Content;
use dfs_proto::placement::{NodeId, home_chunks};
use dfs_proto::protocol::rejoin::QUIET;
use dfs_proto::protocol::repair::{Mode, State};

use crate::actor::{Actor, Kind};
use crate::world::World;

/// Longer than any clock was off.
const LONG: Duration = Duration::from_secs(3 * 3600);

impl World {
    /// Everybody who did not stop comes to an end, one round of healing makes four equal nodes,
    /// and every path is read without a flag.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.log(|| "all troubles are over".into());
        self.trouble = 0;
        self.join();
        self.now += LONG;
        for node in &mut self.nodes {
            (node.full, node.skew_ms) = (false, 0);
        }
        let down: Vec<NodeId> =
            NodeId::ALL.into_iter().filter(|id| !self.nodes[id.index()].up).collect();
        down.into_iter().for_each(|id| self.stop_or_start(id));
        self.empty_post()?;
        for _ in 0..3 {
            if self.nodes.iter().any(|node| node.rejoining) {
                self.now += QUIET;
                self.wake();
                self.empty_post()?;
            }
        }
        let rejoining = self.nodes.iter().any(|node| node.rejoining);
        self.checks.expect(!rejoining, || "I10: a node never serves again".into());
        self.heal()?;
        let running = |actor: &Actor| !actor.stopped && !actor.ended;
        let stuck = self.actors.iter().position(running);
        self.checks.expect(stuck.is_none(), || format!("I10: #{stuck:?} never ends"));
        (0..self.paths).for_each(|path| self.whole(path));
        let hurt = self.hurt;
        self.checks.expect(hurt.is_none(), || format!("I10: node {hurt:?} is never restored"));
        self.checks.result()?;
        for path in 0..self.paths {
            let before = self.actors.len();
            self.begin(Kind::Read, path);
            self.empty_post()?;
            let ended = self.actors[before].ended;
            self.checks.expect(ended, || "I10: with four nodes up a read fails".into());
        }
        self.checks.histories();
        self.checks.result()
    }

    fn heal(&mut self) -> Result<(), String> {
        for path in 0..self.paths {
            for upload in self.staged(path) {
                self.begin(Kind::Janitor(upload), path);
                self.empty_post()?;
            }
            self.repair(path)?;
            self.begin(Kind::Expire, path);
            self.empty_post()?;
            self.repair(path)?;
            self.nodes.iter_mut().for_each(|node| node.prune(path));
            self.look(path);
        }
        Ok(())
    }

    /// Repairs until there is nothing to do. A Confirm may arrive after the request to give up
    /// spilled chunks that rests on it, so twice may be needed, and once more to see that it is.
    fn repair(&mut self, path: usize) -> Result<(), String> {
        for _ in 0..3 {
            self.begin(Kind::Repair(Mode::Thorough), path);
            self.empty_post()?;
        }
        let state = self.repaired.take();
        self.checks.expect(state == Some(State::Healthy), || {
            format!("I10: path {path} is {state:?} after three repairs")
        });
        Ok(())
    }

    fn whole(&mut self, path: usize) {
        let newest = self.nodes.iter().map(|node| node.rows[path].tag()).max().flatten();
        for node in &self.nodes {
            let row = &node.rows[path];
            let (id, tag) = (node.id, row.tag());
            self.checks.expect(tag == newest, || {
                format!("I10: node {id} has {tag:?} of path {path}, not {newest:?}")
            });
            let staged = row.uploads.iter().find(|(_, upload)| !upload.have.is_empty());
            self.checks.expect(staged.is_none(), || format!("I10: node {id} keeps {staged:?}"));
            let Some(version) = row.current.as_ref().map(|current| &current.record.version) else {
                continue;
            };
            let over = version.manifest().is_some_and(|manifest| manifest.expires_ms().is_some());
            self.checks.expect(!over, || format!("I18: node {id} keeps what is over: {version:?}"));
            let home = match &version.content {
                Content::File(manifest) => home_chunks(manifest.x(), id),
                Content::Tombstone => ChunkSet::EMPTY,
            };
            let (have, good) = (row.have(version.upload), node.good(path, version.upload));
            self.checks.expect((have, good) == (home, home), || {
                format!("I10: node {id} has {have:?} of path {path}, {good:?} good, not {home:?}")
            });
        }
    }

    pub(crate) fn empty_post(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            if self.post_is_empty() {
                return self.checks.result();
            }
            self.deliver();
            self.checks.result()?;
        }
        Err("I10: messages without end".into())
    }
}
