//! shell: the prompt of the original: put, get, list, help, quit; with history.

use std::io::{BufRead, IsTerminal};

use clap::{Parser, Subcommand};
use rustyline::error::ReadlineError;

use super::args::Command;
use super::exit::Exit;
use super::talk::{complain, tell};
use super::{Context, execute, heard};

const PROMPT: &str = "dfs> ";

/// One line typed at the prompt.
#[derive(Parser)]
#[command(multicall = true, disable_help_flag = true, about = "Commands at the prompt")]
struct Line {
    #[command(subcommand)]
    typed: Typed,
}

#[derive(Subcommand)]
enum Typed {
    #[command(flatten)]
    Command(Command),
    /// Leave
    #[command(alias = "exit")]
    Quit,
}

/// Where lines come from.
enum Input {
    Terminal(Box<rustyline::DefaultEditor>),
    Pipe,
}

impl Input {
    fn open() -> Self {
        if !std::io::stdin().is_terminal() {
            return Self::Pipe;
        }
        match rustyline::DefaultEditor::new() {
            Ok(editor) => Self::Terminal(Box::new(editor)),
            Err(_) => Self::Pipe,
        }
    }

    /// The next line; `None` at the end. Blocks.
    fn next(&mut self) -> Option<String> {
        match self {
            Self::Pipe => {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                matches!(read, Ok(1..)).then_some(line)
            }
            Self::Terminal(editor) => loop {
                match editor.readline(PROMPT) {
                    Ok(line) => {
                        // History is a comfort: a line that cannot be kept is still run.
                        let _ = editor.add_history_entry(&*line);
                        return Some(line);
                    }
                    Err(ReadlineError::Interrupted) => tell("type quit to leave"),
                    Err(_) => return None,
                }
            },
        }
    }
}

/// Runs commands until quit or the end. In a pipe the code is that of the last that failed.
pub(super) async fn run(context: &Context) -> Exit {
    let mut input = Input::open();
    let interactive = matches!(input, Input::Terminal(_));
    let mut exit = Exit::Ok;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let line = input.next();
            (input, line)
        });
        let line = tokio::select! {
            line = read => line,
            () = context.cancel.cancelled() => return Exit::Interrupted,
        };
        let Ok((next, Some(line))) = line else { break };
        input = next;
        let words = match split(&line) {
            Ok(words) => words,
            Err(mistake) => {
                complain(mistake);
                continue;
            }
        };
        if words.is_empty() {
            continue;
        }
        let done = match Line::try_parse_from(words).map(|line| line.typed) {
            Ok(Typed::Quit) => break,
            Ok(Typed::Command(command)) => {
                heard::begin();
                execute(context, command).await
            }
            Err(error) => {
                let _ = error.print();
                if error.use_stderr() { Exit::Usage } else { Exit::Ok }
            }
        };
        if done != Exit::Ok {
            exit = done;
        }
        if context.cancel.is_cancelled() {
            return Exit::Interrupted;
        }
    }
    if interactive { Exit::Ok } else { exit }
}

/// Splits a line into words; quotes hold words together, a backslash takes the next character.
fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                let next = characters.next().ok_or("a backslash ends the line")?;
                word.get_or_insert_default().push(next);
            }
            (_, Some(open)) if character == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(character),
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, None) if character.is_whitespace() => words.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = |line| split(line).unwrap();
        assert_eq!(split("  put  a b \n"), ["put", "a", "b"]);
        assert_eq!(split("get 'my file' \"it's\""), ["get", "my file", "it's"]);
        assert_eq!(split(r#"get my\ file "a\"b" ''"#), ["get", "my file", "a\"b", ""]);
        assert!(split("").is_empty());
        assert!(super::split("get 'a").is_err() && super::split("get a\\").is_err());
    }
}
