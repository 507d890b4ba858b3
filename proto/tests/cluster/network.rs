//! The network: any letter may be the next to arrive, arrive twice, late or never.

use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::UploadId;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::commit::CommitAnswer;

use crate::actor::{Kind, Requests};
use crate::message::{Answer, Request};
use crate::mistake::Mistake;
use crate::world::{CLIENT_HOSTS, World};

/// A request on its way there, or its answer on the way back.
pub(crate) struct Letter {
    actor: usize,
    node: NodeId,
    request: Request,
    /// Whether anybody waits for the answer.
    awaited: bool,
    answer: Option<Answer>,
    /// When it arrives at the earliest.
    due: Duration,
}

impl World {
    pub(crate) fn send(&mut self, actor: usize, requests: Requests) {
        for (node, mut request) in requests {
            self.log(|| format!("#{actor} asks node {node}: {request:?}"));
            let answer = self.tampered(actor, node, &mut request);
            let due = self.due();
            self.post.push(Letter { actor, node, request, awaited: true, answer, due });
        }
    }

    /// Some messages are under way for longer than an operation may take.
    fn due(&mut self) -> Duration {
        let late = self.random.below(10_000) < if self.narrow { 20 } else { 3 } * self.trouble;
        let delay = if late { 30 + self.random.below(200) as u64 } else { 0 };
        self.now + Duration::from_secs(delay)
    }

    /// Any message may be the next to arrive.
    pub(crate) fn deliver(&mut self) {
        if self.post.is_empty() {
            return;
        }
        let place = self.next_letter();
        let Letter { actor, node, .. } = self.post[place];
        let (host, paused) = (self.actors[actor].host, self.actors[actor].paused_until > self.now);
        let back = self.post[place].answer.is_some();
        let cut = if back { &self.cut_back } else { &self.cut_to };
        if cut[host][node.index()] {
            if self.random.chance(50) {
                self.lose(place);
            }
            return;
        }
        if back && paused || self.post[place].due > self.now {
            return;
        }
        self.open_letter(place);
    }

    /// Delivers what is `wanted`, and the answers, until there is no more of it.
    pub(crate) fn deliver_all(&mut self, wanted: impl Fn(NodeId, &Request) -> bool) {
        let wanted = |letter: &Letter| wanted(letter.node, &letter.request);
        while let Some(place) = self.post.iter().position(wanted) {
            self.open_letter(place);
        }
    }

    fn open_letter(&mut self, place: usize) {
        let letter = self.post.swap_remove(place);
        match letter.answer {
            Some(answer) => self.hand(letter.actor, letter.node, &letter.request, answer),
            None => self.arrive(letter),
        }
    }

    fn next_letter(&mut self) -> usize {
        let comes_back =
            |letter: &Letter| matches!(letter.request, Request::Hello(_) | Request::Page(..));
        let hurry = self.narrow && self.random.chance(50);
        let found = self.post.iter().position(comes_back).filter(|_| hurry);
        found.unwrap_or_else(|| self.random.below(self.post.len()))
    }

    fn arrive(&mut self, letter: Letter) {
        let Letter { actor, node, request, awaited, .. } = letter;
        if self.actors[actor].stopped && matches!(request, Request::Hello(_) | Request::Page(..)) {
            // It comes from a disk that is gone.
            return;
        }
        let up = self.nodes[node.index()].up;
        let answer = if up {
            let answer = self.execute(actor, node, request.clone());
            self.repeat(actor, node, &request, &answer);
            answer
        } else {
            Answer::Failed(CommitAnswer::NotSent)
        };
        self.log(|| format!("#{actor} at node {node}: {request:?} -> {answer:?}"));
        if awaited {
            let (answer, due) = (Some(answer), self.now);
            self.post.push(Letter { actor, node, request, awaited, answer, due });
        }
        // What rests on the answer of a disk that is gone is what goes wrong most easily.
        let lost = up && self.narrow && self.random.below(1_000) < self.trouble / 10;
        if lost && self.hurt.is_none_or(|hurt| hurt == node) {
            self.replace_disk(node);
        }
    }

    fn execute(&mut self, actor: usize, id: NodeId, request: Request) -> Answer {
        let path = match request {
            Request::Page(_, path) => path,
            _ => self.actors[actor].path,
        };
        if let Request::Pull { upload, chunks, from } = request {
            return self.pull(id, path, upload, chunks, from);
        }
        let removed = match request {
            Request::Discard(upload) | Request::Drop(upload, _) => Some(upload),
            _ => None,
        };
        let node = &mut self.nodes[id.index()];
        let held = removed.map(|upload| node.rows[path].have(upload));
        let tag = match &request {
            Request::Commit(order) => Some(order.version.tag),
            _ => None,
        };
        let answer = node.execute(path, request, self.now, self.mistake);
        let rejoining = node.rejoining && matches!(answer, Answer::Reply(_));
        let ahead = matches!(answer, Answer::Commit(CommitAnswer::Acked))
            && tag.is_some_and(|tag| tag.hlc.is_future(node.clock_ms(self.now)));
        self.checks.expect(!rejoining, || "I14: a rejoining node answered a read".into());
        self.checks.expect(!ahead, || format!("I11: {tag:?} is ahead of the clock"));
        if let (Some(upload), Some(held)) = (removed, held)
            && self.nodes[id.index()].rows[path].have(upload) != held
        {
            self.nodes[id.index()].forget_rot();
            self.checks.dropped(path, upload, &self.nodes);
        }
        self.look(path);
        answer
    }

    /// A node copies chunks from others that hold them.
    fn pull(
        &mut self,
        to: NodeId,
        path: usize,
        upload: UploadId,
        chunks: ChunkSet,
        from: PerNode<ChunkSet>,
    ) -> Answer {
        let host = CLIENT_HOSTS + to.index();
        for chunk in chunks.iter() {
            let source = NodeId::ALL.into_iter().find(|id| {
                let node = &self.nodes[id.index()];
                let reached = node.up && !node.rejoining && !self.cut_to[host][id.index()];
                let offered = *id != to && from[id.index()].contains(chunk);
                offered && reached && node.good(path, upload).contains(chunk)
            });
            let node = &mut self.nodes[to.index()];
            let view = node.view(self.now);
            if source.is_some()
                && !node.full
                && node.rows[path].restore(&view, upload, chunk).is_ok()
            {
                node.rotten.remove(&(path, upload, chunk));
            }
        }
        self.look(path);
        let node = &self.nodes[to.index()];
        if node.rejoining {
            return Answer::Failed(CommitAnswer::NoAnswer);
        }
        Answer::Held(node.held(path, upload, ChunkSet::EMPTY))
    }

    /// Now and then a request that was granted arrives a second time, some time (I13).
    fn repeat(&mut self, actor: usize, node: NodeId, request: &Request, answer: &Answer) {
        let refused = matches!(answer, Answer::Commit(CommitAnswer::Refused(_)));
        if !refused && self.random.below(1_000) < self.trouble / 2 {
            let (request, due) = (request.clone(), self.due());
            self.post.push(Letter { actor, node, request, awaited: false, answer: None, due });
        }
    }

    /// Gives an answer to the one who waits for it.
    fn hand(&mut self, index: usize, node: NodeId, request: &Request, answer: Answer) {
        let answer = self.misheard(index, node, request, answer);
        if self.actors[index].stopped {
            return;
        }
        if let Kind::Rejoin(caller, _) = self.actors[index].kind {
            self.nodes[caller.node.index()].hear(node, &answer, self.now, self.mistake);
            (0..self.paths).for_each(|path| self.look(path));
        }
        let early = self.mistake == Mistake::ConfirmTooEarly;
        if let (true, Request::Commit(order), Answer::Commit(CommitAnswer::Acked)) =
            (early, request, &answer)
        {
            self.send(index, vec![(node, Request::Confirm(order.version.tag))]);
        }
        self.log(|| format!("#{index} hears of node {node}: {answer:?} to {request:?}"));
        let mut wishes = self.actors[index].take(node, request, answer, self.now);
        self.decide_hastily(index, &mut wishes);
        self.grant(index, wishes);
    }

    /// Somebody stops waiting for a request that is still on its way.
    pub(crate) fn time_out(&mut self) {
        let place = self.random.below(self.post.len());
        let Some(letter) = self.post.get_mut(place) else {
            return;
        };
        if letter.answer.is_none() && std::mem::replace(&mut letter.awaited, false) {
            let (actor, node, request) = (letter.actor, letter.node, letter.request.clone());
            self.hand(actor, node, &request, Answer::Failed(CommitAnswer::NoAnswer));
        }
    }

    /// Some message is lost, on its way there or back.
    pub(crate) fn lose_some(&mut self) {
        if !self.post.is_empty() {
            let place = self.random.below(self.post.len());
            self.lose(place);
        }
    }

    fn lose(&mut self, place: usize) {
        let letter = self.post.swap_remove(place);
        if letter.awaited {
            let lost = Answer::Failed(CommitAnswer::NoAnswer);
            self.hand(letter.actor, letter.node, &letter.request, lost);
        }
    }

    pub(crate) fn post_is_empty(&self) -> bool {
        self.post.is_empty()
    }
}
