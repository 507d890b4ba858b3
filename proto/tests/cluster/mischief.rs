//! Where a run that shall make a mistake makes it, except for those that are the node's.

use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::read;
use dfs_proto::protocol::rejoin::Peer;
use dfs_proto::protocol::row::UploadState;
use dfs_proto::tag::Hlc;

use crate::actor::{Actor, Outcome, Wishes, as_fenced};
use crate::message::{Answer, Caller, Page, Request};
use crate::mistake::Mistake;
use crate::node::Node;
use crate::world::World;

impl World {
    /// What only nodes with a mistake do, now and then.
    pub(crate) fn remember_or_forget(&mut self) {
        let (index, path) = (self.random.below(4), self.random.below(self.paths));
        match self.mistake {
            Mistake::StagingByAge => {
                let row = &mut self.nodes[index].rows[path];
                row.uploads.retain(|_, upload| upload.state != UploadState::Prepared);
            }
            Mistake::ForgetTombstones => {
                let tag = self.nodes[index].rows[path].tag();
                let has = |node: &&Node| node.rows[path].tag() == tag;
                let on = self.nodes.iter().filter(has).count();
                let row = &mut self.nodes[index].rows[path];
                let tombstone = row
                    .current
                    .as_ref()
                    .is_some_and(|current| current.record.version.manifest().is_none());
                if on >= 3 && tombstone {
                    row.current = None;
                }
            }
            _ => {}
        }
        self.look(path);
    }

    /// What a mistake makes of a request before it is sent: another one, or an answer at once.
    pub(crate) fn tampered(
        &mut self,
        actor: usize,
        node: NodeId,
        request: &mut Request,
    ) -> Option<Answer> {
        let forged = Some(Answer::Commit(CommitAnswer::Acked));
        match (self.mistake, request) {
            (Mistake::NoSpill, Request::Prepare(upload, chunks)) => {
                let asked = &mut self.asked.entry(*upload).or_default()[node.index()];
                let spill = !asked.is_empty();
                *asked = asked.union(*chunks);
                let faked = Request::Prepare(*upload, ChunkSet::EMPTY);
                let now = self.now;
                let path = self.actors[actor].path;
                let answer = || self.nodes[node.index()].execute(path, faked, now, Mistake::None);
                spill.then(answer)
            }
            (Mistake::NoWriteBack, Request::Commit(order)) if order.write_back => forged,
            (Mistake::OwnClock, Request::Commit(order)) if !order.write_back => {
                order.version.tag.hlc = self.own_clock(actor);
                None
            }
            (Mistake::OwnClock, Request::Confirm(tag)) => {
                tag.hlc = self.own_clock(actor);
                None
            }
            (Mistake::RejoinReadsTwo, Request::Page(caller, _))
                if node.index() == skipped(caller) =>
            {
                let incarnation = self.nodes[node.index()].incarnation;
                let remembers = Some(caller.incarnation);
                let peer = Peer { incarnation, serving: true, remembers };
                let nothing = Page { peer, path: 0, newest: None, fenced: vec![], last: true };
                Some(Answer::Page(Box::new(nothing)))
            }
            _ => None,
        }
    }

    fn own_clock(&self, actor: usize) -> Hlc {
        // Each client's clock is off by its own amount.
        let Actor { host, began, .. } = self.actors[actor];
        let off = Duration::from_secs(7 * host as u64);
        Hlc::from_ms(self.nodes[0].true_ms(began.saturating_sub(off)))
    }

    /// What a mistake makes of an answer.
    pub(crate) fn misheard(
        &mut self,
        actor: usize,
        node: NodeId,
        request: &Request,
        answer: Answer,
    ) -> Answer {
        match (self.mistake, request, &answer) {
            (Mistake::HopeForCommit, Request::Commit(order), Answer::Failed(how))
                if !order.write_back && *how == CommitAnswer::NoAnswer =>
            {
                Answer::Commit(CommitAnswer::Acked)
            }
            (Mistake::DropOnThreeFences, Request::Fence(_), Answer::Failed(_))
                if !self.fooled.contains(&actor) =>
            {
                self.fooled.push(actor);
                as_fenced(self.nodes[node.index()].incarnation)
            }
            _ => answer,
        }
    }

    /// A read that is satisfied with two answers.
    pub(crate) fn decide_hastily(&mut self, index: usize, wishes: &mut Wishes) {
        let all = match self.mistake {
            Mistake::LargestOfTwo => false,
            Mistake::TwoEqual => true,
            _ => return,
        };
        let heard = self.actors[index].heard();
        let tags = heard.iter().map(|version| version.as_ref().map(|version| version.tag));
        let largest = tags.clone().max().flatten();
        let equal = tags.clone().all(|tag| tag == largest);
        if heard.len() != 2 || self.actors[index].ended || (all && !equal) {
            return;
        }
        let version = heard.into_iter().max_by_key(|v| v.as_ref().map(|v| v.tag)).flatten();
        let outcome = read::Outcome::Decided { version, unconfirmed: false };
        self.actors[index].ended = true;
        wishes.outcomes = vec![Outcome::Read(outcome)];
        self.actors[index].fetch(wishes);
    }
}

/// The node that a hasty rejoin passes over.
fn skipped(caller: &Caller) -> usize {
    (caller.node.index() + 1 + usize::from(caller.incarnation.bytes()[0]) % 3) % 4
}
