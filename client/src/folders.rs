//! A listing folder by folder: what lies under a folder of the prefix is one item, and its pages
//! are passed over.

use dfs_proto::protocol::listing::Listed;

use crate::error::{Error, NodeError};
use crate::list::Lister;

/// What a folder holds.
#[derive(Debug, Clone)]
pub enum Item {
    /// A file in it.
    File(Box<Listed>),
    /// A folder in it, with its `/` at the end: there is a file somewhere under it.
    Folder(String),
}

/// A listing of one folder under way, in byte order.
pub struct FolderLister {
    lister: Lister,
    prefix: String,
    last: Option<String>,
}

impl FolderLister {
    pub(crate) fn new(lister: Lister, prefix: String) -> Self {
        Self { lister: lister.page_by_page(), prefix, last: None }
    }

    /// The next item; `None` at the end. Fails when no node takes part any more.
    pub async fn next(&mut self) -> Result<Option<Item>, Error> {
        while let Some(file) = self.lister.next().await? {
            let path = file.path.as_str();
            let rest = path.get(self.prefix.len()..).unwrap_or_default();
            let Some(slash) = rest.find('/') else {
                return Ok(Some(Item::File(Box::new(file))));
            };
            let folder = path[..=self.prefix.len() + slash].to_owned();
            if self.last.as_ref() == Some(&folder) {
                continue;
            }
            self.lister.pass_over(&folder);
            self.last = Some(folder.clone());
            return Ok(Some(Item::Folder(folder)));
        }
        Ok(None)
    }

    /// How many nodes take part so far; with fewer than two every state is unknown.
    pub fn taking_part(&self) -> usize {
        self.lister.taking_part()
    }

    /// Why nodes were left out.
    pub fn errors(&self) -> &[NodeError] {
        self.lister.errors()
    }
}
