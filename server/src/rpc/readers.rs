//! Readers that take nothing of what they asked for: how many there may be.
//!
//! Each keeps some MiB waiting. A few are people who have paused; where there are more than a user,
//! or all together, may have, a new reader waits until one goes on, and ends the one that has
//! waited longest if that has taken nothing for [`STALLED`], and his connection if need be. So readers that are slow lose nothing,
//! and those that do nothing lose to those that may do something.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dfs_proto::name::UserName;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::connections::Caller;
use crate::telemetry::labels::Limit;
use crate::telemetry::limit_hit;

/// Who has taken nothing for so long does not read: of a block a MiB would be taken in this time
/// at 4 Mbit/s.
const STALLED: Duration = Duration::from_secs(2);
/// Longest wait to begin to read. Clients count a stream without progress for 10 s as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// All readers that wait to be rid of a message.
pub(crate) struct Readers {
    of_user: usize,
    of_all: usize,
    /// Held for access to the table only.
    table: Mutex<Table>,
    changed: Notify,
    /// One at a time makes room, after one of each user.
    turn: Semaphore,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// Longest waiting first.
    waiting: BTreeMap<u64, Waiting>,
    /// Users that want to begin while they have as many as they may.
    turns: HashMap<UserName, Arc<Semaphore>>,
}

struct Waiting {
    user: UserName,
    since: Instant,
    ended: CancellationToken,
}

/// One who reads.
pub(super) struct Reader {
    readers: Arc<Readers>,
    user: UserName,
    /// Where he is.
    caller: Option<Caller>,
    /// While he has to be waited for.
    wait: Option<Wait>,
}

/// A place among those that wait. Dropped, it is free.
struct Wait {
    id: u64,
    readers: Arc<Readers>,
    /// Set when another takes the place.
    ended: CancellationToken,
}

impl Reader {
    /// Notes that he has to be waited for. What comes back is set when another takes his place.
    pub(super) fn waits(&mut self) -> CancellationToken {
        let Self { readers, user, wait, .. } = self;
        wait.get_or_insert_with(|| readers.table().wait(user, readers)).ended.clone()
    }

    /// His connection.
    pub(super) fn caller(&self) -> Option<Caller> {
        self.caller.clone()
    }

    /// Notes that he has taken something.
    pub(super) fn goes_on(&mut self) {
        self.wait = None;
    }
}

/// What there is for one who wants to begin.
enum Room {
    Free,
    /// From then on, if nothing changes.
    At(Instant),
}

impl Readers {
    /// At most so many of a user, and of all.
    pub(crate) fn new(of_user: usize, of_all: usize) -> Arc<Self> {
        Arc::new(Self {
            of_user,
            of_all,
            table: Mutex::default(),
            changed: Notify::new(),
            turn: Semaphore::new(1),
        })
    }

    /// Waits until a user may begin to read. He counts as one that waits until he has shown that
    /// he does not. `None`: not in time.
    pub(super) async fn admit(
        self: &Arc<Self>,
        user: &UserName,
        caller: Option<Caller>,
    ) -> Option<Reader> {
        let began = |readers: &Arc<Self>, table: &mut Table| {
            let wait = table.wait(user, readers);
            let (readers, user) = (Arc::clone(readers), user.clone());
            Reader { readers, user, caller: caller.clone(), wait: Some(wait) }
        };
        {
            let mut table = self.table();
            if table.count(None) < self.of_all && table.count(Some(user)) < self.of_user {
                return Some(began(self, &mut table));
            }
        }
        let turn = Arc::clone(self.table().turn(user));
        let admitted = timeout(PATIENCE, async {
            let _of_user = turn.acquire().await;
            self.make_room(Some(user), self.of_user).await;
            let _of_all = self.turn.acquire().await;
            self.make_room(None, self.of_all).await;
            began(self, &mut self.table())
        });
        let admitted = admitted.await.ok();
        drop(turn);
        self.table().turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        admitted
    }

    /// Waits until fewer than `most` wait, of a user or of all; ends one if need be.
    async fn make_room(&self, user: Option<&UserName>, most: usize) {
        loop {
            let changed = self.changed.notified();
            let room = self.table().room(user, most, Instant::now());
            match room {
                Room::Free => return,
                Room::At(time) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(time.into()) => {}
                },
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn wait(&mut self, user: &UserName, readers: &Arc<Readers>) -> Wait {
        let (id, ended) = (self.next, CancellationToken::new());
        self.next += 1;
        let waiting = Waiting { user: user.clone(), since: Instant::now(), ended: ended.clone() };
        self.waiting.insert(id, waiting);
        Wait { id, readers: Arc::clone(readers), ended }
    }

    fn turn(&mut self, user: &UserName) -> &Arc<Semaphore> {
        self.turns.entry(user.clone()).or_insert_with(|| Arc::new(Semaphore::new(1)))
    }

    fn count(&self, user: Option<&UserName>) -> usize {
        match user {
            None => self.waiting.len(),
            Some(user) => self.waiting.values().filter(|waiting| waiting.user == *user).count(),
        }
    }

    /// Ends the one that has waited longest, if it has for long enough: of a user, or of the user
    /// who has most.
    fn room(&mut self, user: Option<&UserName>, most: usize, now: Instant) -> Room {
        if self.count(user) < most {
            return Room::Free;
        }
        let user = user.or_else(|| {
            let users = self.waiting.values().map(|waiting| &waiting.user);
            users.max_by_key(|user| self.count(Some(user)))
        });
        let longest = self.waiting.iter().find(|(_, waiting)| Some(&waiting.user) == user);
        let Some((id, since)) = longest.map(|(id, waiting)| (*id, waiting.since)) else {
            return Room::Free;
        };
        if now < since + STALLED {
            return Room::At(since + STALLED);
        }
        if let Some(stalled) = self.waiting.remove(&id) {
            limit_hit(Limit::SlowReads);
            stalled.ended.cancel();
        }
        Room::Free
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.readers.table().waiting.remove(&self.id);
        self.readers.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    async fn reader(readers: &Arc<Readers>, name: &str) -> Reader {
        let admitted = timeout(STALLED, readers.admit(&user(name), None)).await.expect("in time");
        admitted.expect("admitted")
    }

    fn age(readers: &Readers, by: Duration) {
        readers.table().waiting.values_mut().for_each(|waiting| waiting.since -= by);
    }

    #[tokio::test]
    async fn who_does_nothing_goes_for_who_may() {
        let readers = Readers::new(2, 4);
        let mut first = reader(&readers, "alice").await;
        age(&readers, STALLED / 2);
        let mut second = reader(&readers, "alice").await;
        age(&readers, STALLED / 2);
        let mut third = reader(&readers, "alice").await;
        assert!(first.waits().is_cancelled(), "the longest");
        assert!(!second.waits().is_cancelled() && !third.waits().is_cancelled());
        reader(&readers, "bob").await;
        assert!(!second.waits().is_cancelled(), "others have room");
        drop((first, second, third));
        assert!(readers.table().waiting.is_empty() && readers.table().turns.is_empty());
    }

    #[tokio::test]
    async fn who_goes_on_makes_room_and_counts_again_when_he_stops() {
        let readers = Readers::new(1, 10);
        let mut slow = reader(&readers, "alice").await;
        let began = Instant::now();
        let goes_on = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!slow.waits().is_cancelled());
            slow.goes_on();
        };
        let (other, ()) = tokio::join!(reader(&readers, "alice"), goes_on);
        assert!(began.elapsed() < STALLED);
        slow.waits();
        assert_eq!(readers.table().count(None), 2);
        drop((slow, other));
        assert_eq!(readers.table().count(None), 0);
    }

    #[tokio::test]
    async fn of_all_the_one_goes_whose_user_has_most() {
        let readers = Readers::new(3, 3);
        let mut all = Vec::new();
        for name in ["alice", "bob", "bob"] {
            all.push(reader(&readers, name).await);
        }
        age(&readers, STALLED);
        reader(&readers, "carol").await;
        let ended: Vec<bool> = all.iter_mut().map(|one| one.waits().is_cancelled()).collect();
        assert_eq!(ended, [false, true, false]);
    }
}
