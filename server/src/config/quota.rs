//! `quota`: how much each user may hold on this node.
//!
//! ```yaml
//! quota:
//!   bytes: 100GiB        # of all his chunks here
//!   files: 1000000
//!   staged: 20GiB        # of chunks that are not committed yet
//!   users: { alice: { bytes: 1TiB, files: off } }
//! ```
//!
//! What is said of a user goes before what is said of all; what is not said, or `off`, is
//! without a limit.

use std::collections::BTreeMap;

use dfs_proto::name::UserName;
use serde_yaml::Value;

use super::checker::{Checker, bytes};

/// The key of all this in the file.
const KEY: &str = "quota";

/// How much one user may hold; `None`: as much as there is room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all chunks: of files, of what they replaced until that is pruned, and staged.
    pub(crate) bytes: Option<u64>,
    /// Files, with those that are being put.
    pub(crate) files: Option<u64>,
    /// Bytes of chunks that are coming in or not committed yet.
    pub(crate) staged: Option<u64>,
}

/// The limits of all users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Quotas {
    usual: Limits,
    users: BTreeMap<UserName, Limits>,
}

impl Quotas {
    /// The limits of a user.
    pub(crate) fn of(&self, user: &UserName) -> Limits {
        self.users.get(user).copied().unwrap_or(self.usual)
    }

    /// The same limits for all.
    #[cfg(test)]
    pub(crate) fn all(usual: Limits) -> Self {
        Self { usual, users: BTreeMap::new() }
    }
}

impl Checker<'_> {
    /// Reads `quota`; what is wrong with it is among the mistakes.
    pub(super) fn quotas(&mut self, value: Option<&Value>) -> Quotas {
        let mut quotas = Quotas::default();
        let mut users = None;
        for (key, value) in self.entries("", value) {
            if key == "users" {
                users = Some(value);
            } else {
                self.limit("", &key, value, &mut quotas.usual);
            }
        }
        for (name, value) in self.entries("users: ", users) {
            let place = format!("users: {name}: ");
            let mut limits = quotas.usual;
            for (key, value) in self.entries(&place, Some(value)) {
                self.limit(&place, &key, value, &mut limits);
            }
            match UserName::new(name) {
                Ok(user) => drop(quotas.users.insert(user, limits)),
                Err(error) => self.wrong(KEY, &format!("{place}{error}")),
            }
        }
        quotas
    }

    /// The entries of a map, which may be absent.
    fn entries<'v>(&mut self, place: &str, value: Option<&'v Value>) -> Vec<(String, &'v Value)> {
        match value {
            None => Vec::new(),
            Some(Value::Mapping(map)) => {
                map.iter().map(|(key, value)| (shown(key), value)).collect()
            }
            Some(_) => {
                let why = "is a map, such as { bytes: 100GiB, users: { alice: { bytes: off } } }";
                self.wrong(KEY, &format!("{place}{why}"));
                Vec::new()
            }
        }
    }

    fn limit(&mut self, place: &str, key: &str, value: &Value, limits: &mut Limits) {
        let text = shown(value);
        let off = text == "off" || *value == Value::Bool(false);
        let parsed = match key {
            _ if !matches!(key, "bytes" | "files" | "staged") => {
                Err("is not known; correct or remove it".to_owned())
            }
            _ if off => Ok(None),
            "files" => text
                .parse()
                .map(Some)
                .map_err(|_| format!("'{text}' is no number of files, such as 1000000, or off")),
            _ => bytes(&text).map(Some).map_err(|why| why + ", or off"),
        };
        match (key, parsed) {
            (_, Err(why)) => self.wrong(KEY, &format!("{place}{key}: {why}")),
            ("bytes", Ok(limit)) => limits.bytes = limit,
            ("files", Ok(limit)) => limits.files = limit,
            (_, Ok(limit)) => limits.staged = limit,
        }
    }
}

/// A text or a number as it is in the file; of anything else, nothing that would be taken.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(bool) => bool.to_string(),
        _ => "?".to_owned(),
    }
}
