//! Many small files: so many workers, each with a lane of its own, take one file after another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::content::{Contents, name_in_tree};
use crate::error::Error;
use crate::lane::Lane;
use crate::target::{Stores, Target};
use crate::wait;

/// What every worker does with file `number`.
#[derive(Clone)]
pub(crate) enum Task {
    /// Store it from memory.
    Put(Contents, usize),
    /// Read it into memory; it must be this long.
    Get(u64),
    /// Store it from this folder.
    PutFrom(Arc<Path>),
    /// Read it into this folder.
    GetTo(Arc<Path>),
}

/// How long single operations took, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// In milliseconds: so much of a hundred were no longer.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1).min(last);
        self.0.get(place).map(|time| time.as_secs_f64() * 1e3)
    }
}

/// So many lanes, connected: no work pays for that.
pub(crate) async fn lanes(stores: &Stores, target: Target, count: u64) -> Result<Vec<Lane>, Error> {
    let mut greeted = JoinSet::new();
    for number in 0..count {
        let mut lane = stores.lane(target, number as usize)?;
        greeted.spawn(async move { lane.greet().await.map(|()| lane) });
    }
    wait::all(greeted).await
}

/// Does `task` with the files 0 to `files` under `prefix`, one at a time on each lane.
pub(crate) async fn each(
    lanes: Vec<Lane>,
    prefix: &str,
    files: u64,
    task: Task,
) -> Result<Times, Error> {
    let next = Arc::new(AtomicU64::new(0));
    let prefix: Arc<str> = prefix.into();
    let mut workers = JoinSet::new();
    for mut lane in lanes {
        let task = task.clone();
        let (next, prefix) = (Arc::clone(&next), Arc::clone(&prefix));
        workers.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= files {
                    return Ok(times);
                }
                times.push(one(&mut lane, &prefix, number, &task).await?);
            }
        });
    }
    let mut times = wait::all(workers).await?.concat();
    times.sort_unstable();
    Ok(Times(times))
}

async fn one(lane: &mut Lane, prefix: &str, number: u64, task: &Task) -> Result<Duration, Error> {
    let name = format!("{prefix}/{}", name_in_tree(number));
    let local = |folder: &Path| folder.join(name_in_tree(number));
    Ok(match task {
        Task::Put(contents, size) => {
            let body = contents.body(number, *size);
            let began = Instant::now();
            lane.put(&name, body).await?;
            began.elapsed()
        }
        Task::Get(size) => {
            let began = Instant::now();
            let length = lane.get(&name).await?;
            if length != *size {
                return Err(Error::refused(name, format!("{length} bytes, not {size}")));
            }
            began.elapsed()
        }
        Task::PutFrom(folder) => {
            let began = Instant::now();
            let path = local(folder);
            let body = std::fs::read(&path).map_err(Error::file("read", &path))?;
            lane.put(&name, Bytes::from(body)).await?;
            began.elapsed()
        }
        Task::GetTo(folder) => {
            let began = Instant::now();
            lane.get_to(&name, &local(folder)).await?;
            began.elapsed()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = Times((1..=200).map(Duration::from_millis).collect());
        assert_eq!(times.percentile(50), Some(100.0));
        assert_eq!(times.percentile(99), Some(198.0));
        assert_eq!(Times(vec![Duration::from_millis(3)]).percentile(99), Some(3.0));
        assert_eq!(Times(Vec::new()).percentile(50), None);
    }
}
