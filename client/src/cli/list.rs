//! list and stat

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use super::Context;
use super::args::{ListArgs, Output};
use super::exit::{Exit, report};
use super::many::remote_path;
use super::output;
use crate::{Error, Health, Prefix};

pub(super) async fn list(context: &Context, args: ListArgs) -> Exit {
    match try_list(context, args).await {
        Ok(exit) => exit,
        Err(error) => report(&error),
    }
}

async fn try_list(context: &Context, args: ListArgs) -> Result<Exit, Error> {
    let prefix = prefix(args.prefix.unwrap_or_default())?;
    let json = context.settings.output == Output::Json;
    let mut lister = context.client.list(prefix, args.long || json);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let failed = || Error::local("write to", "stdout");
    let mut first = true;
    loop {
        let file = tokio::select! {
            file = lister.next() => file,
            () = context.cancel.cancelled() => Err(Error::Interrupted),
        };
        let Some(file) = file? else { break };
        if json {
            let lead = if first { "[" } else { "," };
            write!(out, "{lead}\n  {}", output::file_json(&file)).map_err(failed())?;
        } else {
            writeln!(out, "{}", output::list_line(&file, args.long)).map_err(failed())?;
        }
        first = false;
    }
    if json {
        writeln!(out, "{}", if first { "[]" } else { "\n]" }).map_err(failed())?;
    }
    out.flush().map_err(failed())?;
    Ok(if lister.taking_part() < 2 { Exit::Nodes } else { Exit::Ok })
}

fn prefix(text: OsString) -> Result<Prefix, Error> {
    let name = |source| Error::Name { path: text.to_string_lossy().into_owned(), source };
    let utf8 = std::str::from_utf8(text.as_bytes())
        .map_err(|_| name(dfs_proto::name::NameError::NotUtf8))?;
    Prefix::new(utf8).map_err(name)
}

pub(super) async fn stat(context: &Context, remote: OsString) -> Exit {
    let state = async {
        let path = remote_path(&remote)?;
        tokio::select! {
            state = context.client.stat(&path) => state,
            () = context.cancel.cancelled() => Err(Error::Interrupted),
        }
    };
    match state.await {
        Err(error) => report(&error),
        Ok(state) => {
            match context.settings.output {
                Output::Json => println!("{}", output::file_json(&state.file)),
                Output::Text => print!("{}", output::stat_text(&state.file)),
            }
            if state.file.health == Health::Unknown { Exit::Nodes } else { Exit::Ok }
        }
    }
}
