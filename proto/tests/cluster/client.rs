//! Clients: the machines, with their effects as requests and the answers as their events.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::manifest::{Content, Manifest, UploadId, Version};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::{self, Prepared, Put};
use dfs_proto::protocol::read::{self, Read, Reply};
use dfs_proto::protocol::remove::{self, Remove};
use dfs_proto::protocol::row::CommitOrder;
use dfs_proto::tag::Tag;

use crate::random::Random;

/// What a client asks of a node.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Prepare(UploadId, ChunkSet),
    Commit(CommitOrder),
    Discard(UploadId),
    Confirm(Tag),
    Ask,
}

/// What becomes of a request, as its client sees it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Prepared(ChunkSet, Prepared),
    PrepareFailed,
    Commit(CommitAnswer),
    WriteBack(CommitAnswer),
    Reply(Box<Reply>),
    AskFailed,
    /// To what is sent without waiting.
    Nothing,
}

impl Request {
    /// What the client is told when no answer comes.
    pub(crate) fn unanswered(&self, how: CommitAnswer) -> Answer {
        match self {
            Self::Prepare(..) => Answer::PrepareFailed,
            Self::Commit(order) if order.write_back => Answer::WriteBack(how),
            Self::Commit(_) => Answer::Commit(how),
            Self::Ask => Answer::AskFailed,
            Self::Discard(_) | Self::Confirm(_) => Answer::Nothing,
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Put(put::Outcome),
    Remove(remove::Outcome),
    Read(read::Outcome),
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Put,
    Remove,
    Read,
}

enum Machine {
    Put(Put, Manifest),
    Remove(Remove),
    Read(Read),
}

/// One operation and who waits for it.
pub(crate) struct Client {
    machine: Machine,
    /// The upload it makes, if it makes one.
    pub(crate) upload: UploadId,
    /// The largest tag completed before it began.
    pub(crate) floor: Option<Tag>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) stopped: bool,
}

pub(crate) type Requests = Vec<(NodeId, Request)>;

impl Client {
    pub(crate) fn start(kind: Kind, floor: Option<Tag>, random: &mut Random) -> (Self, Requests) {
        let (upload, writer) = (UploadId::new(random.bytes()), random.bytes());
        let mut requests = Requests::new();
        let machine = match kind {
            Kind::Put => {
                let manifest = manifest(upload);
                let (put, effects) = Put::start(manifest.x(), writer);
                on_put(effects, upload, &manifest, &mut requests);
                Machine::Put(put, manifest)
            }
            Kind::Remove => {
                let (remove, effects) = Remove::start(upload, writer);
                on_remove(effects, &mut requests);
                Machine::Remove(remove)
            }
            Kind::Read => {
                let (read, effects) = Read::start();
                on_read(effects, &mut requests);
                Machine::Read(read)
            }
        };
        let client = Self { machine, upload, floor, outcome: None, stopped: false };
        (client, requests)
    }

    /// Takes an answer; sends on what the machine wants, or remembers how it ended.
    pub(crate) fn take(&mut self, id: NodeId, answer: Answer, now: Duration) -> Requests {
        let mut requests = Requests::new();
        let outcome = match &mut self.machine {
            Machine::Put(put, manifest) => {
                let effects = put_event(id, answer).map(|event| put.on(event, now));
                on_put(effects.unwrap_or_default(), self.upload, manifest, &mut requests)
                    .map(Outcome::Put)
            }
            Machine::Remove(remove) => {
                let effects = remove_event(id, answer).map(|event| remove.on(event, now));
                on_remove(effects.unwrap_or_default(), &mut requests).map(Outcome::Remove)
            }
            Machine::Read(read) => {
                let effects = read_event(id, answer).map(|event| read.on(event, now));
                on_read(effects.unwrap_or_default(), &mut requests).map(Outcome::Read)
            }
        };
        self.end(outcome);
        requests
    }

    /// The user wants to stop; `patience` tells whether what was sent may be waited for.
    pub(crate) fn interrupt(&mut self, patience: bool, now: Duration) -> Requests {
        let mut requests = Requests::new();
        let outcome = match &mut self.machine {
            Machine::Put(put, manifest) => {
                let mut effects = put.on(put::Event::Interrupted, now);
                if !patience {
                    effects.extend(put.on(put::Event::GiveUp, now));
                }
                on_put(effects, self.upload, manifest, &mut requests).map(Outcome::Put)
            }
            Machine::Remove(remove) => {
                let mut effects = remove.on(remove::Event::Interrupted, now);
                if !patience {
                    effects.extend(remove.on(remove::Event::GiveUp, now));
                }
                on_remove(effects, &mut requests).map(Outcome::Remove)
            }
            Machine::Read(_) => None,
        };
        self.end(outcome);
        requests
    }

    fn end(&mut self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            let before = self.outcome.replace(outcome);
            assert!(before.is_none(), "an operation ended twice");
        }
    }
}

fn manifest(upload: UploadId) -> Manifest {
    let md5 = Md5Digest::of(upload.bytes());
    let crcs = [Crc32c::of(b"x"); 4];
    let time = "2026-11-22T10:00:00Z";
    Manifest::new(md5, 4, crcs, time, BTreeMap::new()).expect("the sample is valid")
}

fn put_event(id: NodeId, answer: Answer) -> Option<put::Event> {
    match answer {
        Answer::Prepared(chunks, prepared) => Some(put::Event::Prepared(id, chunks, prepared)),
        Answer::PrepareFailed => Some(put::Event::PrepareFailed(id)),
        Answer::Commit(answer) => Some(put::Event::Commit(id, answer)),
        _ => None,
    }
}

fn remove_event(id: NodeId, answer: Answer) -> Option<remove::Event> {
    match answer {
        Answer::Commit(answer) => Some(remove::Event::Commit(id, answer)),
        other => read_event(id, other).map(remove::Event::Read),
    }
}

fn read_event(id: NodeId, answer: Answer) -> Option<read::Event> {
    match answer {
        Answer::Reply(reply) => Some(read::Event::Reply(id, reply)),
        Answer::AskFailed => Some(read::Event::Failed(id)),
        Answer::WriteBack(answer) => Some(read::Event::WriteBack(id, answer)),
        _ => None,
    }
}

fn on_put(
    effects: Vec<put::Effect>,
    upload: UploadId,
    manifest: &Manifest,
    requests: &mut Requests,
) -> Option<put::Outcome> {
    let mut end = None;
    for effect in effects {
        match effect {
            put::Effect::Prepare(id, chunks) => {
                requests.push((id, Request::Prepare(upload, chunks)));
            }
            put::Effect::Commit(id, tag, sources) => {
                let version = Version { tag, upload, content: Content::File(manifest.clone()) };
                let order = CommitOrder { version, write_back: false, sources };
                requests.push((id, Request::Commit(order)));
            }
            put::Effect::Discard(id) => requests.push((id, Request::Discard(upload))),
            put::Effect::Confirm(id, tag) => requests.push((id, Request::Confirm(tag))),
            put::Effect::ReportSkew(..) => {}
            put::Effect::Finish(outcome) => end = Some(outcome),
        }
    }
    end
}

fn on_remove(effects: Vec<remove::Effect>, requests: &mut Requests) -> Option<remove::Outcome> {
    let mut end = None;
    for effect in effects {
        match effect {
            remove::Effect::Read(effect) => {
                let decided = on_read(vec![effect], requests);
                assert!(decided.is_none(), "a removal passes on its read's end");
            }
            remove::Effect::Commit(id, version) => {
                let order = CommitOrder { version, write_back: false, sources: Vec::new() };
                requests.push((id, Request::Commit(order)));
            }
            remove::Effect::Confirm(id, tag) => requests.push((id, Request::Confirm(tag))),
            remove::Effect::Finish(outcome) => end = Some(outcome),
        }
    }
    end
}

fn on_read(effects: Vec<read::Effect>, requests: &mut Requests) -> Option<read::Outcome> {
    let mut end = None;
    for effect in effects {
        match effect {
            read::Effect::Ask(id) => requests.push((id, Request::Ask)),
            read::Effect::WriteBack { to, version, source } => {
                let order = CommitOrder { version, write_back: true, sources: vec![source] };
                requests.push((to, Request::Commit(order)));
            }
            read::Effect::Confirm(id, tag) => requests.push((id, Request::Confirm(tag))),
            read::Effect::Finish(outcome) => end = Some(outcome),
        }
    }
    end
}
