//! Lanes: requests of many concurrent operations to one node, sent together.
//!
//! While one batch is under way the next one gathers, so a single request is never delayed
//! and a thousand share a few round trips.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use crate::trace::{Name, current, under};

/// Requests that may wait in a lane before its callers have to.
const QUEUE: usize = 4096;

/// Sends requests `Q`, each answered by an `A`, in batches.
pub(crate) struct Lane<Q, A> {
    queue: mpsc::Sender<(Q, Option<Name>, Caller<A>)>,
}

/// Who waits for an answer.
pub(crate) type Caller<A> = oneshot::Sender<A>;

impl<Q: Send + 'static, A: Send + 'static> Lane<Q, A> {
    /// Starts a lane. `weight` is a request's share of a batch, which holds at most `limit`;
    /// `send` answers a batch in its order. Ends when the lane is dropped and empty.
    pub(crate) fn start<F, Fut>(limit: usize, weight: fn(&Q) -> usize, send: F) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<A>> + Send + 'static,
    {
        Self::start_each(limit, weight, move |batch| {
            let (requests, callers): (Vec<Q>, Vec<Caller<A>>) = batch.into_iter().unzip();
            let answers = send(requests);
            async move {
                for (caller, answer) in callers.into_iter().zip(answers.await) {
                    // A caller that went away needs no answer.
                    let _ = caller.send(answer);
                }
            }
        })
    }

    /// Starts a lane whose `send` answers each request of a batch as soon as it can.
    pub(crate) fn start_each<F, Fut>(limit: usize, weight: fn(&Q) -> usize, send: F) -> Self
    where
        F: Fn(Vec<(Q, Caller<A>)>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (queue, mut waiting) = mpsc::channel::<(Q, Option<Name>, Caller<A>)>(QUEUE);
        tokio::spawn(async move {
            let mut next = None;
            loop {
                let first = match next.take() {
                    Some(first) => first,
                    None => match waiting.recv().await {
                        Some(first) => first,
                        None => return,
                    },
                };
                // Operations that were answered together come with their next requests together:
                // the first of them waits for the others to have had their turn.
                tokio::task::yield_now().await;
                let mut load = weight(&first.0);
                let name = first.1.unwrap_or_else(Name::new);
                let mut batch = vec![(first.0, first.2)];
                while let Ok(more) = waiting.try_recv() {
                    load += weight(&more.0);
                    if load > limit {
                        next = Some(more);
                        break;
                    }
                    batch.push((more.0, more.2));
                }
                under(name, send(batch)).await;
            }
        });
        Self { queue }
    }

    /// Sends one request; `None` if the lane has ended.
    pub(crate) async fn request(&self, request: Q) -> Option<A> {
        let (caller, answer) = oneshot::channel();
        self.queue.send((request, current(), caller)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn answers_each_request_and_gathers_while_busy() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = batches.clone();
        let lane = Lane::start(
            10,
            |_| 1,
            move |batch: Vec<u32>| {
                seen.lock().unwrap().push(batch.len());
                async move {
                    tokio::task::yield_now().await;
                    batch.into_iter().map(|n| n * 2).collect()
                }
            },
        );
        let answers = futures_util::future::join_all((0..100).map(|n| lane.request(n))).await;
        assert_eq!(answers, (0..100).map(|n| Some(n * 2)).collect::<Vec<_>>());
        let batches = batches.lock().unwrap();
        assert!(batches.len() < 50 && batches.iter().all(|size| *size <= 10), "{batches:?}");
    }
}
