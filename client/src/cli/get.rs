//! get

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{GetArgs, PairArg};
use super::exit::{Exit, report};
use super::filter::Filter;
use super::list::under;
use super::many::{at_once, remote_folder, remote_path, run as run_many};
use super::near::{Wish, tip};
use super::progress::Bar;
use super::talk::{complain, notice};
use super::told::{Outcome, Told};
use super::{Context, output};
use crate::sink::{appear, beside};
use crate::{ByteRange, Error, FilePath, GetOptions, GetReport, Pair};

pub(super) async fn run(context: &Context, args: GetArgs) -> Exit {
    let done =
        if args.recursive { folder(context, &args).await } else { file(context, &args).await };
    match done {
        Ok(exit) => exit,
        Err(error) => tell_error(context, &error, args.recursive).await,
    }
}

/// Tells an error, and what may have been meant.
async fn tell_error(context: &Context, error: &Error, folder: bool) -> Exit {
    let exit = report(error);
    tip(context, error, Wish::Get { folder }).await;
    exit
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
    let told = Told::new(context, bar.clone(), ["got", "get"], to_stdout && !args.dry_run);
    let done = async {
        if args.no_clobber && !to_stdout && is_taken(&local) {
            return Ok(Outcome::Skipped);
        }
        if !to_stdout {
            is_in_folder(&local)?;
        }
        if args.dry_run {
            return planned(context, &remote).await;
        }
        let mut options = options(context, args);
        options.progress = if to_stdout { None } else { bar.handle() };
        let client = &context.client;
        let read = if let Some(range) = args.range {
            let local = if to_stdout { None } else { Some(&*local) };
            part(context, &remote, range, local, options).await
        } else if to_stdout {
            client.get_stream(remote.clone(), Box::new(std::io::stdout()), options).await
        } else {
            client.get(remote.clone(), &local, options).await
        };
        read.map(Outcome::Done)
    };
    let done = done.await;
    bar.finish();
    tell(&told, &remote, &local, &done, args.stats);
    let exit = match done {
        Ok(_) => Exit::Ok,
        Err(error) => tell_error(context, &error, false).await,
    };
    Ok(told.end(exit))
}

/// Reads some bytes to stdout, or to a file that appears when all of them are there.
async fn part(
    context: &Context,
    remote: &FilePath,
    range: ByteRange,
    local: Option<&Path>,
    options: GetOptions,
) -> Result<GetReport, Error> {
    let (client, remote) = (&context.client, remote.clone());
    let Some(local) = local else {
        return client.get_range(remote, range, Box::new(std::io::stdout()), options).await;
    };
    let file = beside(local)?;
    let stream = file.reopen().map_err(Error::local("write to", file.path()))?;
    let report = client.get_range(remote, range, Box::new(stream), options).await?;
    appear(file.into_temp_path(), local)?;
    Ok(report)
}

async fn folder(context: &Context, args: &GetArgs) -> Result<Exit, Error> {
    let filter = match Filter::new(&args.include, &args.exclude) {
        Ok(filter) => filter,
        Err(mistake) => {
            complain(&format!("get: {mistake}"));
            return Ok(Exit::Usage);
        }
    };
    let remote = remote_folder(&args.remote)?;
    let target = match &args.local {
        Some(local) if local == Path::new("-") => {
            complain("get -r: several files cannot go to stdout; name a folder");
            return Ok(Exit::Usage);
        }
        Some(local) if local.exists() && !local.is_dir() => {
            let local = local.display();
            complain(&format!("get -r: {local} is no folder; name one to read into"));
            return Ok(Exit::Usage);
        }
        Some(local) => local.clone(),
        None => match &remote {
            Some(remote) => PathBuf::from(remote.base_name()),
            None => {
                complain("get -r: name a folder to read everything into: get -r / FOLDER");
                return Ok(Exit::Usage);
            }
        },
    };
    let inside = remote.as_ref().map_or_else(String::new, |remote| format!("{remote}/"));
    let name = |path: &FilePath| path.as_str().strip_prefix(&*inside).map(str::to_owned);
    let mut files = under(context, remote.as_ref()).await?;
    if files.is_empty() {
        complain("get -r: nothing is stored yet");
        return Ok(Exit::NotFound);
    }
    files.retain(|file| name(&file.path).is_none_or(|name| filter.takes(&name)));
    let total = files.iter().fold(0_u64, |total, file| total.saturating_add(file.size));
    let bar = Bar::start(if args.dry_run { 0 } else { total }, "get");
    let told = Told::new(context, bar.clone(), ["got", "get"], false);
    let at_once = context.settings.jobs.unwrap_or_else(|| at_once(files.len(), total));
    let (target, name, bar_ref, told_ref) = (&target, &name, &bar, &told);
    let exit = run_many(&context.cancel, files, at_once, |file| async move {
        let remote = file.path;
        let name = name(&remote).unwrap_or_else(|| remote.to_string());
        let local = target.join(&name);
        let done = async {
            if args.no_clobber && is_taken(&local) {
                return Ok(Outcome::Skipped);
            }
            if args.dry_run {
                return Ok(Outcome::Planned(Some(file.size)));
            }
            let local = make_place(target, &name)?;
            let mut options = options(context, args);
            options.progress = bar_ref.handle();
            context.client.get(remote.clone(), &local, options).await.map(Outcome::Done)
        };
        let done = done.await;
        tell(told_ref, &remote, &local, &done, args.stats);
        done.map(drop)
    })
    .await;
    Ok(told.end(exit))
}

/// Whether something has that name, be it a link that leads nowhere.
fn is_taken(local: &Path) -> bool {
    std::fs::symlink_metadata(local).is_ok()
}

/// Refuses a place in a folder that is not there, before anything is read.
fn is_in_folder(local: &Path) -> Result<(), Error> {
    match local.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            let why = "there is no such folder; make it, or name another place";
            Err(Error::local("write into", folder)(std::io::Error::other(why)))
        }
        _ => Ok(()),
    }
}

/// What a get of this file would read.
async fn planned(context: &Context, remote: &FilePath) -> Result<Outcome<GetReport>, Error> {
    let state = tokio::select! {
        state = context.client.stat(remote) => state,
        () = context.cancel.cancelled() => Err(Error::Interrupted),
    };
    Ok(Outcome::Planned(Some(state?.file.file.size)))
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

fn tell(
    told: &Told,
    remote: &FilePath,
    local: &Path,
    done: &Result<Outcome<GetReport>, Error>,
    stats: bool,
) {
    let members = json!({ "path": remote.as_str(), "local": local.to_string_lossy() });
    told.file(&format!("{remote} as {}", local.display()), members, done, only_get);
    let Ok(Outcome::Done(report)) = done else {
        return;
    };
    if report.unconfirmed {
        notice(&format!(
            "{remote} is unconfirmed: its newest version could not be shown to be on three nodes"
        ));
    }
    if stats {
        let moved = (report.range.end - report.range.start).saturating_sub(report.resumed);
        output::stats(moved, report.per_node, report.rounds, report.elapsed);
    }
}

/// The members of the object of a file that only one has that was read.
fn only_get(report: Option<&GetReport>) -> Value {
    json!({
        "size": report.map(|report| report.manifest.size()),
        "md5": report.map(|report| report.manifest.md5().to_string()),
        "version": report.map(|report| report.tag.to_string()),
        "unconfirmed": report.map(|report| report.unconfirmed),
        "resumed": report.map(|report| report.resumed),
        "per_node": report.map(|report| report.per_node),
        "rounds": report.map(|report| report.rounds),
        "seconds": report.map(|report| report.elapsed.as_secs_f64()),
    })
}
