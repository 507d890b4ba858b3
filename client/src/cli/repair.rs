//! repair

use std::io::{BufWriter, ErrorKind, Write};

use super::args::{Output, RepairArgs};
use super::exit::{Exit, report};
use super::list::prefix;
use super::progress::Bar;
use super::talk::tip;
use super::{Context, output};
use crate::{Error, RepairMode, RepairNews, RepairOptions, RepairReport};

pub(super) async fn run(context: &Context, args: RepairArgs) -> Exit {
    match try_repair(context, args).await {
        Ok(repaired) => exit(&repaired),
        Err(error) => report(&error),
    }
}

async fn try_repair(context: &Context, args: RepairArgs) -> Result<RepairReport, Error> {
    let mode = match (args.dry_run, args.quick) {
        (true, _) => RepairMode::DryRun,
        (false, true) => RepairMode::Quick,
        (false, false) => RepairMode::Thorough,
    };
    let prefix = prefix(args.prefix.unwrap_or_default())?;
    let options = RepairOptions {
        mode,
        all_users: args.all_users,
        cancel: context.cancel.clone(),
        ..Default::default()
    };
    let bar = Bar::counting("repair");
    let json = context.settings.output == Output::Json;
    let mut out = BufWriter::new(std::io::stdout());
    let mut written = if json { write!(out, "{{\"paths\": [") } else { Ok(()) };
    let mut lead = "\n  ";
    let repaired = context.client.repair(&prefix, options, |news| match news {
        RepairNews::Counts(summary) => bar.count(summary.looked_at),
        RepairNews::Path(path) if written.is_ok() => {
            written = bar.aside(|| {
                if json {
                    write!(out, "{lead}{}", output::repaired_json(path))?;
                    lead = ",\n  ";
                } else {
                    writeln!(out, "{}", output::repaired_line(path, mode))?;
                }
                out.flush()
            });
        }
        RepairNews::Path(_) => {}
    });
    let repaired = repaired.await;
    bar.finish();
    let written = written.and_then(|()| {
        match (&repaired, json) {
            (Ok(report), true) => writeln!(out, "], {}", output::repair_json_end(report))?,
            (Ok(report), false) => write!(out, "{}", output::repair_text(report, mode))?,
            // What was done is told also where the rest cannot be.
            (Err(_), true) => writeln!(out, "]}}")?,
            (Err(_), false) => {}
        }
        out.flush()
    });
    if repaired.as_ref().is_ok_and(|report| exit(report) == Exit::Nodes) {
        tip(
            "start the nodes that are missing and repeat it; nodes mend what they can by themselves",
        );
    }
    match written {
        // A reader that has gone has had enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => repaired,
        Err(error) => Err(Error::local("write to", "stdout")(error)),
        Ok(()) => repaired,
    }
}

fn exit(report: &RepairReport) -> Exit {
    let summary = &report.summary;
    match () {
        () if summary.lost + summary.dead > 0 => Exit::Corrupt,
        () if summary.unfinished + summary.unreachable > 0 => Exit::Nodes,
        // With a node away nobody can say that all is whole.
        () if !report.problems.is_empty() => Exit::Nodes,
        () => Exit::Ok,
    }
}
