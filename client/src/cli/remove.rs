//! rm

use std::ffi::OsStr;

use serde_json::json;

use super::Context;
use super::args::RmArgs;
use super::exit::{Exit, report, sum_up};
use super::list::{is_there, under};
use super::many::{remote_folder, remote_path, run as run_many};
use super::near::{Wish, tip};
use super::progress::Bar;
use super::talk::complain;
use super::told::{Outcome, Told};
use crate::{Error, FilePath};

/// Removals at once.
const AT_ONCE: usize = 64;

pub(super) async fn run(context: &Context, args: RmArgs) -> Exit {
    if args.recursive && args.remotes.iter().any(|remote| remote == "/") {
        complain("rm -r: / is everything; name folders, 'dfsctl list -d' tells which there are");
        return Exit::Usage;
    }
    let told = Told::new(context, Bar::none(), ["removed", "remove"], false);
    let (mut paths, mut failed) = (Vec::new(), Vec::new());
    for remote in &args.remotes {
        match find(context, remote, args.recursive).await {
            Ok(found) => paths.extend(found),
            // One bad name among several must not keep the others from being removed.
            Err(error) => {
                let exit = report(&error);
                if args.remotes.len() == 1 {
                    tip(context, &error, Wish::Remove { folder: args.recursive }).await;
                }
                told.unfit(json!({ "path": remote.to_string_lossy() }), &error.to_string(), exit);
                failed.push(exit);
            }
        }
    }
    if paths.is_empty() {
        return told.end(sum_up(&failed));
    }
    let single =
        if let ([path], false) = (&paths[..], args.recursive) { Some(path.clone()) } else { None };
    let at_once = context.settings.jobs.unwrap_or(AT_ONCE);
    let told_ref = &told;
    let exit = run_many(&context.cancel, paths, at_once, |path| async move {
        let done = if !args.dry_run {
            context.client.remove(path.clone(), &context.cancel).await.map(Outcome::Done)
        } else if args.recursive || is_there(context, &path).await? {
            Ok(Outcome::Planned(None))
        } else {
            Err(Error::NotFound { path: path.clone(), unconfirmed: false })
        };
        let members = json!({ "path": path.as_str() });
        told_ref.file(path.as_str(), members, &done, |_: Option<&()>| json!({}));
        done.map(drop)
    })
    .await;
    if let (Some(path), Exit::NotFound) = (single, exit) {
        let missing = Error::NotFound { path, unconfirmed: false };
        tip(context, &missing, Wish::Remove { folder: false }).await;
    }
    let exit = told.end(exit);
    if failed.is_empty() { exit } else { sum_up(&[&failed[..], &[exit]].concat()) }
}

/// The file named, or all files under the folder named.
async fn find(context: &Context, remote: &OsStr, folder: bool) -> Result<Vec<FilePath>, Error> {
    if folder {
        let files = under(context, remote_folder(remote)?.as_ref()).await?;
        Ok(files.into_iter().map(|file| file.path).collect())
    } else {
        Ok(vec![remote_path(remote)?])
    }
}
