//! The writer: one thread that runs all transactions in turn and makes whole groups of them
//! durable with one sync. It numbers the groups and keeps the mark.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::mark::Mark;
use super::txn::{Changes, Overlay, Txn};
use super::usage::Usage;
use super::{Database, IndexError, Space, codec};
use crate::poison::Poison;
use crate::telemetry::labels::Synced;
use crate::telemetry::{group_committed, timed};

/// Most transactions in a group.
const GROUP_LENGTH: usize = 256;
/// A group takes no further transaction when its changes have this many bytes.
const GROUP_BYTES: usize = 8 << 20;
/// Transactions that may wait for the writer.
const QUEUE: usize = 1024;

type Reply = Box<dyn FnOnce(Result<(), IndexError>) + Send>;
type Apply = Box<dyn FnOnce(&mut Group<'_>) -> Reply + Send>;

struct Job {
    durable: bool,
    apply: Apply,
}

enum Message {
    Change(Job),
    Stop,
}

/// The handle of the writer thread.
pub(super) struct Writer {
    jobs: mpsc::Sender<Message>,
    /// Taken by the first close. Held for that only.
    thread: Mutex<Option<JoinHandle<()>>>,
    durable: Arc<AtomicU64>,
}

/// A transaction that is on its way. It runs to its end whether or not this is awaited.
pub(crate) struct Pending<R>(oneshot::Receiver<Result<R, IndexError>>);

impl<R> Pending<R> {
    /// Waits until the transaction is in the database.
    pub(crate) async fn done(self) -> Result<R, IndexError> {
        self.0.await.unwrap_or(Err(IndexError::Closed))
    }
}

impl Writer {
    /// Starts the thread. `group` is the last one in the database, all of which is durable.
    pub(super) fn start(
        (database, usage): (Arc<Database>, Arc<Usage>),
        mark: Mark,
        group: u64,
        poison: Poison,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let durable = Arc::new(AtomicU64::new(group));
        let mut groups =
            Groups { database, usage, mark, last: group, durable: Arc::clone(&durable) };
        groups.sync_mark()?;
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || run(&mut groups, queue, &poison))?;
        Ok(Self { jobs, thread: Mutex::new(Some(thread)), durable })
    }

    /// The number of the last group that is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) async fn submit<R: Send + 'static>(
        &self,
        durable: bool,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, IndexError> + Send + 'static,
    ) -> Pending<R> {
        let (answer, pending) = oneshot::channel();
        let apply: Apply = Box::new(move |group| match group.run(change) {
            // The caller may be gone; the change stands all the same.
            Ok(value) => Box::new(move |committed| {
                let _ = answer.send(committed.map(|()| value));
            }),
            Err(error) => Box::new(move |_| {
                let _ = answer.send(Err(error));
            }),
        });
        // A closed queue drops the job and with it the answer's sender: `done` says closed.
        let job = Job { durable, apply };
        let _ = self.jobs.send(Message::Change(job)).await;
        Pending(pending)
    }

    /// Takes no more transactions, finishes those that wait, syncs and ends the thread.
    pub(super) async fn close(&self) {
        // Fails where the thread has ended already.
        let _ = self.jobs.send(Message::Stop).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread has tripped the poison flag already.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The groups that were committed.
struct Groups {
    database: Arc<Database>,
    usage: Arc<Usage>,
    mark: Mark,
    /// The number of the last one.
    last: u64,
    /// The number of the last durable one, as others see it.
    durable: Arc<AtomicU64>,
}

impl Groups {
    fn commit(&mut self, mut changes: Changes, durable: bool) -> Result<(), IndexError> {
        if changes.iter().all(HashMap::is_empty) {
            return Ok(());
        }
        self.last += 1;
        let group = Some(codec::put_group(self.last).into());
        changes[Space::Meta as usize].insert(codec::GROUP_KEY.to_vec(), group);
        let write = || self.database.write(changes, durable);
        if durable {
            timed(Synced::Index, write)?;
            self.set_mark().map_err(fjall::Error::from)?;
        } else {
            write()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IndexError> {
        self.database.sync()?;
        Ok(self.sync_mark().map_err(fjall::Error::from)?)
    }

    fn sync_mark(&self) -> std::io::Result<()> {
        self.set_mark()?;
        self.mark.sync()
    }

    /// Says that all groups so far are durable.
    fn set_mark(&self) -> std::io::Result<()> {
        self.mark.set(self.last)?;
        self.durable.store(self.last, Ordering::Release);
        Ok(())
    }
}

/// The transactions that share one commit.
struct Group<'a> {
    database: &'a Database,
    usage: &'a Usage,
    changes: Overlay,
    length: usize,
    durable: bool,
    failed: Option<IndexError>,
}

impl<'a> Group<'a> {
    fn new(database: &'a Database, usage: &'a Usage) -> Self {
        let changes = Overlay::default();
        Self { database, usage, changes, length: 0, durable: false, failed: None }
    }

    fn take(&mut self, job: Job) -> Reply {
        self.length += 1;
        self.durable |= job.durable;
        (job.apply)(self)
    }

    fn has_room(&self) -> bool {
        self.length < GROUP_LENGTH && self.changes.bytes() < GROUP_BYTES && self.failed.is_none()
    }

    fn run<R>(
        &mut self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, IndexError>,
    ) -> Result<R, IndexError> {
        let mut txn = Txn::new(self.database, &self.changes);
        match change(&mut txn) {
            Ok(value) => {
                let (changes, tally) = txn.into_changes();
                self.changes.absorb(changes);
                self.usage.apply(tally);
                Ok(value)
            }
            Err(error) => {
                if let IndexError::Failed(_) = error {
                    self.failed = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    /// All changes, and whether they have to be durable.
    fn into_changes(self) -> Result<(Changes, bool), IndexError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.changes.into_changes(), self.durable)),
        }
    }
}

fn run(groups: &mut Groups, mut queue: mpsc::Receiver<Message>, poison: &Poison) {
    let work = AssertUnwindSafe(|| work_off(groups, &mut queue, poison));
    if catch_unwind(work).is_err() {
        poison.trip("the index writer panicked");
        // Whoever waits must learn that nothing comes: an answer's sender that stayed in the
        // queue would let him wait for ever.
        while let Some(message) = queue.blocking_recv() {
            match message {
                Message::Change(job) => drop(job),
                Message::Stop => queue.close(),
            }
        }
    }
    if !poison.is_tripped()
        && let Err(error) = groups.sync()
    {
        poison.trip(error);
    }
}

/// Commits group after group until the queue is closed and empty.
fn work_off(groups: &mut Groups, queue: &mut mpsc::Receiver<Message>, poison: &Poison) {
    while let Some(message) = queue.blocking_recv() {
        let (database, usage) = (Arc::clone(&groups.database), Arc::clone(&groups.usage));
        let mut group = Group::new(&database, &usage);
        let mut replies = Vec::new();
        let mut next = Some(message);
        while let Some(message) = next {
            match message {
                Message::Change(job) => replies.push(group.take(job)),
                // What is in the queue is still done.
                Message::Stop => queue.close(),
            }
            next = group.has_room().then(|| queue.try_recv().ok()).flatten();
        }
        let changes = group.into_changes();
        finish(groups, changes, replies, poison);
    }
}

fn finish(
    groups: &mut Groups,
    changes: Result<(Changes, bool), IndexError>,
    replies: Vec<Reply>,
    poison: &Poison,
) {
    let outcome = if poison.is_tripped() {
        Err(IndexError::Poisoned)
    } else {
        changes.and_then(|(changes, durable)| groups.commit(changes, durable))
    };
    match &outcome {
        Ok(()) => group_committed(replies.len()),
        Err(error) => poison.trip(error),
    }
    for reply in replies {
        reply(outcome.clone());
    }
}
