//! get

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::args::{GetArgs, PairArg};
use super::exit::{Exit, report};
use super::list::under;
use super::many::{at_once, remote_folder, remote_path, run as run_many};
use super::progress::Bar;
use super::talk::complain;
use super::{Context, output};
use crate::{Error, FilePath, GetOptions, GetReport, Pair};

pub(super) async fn run(context: &Context, args: GetArgs) -> Exit {
    let done =
        if args.recursive { folder(context, &args).await } else { file(context, &args).await };
    done.unwrap_or_else(|error| report(&error))
}

async fn file(context: &Context, args: &GetArgs) -> Result<Exit, Error> {
    let remote = remote_path(&args.remote)?;
    let local = match &args.local {
        None => PathBuf::from(remote.base_name()),
        Some(local) if local.is_dir() => local.join(remote.base_name()),
        Some(local) => local.clone(),
    };
    let to_stdout = local == Path::new("-");
    let bar = Bar::later(remote.base_name());
    let mut options = options(context, args);
    options.progress = if to_stdout { None } else { bar.handle() };
    let client = &context.client;
    let read = if to_stdout {
        client.get_stream(remote.clone(), Box::new(std::io::stdout()), options).await
    } else {
        client.get(remote.clone(), &local, options).await
    };
    bar.finish();
    tell(&remote, &read?, args.stats);
    Ok(Exit::Ok)
}

async fn folder(context: &Context, args: &GetArgs) -> Result<Exit, Error> {
    let remote = remote_folder(&args.remote)?;
    let target = match &args.local {
        Some(local) if local == Path::new("-") => {
            complain("get -r: several files cannot go to stdout; name a folder");
            return Ok(Exit::Usage);
        }
        Some(local) => local.clone(),
        None => PathBuf::from(remote.base_name()),
    };
    let files = under(context, &remote).await?;
    let total = files.iter().fold(0_u64, |total, file| total.saturating_add(file.file.size));
    let bar = Bar::start(total, "get");
    let at_once = context.settings.jobs.unwrap_or_else(|| at_once(files.len(), total));
    let inside = format!("{remote}/");
    let (target, inside, bar_ref) = (&target, &*inside, &bar);
    let exit = run_many(&context.cancel, files, at_once, |file| async move {
        let remote = file.path;
        let name = remote.as_str().strip_prefix(inside).unwrap_or(remote.as_str());
        let local = make_place(target, name)?;
        let mut options = options(context, args);
        options.progress = bar_ref.handle();
        let report = context.client.get(remote.clone(), &local, options).await?;
        tell(&remote, &report, args.stats);
        Ok(())
    })
    .await;
    bar.finish();
    Ok(exit)
}

/// The local path for `name` under `target`, its folders made. A symbolic link on the way is
/// refused: it could lead out of the target.
fn make_place(target: &Path, name: &str) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(target).map_err(Error::local("make", target))?;
    let mut place = target.to_owned();
    let mut segments = name.split('/').peekable();
    while let Some(segment) = segments.next() {
        place.push(OsStr::new(segment));
        if segments.peek().is_none() {
            break;
        }
        match std::fs::create_dir(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let about =
                    std::fs::symlink_metadata(&place).map_err(Error::local("read", &*place))?;
                if !about.is_dir() {
                    let why = std::io::Error::other("it is no folder");
                    return Err(Error::local("write under", &*place)(why));
                }
            }
            Err(error) => return Err(Error::local("make", &*place)(error)),
        }
    }
    Ok(place)
}

fn options(context: &Context, args: &GetArgs) -> GetOptions {
    GetOptions {
        pair: args.pair.map(|pair| match pair {
            PairArg::Odd => Pair::Odd,
            PairArg::Even => Pair::Even,
        }),
        strict: args.strict,
        verify: args.verify,
        progress: None,
        cancel: context.cancel.clone(),
    }
}

fn tell(remote: &FilePath, report: &GetReport, stats: bool) {
    if report.unconfirmed {
        complain(&format!(
            "{remote} is unconfirmed: its newest version could not be shown to be on three nodes"
        ));
    }
    if stats {
        let moved = report.manifest.size().saturating_sub(report.resumed);
        output::stats(moved, report.per_node, report.rounds, report.elapsed);
    }
}
