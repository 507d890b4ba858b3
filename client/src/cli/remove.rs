//! rm

use std::ffi::OsStr;

use super::Context;
use super::args::RmArgs;
use super::exit::{Exit, report, sum_up};
use super::list::under;
use super::many::{remote_folder, remote_path, run as run_many};
use crate::{Error, FilePath};

/// Removals at once.
const AT_ONCE: usize = 64;

pub(super) async fn run(context: &Context, args: RmArgs) -> Exit {
    let (mut paths, mut failed) = (Vec::new(), Vec::new());
    for remote in &args.remotes {
        match find(context, remote, args.recursive).await {
            Ok(found) => paths.extend(found),
            // One bad name among several must not keep the others from being removed.
            Err(error) => failed.push(report(&error)),
        }
    }
    if paths.is_empty() {
        return sum_up(&failed);
    }
    let at_once = context.settings.jobs.unwrap_or(AT_ONCE);
    let exit = run_many(&context.cancel, paths, at_once, |path| {
        context.client.remove(path, &context.cancel)
    })
    .await;
    if failed.is_empty() { exit } else { sum_up(&[&failed[..], &[exit]].concat()) }
}

/// The file named, or all files under the folder named.
async fn find(context: &Context, remote: &OsStr, folder: bool) -> Result<Vec<FilePath>, Error> {
    if folder {
        let files = under(context, &remote_folder(remote)?).await?;
        Ok(files.into_iter().map(|file| file.path).collect())
    } else {
        Ok(vec![remote_path(remote)?])
    }
}
