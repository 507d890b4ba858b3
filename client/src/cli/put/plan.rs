//! What a put is to store: from what was typed, and what is in a folder.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::exit::{Exit, report};
use super::super::filter::Filter;
use super::super::many::{remote_folder, remote_path, under};
use super::super::talk::complain;
use crate::{Error, FilePath};

/// One file to store. There may be a million of them: what follows from its remote path is not kept.
pub(super) struct Job {
    /// The local file as it was typed; `None` for one that was found in the folder.
    typed: Option<Box<Path>>,
    pub(super) remote: FilePath,
    pub(super) bytes: u64,
}

/// Something in a folder that cannot be stored. It has been told.
pub(super) struct Unfit {
    pub(super) local: PathBuf,
    pub(super) why: String,
    pub(super) exit: Exit,
}

/// What is to be stored, and what was found that cannot be.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
    pub(super) unfit: Vec<Unfit>,
    /// The local folder, with -r.
    top: PathBuf,
    /// The remote folder of all of them, with -r; `None` is the one that holds everything.
    pub(super) folder: Option<FilePath>,
}

impl Plan {
    /// The local file of a job: in the folder it has the same place as in the remote one.
    pub(super) fn local<'a>(&self, job: &'a Job) -> Cow<'a, Path> {
        if let Some(typed) = &job.typed {
            return Cow::Borrowed(typed);
        }
        let remote = job.remote.as_str();
        let below = |folder: &FilePath| remote.strip_prefix(folder.as_str())?.strip_prefix('/');
        Cow::Owned(self.top.join(self.folder.as_ref().and_then(below).unwrap_or(remote)))
    }

    fn typed(&mut self, local: PathBuf, remote: FilePath, bytes: u64) {
        self.jobs.push(Job { typed: Some(local.into()), remote, bytes });
    }
}

pub(super) enum Mistake {
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
pub(super) fn files(paths: &[OsString]) -> Result<Plan, Mistake> {
    let mut plan = Plan::default();
    let (locals, folder) = match paths {
        [] => return Err(usage("put: name a local file")),
        [local] => (std::slice::from_ref(local), None),
        [local, remote] if !remote.as_bytes().ends_with(b"/") => {
            let remote = remote_path(remote)?;
            let local = PathBuf::from(local);
            let bytes = local_length(&local)?;
            plan.typed(local, remote, bytes);
            return Ok(plan);
        }
        // A single slash is as often a mistake as it is meant: with -r it stands for everything.
        [_, remote] if remote == "/" => {
            return Err(usage(
                "put: / is no remote path; leave it out to store the file by its name",
            ));
        }
        [locals @ .., remote] => (locals, remote_folder(remote)?),
    };
    for local in locals {
        let local = PathBuf::from(local);
        if local == Path::new("-") {
            return Err(usage("put -: stdin has no name; give a remote path"));
        }
        let Some(name) = local.file_name() else {
            local_length(&local)?;
            let local = local.display();
            return Err(usage(format!("put {local}: it has no base name; give a remote path")));
        };
        let remote = under(folder.as_ref(), name)?;
        // With several files a missing one is told when its turn comes.
        let bytes = match local_length(&local) {
            Err(mistake) if locals.len() == 1 => return Err(mistake),
            other => other.unwrap_or(0),
        };
        if let Some(other) = plan.jobs.iter().find(|job| job.remote == remote) {
            let other = plan.local(other);
            let (a, b) = (other.display(), local.display());
            return Err(usage(format!("{a} and {b} would both be stored as {remote}")));
        }
        plan.typed(local, remote, bytes);
    }
    Ok(plan)
}

fn local_length(local: &Path) -> Result<u64, Mistake> {
    if local == Path::new("-") {
        return Ok(0);
    }
    let about = std::fs::metadata(local).map_err(Error::local("read", local))?;
    if about.is_dir() {
        let local = local.display();
        return Err(usage(format!("{local} is a folder; 'put -r {local}' stores what is in it")));
    }
    if !about.is_file() {
        let why = std::io::Error::other("it is not a regular file");
        return Err(Error::local("put", local)(why).into());
    }
    Ok(about.len())
}

/// `-r FOLDER [REMOTE]`.
pub(super) fn folder(paths: &[OsString], filter: &Filter) -> Result<Plan, Mistake> {
    let (local, remote) = match paths {
        [local] => {
            let local = PathBuf::from(local);
            // `.` and `..` get the name of the folder they are.
            let full = local.canonicalize().map_err(Error::local("read", &*local))?;
            let name = full.file_name().ok_or_else(|| {
                let local = local.display();
                usage(format!(
                    "put -r {local}: it has no name; give a remote folder: put -r {local} NAME"
                ))
            })?;
            let remote = under(None, name)?;
            (local, Some(remote))
        }
        [local, remote] => (PathBuf::from(local), remote_folder(remote)?),
        _ => {
            return Err(usage("put -r takes one local folder and at most one remote one"));
        }
    };
    let about = std::fs::metadata(&local).map_err(Error::local("read", &*local))?;
    if !about.is_dir() {
        return Err(usage(format!("{} is no folder; leave -r out", local.display())));
    }
    let mut plan = Plan { top: local.clone(), folder: remote.clone(), ..Plan::default() };
    Walk { filter, plan: &mut plan }.folder(&local, remote.as_ref())?;
    Ok(plan)
}

struct Walk<'a> {
    filter: &'a Filter,
    plan: &'a mut Plan,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, remote: Option<&FilePath>) -> Result<(), Error> {
        let read = || Error::local("read", folder);
        let entries = std::fs::read_dir(folder).map_err(read())?;
        let names = entries.map(|entry| Ok(entry?.file_name().into_boxed_os_str()));
        let mut names: Vec<Box<OsStr>> = names.collect::<Result<_, _>>().map_err(read())?;
        names.sort_unstable();
        for name in names {
            let local = folder.join(&*name);
            let about = std::fs::symlink_metadata(&local).map_err(Error::local("read", &*local))?;
            let below = local.strip_prefix(&self.plan.top).unwrap_or(&local);
            let below = below.to_string_lossy().into_owned();
            let meant =
                if about.is_dir() { self.filter.enters(&below) } else { self.filter.takes(&below) };
            if !meant {
                continue;
            }
            let remote = match under(remote, &name) {
                Ok(remote) => remote,
                Err(error) => {
                    self.failed(local, &error);
                    continue;
                }
            };
            if about.is_dir() {
                // A folder that cannot be read must not hide the others.
                if let Err(error) = self.folder(&local, Some(&remote)) {
                    self.failed(local, &error);
                }
            } else if about.is_file() {
                self.plan.jobs.push(Job { typed: None, remote, bytes: about.len() });
            } else {
                let kind = if about.is_symlink() { "a symbolic link" } else { "a special file" };
                let why = format!("{} skipped: it is {kind}", local.display());
                complain(&why);
                self.plan.unfit.push(Unfit { local, why, exit: Exit::Some });
            }
        }
        Ok(())
    }

    fn failed(&mut self, local: PathBuf, error: &Error) {
        let (why, exit) = (error.to_string(), report(error));
        self.plan.unfit.push(Unfit { local, why, exit });
    }
}
