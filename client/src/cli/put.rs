//! put

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::args::PutArgs;
use super::exit::{Exit, report, sum_up};
use super::expire::Expire;
use super::many::{at_once, remote_folder, remote_path, run as run_many, under};
use super::progress::Bar;
use super::talk::{complain, detail};
use super::{Context, output};
use crate::{Error, FilePath, PutOptions};

/// One file to store.
struct Job {
    local: PathBuf,
    remote: FilePath,
    bytes: u64,
}

/// What is to be stored, and what was found that cannot be.
#[derive(Default)]
struct Plan {
    jobs: Vec<Job>,
    skipped: Vec<Exit>,
}

pub(super) async fn run(context: &Context, args: PutArgs) -> Exit {
    if args.resume && args.paths.iter().any(|path| path == "-") {
        complain("put --resume: stdin cannot be read again; store it in a file first");
        return Exit::Usage;
    }
    let resume = if args.resume { state_folder() } else { None };
    if args.resume && resume.is_none() {
        complain("put --resume: no place for its notes; set XDG_STATE_HOME or HOME");
        return Exit::Usage;
    }
    if args.resume && matches!(args.expire, Some(Expire::After(_))) {
        complain(
            "put --resume: the next run must mean the same end; give --expire a time, \
             as 2026-12-31T00:00:00Z",
        );
        return Exit::Usage;
    }
    let expires = match args.expire.map(|expire| expire.end().ok_or(expire)) {
        None => None,
        Some(Ok(end)) => Some(SystemTime::from(end)),
        Some(Err(_)) => {
            complain("put --expire: that is after the year 9999; leave it out");
            return Exit::Usage;
        }
    };
    let plan = if args.recursive { plan_folder(&args.paths) } else { plan_files(&args.paths) };
    let plan = match plan {
        Ok(plan) => plan,
        Err(Mistake::Usage(text)) => {
            complain(&text);
            return Exit::Usage;
        }
        Err(Mistake::Error(error)) => return report(&error),
    };
    let total = plan.jobs.iter().fold(0_u64, |total, job| total.saturating_add(job.bytes));
    let bar = Bar::start(total, "put");
    let at_once = context.settings.jobs.unwrap_or_else(|| at_once(plan.jobs.len(), total));
    let (stats, bar_ref, resume) = (args.stats, &bar, &resume);
    let exit = run_many(&context.cancel, plan.jobs, at_once, |job| async move {
        let options = PutOptions {
            progress: bar_ref.handle(),
            resume: resume.clone(),
            expires,
            cancel: context.cancel.clone(),
            ..PutOptions::default()
        };
        let client = &context.client;
        let done = format!("stored {} as {}", job.local.display(), job.remote);
        let report = if job.local == Path::new("-") {
            client.put_stream(job.remote, Box::new(std::io::stdin()), options).await?
        } else {
            client.put(&job.local, job.remote, options).await?
        };
        detail(&format!("{done}, {} bytes", report.size));
        if stats {
            output::stats(report.size, report.per_node, report.rounds, report.elapsed);
        }
        Ok(())
    })
    .await;
    bar.finish();
    if plan.skipped.is_empty() {
        exit
    } else {
        sum_up(&[&plan.skipped[..], &[Exit::Ok, exit]].concat())
    }
}

/// Where notes about puts that were cut off are.
fn state_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    state.map(|state| state.join("dfs"))
}

enum Mistake {
    Usage(String),
    Error(Error),
}

impl From<Error> for Mistake {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn usage(text: impl Into<String>) -> Mistake {
    Mistake::Usage(text.into())
}

/// `LOCAL`, `LOCAL REMOTE`, `LOCAL… FOLDER`.
fn plan_files(paths: &[OsString]) -> Result<Plan, Mistake> {
    let mut plan = Plan::default();
    let (locals, folder) = match paths {
        [] => return Err(usage("put: name a local file")),
        [local] => (std::slice::from_ref(local), None),
        [local, remote] if !remote.as_bytes().ends_with(b"/") => {
            let remote = remote_path(remote)?;
            let local = PathBuf::from(local);
            let bytes = local_length(&local)?;
            plan.jobs.push(Job { local, remote, bytes });
            return Ok(plan);
        }
        [locals @ .., remote] => (locals, Some(remote_folder(remote)?)),
    };
    for local in locals {
        let local = PathBuf::from(local);
        if local == Path::new("-") {
            return Err(usage("put -: stdin has no name; give a remote path"));
        }
        let name = local.file_name().ok_or_else(|| {
            usage(format!("put {}: it has no base name; give a remote path", local.display()))
        })?;
        let remote = under(folder.as_ref(), name)?;
        // With several files a missing one is told when its turn comes.
        let bytes = match local_length(&local) {
            Err(mistake) if locals.len() == 1 => return Err(mistake),
            other => other.unwrap_or(0),
        };
        if let Some(other) = plan.jobs.iter().find(|job| job.remote == remote) {
            let (a, b) = (other.local.display(), local.display());
            return Err(usage(format!("{a} and {b} would both be stored as {remote}")));
        }
        plan.jobs.push(Job { local, remote, bytes });
    }
    Ok(plan)
}

fn local_length(local: &Path) -> Result<u64, Mistake> {
    if local == Path::new("-") {
        return Ok(0);
    }
    let about = std::fs::metadata(local).map_err(Error::local("read", local))?;
    if about.is_dir() {
        return Err(usage(format!("{} is a folder; use put -r", local.display())));
    }
    if !about.is_file() {
        let why = std::io::Error::other("it is not a regular file");
        return Err(Error::local("put", local)(why).into());
    }
    Ok(about.len())
}

/// `-r FOLDER [REMOTE]`.
fn plan_folder(paths: &[OsString]) -> Result<Plan, Mistake> {
    let (local, remote) = match paths {
        [local] => {
            let local = PathBuf::from(local);
            // `.` and `..` get the name of the folder they are.
            let full = local.canonicalize().map_err(Error::local("read", &*local))?;
            let name = full.file_name().ok_or_else(|| usage("put -r: give a remote folder"))?;
            let remote = under(None, name)?;
            (local, remote)
        }
        [local, remote] => (PathBuf::from(local), remote_folder(remote)?),
        _ => {
            return Err(usage("put -r takes one local folder and at most one remote one"));
        }
    };
    let about = std::fs::metadata(&local).map_err(Error::local("read", &*local))?;
    if !about.is_dir() {
        return Err(usage(format!("{} is no folder", local.display())));
    }
    let mut plan = Plan::default();
    walk(&local, &remote, &mut plan)?;
    Ok(plan)
}

fn walk(folder: &Path, remote: &FilePath, plan: &mut Plan) -> Result<(), Error> {
    let read = || Error::local("read", folder);
    let mut entries: Vec<std::fs::DirEntry> =
        std::fs::read_dir(folder).map_err(read())?.collect::<Result<_, _>>().map_err(read())?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let local = entry.path();
        let about = entry.metadata().map_err(Error::local("read", &*local))?;
        let remote = match under(Some(remote), &entry.file_name()) {
            Ok(remote) => remote,
            Err(error) => {
                plan.skipped.push(report(&error));
                continue;
            }
        };
        if about.is_dir() {
            // A folder that cannot be read must not hide the others.
            if let Err(error) = walk(&local, &remote, plan) {
                plan.skipped.push(report(&error));
            }
        } else if about.is_file() {
            plan.jobs.push(Job { local, remote, bytes: about.len() });
        } else {
            let kind = if about.is_symlink() { "a symbolic link" } else { "a special file" };
            complain(&format!("{} skipped: it is {kind}", local.display()));
            plan.skipped.push(Exit::Some);
        }
    }
    Ok(())
}
