//! The users file: names and argon2id hashes, in YAML.
//!
//! ```yaml
//! users:
//! - name: alice
//!   password_hash: $argon2id$v=19$m=19456,t=2,p=1$…
//!   role: admin  # left out: user
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

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
    #[serde(default, skip_serializing_if = "Role::is_user")]
    role: Role,
}

/// What a user may do beside using his own files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Nothing.
    #[default]
    User,
    /// Repair the files of all users and see the state of the cluster.
    Admin,
}

impl Role {
    fn is_user(&self) -> bool {
        *self == Self::User
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "user" => Ok(Self::User),
            "admin" => Ok(Self::Admin),
            _ => Err("is neither 'user' nor 'admin'"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Admin => "admin",
        })
    }
}

struct User {
    password: StoredPassword,
    role: Role,
}

/// Tells one state of the users file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The users of a cluster. Has no `Debug`: nothing of it belongs into a log.
pub(crate) struct Users {
    path: PathBuf,
    users: BTreeMap<UserName, User>,
    nobody: StoredPassword,
}

impl Users {
    /// Reads a users file.
    pub(crate) fn load(path: &Path) -> Result<Self, UsersError> {
        let text = secret::read(path)?;
        let raw: RawUsers = serde_yaml::from_str(&text)
            .map_err(|source| UsersError::Yaml { path: path.to_owned(), source })?;
        let mut users = Self::empty(path);
        for RawUser { name, password_hash, role } in raw.users {
            let bad = |why: &dyn std::fmt::Display| UsersError::Entry {
                path: path.to_owned(),
                name: name.clone(),
                why: why.to_string(),
            };
            let key = UserName::new(&*name).map_err(|error| bad(&error))?;
            let password = StoredPassword::parse(&password_hash).map_err(|error| bad(&error))?;
            if users.users.insert(key, User { password, role }).is_some() {
                return Err(bad(&"is in the file twice"));
            }
        }
        Ok(users)
    }

    /// The state of a users file; `None` while there is none.
    pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
        let found = fs::metadata(path).ok()?;
        let modified = found.modified().ok();
        Some(Stamp { inode: found.ino(), bytes: found.len(), modified })
    }

    /// Like [`Self::load`], but a file that is not there has no users.
    pub(crate) fn load_or_empty(path: &Path) -> Result<Self, UsersError> {
        match Self::load(path) {
            Err(UsersError::Secret(error)) if error.is_absent() => Ok(Self::empty(path)),
            loaded => loaded,
        }
    }

    fn empty(path: &Path) -> Self {
        Self { path: path.to_owned(), users: BTreeMap::new(), nobody: StoredPassword::nobody() }
    }

    /// Writes the file: durably, as a whole, readable by its owner only.
    pub(crate) fn save(&self) -> Result<(), UsersError> {
        let users = self.users.iter().map(|(name, user)| RawUser {
            name: name.to_string(),
            password_hash: user.password.to_string(),
            role: user.role,
        });
        let raw = RawUsers { users: users.collect() };
        let text = serde_yaml::to_string(&raw)
            .map_err(|source| UsersError::Yaml { path: self.path.clone(), source })?;
        replace_file(&self.path, text.as_bytes())
            .map_err(|source| UsersError::Io { path: self.path.clone(), source })
    }

    /// All names with their roles, in order of the names.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&UserName, Role)> {
        self.users.iter().map(|(name, user)| (name, user.role))
    }

    /// A user's role; that of one who is not there gives him nothing.
    pub(crate) fn role(&self, name: &UserName) -> Role {
        self.users.get(name).map_or(Role::User, |user| user.role)
    }

    /// Whether `other` says the same of a user.
    pub(crate) fn agrees(&self, other: &Self, name: &UserName) -> bool {
        let said =
            |users: &Self| users.users.get(name).map(|user| (user.password.to_string(), user.role));
        said(self) == said(other)
    }

    /// Adds a user.
    pub(crate) fn add(
        &mut self,
        name: UserName,
        password: &str,
        role: Role,
    ) -> Result<(), UsersError> {
        if self.users.contains_key(&name) {
            return Err(UsersError::Exists(self.path.clone(), name));
        }
        self.users.insert(name, User { password: StoredPassword::new(password)?, role });
        Ok(())
    }

    /// Replaces a user's password.
    pub(crate) fn set_password(
        &mut self,
        name: &UserName,
        password: &str,
    ) -> Result<(), UsersError> {
        self.user(name)?.password = StoredPassword::new(password)?;
        Ok(())
    }

    /// Changes a user's role.
    pub(crate) fn set_role(&mut self, name: &UserName, role: Role) -> Result<(), UsersError> {
        self.user(name)?.role = role;
        Ok(())
    }

    fn user(&mut self, name: &UserName) -> Result<&mut User, UsersError> {
        let unknown = || UsersError::Unknown(self.path.clone(), name.clone());
        self.users.get_mut(name).ok_or_else(unknown)
    }

    /// Removes a user. His files stay.
    pub(crate) fn remove(&mut self, name: &UserName) -> Result<(), UsersError> {
        match self.users.remove(name) {
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
        let known = user.as_ref().and_then(|name| self.users.get(name));
        let known = known.map(|user| &user.password);
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
        users.add(alice(), "secret ✓", Role::User).unwrap();
        assert!(matches!(users.add(alice(), "x", Role::User), Err(UsersError::Exists(..))));
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
    fn roles_are_kept_and_changes_of_a_user_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.yaml");
        let bob = UserName::new("bob").unwrap();
        let mut users = Users::load_or_empty(&path).unwrap();
        assert_eq!(Users::stamp(&path), None);
        users.add(alice(), "a", Role::Admin).unwrap();
        users.add(bob.clone(), "b", Role::User).unwrap();
        users.save().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("role:").count(), 1, "{text}");
        let stamp = Users::stamp(&path);

        let mut other = Users::load(&path).unwrap();
        assert_eq!((other.role(&alice()), other.role(&bob)), (Role::Admin, Role::User));
        assert!(other.agrees(&users, &alice()) && other.agrees(&users, &bob));
        other.set_role(&bob, Role::Admin).unwrap();
        assert!(!other.agrees(&users, &bob), "another role");
        other.set_password(&alice(), "a").unwrap();
        assert!(!other.agrees(&users, &alice()), "a new hash, even of the same password");
        other.remove(&alice()).unwrap();
        assert!(!other.agrees(&users, &alice()), "gone");
        assert!(other.set_role(&alice(), Role::User).is_err());
        other.save().unwrap();
        assert_ne!(Users::stamp(&path), stamp);
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
        assert!(error("users:\n- {name: a, password_hash: x, role: root}").contains("root"));
        let hash = StoredPassword::nobody();
        let entry = format!("- {{name: a, password_hash: \"{hash}\"}}\n");
        let twice = format!("users:\n{entry}{entry}");
        assert!(error(&twice).contains("twice"));
        replace_file(&path, b"users: []").unwrap();
        assert!(Users::load(&path).is_ok(), "no users yet");
    }
}
