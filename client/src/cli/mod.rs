//! The program dfsctl.
//!
//! Raw flags become `settings::Settings`; a command runs and yields an `exit::Exit`. Data
//! goes to stdout, talk to stderr.

mod args;

mod help;

mod man;

mod exit;

mod style;

mod talk;

mod heard;

mod settings;

mod config;

mod interrupt;

mod progress;

mod output;

mod many;

mod told;

mod near;

mod filter;

mod expire;

mod put;

mod get;

mod list;

mod du;

mod picture;

mod login;

mod recover;

mod remove;

mod repair;

mod status;

mod verify;

mod doctor;

mod shell;

use std::process::ExitCode;

use clap::FromArgMatches;
use tokio_util::sync::CancellationToken;

use crate::{Client, Error};
use args::{Args, Command, Output};
use exit::Exit;
use settings::{Said, Settings};
use style::Style;
use talk::complain;

/// What every command works with.
struct Context {
    client: Client,
    settings: Settings,
    cancel: CancellationToken,
    /// How text on standard output may look.
    style: Style,
}

/// Runs the program with its arguments; the result is its exit code.
pub fn run() -> ExitCode {
    let args = help::command().try_get_matches();
    let args = args.and_then(|matches| Args::from_arg_matches(&matches));
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no mistakes; a closed pipe is none either.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    if let Command::Completions { shell } = args.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut help::command(), "dfsctl", &mut script);
        return talk::say(&String::from_utf8_lossy(&script)).into();
    }
    if let Command::Man(args) = &args.command {
        return man::run(args).into();
    }
    if let Command::Recover(recover) = &args.command {
        let output = Said::read(&args.global).layers.output.value;
        return recover::run(recover, output == Output::Json).into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return Exit::Other.into();
        }
    };
    let exit = runtime.block_on(start(args));
    // A blocking read of a terminal or a pipe must not keep the program alive.
    runtime.shutdown_background();
    exit.into()
}

async fn start(args: Args) -> Exit {
    let cancel = interrupt::listen();
    let said = Said::read(&args.global);
    let (verbosity, colour) = said.manner();
    talk::set_manner(verbosity, Style::of_stderr(colour));
    if let Command::Config(config) = &args.command {
        return config::run(&args.global, said, &config.command);
    }
    if matches!(args.command, Command::Doctor) {
        return tokio::select! {
            exit = doctor::run(&args.global, said) => exit,
            () = cancel.cancelled() => exit::report(&Error::Interrupted),
        };
    }
    let settings = match Settings::new(&args.global, said) {
        Ok(settings) => settings,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| complain(mistake));
            return Exit::Usage;
        }
    };
    if matches!(args.command, Command::Login | Command::Logout) {
        return tokio::select! {
            exit = login::run(&settings, &args.command) => exit,
            () = cancel.cancelled() => exit::report(&Error::Interrupted),
        };
    }
    let client = tokio::select! {
        client = settings.connect() => client,
        () = cancel.cancelled() => Err(Error::Interrupted),
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            let exit = exit::report(&error);
            if let (Error::Credentials, Some(place)) = (&error, settings.password_place()) {
                let user = &settings.user;
                talk::tip(&format!(
                    "the password for {user} is that of {place}; --password-file FILE or \
                     DFS_PASSWORD gives another"
                ));
            }
            return exit;
        }
    };
    let style = Style::of_stdout(settings.colour);
    let context = Context { client, settings, cancel, style };
    let exit = match args.command {
        Command::Shell => shell::run(&context).await,
        command => execute(&context, command).await,
    };
    context.client.close().await;
    exit
}

async fn execute(context: &Context, command: Command) -> Exit {
    match command {
        Command::Put(args) => put::run(context, args).await,
        Command::Get(args) => get::run(context, args).await,
        Command::List(args) => list::list(context, args).await,
        Command::Du(args) => du::run(context, args).await,
        Command::Stat { remote } => list::stat(context, remote).await,
        Command::Rm(args) => remove::run(context, args).await,
        Command::Verify { prefix } => verify::run(context, prefix).await,
        Command::Repair(args) => repair::run(context, args).await,
        Command::Status => status::run(context).await,
        Command::Shell
        | Command::Config(_)
        | Command::Doctor
        | Command::Man(_)
        | Command::Recover(_)
        | Command::Completions { .. }
        | Command::Login
        | Command::Logout => {
            complain("this command does not work inside the shell");
            Exit::Usage
        }
    }
}
