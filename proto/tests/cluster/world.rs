//! Four rows, a network that loses, delays, reorders and repeats, and clients that may stop.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Incarnation, UploadId};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::Prepared;
use dfs_proto::protocol::read::Reply;
use dfs_proto::protocol::row::{DropEvidence, NodeView, Row};
use dfs_proto::tag::{Hlc, TagAnswer};

use crate::check::Checks;
use crate::client::{Answer, Client, Kind, Request, Requests};
use crate::random::Random;

/// A mistake in the driver, to see that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// Chunks of a failed node are not stored on its opposite.
    NoSpill,
    /// A write-back is answered but not sent.
    NoWriteBack,
    /// No answer to a Commit is taken for an acknowledgement.
    HopeForCommit,
    /// An upload whose outcome is unknown is discarded.
    DiscardAfterCommit,
}

const LIFE: Incarnation = Incarnation::new([1; 16]);
const OPERATIONS: usize = 8;
const STEPS: usize = 250;

enum Mail {
    Request {
        request: Request,
        /// Whether the client still waits.
        awaited: bool,
    },
    Answer(Answer),
}

struct Letter {
    client: usize,
    node: NodeId,
    mail: Mail,
}

/// One run.
pub(crate) struct World {
    random: Random,
    mistake: Mistake,
    /// How often things go wrong, in percent of the usual.
    trouble: usize,
    now: Duration,
    /// How far each node's clock is ahead of the slowest, in milliseconds.
    skew: PerNode<u64>,
    up: PerNode<bool>,
    rows: PerNode<Row>,
    post: Vec<Letter>,
    clients: Vec<Client>,
    checks: Checks,
    /// Chunks that a node was asked to store, per upload.
    asked: BTreeMap<UploadId, PerNode<ChunkSet>>,
}

/// Runs a seed to its end. What it returns is a broken promise.
pub(crate) fn run(seed: u64, mistake: Mistake) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut world = World {
        mistake,
        trouble: [0, 50, 100, 200][random.below(4)],
        now: Duration::ZERO,
        skew: NodeId::ALL.map(|_| skew(&mut random)),
        up: [true; 4],
        rows: NodeId::ALL.map(|_| Row::default()),
        post: Vec::new(),
        clients: Vec::new(),
        checks: Checks::default(),
        asked: BTreeMap::new(),
        random,
    };
    for _ in 0..STEPS {
        world.step();
        world.check()?;
    }
    world.settle()
}

/// Clocks are mostly well, and sometimes too far off to be believed.
fn skew(random: &mut Random) -> u64 {
    let most = if random.chance(5) { 80_000 } else { 20_000 };
    random.below(most) as u64
}

impl World {
    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(40) as u64);
        let unlucky = self.random.below(10_000) < 15 * self.trouble;
        if unlucky {
            self.go_wrong();
        } else if self.clients.len() < OPERATIONS && self.random.chance(12) {
            let kinds = [Kind::Put, Kind::Put, Kind::Remove, Kind::Read, Kind::Read];
            let kind = kinds[self.random.below(kinds.len())];
            self.begin(kind);
        } else if self.random.chance(4) {
            self.prune();
        } else {
            self.deliver();
        }
    }

    fn begin(&mut self, kind: Kind) {
        let floor = self.checks.completed();
        let (client, requests) = Client::start(kind, floor, &mut self.random);
        self.clients.push(client);
        self.send(self.clients.len() - 1, requests);
    }

    fn send(&mut self, client: usize, requests: Requests) {
        for (node, request) in requests {
            let mail = match request {
                Request::Prepare(upload, chunks) if self.skips_spill(node, upload, chunks) => {
                    Mail::Answer(Answer::Prepared(chunks, self.prepared(node)))
                }
                Request::Commit(order)
                    if order.write_back && self.mistake == Mistake::NoWriteBack =>
                {
                    Mail::Answer(Answer::WriteBack(CommitAnswer::Acked))
                }
                request => Mail::Request { request, awaited: true },
            };
            self.post.push(Letter { client, node, mail });
        }
    }

    fn skips_spill(&mut self, node: NodeId, upload: UploadId, chunks: ChunkSet) -> bool {
        let asked = &mut self.asked.entry(upload).or_default()[node.index()];
        let spill = !asked.is_empty();
        *asked = asked.union(chunks);
        spill && self.mistake == Mistake::NoSpill
    }

    /// One of the things that a store of four nodes has to bear.
    fn go_wrong(&mut self) {
        match self.random.below(7) {
            0 | 1 => {
                let node = self.random.below(4);
                self.up[node] = !self.up[node];
            }
            2 => {
                let client = self.random.below(self.clients.len());
                if let Some(client) = self.clients.get_mut(client) {
                    client.stopped = true;
                }
            }
            3 => {
                let (client, patience) =
                    (self.random.below(self.clients.len()), self.random.chance(50));
                self.interrupt(client, patience);
            }
            4 => self.time_out(),
            5 => self.lose(),
            _ => self.now += Duration::from_millis(self.random.below(50_000) as u64),
        }
    }

    fn interrupt(&mut self, index: usize, patience: bool) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(index).filter(|client| !client.stopped) else {
            return;
        };
        let running = client.outcome.is_none();
        let requests = client.interrupt(patience, now);
        self.send(index, requests);
        self.ended(index, running);
    }

    /// A client stops waiting for a request that is still on its way.
    fn time_out(&mut self) {
        let place = self.random.below(self.post.len());
        let Some(letter) = self.post.get_mut(place) else {
            return;
        };
        if let Mail::Request { request, awaited } = &mut letter.mail
            && std::mem::replace(awaited, false)
        {
            let answer = request.unanswered(CommitAnswer::NoAnswer);
            let (client, node) = (letter.client, letter.node);
            self.hand(client, node, answer);
        }
    }

    /// A message is lost, on its way there or back.
    fn lose(&mut self) {
        if self.post.is_empty() {
            return;
        }
        let place = self.random.below(self.post.len());
        let Letter { client, node, mail } = self.post.swap_remove(place);
        let answer = match mail {
            Mail::Request { request, awaited: true } => request.unanswered(CommitAnswer::NoAnswer),
            Mail::Request { .. } => return,
            Mail::Answer(Answer::Prepared(..)) => Answer::PrepareFailed,
            Mail::Answer(Answer::Commit(_)) => Answer::Commit(CommitAnswer::NoAnswer),
            Mail::Answer(Answer::WriteBack(_)) => Answer::WriteBack(CommitAnswer::NoAnswer),
            Mail::Answer(Answer::Reply(_)) => Answer::AskFailed,
            Mail::Answer(failed) => failed,
        };
        self.hand(client, node, answer);
    }

    fn prune(&mut self) {
        let row = &mut self.rows[self.random.below(4)];
        let uploads: Vec<UploadId> = row.uploads.keys().copied().collect();
        for upload in uploads {
            row.prune(u64::MAX, 0, upload);
        }
    }

    /// Any message may be the next to arrive.
    fn deliver(&mut self) {
        if self.post.is_empty() {
            return;
        }
        let place = self.random.below(self.post.len());
        let Letter { client, node, mail } = self.post.swap_remove(place);
        match mail {
            Mail::Answer(answer) => self.hand(client, node, answer),
            Mail::Request { request, awaited } => {
                let answer = if self.up[node.index()] {
                    let answer = self.execute(node, request.clone());
                    self.repeat(client, node, request, &answer);
                    answer
                } else {
                    request.unanswered(CommitAnswer::NotSent)
                };
                if awaited {
                    let mail = Mail::Answer(answer);
                    self.post.push(Letter { client, node, mail });
                }
            }
        }
    }

    /// Now and then a request that was granted arrives a second time, some time.
    fn repeat(&mut self, client: usize, node: NodeId, request: Request, answer: &Answer) {
        let refused = |answer: &CommitAnswer| matches!(answer, CommitAnswer::Refused(_));
        let granted = match answer {
            Answer::Commit(answer) | Answer::WriteBack(answer) => !refused(answer),
            _ => true,
        };
        if granted && self.random.below(1_000) < self.trouble / 2 {
            let mail = Mail::Request { request, awaited: false };
            self.post.push(Letter { client, node, mail });
        }
    }

    /// Gives an answer to its client.
    fn hand(&mut self, index: usize, node: NodeId, answer: Answer) {
        let hopeful = self.mistake == Mistake::HopeForCommit;
        let answer = match answer {
            Answer::Commit(CommitAnswer::NoAnswer) if hopeful => {
                Answer::Commit(CommitAnswer::Acked)
            }
            other => other,
        };
        let client = &mut self.clients[index];
        if client.stopped {
            return;
        }
        let running = client.outcome.is_none();
        let requests = client.take(node, answer, self.now);
        self.send(index, requests);
        self.ended(index, running);
    }

    fn ended(&mut self, index: usize, was_running: bool) {
        let client = &self.clients[index];
        if let (true, Some(outcome)) = (was_running, &client.outcome) {
            let unknown = self.checks.ended(client, outcome, &self.rows);
            if unknown && self.mistake == Mistake::DiscardAfterCommit {
                let upload = client.upload;
                let requests = NodeId::ALL.map(|id| (id, Request::Discard(upload)));
                self.send(index, requests.into());
            }
        }
    }

    fn execute(&mut self, node: NodeId, request: Request) -> Answer {
        let view = self.view(node);
        let row = &mut self.rows[node.index()];
        match request {
            Request::Prepare(upload, chunks) => {
                let done = chunks.iter().try_for_each(|chunk| row.prepare(&view, upload, chunk));
                match done {
                    Ok(()) => Answer::Prepared(chunks, self.prepared(node)),
                    Err(_) => Answer::PrepareFailed,
                }
            }
            Request::Commit(order) => {
                let answer = match row.commit(&view, &order) {
                    Ok(_) => CommitAnswer::Acked,
                    Err(refused) => CommitAnswer::Refused(refused),
                };
                match order.write_back {
                    true => Answer::WriteBack(answer),
                    false => Answer::Commit(answer),
                }
            }
            Request::Discard(upload) => {
                if row.fence(&view, upload).is_ok() {
                    let _ = row.drop_upload(&view, upload, &DropEvidence::NeverCommitted);
                }
                Answer::Nothing
            }
            Request::Confirm(tag) => {
                row.confirm(tag);
                Answer::Nothing
            }
            Request::Ask => Answer::Reply(Box::new(self.reply(node))),
        }
    }

    fn view(&self, position: NodeId) -> NodeView {
        NodeView {
            now_ms: self.clock_ms(position),
            position,
            rejoining: false,
            incarnations: [Some(LIFE); 4],
        }
    }

    fn clock_ms(&self, node: NodeId) -> u64 {
        1_000_000 + self.skew[node.index()] + self.now.as_millis() as u64
    }

    fn reply(&self, node: NodeId) -> Reply {
        let current = self.rows[node.index()].current.as_ref();
        Reply {
            incarnation: LIFE,
            current: current.map(|current| current.record.clone()),
            confirmed: current.is_none_or(|current| current.confirmed),
            proposed: Hlc::from_ms(self.clock_ms(node)),
        }
    }

    fn prepared(&self, node: NodeId) -> Prepared {
        let tag: TagAnswer = self.reply(node).tag_answer();
        Prepared { incarnation: LIFE, tag }
    }

    fn check(&mut self) -> Result<(), String> {
        self.checks.after_step(&self.rows)
    }

    /// All troubles over: everybody who did not stop comes to an end, and a read then gives
    /// the newest version without a flag.
    fn settle(&mut self) -> Result<(), String> {
        self.up = [true; 4];
        self.trouble = 0;
        self.empty_post()?;
        let running = |client: &Client| !client.stopped && client.outcome.is_none();
        if let Some(stuck) = self.clients.iter().position(running) {
            return Err(format!("operation {stuck} never ends"));
        }
        self.begin(Kind::Read);
        self.empty_post()?;
        let last = self.clients.last().and_then(|client| client.outcome.as_ref());
        self.checks.last_read(last)
    }

    fn empty_post(&mut self) -> Result<(), String> {
        for _ in 0..10_000 {
            if self.post.is_empty() {
                return Ok(());
            }
            self.deliver();
            self.check()?;
        }
        Err("messages without end".into())
    }
}
