//! The users file is read again when it has changed: nobody has to restart a node to add a
//! user, or to shut one out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Auth;
use crate::users::{Stamp, Users, UsersError};

/// How often the file is looked at: one system call.
const EVERY: Duration = Duration::from_secs(2);

impl Auth {
    /// Follows the users file until `stop`. One that cannot be read changes nothing, and is
    /// told once.
    pub(crate) async fn keep_reading_users(
        self: Arc<Self>,
        file: PathBuf,
        mut seen: Option<Stamp>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let stamp = Users::stamp(&file);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match self.read_users(&file).await {
                Ok(count) => tracing::info!(users = count, "the users file has been read again"),
                Err(error) => {
                    tracing::error!(%error, "the users file cannot be read; the old users stay");
                }
            }
        }
    }

    async fn read_users(self: &Arc<Self>, file: &std::path::Path) -> Result<usize, UsersError> {
        let (auth, file) = (Arc::clone(self), file.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let users = Users::load(&file)?;
            let count = users.names().count();
            auth.replace_users(users);
            Ok(count)
        });
        read.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Audit;
    use crate::users::Role;
    use dfs_proto::name::UserName;

    fn name(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..100 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not within ten seconds: {what}");
    }

    #[tokio::test]
    async fn a_change_of_the_file_reaches_a_running_node() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users.yaml");
        let mut users = Users::load_or_empty(&file).unwrap();
        for user in ["alice", "bob", "carol"] {
            users.add(name(user), "old", Role::User).unwrap();
        }
        users.save().unwrap();
        let (stamp, stop) = (Users::stamp(&file), CancellationToken::new());
        let auth = Arc::new(Auth::new(Users::load(&file).unwrap(), "secret", Audit::default()));
        let login =
            |user: &str, password: &str| auth.login(user.to_owned(), password.to_owned(), None);
        let alice = login("alice", "old").await.unwrap();
        let bob = login("bob", "old").await.unwrap();
        let carol = login("carol", "old").await.unwrap();
        tokio::spawn(Arc::clone(&auth).keep_reading_users(file.clone(), stamp, stop.clone()));

        std::fs::write(&file, "users: [").unwrap();
        tokio::time::sleep(2 * EVERY).await;
        assert!(auth.principal(&alice).is_some(), "a broken file changes nothing");

        users.set_password(&name("alice"), "new").unwrap();
        users.remove(&name("bob")).unwrap();
        users.add(name("dave"), "new", Role::Admin).unwrap();
        users.save().unwrap();
        eventually("the old password's token ends", || auth.principal(&alice).is_none()).await;
        assert!(auth.principal(&bob).is_none(), "removed");
        assert!(auth.principal(&carol).is_some(), "nothing changed for her");
        assert!(login("alice", "old").await.is_err());
        assert!(login("bob", "old").await.is_err());
        assert!(login("alice", "new").await.is_ok());
        let dave = login("dave", "new").await.unwrap();
        assert_eq!(auth.principal(&dave).unwrap().role, Role::Admin);
        stop.cancel();
    }

    #[test]
    fn a_password_changed_during_its_check_gives_no_token() {
        let missing = std::path::Path::new("/nowhere/users.yaml");
        let users = |password| {
            let mut users = Users::load_or_empty(missing).unwrap();
            users.add(name("alice"), password, Role::User).unwrap();
            users
        };
        let auth = Auth::new(users("old"), "secret", Audit::default());
        let checked = auth.users();
        auth.replace_users(users("new"));
        let now = std::time::Instant::now();
        assert!(auth.issue(name("alice"), &checked, now).is_err());
        let token = auth.issue(name("alice"), &auth.users(), now).unwrap();
        let principal = auth.principal(&token).unwrap();
        auth.logout(&principal.token);
        assert!(auth.principal(&token).is_none(), "logged out");
    }
}
