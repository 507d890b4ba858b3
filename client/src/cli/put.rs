//! put

mod plan;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::args::PutArgs;
use super::exit::{Exit, report, sum_up};
use super::expire::Expire;
use super::filter::Filter;
use super::list::{is_there, paths_under};
use super::many::{at_once, run as run_many};
use super::progress::Bar;
use super::talk::{complain, notice};
use super::told::{Outcome, Told, merged};
use super::{Context, output};
use crate::{Error, FilePath, PutOptions, PutReport};
use plan::{Job, Mistake, Plan, Unfit};

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
        Some(Ok(end)) => {
            let end = SystemTime::from(end);
            if end < SystemTime::now() {
                notice(
                    "put --expire: that time is over; what is stored goes as soon as the nodes look \
                     after their files",
                );
            }
            Some(end)
        }
        Some(Err(_)) => {
            complain("put --expire: that is after the year 9999; leave it out");
            return Exit::Usage;
        }
    };
    let filter = match Filter::new(&args.include, &args.exclude) {
        Ok(filter) => filter,
        Err(mistake) => {
            complain(&format!("put: {mistake}"));
            return Exit::Usage;
        }
    };
    let plan =
        if args.recursive { plan::folder(&args.paths, &filter) } else { plan::files(&args.paths) };
    let plan = match plan {
        Ok(plan) => plan,
        Err(Mistake::Usage(text)) => {
            complain(&text);
            return Exit::Usage;
        }
        Err(Mistake::Error(error)) => return report(&error),
    };
    let there = if args.recursive && args.no_clobber {
        match paths_under(context, plan.folder.as_ref()).await {
            Ok(there) => Some(there),
            Err(error) => return report(&error),
        }
    } else {
        None
    };
    let options =
        PutOptions { resume, expires, cancel: context.cancel.clone(), ..PutOptions::default() };
    store(context, &args, plan, there, options).await
}

/// Stores what is planned. `there` are the files of the remote folder that are to be left alone.
async fn store(
    context: &Context,
    args: &PutArgs,
    plan: Plan,
    there: Option<HashSet<FilePath>>,
    options: PutOptions,
) -> Exit {
    let total = plan.jobs.iter().fold(0_u64, |total, job| total.saturating_add(job.bytes));
    let bar = Bar::start(if args.dry_run { 0 } else { total }, "put");
    let told = Told::new(context, bar.clone(), ["stored", "store"], false);
    for Unfit { local, why, exit } in &plan.unfit {
        let members = members(None, local);
        let rest = only_put(None);
        told.unfit(merged(members, rest), why, *exit);
    }
    let at_once = context.settings.jobs.unwrap_or_else(|| at_once(plan.jobs.len(), total));
    let (plan_ref, bar_ref, told_ref, there, options) = (&plan, &bar, &told, &there, &options);
    let exit = run_many(&context.cancel, &plan.jobs, at_once, |job| async move {
        let options = PutOptions { progress: bar_ref.handle(), ..options.clone() };
        let local = plan_ref.local(job);
        let done = one(context, args, &local, job, there.as_ref(), options).await;
        let what = format!("{} as {}", local.display(), job.remote);
        let members = members(Some(&job.remote), &local);
        told_ref.file(&what, members, &done, only_put);
        if let (Ok(Outcome::Done(report)), true) = (&done, args.stats) {
            output::stats(report.size, report.per_node, report.rounds, report.elapsed);
        }
        done.map(drop)
    })
    .await;
    let exit = told.end(exit);
    if plan.unfit.is_empty() {
        return exit;
    }
    let mut exits: Vec<Exit> = plan.unfit.iter().map(|unfit| unfit.exit).collect();
    exits.extend([Exit::Ok, exit]);
    sum_up(&exits)
}

async fn one(
    context: &Context,
    args: &PutArgs,
    local: &Path,
    job: &Job,
    there: Option<&HashSet<FilePath>>,
    options: PutOptions,
) -> Result<Outcome<PutReport>, Error> {
    let (client, remote) = (&context.client, job.remote.clone());
    if args.no_clobber {
        let there = match there {
            Some(there) => there.contains(&remote),
            None => is_there(context, &remote).await?,
        };
        if there {
            return Ok(Outcome::Skipped);
        }
    }
    let stdin = local == Path::new("-");
    if args.dry_run {
        return Ok(Outcome::Planned((!stdin).then_some(job.bytes)));
    }
    let stored = if stdin {
        client.put_stream(remote, Box::new(std::io::stdin()), options).await
    } else {
        client.put(local, remote, options).await
    };
    stored.map(Outcome::Done)
}

fn members(remote: Option<&FilePath>, local: &Path) -> Value {
    json!({ "path": remote.map(FilePath::as_str), "local": local.to_string_lossy() })
}

/// The members of the object of a file that only one has that was stored.
fn only_put(report: Option<&PutReport>) -> Value {
    json!({
        "size": report.map(|report| report.size),
        "md5": report.map(|report| report.md5.to_string()),
        "version": report.map(|report| report.tag.to_string()),
        "per_node": report.map(|report| report.per_node),
        "rounds": report.map(|report| report.rounds),
        "seconds": report.map(|report| report.elapsed.as_secs_f64()),
    })
}

/// Where notes about puts that were cut off are.
fn state_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    state.map(|state| state.join("dfs"))
}
