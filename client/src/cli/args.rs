//! What a user may type.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::expire::Expire;
use super::settings::Rate;
use super::style::Colour;
use crate::ByteRange;

/// Store, read, list and remove files on a dfs cluster.
#[derive(Parser)]
#[command(name = "dfsctl", version, max_term_width = 100)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of all commands. What is not given here is looked for in the environment and in files.
#[derive(ClapArgs, Clone, Default)]
pub(super) struct Global {
    /// The configuration, and the only one [env: DFS_CONFIG] [default: ./dfs.yaml, and
    /// $XDG_CONFIG_HOME/dfs/dfs.yaml for what that does not say]
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    pub(super) config: Option<PathBuf>,
    /// The cluster, by its name in the configuration [env: DFS_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", help_heading = CONNECTION)]
    pub(super) context: Option<String>,
    /// User [env: DFS_USER] [default: the configuration's]
    #[arg(long, global = true, value_name = "NAME", help_heading = CONNECTION)]
    pub(super) user: Option<String>,
    /// File whose first line is the password [default: DFS_PASSWORD, DFS_PASSWORD_FILE, the
    /// configuration's, a login, a prompt]
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    pub(super) password_file: Option<PathBuf>,
    /// Name of the cluster that every node must belong to [env: DFS_CLUSTER]
    #[arg(long, global = true, value_name = "NAME", help_heading = CONNECTION)]
    #[arg(hide_short_help = true)]
    pub(super) cluster: Option<String>,
    /// Addresses of nodes 1 to 4, in order, with commas [env: DFS_NODES]
    #[arg(long, global = true, value_name = "HOST:PORT,…", help_heading = CONNECTION)]
    #[arg(hide_short_help = true)]
    pub(super) nodes: Option<String>,
    /// Certificate of the authority that signed the nodes'; turns TLS on [env: DFS_TLS_CA]
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    #[arg(hide_short_help = true)]
    pub(super) tls_ca: Option<PathBuf>,
    /// Certificate to show to the nodes [env: DFS_TLS_CERT]
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    #[arg(hide_short_help = true)]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its key [env: DFS_TLS_KEY]
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    #[arg(hide_short_help = true)]
    pub(super) tls_key: Option<PathBuf>,
    /// Name in the nodes' certificates, if it is not the host's [env: DFS_TLS_SERVER_NAME]
    #[arg(long, global = true, value_name = "NAME", help_heading = CONNECTION)]
    #[arg(hide_short_help = true)]
    pub(super) tls_server_name: Option<String>,
    /// Neither use nor keep tokens of earlier calls: log in to each node [env: DFS_NO_TOKEN_CACHE]
    #[arg(long, global = true, help_heading = CONNECTION, hide_short_help = true)]
    pub(super) no_token_cache: bool,
    /// Files at once, 1 to 256 [env: DFS_JOBS] [default: 64 small ones, 2 large ones]
    #[arg(long, global = true, value_name = "N", help_heading = TRANSFER, hide_short_help = true)]
    #[arg(value_parser = super::settings::jobs)]
    pub(super) jobs: Option<usize>,
    /// Most bytes in a second, all files together, such as 10M [env: DFS_BWLIMIT] [default: no
    /// limit]
    #[arg(long, global = true, value_name = "RATE", help_heading = TRANSFER)]
    #[arg(hide_short_help = true, value_parser = super::settings::rate)]
    pub(super) bwlimit: Option<Rate>,
    /// How to print results [env: DFS_OUTPUT] [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = TALK)]
    pub(super) output: Option<Output>,
    /// When to use colours [env: DFS_COLOR] [default: auto, and never where NO_COLOR is set]
    #[arg(long, global = true, value_enum, value_name = "WHEN", help_heading = TALK)]
    pub(super) color: Option<Colour>,
    /// Say nothing but errors, and show no progress [env: DFS_VERBOSITY=quiet]
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = TALK)]
    pub(super) quiet: bool,
    /// Say what is done [env: DFS_VERBOSITY=verbose]
    #[arg(short, long, global = true, help_heading = TALK)]
    pub(super) verbose: bool,
}

const CONNECTION: &str = "Cluster and user";

const TRANSFER: &str = "Transfers";

const TALK: &str = "What is printed";

/// How results are printed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Output {
    /// The word for it in flags, files and the environment.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The commands.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Store files
    Put(PutArgs),
    /// Read files
    Get(GetArgs),
    /// List files
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Tell how much lies under folders
    Du(DuArgs),
    /// Tell which node holds what of a file, and what may fail without losing it
    Stat {
        /// Remote path
        remote: OsString,
    },
    /// Remove files
    Rm(RmArgs),
    /// Read every copy of files and check it
    ///
    /// Reads every file through nodes 1+3 and through nodes 2+4 and checks all checksums and the
    /// MD5. Prints what is not in order, then a summary. Exit codes: 0 all is well, 6 damaged or
    /// lost, 5 something is not there or its node cannot be reached, 8 a node could not read.
    Verify {
        /// Only paths that start with this text
        prefix: Option<OsString>,
    },
    /// Bring files back to full redundancy
    Repair(RepairArgs),
    /// Get files out of the data directories of nodes that do not run
    Recover(RecoverArgs),
    /// Tell how the four nodes are
    Status,
    /// Check the configuration, the way to each node, and the nodes; say what to mend
    ///
    /// Prints a line for each check: ok, warn or fail, and below it what to do. Changes nothing.
    /// Exit codes: 0 nothing fails (there may be warnings), 2 the configuration, 4 user or password,
    /// 5 a node.
    Doctor,
    /// Log in once; calls without a password use it for up to twelve hours
    ///
    /// It ends earlier when it is not used for two hours, with `dfsctl logout`, when the password
    /// changes, and on each node when that is started anew.
    Login,
    /// End the login, and all tokens that are kept of earlier calls of this user
    Logout,
    /// Tell which settings hold and where each comes from, and choose among clusters
    Config(ConfigArgs),
    /// Type commands at a prompt
    Shell,
    /// Print a manual page, or write all
    Man(ManArgs),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// put
#[derive(ClapArgs)]
pub(super) struct PutArgs {
    /// Store what is in a folder: DIR/x becomes REMOTE/x
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// Of a folder, only files that match; may be given several times
    #[arg(long, value_name = "GLOB", requires = "recursive")]
    pub(super) include: Vec<String>,
    /// Of a folder, no files that match, whatever is included; may be given several times
    #[arg(long, value_name = "GLOB", requires = "recursive")]
    pub(super) exclude: Vec<String>,
    /// Leave remote files alone that are there already. That is looked up just before; it is no
    /// lock: a file that somebody else puts at the same time may be replaced
    #[arg(long)]
    pub(super) no_clobber: bool,
    /// Store nothing; print what would be
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Go on with a put of the same file that was cut off, and leave what has been sent if this
    /// one is
    #[arg(long)]
    pub(super) resume: bool,
    /// Remove the files after so long, as 12h, 7d or 2w, or at a time, as 2026-12-31T00:00:00Z
    ///
    /// The nodes do that when they look after their files (heal_every in their configuration,
    /// usually 10 minutes). Until then the files are there.
    #[arg(long, value_name = "WHEN", value_parser = Expire::parse, allow_hyphen_values = true)]
    pub(super) expire: Option<Expire>,
    /// Print one JSON line about the traffic of each file on stderr
    #[arg(long)]
    pub(super) stats: bool,
    /// Local files, then the remote path; a single one is stored under its base name. `-` is
    /// stdin. A remote path ending in `/` takes base names
    #[arg(required = true, value_name = "LOCAL [LOCAL…] [REMOTE]")]
    pub(super) paths: Vec<OsString>,
}

/// get
#[derive(ClapArgs)]
pub(super) struct GetArgs {
    /// Read all files under a remote folder: REMOTE/x becomes LOCAL/x
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// Of a folder, only files that match; may be given several times
    #[arg(long, value_name = "GLOB", requires = "recursive")]
    pub(super) include: Vec<String>,
    /// Of a folder, no files that match, whatever is included; may be given several times
    #[arg(long, value_name = "GLOB", requires = "recursive")]
    pub(super) exclude: Vec<String>,
    /// Leave local files alone that are there already
    #[arg(long)]
    pub(super) no_clobber: bool,
    /// Write nothing; print what would be
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Take the data from these two nodes only
    #[arg(long, value_enum)]
    pub(super) pair: Option<PairArg>,
    /// Fail if three nodes cannot be shown to have the newest version
    #[arg(long)]
    pub(super) strict: bool,
    /// Check the MD5 of the whole file as well
    #[arg(long)]
    pub(super) verify: bool,
    /// Read only these bytes: FIRST-LAST, FIRST- or -COUNT; the first one is 0
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, requires = "local",
          conflicts_with_all = ["recursive", "verify"])]
    pub(super) range: Option<ByteRange>,
    /// Print one JSON line about the traffic of each file on stderr
    #[arg(long)]
    pub(super) stats: bool,
    /// Remote path; `/` is everything, with -r
    pub(super) remote: OsString,
    /// Local file or folder; `-` is stdout [default: the base name, here]
    pub(super) local: Option<PathBuf>,
}

/// A pair of opposite nodes.
#[derive(ValueEnum, Clone, Copy)]
pub(super) enum PairArg {
    /// Nodes 1 and 3.
    #[value(name = "1,3", alias = "3,1")]
    Odd,
    /// Nodes 2 and 4.
    #[value(name = "2,4", alias = "4,2")]
    Even,
}

/// list
#[derive(ClapArgs)]
pub(super) struct ListArgs {
    /// Print size, time and state as well
    ///
    /// The column before the path draws the nodes: 1234 where each holds its chunks, ! where one
    /// lacks some, ? where one did not answer.
    #[arg(short, long)]
    pub(super) long: bool,
    /// Print what lies directly under the prefix, a folder as one line with `/` at its end
    #[arg(short = 'd', long)]
    pub(super) folders: bool,
    /// Print sizes for people, as 1.5 MiB; with --long
    #[arg(short = 'H', long)]
    pub(super) human: bool,
    /// End each line with a NUL byte, for xargs -0
    #[arg(short = '0', long)]
    pub(super) null: bool,
    /// Only paths that start with this text
    pub(super) prefix: Option<OsString>,
}

/// du
#[derive(ClapArgs)]
pub(super) struct DuArgs {
    /// Levels of folders below the prefix that are summed up on their own
    #[arg(short = 'D', long, value_name = "LEVELS", default_value_t = 1)]
    pub(super) depth: usize,
    /// Print sizes for people, as 1.5 MiB
    #[arg(short = 'H', long)]
    pub(super) human: bool,
    /// Only paths that start with this text
    pub(super) prefix: Option<OsString>,
}

/// repair
#[derive(ClapArgs)]
pub(super) struct RepairArgs {
    /// Change nothing, tell what a quick repair would do; exit code 0 if it would make all whole
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Look only into files that look wrong; without it, every chunk is re-read from disk
    #[arg(long)]
    pub(super) quick: bool,
    /// The files of all users; for administrators
    #[arg(long, conflicts_with = "prefix")]
    pub(super) all_users: bool,
    /// Only paths that start with this text
    pub(super) prefix: Option<OsString>,
}

/// recover
#[derive(ClapArgs)]
pub(super) struct RecoverArgs {
    /// Data directories of nodes, as many as there are; then a new directory: files go to
    /// OUT/USER/PATH
    #[arg(long, required = true, num_args = 2.., value_names = ["DIR", "OUT"])]
    pub(super) from: Vec<PathBuf>,
}

/// rm
#[derive(ClapArgs)]
pub(super) struct RmArgs {
    /// Remove all files under remote folders
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// Remove nothing; print what would be
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Remote paths
    #[arg(required = true)]
    pub(super) remotes: Vec<OsString>,
}

/// config
#[derive(ClapArgs)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

/// The commands of config.
#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print each setting with where its value comes from; passwords are never printed
    Show,
    /// Print the files that are read, the first that counts first
    Path,
    /// Check the configuration and say everything that is wrong with it
    Check,
    /// List the contexts: the clusters that the configuration has names for
    Contexts,
    /// Write into the configuration which context counts
    Use {
        /// Name of a context
        name: String,
    },
}

/// man
#[derive(ClapArgs)]
pub(super) struct ManArgs {
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Of this command [default: of dfsctl itself]
    pub(super) command: Option<String>,
}
