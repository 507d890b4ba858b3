//! Waiting: for tasks that run at once, and never for ever.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::error::Error;

/// Waits for all of them, or for the first that fails; then the others are ended.
pub(crate) async fn all<T: 'static>(mut tasks: JoinSet<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        results.push(ended.map_err(|error| Error::refused("a task", error))??);
    }
    Ok(results)
}

/// Waits so long at most.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Error::Late { what: what.to_owned(), limit };
    tokio::time::timeout(limit, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_ends_fails_in_time() {
        let never = std::future::pending::<Result<(), Error>>();
        let failed = within(Duration::from_millis(1), "it", never).await.unwrap_err();
        assert_eq!(failed.to_string(), "it: not within 0 s");
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_others() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { Err::<(), _>(Error::refused("it", "no")) });
        assert_eq!(all(tasks).await.unwrap_err().to_string(), "it: no");
    }
}
