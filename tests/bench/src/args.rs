//! What may be asked for.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::target::Programs;

/// Measure dfs beside other stores.
#[derive(Parser)]
#[command(name = "dfs-bench", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Do work on each system in turn and add the results to a file
    Run(Box<RunArgs>),
    /// Write a document and a picture of all results
    Render {
        /// Results
        #[arg(long, value_name = "FILE")]
        results: PathBuf,
        /// The document; the picture gets the same name and .svg
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the names of all work
    Names,
    /// Take so many bytes of memory, for a moment
    #[command(hide = true)]
    Touch { bytes: u64 },
}

#[derive(ClapArgs)]
pub(crate) struct RunArgs {
    /// Folder of dfsd and dfsctl
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// SeaweedFS
    #[arg(long, value_name = "FILE")]
    weed: Option<PathBuf>,
    /// Garage
    #[arg(long, value_name = "FILE")]
    garage: Option<PathBuf>,
    /// nginx
    #[arg(long, value_name = "FILE")]
    pub(crate) nginx: Option<PathBuf>,
    /// Where data and local files go
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    pub(crate) dir: PathBuf,
    /// Results are added to it
    #[arg(long, value_name = "FILE")]
    pub(crate) results: PathBuf,
    /// Work, by name or the start of a name [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) only: Vec<String>,
    /// Systems
    #[arg(long, value_delimiter = ',', default_value = "dfs,seaweedfs,garage")]
    pub(crate) systems: Vec<String>,
    /// Rounds of each work [default: 5, or 3 with --quick]
    #[arg(long)]
    rounds: Option<u32>,
    /// Small files at 16 and 64 at once and in a folder [default: 10000, or 1000 with --quick]
    #[arg(long)]
    files: Option<u64>,
    /// Fewer rounds and files
    #[arg(long)]
    quick: bool,
    /// Begin no work after so many seconds
    #[arg(long, default_value_t = 7200)]
    pub(crate) seconds: u64,
    /// The commit that was built, for the document
    #[arg(long, value_name = "COMMIT")]
    pub(crate) build: Option<String>,
    /// Let the other systems sync what they acknowledge; the work's names end in fsync
    #[arg(long)]
    pub(crate) peers_fsync: bool,
    /// Keep data and logs after a failure
    #[arg(long)]
    pub(crate) keep: bool,
}

impl RunArgs {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub(crate) fn files(&self) -> u64 {
        self.files.unwrap_or(if self.quick { 1000 } else { 10_000 })
    }

    pub(crate) fn programs(&self) -> Programs {
        Programs {
            bin: self.bin.clone(),
            weed: self.weed.clone(),
            garage: self.garage.clone(),
            peers_fsync: self.peers_fsync,
        }
    }
}
