//! verify

use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Write};

use super::args::Output;
use super::exit::{Exit, report};
use super::list::prefix;
use super::progress::Bar;
use super::{Context, output};
use crate::{Condition, Error, Verified, VerifyOptions, VerifyReport};

pub(super) async fn run(context: &Context, typed: Option<OsString>) -> Exit {
    match try_verify(context, typed.unwrap_or_default()).await {
        Ok(report) => exit(&report),
        Err(error) => report(&error),
    }
}

async fn try_verify(context: &Context, typed: OsString) -> Result<VerifyReport, Error> {
    let prefix = prefix(typed)?;
    let bar = Bar::growing("verify");
    let options = VerifyOptions { progress: bar.handle(), cancel: context.cancel.clone() };
    let json = context.settings.output == Output::Json;
    let mut out = BufWriter::new(std::io::stdout());
    let mut written = if json { write!(out, "{{\"problems\": [") } else { Ok(()) };
    let mut lead = "\n  ";
    let verified = context.client.verify(prefix, options, |file: &Verified| {
        if file.condition == Condition::Ok || written.is_err() {
            return;
        }
        written = bar.aside(|| {
            if json {
                write!(out, "{lead}{}", output::verified_json(file))?;
                lead = ",\n  ";
            } else {
                writeln!(out, "{}", output::verified_line(file))?;
            }
            out.flush()
        });
    });
    let verified = verified.await;
    bar.finish();
    let written = written.and_then(|()| {
        match (&verified, json) {
            (Ok(report), true) => writeln!(out, "], {}", output::verify_json_end(report))?,
            (Ok(report), false) => write!(out, "{}", output::verify_text(report))?,
            // What was found is told also where the rest cannot be.
            (Err(_), true) => writeln!(out, "]}}")?,
            (Err(_), false) => {}
        }
        out.flush()
    });
    match written {
        // A reader that has gone has had enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => verified,
        Err(error) => Err(Error::local("write to", "stdout")(error)),
        Ok(()) => verified,
    }
}

fn exit(report: &VerifyReport) -> Exit {
    let any = |conditions: &[Condition]| conditions.iter().any(|c| report.count(*c) > 0);
    let damaged = report.damaged_copies.iter().any(|copies| *copies > 0);
    match () {
        () if damaged || any(&[Condition::Damaged, Condition::Lost]) => Exit::Corrupt,
        () if any(&[Condition::Degraded, Condition::Incomplete, Condition::Unknown]) => Exit::Nodes,
        () if any(&[Condition::Failed]) => Exit::Some,
        () => Exit::Ok,
    }
}
