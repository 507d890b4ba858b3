//! What became of each file of a put, get or rm, told when it is known: a line for people, an
//! object of one array for programs.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::Context;
use super::args::Output;
use super::exit::Exit;
use super::progress::Bar;
use super::talk::{detail, notice, say};
use crate::Error;

/// What became of a file, if nothing failed.
pub(super) enum Outcome<R> {
    /// It was moved or removed.
    Done(R),
    /// It is there already, and was to be left alone.
    Skipped,
    /// It would have been, without --dry-run. With its length in bytes, where that is known.
    Planned(Option<u64>),
}

/// Tells what became of files.
pub(super) struct Told {
    /// What comes before the next object; `None`: lines for people. Held while one is written.
    array: Option<Mutex<&'static str>>,
    bar: Bar,
    /// What is done, for people: `stored`, and what would be: `store`.
    words: [&'static str; 2],
}

impl Told {
    /// For a command whose result goes to standard output, unless `silent`: there is data then.
    pub(super) fn new(context: &Context, bar: Bar, words: [&'static str; 2], silent: bool) -> Self {
        let json = context.settings.output == Output::Json && !silent;
        Self { array: json.then(|| Mutex::new("[\n  ")), bar, words }
    }

    /// Tells about one file. `what` names it, `more` are the members of its object that only a
    /// file that was moved has.
    pub(super) fn file<R>(
        &self,
        what: &str,
        members: Value,
        done: &Result<Outcome<R>, Error>,
        more: impl FnOnce(Option<&R>) -> Value,
    ) {
        let [done_word, plain] = self.words;
        let (word, size) = match done {
            Ok(Outcome::Done(_)) => (done_word, None),
            Ok(Outcome::Skipped) => ("skipped", None),
            Ok(Outcome::Planned(size)) => ("planned", *size),
            Err(_) => ("failed", None),
        };
        let Some(array) = &self.array else {
            self.bar.aside(|| match done {
                Ok(Outcome::Done(_)) => detail(&format!("{done_word} {what}")),
                Ok(Outcome::Skipped) => notice(&format!("{what} skipped: it is there already")),
                Ok(Outcome::Planned(size)) => {
                    let size = size.map_or(String::new(), |size| format!(", {size} bytes"));
                    say(&format!("would {plain} {what}{size}\n"));
                }
                Err(_) => {}
            });
            return;
        };
        let report = match done {
            Ok(Outcome::Done(report)) => Some(report),
            _ => None,
        };
        let exit = done.as_ref().map_or_else(Exit::from, |_| Exit::Ok);
        let error = done.as_ref().err().map(ToString::to_string);
        let verdict = json!({ "outcome": word, "exit": exit as u8, "error": error });
        let mut object = merged(merged(members, more(report)), verdict);
        if let (Some(size), Some(Value::Null)) = (size, object.get("size")) {
            object["size"] = size.into();
        }
        self.put(array, &object);
    }

    /// Tells about a file that was found and cannot be moved.
    pub(super) fn unfit(&self, members: Value, why: &str, exit: Exit) {
        if let Some(array) = &self.array {
            let verdict = json!({ "outcome": "failed", "exit": exit as u8, "error": why });
            self.put(array, &merged(members, verdict));
        }
    }

    fn put(&self, array: &Mutex<&'static str>, object: &Value) {
        let mut lead = array.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that has gone has had enough; what is done goes on.
        let _ = self.bar.aside(|| write!(std::io::stdout(), "{lead}{object}"));
        *lead = ",\n  ";
    }

    /// Ends what was told; `exit` is that of the command.
    pub(super) fn end(self, exit: Exit) -> Exit {
        self.bar.finish();
        let Some(array) = self.array else {
            return exit;
        };
        let none = *array.lock().unwrap_or_else(PoisonError::into_inner) == "[\n  ";
        match say(if none { "[]\n" } else { "\n]\n" }) {
            Exit::Ok => exit,
            failed if exit == Exit::Ok => failed,
            _ => exit,
        }
    }
}

/// One object with the members of both.
pub(super) fn merged(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}
