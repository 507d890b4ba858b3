//! Measures dfs beside other stores: the same work, on one machine, in one run.
//!
//! `compare.sh` builds what is needed and calls this. The stores are four nodes of dfs, SeaweedFS
//! with four volume servers and two copies, and Garage with four nodes and two copies. Each piece
//! of work ([`work`]) is done by each of them in turn, round after round ([`run`]), so that what
//! disturbs the machine disturbs all alike. Results are lines in a file ([`results`]).

mod error;

mod content;

mod local;

mod wait;

mod meter;

mod server;

mod work;

mod results;

mod summary;

mod document;

mod plot;

mod http;

mod sign;

mod s3;

mod filer;

mod dfs;

mod seaweed;

mod garage;

mod lane;

mod target;

mod small;

mod floor;

mod site;

mod run;

mod machine;

mod args;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Command, RunArgs};
use error::Error;
use results::Line;
use run::{Bench, Plan};
use site::Site;
use target::{Stores, Target};

/// The allocator of dfsctl, for all clients here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Names => {
            work::all(1).into_iter().for_each(|workload| println!("{}", workload.name));
            Ok(())
        }
        Command::Touch { bytes } => {
            meter::touch(bytes);
            Ok(())
        }
        Command::Render { results, out } => render(&results, &out),
        Command::Run(args) => measure(*args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dfs-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the document, and the picture beside it.
fn render(results: &Path, out: &Path) -> Result<(), Error> {
    let lines = results::read(results)?;
    let plot = out.with_extension("svg");
    let name = plot.file_name().unwrap_or_default().to_string_lossy();
    let text = document::write(&lines, &name);
    fs::write(out, text).map_err(Error::file("write", out))?;
    fs::write(&plot, plot::draw(&lines)).map_err(Error::file("write", &plot))
}

async fn measure(args: RunArgs) -> Result<(), Error> {
    let workloads = work::choose(work::all(args.files()), &args.only);
    let unknown = |name: String| Error::refused(name, "no work has this name; see `names`");
    let workloads = workloads.map_err(unknown)?;
    let programs = args.programs();
    let mut targets = Vec::new();
    for target in Target::ALL {
        let asked = args.systems.iter().any(|name| name == target.store() || name == target.name());
        let there = match target {
            Target::Dfs => true,
            Target::SeaweedFiler | Target::SeaweedS3 => programs.weed.is_some(),
            Target::Garage => programs.garage.is_some(),
        };
        match (asked, there) {
            (true, true) => targets.push(target),
            (true, false) => eprintln!("{} is not there and not measured", target.name()),
            (false, _) => {}
        }
    }
    let dir = tempfile::Builder::new().prefix("dfs-bench-").tempdir_in(&args.dir);
    let dir = dir.map_err(Error::file("make a folder in", &args.dir))?;
    let described = machine::describe(&programs, args.nginx.as_deref(), args.build.clone())?;
    let run = described.id.clone();
    results::add(&args.results, &Line::Run(described))?;
    let needs_stores = workloads.iter().any(|one| !matches!(one.work, work::Work::Floor(_)));
    if !needs_stores {
        targets.clear();
    }
    let plan = Plan {
        run,
        targets: targets.clone(),
        workloads,
        rounds: args.rounds(),
        until: Instant::now() + Duration::from_secs(args.seconds),
        results: args.results.clone(),
        suffix: if args.peers_fsync { " fsync" } else { "" },
    };
    let work = async {
        let stores = Stores::start(&targets, &programs, dir.path()).await?;
        let site = Site::new(stores, dir.path().to_owned(), args.nginx.clone())?;
        Bench::new(plan, site).run().await
    };
    // Dropping the work ends the servers, and with them goes the folder.
    let heard = |kind| signal(kind).map_err(Error::io("wait for signals"));
    let (mut term, mut hangup) = (heard(SignalKind::terminate())?, heard(SignalKind::hangup())?);
    let done = tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Error::refused("dfs-bench", "interrupted")),
        _ = term.recv() => Err(Error::refused("dfs-bench", "terminated")),
        _ = hangup.recv() => Err(Error::refused("dfs-bench", "hung up")),
    };
    if done.is_err() && args.keep {
        eprintln!("dfs-bench: logs are in {}", dir.keep().display());
    }
    done
}
