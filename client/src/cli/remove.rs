//! rm

use super::Context;
use super::args::RmArgs;
use super::exit::{Exit, report};
use super::many::{remote_folder, remote_path, run as run_many};
use crate::{Error, FilePath, Prefix};

/// Removals at once.
const AT_ONCE: usize = 64;

pub(super) async fn run(context: &Context, args: RmArgs) -> Exit {
    let paths = if args.recursive {
        find(context, &args).await
    } else {
        args.remotes.iter().map(|remote| remote_path(remote)).collect()
    };
    let paths = match paths {
        Ok(paths) => paths,
        Err(error) => return report(&error),
    };
    run_many(paths, AT_ONCE, |path| context.client.remove(path, &context.cancel)).await
}

/// All files under the folders named.
async fn find(context: &Context, args: &RmArgs) -> Result<Vec<FilePath>, Error> {
    let mut paths = Vec::new();
    for remote in &args.remotes {
        let folder = remote_folder(remote)?;
        let inside = format!("{folder}/");
        let named = |source| Error::Name { path: inside.clone(), source };
        let mut lister = context.client.list(Prefix::new(&*inside).map_err(named)?, false);
        let before = paths.len();
        while let Some(file) = lister.next().await? {
            paths.push(file.path);
        }
        if paths.len() == before {
            return Err(Error::NotFound { path: folder });
        }
    }
    Ok(paths)
}
