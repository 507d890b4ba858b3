//! The users file: names and argon2id hashes, in YAML.
//!
//! ```yaml
//! users:
//! - name: alice
//!   password_hash: $argon2id$v=19$m=19456,t=2,p=1$…
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use dfs_proto::name::UserName;
use serde::{Deserialize, Serialize};

use crate::identity::replace_file;
use crate::password::{HashMemory, PasswordError, StoredPassword};
use crate::secret::{self, SecretError};

/// Why the users file, or a change of it, was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{path}: {source}")]
    Yaml { path: PathBuf, source: serde_yaml::Error },
    #[error("{path}: user '{name}': {why}")]
    Entry { path: PathBuf, name: String, why: String },
    #[error("{0}: there is no user '{1}'; 'dfsd user list' shows all")]
    Unknown(PathBuf, UserName),
    #[error("{0}: user '{1}' is there already; 'dfsd user passwd' changes the password")]
    Exists(PathBuf, UserName),
    #[error(transparent)]
    Password(#[from] PasswordError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUsers {
    users: Vec<RawUser>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: String,
    password_hash: String,
}

/// The users of a cluster. Has no `Debug`: nothing of it belongs into a log.
pub(crate) struct Users {
    path: PathBuf,
    hashes: BTreeMap<UserName, StoredPassword>,
    nobody: StoredPassword,
}

impl Users {
    /// Reads a users file.
    pub(crate) fn load(path: &Path) -> Result<Self, UsersError> {
        let text = secret::read(path)?;
        let raw: RawUsers = serde_yaml::from_str(&text)
            .map_err(|source| UsersError::Yaml { path: path.to_owned(), source })?;
        let mut users = Self::empty(path);
        for RawUser { name, password_hash } in raw.users {
            let bad = |why: &dyn std::fmt::Display| UsersError::Entry {
                path: path.to_owned(),
                name: name.clone(),
                why: why.to_string(),
            };
            let user = UserName::new(&*name).map_err(|error| bad(&error))?;
            let hash = StoredPassword::parse(&password_hash).map_err(|error| bad(&error))?;
            if users.hashes.insert(user, hash).is_some() {
                return Err(bad(&"is in the file twice"));
            }
        }
        Ok(users)
    }

    /// Like [`Self::load`], but a file that is not there has no users.
    pub(crate) fn load_or_empty(path: &Path) -> Result<Self, UsersError> {
        match Self::load(path) {
            Err(UsersError::Secret(error)) if error.is_absent() => Ok(Self::empty(path)),
            loaded => loaded,
        }
    }

    fn empty(path: &Path) -> Self {
        Self { path: path.to_owned(), hashes: BTreeMap::new(), nobody: StoredPassword::nobody() }
    }

    /// Writes the file: durably, as a whole, readable by its owner only.
    pub(crate) fn save(&self) -> Result<(), UsersError> {
        let users = self.hashes.iter().map(|(name, hash)| RawUser {
            name: name.to_string(),
            password_hash: hash.to_string(),
        });
        let raw = RawUsers { users: users.collect() };
        let text = serde_yaml::to_string(&raw)
            .map_err(|source| UsersError::Yaml { path: self.path.clone(), source })?;
        replace_file(&self.path, text.as_bytes())
            .map_err(|source| UsersError::Io { path: self.path.clone(), source })
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &UserName> {
        self.hashes.keys()
    }

    /// Adds a user.
    pub(crate) fn add(&mut self, name: UserName, password: &str) -> Result<(), UsersError> {
        if self.hashes.contains_key(&name) {
            return Err(UsersError::Exists(self.path.clone(), name));
        }
        self.hashes.insert(name, StoredPassword::new(password)?);
        Ok(())
    }

    /// Replaces a user's password.
    pub(crate) fn set_password(
        &mut self,
        name: &UserName,
        password: &str,
    ) -> Result<(), UsersError> {
        let unknown = || UsersError::Unknown(self.path.clone(), name.clone());
        let entry = self.hashes.get_mut(name).ok_or_else(unknown)?;
        *entry = StoredPassword::new(password)?;
        Ok(())
    }

    /// Removes a user. His files stay.
    pub(crate) fn remove(&mut self, name: &UserName) -> Result<(), UsersError> {
        match self.hashes.remove(name) {
            Some(_) => Ok(()),
            None => Err(UsersError::Unknown(self.path.clone(), name.clone())),
        }
    }

    /// Checks a password. Takes tens of milliseconds of a core, for an unknown user too.
    pub(crate) fn verify(
        &self,
        name: &str,
        password: &str,
        memory: &mut HashMemory,
    ) -> Option<UserName> {
        let user = UserName::new(name).ok();
        let known = user.as_ref().and_then(|user| self.hashes.get(user));
        let matches = known.unwrap_or(&self.nobody).matches(password, memory);
        user.filter(|_| known.is_some() && matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn alice() -> UserName {
        UserName::new("alice").unwrap()
    }

    fn verify(users: &Users, name: &str, password: &str) -> Option<UserName> {
        users.verify(name, password, &mut HashMemory::default())
    }

    #[test]
    fn users_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        let mut users = Users::load_or_empty(&path).unwrap();
        users.add(alice(), "secret ✓").unwrap();
        assert!(matches!(users.add(alice(), "x"), Err(UsersError::Exists(..))));
        users.save().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");

        let mut users = Users::load(&path).unwrap();
        assert_eq!(verify(&users, "alice", "secret ✓"), Some(alice()));
        for (name, password) in
            [("alice", "secret"), ("alice", ""), ("bob", "secret ✓"), ("", ""), ("../x", "y")]
        {
            assert_eq!(verify(&users, name, password), None, "{name} {password}");
        }
        users.set_password(&alice(), "other").unwrap();
        assert_eq!(verify(&users, "alice", "secret ✓"), None);
        assert_eq!(verify(&users, "alice", "other"), Some(alice()));
        users.remove(&alice()).unwrap();
        assert!(users.remove(&alice()).is_err());
        assert_eq!(verify(&users, "alice", "other"), None);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        let error = |text: &str| {
            replace_file(&path, text.as_bytes()).unwrap();
            Users::load(&path).err().expect("refused").to_string()
        };
        assert!(error("users: 3").contains("users.yaml"));
        assert!(error("").contains("users"));
        assert!(error("users:\n- {name: A, password_hash: x}").contains("user 'A'"));
        assert!(error("users:\n- {name: a, password_hash: x}").contains("argon2id"));
        assert!(error("users:\n- {name: a, password: x}").contains("line 2"));
        let hash = StoredPassword::nobody();
        let entry = format!("- {{name: a, password_hash: \"{hash}\"}}\n");
        let twice = format!("users:\n{entry}{entry}");
        assert!(error(&twice).contains("twice"));
        replace_file(&path, b"users: []").unwrap();
        assert!(Users::load(&path).is_ok(), "no users yet");
    }
}
