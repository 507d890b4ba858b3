//! Openings: what a run begins with where seeds alone would hardly ever get. A PUT is prepared
//! without one node and its Commits are under way. Then one node alone fences the upload, has the
//! version, or acknowledges it, and loses its disk. What is still under way, the rest of that
//! operation included, arrives in any order, and the run goes on as any other.

use dfs_proto::manifest::UploadId;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::rejoin::QUIET;

use crate::actor::Kind;
use crate::message::Request;
use crate::world::World;

/// Seeds from here on have an opening.
pub(crate) const OPENED: u64 = 1 << 32;

/// What one node alone has done when its disk is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// V2: it has answered FENCED, without any data. Its new disk is back before the others do.
    Fenced,
    /// V4: it has taken the Commit and was read; it alone held what the absent node should have.
    /// Its new disk is back before the write-backs arrive.
    Read,
    /// It has acknowledged the Commit, without any data: no Commit rests on its disk.
    Acknowledged,
}

impl Opening {
    const ALL: [Self; 3] = [Self::Fenced, Self::Read, Self::Acknowledged];

    /// The opening of a seed, if it has one.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let place = seed.checked_sub(OPENED)? % 3;
        Some(Self::ALL[place as usize])
    }
}

impl World {
    /// Begins a run; nothing else goes wrong meanwhile.
    pub(crate) fn open(&mut self, opening: Opening) {
        let trouble = std::mem::take(&mut self.trouble);
        let one = NodeId::ALL[self.random.below(4)];
        self.log(|| format!("opening {opening:?} with node {one}"));
        match opening {
            Opening::Fenced => {
                let upload = self.put_without(one);
                self.begin(Kind::Janitor(upload), 0);
                self.deliver_all(|to, request| to == one && matches!(request, Request::Fence(_)));
            }
            Opening::Read => {
                self.put_without(one.opposite());
                self.deliver_all(|to, request| to == one && matches!(request, Request::Commit(_)));
                self.begin(Kind::Read, 0);
                // The others alone would make it a path that was never written.
                self.deliver_all(|to, request| to == one && matches!(request, Request::Ask));
                self.deliver_all(|_, request| matches!(request, Request::Ask));
            }
            Opening::Acknowledged => {
                self.put_without(one);
                self.deliver_all(|to, request| to == one && matches!(request, Request::Commit(_)));
            }
        }
        self.replace_disk(one);
        if opening != Opening::Acknowledged {
            self.now += QUIET;
        }
        self.wake();
        self.deliver_all(|_, request| matches!(request, Request::Hello(_) | Request::Page(..)));
        self.trouble = trouble;
    }

    /// A PUT that `absent` has no space for: its chunks are on the opposite node as well.
    fn put_without(&mut self, absent: NodeId) -> UploadId {
        self.nodes[absent.index()].full = true;
        let put = self.actors.len();
        self.begin(Kind::Put, 0);
        self.deliver_all(|_, request| matches!(request, Request::Prepare(..)));
        self.nodes[absent.index()].full = false;
        self.actors[put].upload
    }
}
