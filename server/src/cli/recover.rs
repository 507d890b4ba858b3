//! `dfsd recover`: files out of data directories, with no node running.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, say, tell};
use crate::recover::{RecoverError, recover as run};

#[derive(Args)]
pub(super) struct RecoverArgs {
    /// Data directories of nodes that do not run, as many as there are; then a new directory:
    /// files go to OUT/USER/PATH.
    #[arg(long, required = true, num_args = 2.., value_names = ["DIR", "OUT"])]
    from: Vec<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn recover(args: &RecoverArgs) -> Result<(), CliError> {
    let Some((out, from)) = args.from.split_last() else {
        return Err(CliError::Usage("name data directories and a new directory".to_owned()));
    };
    let recovered = run(from, out, &mut |line| tell(format_args!("dfsd: {line}"))).map_err(
        |error| match error {
            RecoverError::Io { path, source } => CliError::Io { path, source },
            error => CliError::Usage(error.to_string()),
        },
    )?;
    if args.json {
        let dirs = recovered.without_index.iter();
        let without_index: Vec<_> = dirs.map(|dir| dir.to_string_lossy()).collect();
        let result = serde_json::json!({
            "out": out.to_string_lossy(),
            "files": recovered.files,
            "guessed": recovered.guessed,
            "incomplete": recovered.incomplete,
            "unreadable": recovered.unreadable,
            "without_index": without_index,
            "warning": recovered.warning(),
        });
        say(format_args!("{result}"));
    } else {
        say(format_args!("recovered {} files to {}", recovered.files, out.display()));
        if let Some(warning) = recovered.warning() {
            say(format_args!("{warning}"));
        }
    }
    if recovered.incomplete > 0 {
        return Err(CliError::Failed(format!(
            "{} files are incomplete; name the data directories of more nodes with --from",
            recovered.incomplete
        )));
    }
    Ok(())
}
