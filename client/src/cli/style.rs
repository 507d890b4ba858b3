//! How text for people looks on a stream: colours where somebody sees them. JSON, files and pipes
//! get none of it. What to print is the business of the commands.

use std::fmt;
use std::io::IsTerminal;

use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Effects, Style as Ansi};

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// On a terminal.
    Auto,
    /// Also in files and pipes.
    Always,
    /// Nowhere.
    Never,
}

impl Colour {
    /// The word for it in flags, files and the environment.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// What the variables say that all programs share, and which of them: `NO_COLOR`
    /// (<https://no-color.org>), then `CLICOLOR_FORCE` and `CLICOLOR`, then a `TERM` that has no
    /// colours.
    pub(super) fn of_environment(
        read: impl Fn(&str) -> Option<String>,
    ) -> Option<(Self, &'static str)> {
        let set = |name| read(name).filter(|value| !value.is_empty());
        match () {
            () if set("NO_COLOR").is_some() => Some((Self::Never, "NO_COLOR")),
            () if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => {
                Some((Self::Always, "CLICOLOR_FORCE"))
            }
            () if set("CLICOLOR").is_some_and(|value| value == "0") => {
                Some((Self::Never, "CLICOLOR"))
            }
            () if set("TERM").is_some_and(|value| value == "dumb") => Some((Self::Never, "TERM")),
            () => None,
        }
    }
}

/// What a piece of text is, which decides how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// All is well.
    Good,
    /// Somebody should look.
    Warning,
    /// It is lost, down or refused.
    Bad,
    /// A title.
    Heading,
    /// Of less interest than what stands around it.
    Faint,
}

impl Role {
    const fn ansi(self) -> Ansi {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().effects(Effects::BOLD),
            Self::Heading => Ansi::new().effects(Effects::BOLD),
            Self::Faint => Ansi::new().effects(Effects::DIMMED),
        }
    }
}

/// How text on one stream may look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    coloured: bool,
}

impl Style {
    /// Standard output.
    pub(super) fn of_stdout(colour: Colour) -> Self {
        Self::new(colour, std::io::stdout().is_terminal())
    }

    /// Standard error.
    pub(super) fn of_stderr(colour: Colour) -> Self {
        Self::new(colour, std::io::stderr().is_terminal())
    }

    const fn new(colour: Colour, terminal: bool) -> Self {
        let coloured = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal,
        };
        Self { coloured }
    }

    /// The text as it should look. Widths in a format apply to what is seen of it:
    /// `{:<9}` pads a painted text as it would the plain one.
    pub(super) const fn paint<'a>(&self, role: Role, text: &'a str) -> Painted<'a> {
        Painted { text, ansi: if self.coloured { Some(role.ansi()) } else { None } }
    }
}

/// A text with its looks.
pub(super) struct Painted<'a> {
    text: &'a str,
    ansi: Option<Ansi>,
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ansi {
            None => fmt::Display::fmt(self.text, f),
            Some(ansi) => {
                write!(f, "{ansi}")?;
                fmt::Display::fmt(self.text, f)?;
                write!(f, "{ansi:#}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Option<(Colour, &'static str)> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Colour::of_environment(|name| {
            pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn the_variables_that_all_programs_share_are_heard() {
        assert_eq!(environment(&[]), None);
        assert_eq!(environment(&[("NO_COLOR", "")]), None, "empty is not set");
        assert_eq!(environment(&[("NO_COLOR", "0")]), Some((Colour::Never, "NO_COLOR")));
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        assert_eq!(environment(&both), Some((Colour::Never, "NO_COLOR")));
        assert_eq!(
            environment(&[("CLICOLOR_FORCE", "1")]),
            Some((Colour::Always, "CLICOLOR_FORCE"))
        );
        assert_eq!(environment(&[("CLICOLOR_FORCE", "0"), ("CLICOLOR", "1")]), None);
        assert_eq!(environment(&[("CLICOLOR", "0")]), Some((Colour::Never, "CLICOLOR")));
        assert_eq!(environment(&[("TERM", "dumb")]), Some((Colour::Never, "TERM")));
    }

    #[test]
    fn there_are_colours_where_somebody_sees_them() {
        let painted = |colour, terminal| {
            let style = Style::new(colour, terminal);
            style.paint(Role::Good, "up").to_string().contains('\u{1b}')
        };
        assert!(painted(Colour::Auto, true) && !painted(Colour::Auto, false));
        assert!(painted(Colour::Always, false) && !painted(Colour::Never, true));
    }

    #[test]
    fn padding_counts_what_is_seen() {
        let style = Style::new(Colour::Always, false);
        let padded = format!("{:<4}|", style.paint(Role::Bad, "up"));
        assert_eq!(padded, "\u{1b}[1m\u{1b}[31mup  \u{1b}[0m|");
        assert_eq!(format!("{:<4}|", Style::default().paint(Role::Bad, "up")), "up  |");
    }
}
