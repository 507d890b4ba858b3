//! Two opposite disks are lost at once, after all was whole: one node comes back without the other,
//! then the other as usual. What was completed before is still there.

use std::time::Duration;

use dfs_proto::placement::NodeId;
use dfs_proto::protocol::rejoin::QUIET;
use dfs_proto::tag::Tag;

use crate::actor::Kind;
use crate::world::World;

/// Rounds of letters while both are away.
const MEANWHILE: usize = 60;

impl World {
    /// Loses both disks and brings them back. For a run that has settled.
    pub(crate) fn lose_two(&mut self) -> Result<(), String> {
        let place = self.random.below(4);
        let (first, second) = (NodeId::ALL[place], NodeId::ALL[(place + 2) % 4]);
        let before = self.newest();
        self.checks.two_lost = true;
        self.without[first.index()] = Some(second);
        self.replace_disk(second);
        self.replace_disk(first);
        for _ in 0..MEANWHILE {
            self.now += Duration::from_millis(self.random.below(2000) as u64);
            self.wake();
            match self.random.below(8) {
                0 => {
                    let path = self.random.below(self.paths);
                    self.begin(Kind::Read, path);
                }
                // It begins again, still without the other.
                1 if self.random.chance(10) => {
                    self.stop_or_start(first);
                    self.stop_or_start(first);
                }
                _ => self.deliver(),
            }
            self.checks.result()?;
        }
        for id in [first, second] {
            self.now += QUIET;
            self.wake();
            self.empty_post()?;
            let rejoining = self.nodes[id.index()].rejoining;
            self.checks.expect(!rejoining, || format!("I10: node {id} does not come back"));
        }
        self.checks.two_lost = false;
        self.settle()?;
        let after = self.newest();
        self.checks.expect(after == before, || format!("I2: {before:?} was whole, now {after:?}"));
        self.checks.result()
    }

    fn newest(&self) -> Vec<Option<Tag>> {
        let newest = |path: usize| self.nodes.iter().map(|node| node.rows[path].tag()).max();
        (0..self.paths).map(|path| newest(path).flatten()).collect()
    }
}
