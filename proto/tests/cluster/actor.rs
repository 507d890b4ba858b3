//! Whoever drives a machine: clients, and nodes that heal themselves or come back. The
//! machines' effects become requests, and the answers their events.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::manifest::{Content, EXPIRES, Incarnation, Manifest, UploadId, Version};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::fetch::{Fetch, Source};
use dfs_proto::protocol::janitor::{self, Janitor};
use dfs_proto::protocol::put::{self, Put};
use dfs_proto::protocol::read::{self, Read};
use dfs_proto::protocol::rejoin::{self, Rejoin};
use dfs_proto::protocol::remove::{self, Remove};
use dfs_proto::protocol::repair::{self, Mode, Repair};
use dfs_proto::protocol::row::{CommitOrder, FenceAnswer, ReleaseOrder};
use dfs_proto::tag::Tag;

use crate::expire::Expire;
use crate::list::{Shown, list};
use crate::message::{Answer, Caller, Request};
use crate::node::EPOCH_MS;
use crate::random::Random;
use crate::world::CLIENT_HOSTS;

/// How long a file lives that is to go.
const LIFE_SECONDS: u64 = 5;

/// How something ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Put(put::Outcome),
    Remove(remove::Outcome),
    Read(read::Outcome),
    /// Before a read ends: what a listing says after the same answers.
    Listed(Shown),
    /// After a read: whether the bytes are those that were put; `None` where they cannot be had.
    Bytes(Option<bool>),
    Repair(repair::Report),
    Janitor,
    /// What followed a version whose time was over, if it was.
    Expired(Option<Version>),
    Serves,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Put,
    Remove,
    Read,
    Repair(Mode),
    Janitor(UploadId),
    Expire,
    /// Comes back, maybe without another node.
    Rejoin(Caller, Option<NodeId>),
}

enum Machine {
    Put(Put, Manifest),
    Remove(Remove),
    Read(Read),
    Get(Get),
    Repair(Repair),
    Janitor(Janitor),
    Expire(Box<Expire>),
    Rejoin(Rejoin),
}

/// The bytes of a decided version, on their way.
struct Get {
    upload: UploadId,
    fetch: Fetch,
    got: ChunkSet,
    /// Some chunk was taken without a check.
    damaged: bool,
}

/// One that drives a machine.
pub(crate) struct Actor {
    pub(crate) kind: Kind,
    pub(crate) path: usize,
    /// Where it runs: a client's machine, or a node.
    pub(crate) host: usize,
    machine: Machine,
    /// The upload that it makes, if it makes one.
    pub(crate) upload: UploadId,
    /// The largest tag of the path completed before it began.
    pub(crate) floor: Option<Tag>,
    pub(crate) began: Duration,
    /// Its place in the history.
    pub(crate) operation: Option<usize>,
    pub(crate) ended: bool,
    pub(crate) stopped: bool,
    pub(crate) paused_until: Duration,
    /// When to wake a rejoining node.
    pub(crate) wake: Option<Duration>,
    /// Chunks are not checked.
    pub(crate) trusting: bool,
}

pub(crate) type Requests = Vec<(NodeId, Request)>;

/// What an actor wants now, and how it ended if it did.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) requests: Requests,
    pub(crate) outcomes: Vec<Outcome>,
    wake_after: Option<Duration>,
}

impl Wishes {
    fn ask(&mut self, node: NodeId, request: Request) {
        self.requests.push((node, request));
    }
}

impl Actor {
    pub(crate) fn start(
        kind: Kind,
        path: usize,
        host: usize,
        now: Duration,
        random: &mut Random,
    ) -> (Self, Wishes) {
        let (upload, writer) = (UploadId::new(random.bytes()), random.bytes());
        let mut wishes = Wishes::default();
        let machine = match kind {
            Kind::Put => {
                let manifest = manifest(upload, now);
                let (put, effects) = Put::start(manifest.x(), writer);
                on_put(effects, upload, &manifest, &mut wishes);
                Machine::Put(put, manifest)
            }
            Kind::Remove => {
                let (remove, effects) = Remove::start(upload, writer);
                on_remove(effects, &mut wishes);
                Machine::Remove(remove)
            }
            Kind::Read => {
                let (read, effects) = Read::start();
                on_read(effects, &mut wishes);
                Machine::Read(read)
            }
            Kind::Repair(mode) => {
                let (repair, effects) = Repair::start(mode);
                on_repair(effects, &mut wishes);
                Machine::Repair(repair)
            }
            Kind::Janitor(abandoned) => {
                let (janitor, effects) = Janitor::start();
                on_janitor(effects, abandoned, &mut wishes);
                Machine::Janitor(janitor)
            }
            Kind::Expire => {
                NodeId::ALL.into_iter().for_each(|id| wishes.ask(id, Request::Ask));
                Machine::Expire(Box::default())
            }
            Kind::Rejoin(caller, without) => {
                let Caller { node, incarnation } = caller;
                let (rejoin, effects) = Rejoin::start(node, incarnation, without, now);
                on_rejoin(effects, caller, 0, &mut wishes);
                Machine::Rejoin(rejoin)
            }
        };
        let mut actor = Self {
            kind,
            path,
            host,
            machine,
            upload,
            floor: None,
            began: now,
            operation: None,
            ended: false,
            stopped: false,
            paused_until: Duration::ZERO,
            wake: None,
            trusting: false,
        };
        actor.note(&wishes, now);
        (actor, wishes)
    }

    /// The version that it shall remove if that is over.
    pub(crate) fn expires(&mut self, version: Option<Version>, greedy: bool) {
        self.machine = Machine::Expire(Box::new(Expire::of(version, greedy)));
    }

    /// The version that it has removed.
    pub(crate) fn expired(&self) -> Option<&Version> {
        let Machine::Expire(expire) = &self.machine else {
            return None;
        };
        expire.version()
    }

    fn note(&mut self, wishes: &Wishes, now: Duration) {
        self.wake = wishes.wake_after.map(|after| now + after).or(self.wake);
        self.ended |= !wishes.outcomes.is_empty();
    }

    /// Takes the answer to a request.
    pub(crate) fn take(
        &mut self,
        id: NodeId,
        request: &Request,
        answer: Answer,
        now: Duration,
    ) -> Wishes {
        let mut wishes = Wishes::default();
        let upload = self.upload;
        match &mut self.machine {
            Machine::Put(put, manifest) => {
                if let Some(event) = put_event(id, request, answer) {
                    on_put(put.on(event, now), upload, manifest, &mut wishes);
                }
            }
            Machine::Remove(remove) => {
                let event = match (request, &answer) {
                    (Request::Commit(order), _) if !order.write_back => {
                        Some(remove::Event::Commit(id, committed(answer)))
                    }
                    _ => read_event(id, request, answer).map(remove::Event::Read),
                };
                if let Some(event) = event {
                    on_remove(remove.on(event, now), &mut wishes);
                }
            }
            Machine::Read(read) => {
                if let Some(event) = read_event(id, request, answer) {
                    let effects = read.on(event, now);
                    let decides = |effect: &read::Effect| matches!(effect, read::Effect::Finish(_));
                    if effects.iter().any(decides) {
                        wishes.outcomes.extend(list(read).map(Outcome::Listed));
                    }
                    on_read(effects, &mut wishes);
                    self.fetch(&mut wishes);
                }
            }
            Machine::Get(get) => get.take(id, request, &answer, self.trusting, &mut wishes),
            Machine::Repair(repair) => {
                if let Some(event) = repair_event(id, request, answer) {
                    on_repair(repair.on(event), &mut wishes);
                }
            }
            Machine::Janitor(janitor) => {
                if let (Some(event), Kind::Janitor(abandoned)) =
                    (janitor_event(id, request, answer), self.kind)
                {
                    on_janitor(janitor.on(event), abandoned, &mut wishes);
                }
            }
            Machine::Expire(expire) => {
                if let (Request::Ask, Some(end)) = (request, expire.take(id, answer)) {
                    if let (Some(version), Some(own)) = (&end, self.host.checked_sub(CLIENT_HOSTS))
                    {
                        let (version, sources) = (version.clone(), Vec::new());
                        let order = CommitOrder { version, write_back: false, sources };
                        wishes.ask(NodeId::ALL[own], Request::Commit(order));
                    }
                    wishes.outcomes.push(Outcome::Expired(end));
                }
            }
            Machine::Rejoin(rejoin) => {
                let next = if let Request::Page(_, path) = request { path + 1 } else { 0 };
                let event = match answer {
                    Answer::Peer(peer) => rejoin::Event::Met(id, peer),
                    Answer::Page(page) => {
                        rejoin::Event::Adopted { from: id, peer: page.peer, last: page.last }
                    }
                    _ => rejoin::Event::Failed(id),
                };
                if let Kind::Rejoin(caller, _) = self.kind {
                    on_rejoin(rejoin.on(event, now), caller, next, &mut wishes);
                }
            }
        }
        self.note(&wishes, now);
        wishes
    }

    /// Wakes a rejoining node if it is time.
    pub(crate) fn tick(&mut self, now: Duration) -> Wishes {
        let mut wishes = Wishes::default();
        let due = self.wake.is_some_and(|wake| wake <= now);
        if let (true, Machine::Rejoin(rejoin), Kind::Rejoin(caller, _)) =
            (due, &mut self.machine, self.kind)
        {
            self.wake = None;
            on_rejoin(rejoin.on(rejoin::Event::Tick, now), caller, 0, &mut wishes);
            self.note(&wishes, now);
        }
        wishes
    }

    /// The user wants to stop; `patience` tells whether what was sent may be waited for.
    pub(crate) fn interrupt(&mut self, patience: bool, now: Duration) -> Wishes {
        let mut wishes = Wishes::default();
        match &mut self.machine {
            Machine::Put(put, manifest) => {
                let mut effects = put.on(put::Event::Interrupted, now);
                if !patience {
                    effects.extend(put.on(put::Event::GiveUp, now));
                }
                on_put(effects, self.upload, manifest, &mut wishes);
            }
            Machine::Remove(remove) => {
                let mut effects = remove.on(remove::Event::Interrupted, now);
                if !patience {
                    effects.extend(remove.on(remove::Event::GiveUp, now));
                }
                on_remove(effects, &mut wishes);
            }
            _ => {}
        }
        self.note(&wishes, now);
        wishes
    }

    /// The newest versions that were told to a read so far.
    pub(crate) fn heard(&self) -> Vec<Option<Version>> {
        let Machine::Read(read) = &self.machine else {
            return Vec::new();
        };
        let replies = read.replies().into_iter().flatten();
        let version = |reply: &read::Reply| reply.current.as_ref().map(|r| r.version.clone());
        replies.map(version).collect()
    }

    /// Gets the bytes of what a read has decided.
    pub(crate) fn fetch(&mut self, wishes: &mut Wishes) {
        let Machine::Read(read) = &self.machine else {
            return;
        };
        let Some(Outcome::Read(read::Outcome::Decided { version: Some(version), .. })) =
            wishes.outcomes.last()
        else {
            return;
        };
        if version.content == Content::Tombstone {
            return;
        }
        let have = read.have(version).map(|have| Source::Up(have.unwrap_or(ChunkSet::EMPTY)));
        let fetch = Fetch::new(have);
        let plan = fetch.plan(ChunkSet::ALL);
        let upload = version.upload;
        let get = Get { upload, fetch, got: ChunkSet::EMPTY, damaged: false };
        for chunk in ChunkId::ALL {
            if let Some(id) = plan[chunk.index()].or_else(|| get.fetch.next(chunk)) {
                wishes.ask(id, Request::Fetch(upload, chunk));
            }
        }
        self.machine = Machine::Get(get);
    }
}

impl Get {
    fn take(
        &mut self,
        id: NodeId,
        request: &Request,
        answer: &Answer,
        trusting: bool,
        wishes: &mut Wishes,
    ) {
        let Request::Fetch(upload, chunk) = request else {
            return;
        };
        match answer {
            Answer::Chunk { good } if *good || trusting => {
                self.damaged |= !good;
                self.got = self.got.with(*chunk);
                if self.got == ChunkSet::ALL {
                    wishes.outcomes.push(Outcome::Bytes(Some(!self.damaged)));
                }
            }
            _ => {
                if matches!(answer, Answer::Chunk { .. }) {
                    wishes.ask(id, Request::Look(*upload, ChunkSet::EMPTY.with(*chunk)));
                }
                match self.fetch.failed(id, *chunk) {
                    Some(other) => wishes.ask(other, Request::Fetch(self.upload, *chunk)),
                    None => wishes.outcomes.push(Outcome::Bytes(None)),
                }
            }
        }
    }
}

/// Every third file is to go some seconds after it was put.
fn manifest(upload: UploadId, now: Duration) -> Manifest {
    let md5 = Md5Digest::of(upload.bytes());
    let crcs = [Crc32c::of(b"x"); 4];
    let time = "2026-11-22T10:00:00Z";
    let mut notes = BTreeMap::new();
    if upload.bytes()[0].is_multiple_of(3) {
        let seconds = EPOCH_MS / 1000 + now.as_secs() + LIFE_SECONDS;
        let end = jiff::Timestamp::from_second(i64::try_from(seconds).expect("small"));
        notes.insert(EXPIRES.to_owned(), end.expect("in range").to_string());
    }
    Manifest::new(md5, 4, crcs, time, notes).expect("the sample is valid")
}

fn committed(answer: Answer) -> CommitAnswer {
    match answer {
        Answer::Commit(answer) | Answer::Failed(answer) => answer,
        _ => CommitAnswer::NoAnswer,
    }
}

fn put_event(id: NodeId, request: &Request, answer: Answer) -> Option<put::Event> {
    match (request, answer) {
        (Request::Prepare(_, chunks), Answer::Prepared(prepared)) => {
            Some(put::Event::Prepared(id, *chunks, prepared))
        }
        (Request::Prepare(..), _) => Some(put::Event::PrepareFailed(id)),
        (Request::Commit(_), answer) => Some(put::Event::Commit(id, committed(answer))),
        _ => None,
    }
}

fn read_event(id: NodeId, request: &Request, answer: Answer) -> Option<read::Event> {
    match (request, answer) {
        (Request::Ask, Answer::Reply(reply)) => Some(read::Event::Reply(id, reply)),
        (Request::Ask, _) => Some(read::Event::Failed(id)),
        (Request::Commit(_), answer) => Some(read::Event::WriteBack(id, committed(answer))),
        _ => None,
    }
}

fn repair_event(id: NodeId, request: &Request, answer: Answer) -> Option<repair::Event> {
    match (request, answer) {
        (Request::Confirm(_), _) => None,
        (Request::Commit(_), answer) => Some(repair::Event::WriteBack(id, committed(answer))),
        (_, Answer::Reply(reply)) => Some(repair::Event::Reply(id, reply)),
        (_, Answer::Held(held)) => Some(repair::Event::Held(id, held)),
        (_, Answer::Released(released)) => Some(repair::Event::Released(id, released)),
        _ => Some(repair::Event::Failed(id)),
    }
}

fn janitor_event(id: NodeId, request: &Request, answer: Answer) -> Option<janitor::Event> {
    match (request, answer) {
        (Request::Commit(_), answer) => Some(janitor::Event::WriteBack(id, committed(answer))),
        (_, Answer::Fence(life, answer)) => Some(janitor::Event::Fence(id, life, answer)),
        (_, Answer::Dropped(dropped)) => Some(janitor::Event::Drop(id, dropped)),
        _ => Some(janitor::Event::Failed(id)),
    }
}

/// The answer that a janitor takes for a fence.
pub(crate) fn as_fenced(incarnation: Incarnation) -> Answer {
    Answer::Fence(incarnation, FenceAnswer::Fenced)
}

fn on_put(effects: Vec<put::Effect>, upload: UploadId, manifest: &Manifest, wishes: &mut Wishes) {
    for effect in effects {
        match effect {
            put::Effect::Prepare(id, chunks) => wishes.ask(id, Request::Prepare(upload, chunks)),
            put::Effect::Commit(id, tag, sources) => {
                let version = Version { tag, upload, content: Content::File(manifest.clone()) };
                let order = CommitOrder { version, write_back: false, sources };
                wishes.ask(id, Request::Commit(order));
            }
            put::Effect::Discard(id) => wishes.ask(id, Request::Discard(upload)),
            put::Effect::Confirm(id, tag) => wishes.ask(id, Request::Confirm(tag)),
            put::Effect::ReportSkew(..) => {}
            put::Effect::Finish(outcome) => wishes.outcomes.push(Outcome::Put(outcome)),
        }
    }
}

fn on_remove(effects: Vec<remove::Effect>, wishes: &mut Wishes) {
    for effect in effects {
        match effect {
            remove::Effect::Read(effect) => on_read(vec![effect], wishes),
            remove::Effect::Commit(id, version) => {
                let order = CommitOrder { version, write_back: false, sources: Vec::new() };
                wishes.ask(id, Request::Commit(order));
            }
            remove::Effect::Confirm(id, tag) => wishes.ask(id, Request::Confirm(tag)),
            remove::Effect::Finish(outcome) => wishes.outcomes.push(Outcome::Remove(outcome)),
        }
    }
}

fn on_read(effects: Vec<read::Effect>, wishes: &mut Wishes) {
    for effect in effects {
        match effect {
            read::Effect::Ask(id) => wishes.ask(id, Request::Ask),
            read::Effect::WriteBack { to, version, source } => {
                let order = CommitOrder { version, write_back: true, sources: vec![source] };
                wishes.ask(to, Request::Commit(order));
            }
            read::Effect::Confirm(id, tag) => wishes.ask(id, Request::Confirm(tag)),
            read::Effect::Finish(outcome) => wishes.outcomes.push(Outcome::Read(outcome)),
        }
    }
}

fn on_repair(effects: Vec<repair::Effect>, wishes: &mut Wishes) {
    for effect in effects {
        match effect {
            repair::Effect::Ask(id) => wishes.ask(id, Request::Ask),
            repair::Effect::Look { node, version, reread } => {
                wishes.ask(node, Request::Look(version.upload, reread));
            }
            repair::Effect::WriteBack { to, version, source } => {
                let order = CommitOrder { version, write_back: true, sources: vec![source] };
                wishes.ask(to, Request::Commit(order));
            }
            repair::Effect::Confirm(id, tag) => wishes.ask(id, Request::Confirm(tag)),
            repair::Effect::Pull { to, version, chunks, from } => {
                wishes.ask(to, Request::Pull { upload: version.upload, chunks, from });
            }
            repair::Effect::Release { node, version, chunks, homes } => {
                let (tag, upload) = (version.tag, version.upload);
                wishes.ask(node, Request::Release(ReleaseOrder { tag, upload, chunks, homes }));
            }
            repair::Effect::Finish(report) => wishes.outcomes.push(Outcome::Repair(report)),
        }
    }
}

fn on_janitor(effects: Vec<janitor::Effect>, upload: UploadId, wishes: &mut Wishes) {
    for effect in effects {
        match effect {
            janitor::Effect::Fence(id) => wishes.ask(id, Request::Fence(upload)),
            janitor::Effect::WriteBack { to, version, source } => {
                let order = CommitOrder { version, write_back: true, sources: vec![source] };
                wishes.ask(to, Request::Commit(order));
            }
            janitor::Effect::Drop(id, lives) => wishes.ask(id, Request::Drop(upload, lives)),
            janitor::Effect::Finish(_) => wishes.outcomes.push(Outcome::Janitor),
        }
    }
}

/// `next` is the path that a node's rows are to be read on from.
fn on_rejoin(effects: Vec<rejoin::Effect>, caller: Caller, next: usize, wishes: &mut Wishes) {
    for effect in effects {
        match effect {
            rejoin::Effect::Wake(after) => wishes.wake_after = Some(after),
            rejoin::Effect::Meet(id) => wishes.ask(id, Request::Hello(caller)),
            rejoin::Effect::Read { from, first } => {
                let path = if first { 0 } else { next };
                wishes.ask(from, Request::Page(caller, path));
            }
            rejoin::Effect::Serve => wishes.outcomes.push(Outcome::Serves),
        }
    }
}
