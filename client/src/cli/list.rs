//! list and stat

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use super::Context;
use super::args::{ListArgs, Output};
use super::exit::{Exit, report};
use super::many::remote_path;
use super::near::{Wish, tip};
use super::output;
use super::talk::{notice, say};
use crate::{Error, FilePath, FolderLister, Health, Item, Listed, Lister, Operation, Prefix};

/// Lines go out when there are so many bytes of them, and before a node is waited for.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) async fn list(context: &Context, args: ListArgs) -> Exit {
    match try_list(context, args).await {
        Ok(exit) => exit,
        Err(error) => report(&error),
    }
}

async fn try_list(context: &Context, args: ListArgs) -> Result<Exit, Error> {
    let json = context.settings.output == Output::Json;
    let prefix = prefix(args.prefix.clone().unwrap_or_default())?;
    let full = args.long || json;
    let mut items = if args.folders {
        Items::OfFolder(context.client.list_folder(as_folder(prefix)?, full))
    } else {
        Items::All(context.client.list(prefix, full))
    };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock());
    let listed = if json {
        print_json(context, &mut items, &mut out).await
    } else {
        print_lines(context, &mut items, &mut out, &args).await
    };
    match listed.and_then(|()| out.flush().map_err(Error::local("write to", "stdout"))) {
        // A reader that has gone has had enough.
        Err(Error::Local { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(error) => Err(error),
        Ok(()) if items.taking_part() < 2 => Ok(Exit::Nodes),
        Ok(()) => Ok(Exit::Ok),
    }
}

/// A folder may be named without its `/`.
fn as_folder(prefix: Prefix) -> Result<Prefix, Error> {
    if prefix.as_str().is_empty() || prefix.as_str().ends_with('/') {
        return Ok(prefix);
    }
    let path = format!("{}/", prefix.as_str());
    Prefix::new(&*path).map_err(|source| Error::Name { path, source })
}

/// What a listing yields.
enum Items {
    All(Lister),
    OfFolder(FolderLister),
}

impl Items {
    /// The next item. Lines go out before a node is waited for.
    async fn next(
        &mut self,
        context: &Context,
        out: &mut impl Write,
    ) -> Result<Option<Item>, Error> {
        if let Self::All(lister) = self
            && let Some(file) = lister.at_hand()
        {
            return Ok(Some(Item::File(Box::new(file))));
        }
        out.flush().map_err(Error::local("write to", "stdout"))?;
        let next = async {
            match self {
                Self::All(lister) => {
                    Ok(lister.next().await?.map(|file| Item::File(Box::new(file))))
                }
                Self::OfFolder(lister) => lister.next().await,
            }
        };
        tokio::select! {
            item = next => item,
            () = context.cancel.cancelled() => Err(Error::Interrupted),
        }
    }

    fn taking_part(&self) -> usize {
        match self {
            Self::All(lister) => lister.taking_part(),
            Self::OfFolder(lister) => lister.taking_part(),
        }
    }
}

async fn print_lines(
    context: &Context,
    items: &mut Items,
    out: &mut impl Write,
    args: &ListArgs,
) -> Result<(), Error> {
    let end = if args.null { b"\0" } else { b"\n" };
    let mut any = false;
    while let Some(item) = items.next(context, out).await? {
        let written = match &item {
            Item::File(file) if output::is_plain(file, args) => {
                out.write_all(file.path.as_str().as_bytes())
            }
            Item::File(file) => write!(out, "{}", output::list_line(file, args, &context.style)),
            Item::Folder(path) => {
                write!(out, "{}", output::folder_line(path, args, &context.style))
            }
        };
        let ended = written.and_then(|()| out.write_all(end));
        ended.map_err(Error::local("write to", "stdout"))?;
        any = true;
    }
    if let (false, 2.., Some(prefix)) = (any, items.taking_part(), &args.prefix) {
        notice(&format!("no path starts with '{}'", prefix.display()));
    }
    Ok(())
}

/// One array, closed also where the listing ends early.
async fn print_json(
    context: &Context,
    items: &mut Items,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut lead = "[";
    let ended = loop {
        match items.next(context, out).await {
            Ok(Some(item)) => {
                let json = match item {
                    Item::File(file) => output::file_json(&file),
                    Item::Folder(path) => json!({"path": path, "folder": true}),
                };
                write!(out, "{lead}\n  {json}").map_err(Error::local("write to", "stdout"))?;
                lead = ",";
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if ended.is_ok() || lead == "," {
        let end = if lead == "," { "\n]" } else { "[]" };
        writeln!(out, "{end}").map_err(Error::local("write to", "stdout"))?;
    }
    ended
}

/// The next file of a listing, or the end that the user asks for.
pub(super) async fn next_file(
    context: &Context,
    lister: &mut Lister,
) -> Result<Option<Listed>, Error> {
    tokio::select! {
        file = lister.next() => file,
        () = context.cancel.cancelled() => Err(Error::Interrupted),
    }
}

/// A file under a remote folder. There may be a million of them: nothing else is kept.
pub(super) struct Found {
    pub(super) path: FilePath,
    pub(super) size: u64,
}

/// All files under a remote folder; `None` is the one that holds everything. Fails where a folder
/// has none, or where too few nodes answer to tell.
pub(super) async fn under(
    context: &Context,
    folder: Option<&FilePath>,
) -> Result<Vec<Found>, Error> {
    let inside = folder.map_or_else(String::new, |folder| format!("{folder}/"));
    let named = |source| Error::Name { path: inside.clone(), source };
    let mut lister = context.client.list(Prefix::new(&*inside).map_err(named)?, false);
    let mut files = Vec::new();
    while let Some(file) = next_file(context, &mut lister).await? {
        files.push(Found { path: file.path, size: file.file.size });
    }
    if lister.taking_part() < 2 {
        let (operation, nodes) = (Operation::List, lister.errors().to_vec());
        return Err(Error::unavailable(operation, folder.cloned(), nodes));
    }
    match folder {
        Some(folder) if files.is_empty() => {
            Err(Error::NotFound { path: folder.clone(), unconfirmed: false })
        }
        _ => Ok(files),
    }
}

/// The paths of all files under a remote folder, of which there may be none.
pub(super) async fn paths_under(
    context: &Context,
    folder: Option<&FilePath>,
) -> Result<HashSet<FilePath>, Error> {
    match under(context, folder).await {
        Err(Error::NotFound { .. }) => Ok(HashSet::new()),
        files => Ok(files?.into_iter().map(|file| file.path).collect()),
    }
}

/// Whether there is such a file now.
pub(super) async fn is_there(context: &Context, path: &FilePath) -> Result<bool, Error> {
    let state = tokio::select! {
        state = context.client.stat(path) => state,
        () = context.cancel.cancelled() => Err(Error::Interrupted),
    };
    match state {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A prefix as the user typed it; `/` alone is everything.
pub(super) fn prefix(text: OsString) -> Result<Prefix, Error> {
    if text == "/" {
        return Ok(Prefix::default());
    }
    let name = |source| Error::Name { path: text.to_string_lossy().into_owned(), source };
    let utf8 = std::str::from_utf8(text.as_bytes())
        .map_err(|_| name(dfs_proto::name::NameError::NotUtf8))?;
    Prefix::new(utf8).map_err(name)
}

pub(super) async fn stat(context: &Context, remote: OsString) -> Exit {
    let state = async {
        let path = remote_path(&remote)?;
        tokio::select! {
            state = context.client.stat(&path) => state,
            () = context.cancel.cancelled() => Err(Error::Interrupted),
        }
    };
    match state.await {
        Err(error) => {
            let exit = report(&error);
            tip(context, &error, Wish::Stat).await;
            exit
        }
        Ok(state) => {
            let said = match context.settings.output {
                Output::Json => say(&format!("{}\n", output::file_json(&state.file))),
                Output::Text => say(&output::stat_text(&state.file, &context.style)),
            };
            if state.file.health == Health::Unknown { Exit::Nodes } else { said }
        }
    }
}
