//! `dfsd user`: changes the users file. Running nodes read it again within seconds.

use std::io::{BufRead, IsTerminal, stdin};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dfs_proto::name::UserName;

use super::{CliError, say};
use crate::password::MAX_PASSWORD_BYTES;
use crate::users::{Role, Users};

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Add a user.
    Add(AddArgs),
    /// Change a user's password. His logins end.
    Passwd(PasswordArgs),
    /// Change what a user may do. His logins end.
    Role(RoleArgs),
    /// Remove a user. His files stay, his logins end.
    Remove(NameArgs),
    /// List all users.
    List(ListArgs),
}

#[derive(Args)]
pub(super) struct UsersArgs {
    /// The users file; `add` makes it if it is not there.
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
}

#[derive(Args)]
pub(super) struct NameArgs {
    /// The user: 1..32 of a-z, 0-9, '.', '_' and '-', the first a letter or digit.
    name: String,
    #[command(flatten)]
    file: UsersArgs,
}

#[derive(Args)]
pub(super) struct PasswordArgs {
    #[command(flatten)]
    user: NameArgs,
    /// Read the password from stdin: one line, without its newline.
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: UsersArgs,
    /// Print each user's role after a space.
    #[arg(long)]
    roles: bool,
}

#[derive(Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    password: PasswordArgs,
    /// `user`: his own files; `admin`: also repair the files of all users.
    #[arg(long, default_value_t = Role::User)]
    role: Role,
}

#[derive(Args)]
pub(super) struct RoleArgs {
    #[command(flatten)]
    user: NameArgs,
    /// `user` or `admin`.
    role: Role,
}

pub(super) fn run(command: UserCommand) -> Result<(), CliError> {
    match command {
        UserCommand::Add(AddArgs { password: args, role }) => {
            let name = name(&args.user)?;
            let mut users = Users::load_or_empty(&args.user.file.users)?;
            users.add(name, &password(&args)?, role)?;
            users.save()?;
        }
        UserCommand::Role(args) => {
            let mut users = Users::load(&args.user.file.users)?;
            users.set_role(&name(&args.user)?, args.role)?;
            users.save()?;
        }
        UserCommand::Passwd(args) => {
            let name = name(&args.user)?;
            let mut users = Users::load(&args.user.file.users)?;
            users.set_password(&name, &password(&args)?)?;
            users.save()?;
        }
        UserCommand::Remove(args) => {
            let mut users = Users::load(&args.file.users)?;
            users.remove(&name(&args)?)?;
            users.save()?;
        }
        UserCommand::List(args) => {
            for (name, role) in Users::load(&args.file.users)?.names() {
                if args.roles {
                    say(format_args!("{name} {role}"));
                } else {
                    say(name);
                }
            }
        }
    }
    Ok(())
}

fn name(args: &NameArgs) -> Result<UserName, CliError> {
    UserName::new(&*args.name).map_err(|error| CliError::Usage(format!("'{}': {error}", args.name)))
}

fn password(args: &PasswordArgs) -> Result<String, CliError> {
    if args.password_stdin {
        return read_line(&mut stdin().lock());
    }
    if !stdin().is_terminal() {
        let text = "there is no terminal to ask for the password; use --password-stdin";
        return Err(CliError::Usage(text.to_owned()));
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map_err(|error| CliError::Failed(format!("the password cannot be read: {error}")))
    };
    let first = ask("Password: ")?;
    if ask("Again: ")? == first {
        Ok(first)
    } else {
        Err(CliError::Usage("the two passwords differ".to_owned()))
    }
}

/// One line, without its newline, and not longer than a password may be.
fn read_line(input: &mut impl BufRead) -> Result<String, CliError> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_PASSWORD_BYTES + 2).unwrap_or(u64::MAX);
    std::io::Read::take(input, limit)
        .read_until(b'\n', &mut line)
        .map_err(|error| CliError::Failed(format!("stdin cannot be read: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| CliError::Usage("the password is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        let read = |mut bytes: &[u8]| read_line(&mut bytes);
        assert_eq!(read(b"secret\nmore").unwrap(), "secret");
        assert_eq!(read(b" with spaces ").unwrap(), " with spaces ");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(&[0xff]).is_err());
        assert!(read(&[b'x'; 5000]).unwrap().len() > MAX_PASSWORD_BYTES);
    }
}
