//! What a line of a chat means: a message, or a command. Pure.

use std::{fmt::Write as _, path::PathBuf};

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing is written.
    Nothing,
    /// A message.
    Message(String),
    /// Something to do.
    Command(Command),
}

/// What there is to do beside talking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Reset,
    Fork(String),
    /// `None`: only to see what there is.
    Switch(Option<String>),
    Stats,
    Save(PathBuf),
    Load(PathBuf),
    Quit,
}

/// A command as it is written, what it is given, and what it does.
type Line = (&'static str, &'static str, &'static str);

const COMMANDS: [Line; 8] = [
    ("/help", "", "what there is"),
    ("/reset", "", "forget what was said, but for what the system says"),
    ("/fork", "NAME", "go on under another name; what was said so far is said in both"),
    ("/switch", "[NAME]", "go on where that one stands, or see which there are"),
    ("/stats", "", "tokens in the window, and what the last answer took"),
    ("/save", "FILE", "write what was said, for /load and --messages"),
    ("/load", "FILE", "go on from what was written"),
    ("/quit", "", "end, as Ctrl-D does"),
];

/// Why a line that begins as a command is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("there is no command `{found}`")]
    Unknown { found: String },
    #[error("`{command}` says nothing behind it, expected a {expected}")]
    Missing { command: String, expected: &'static str },
    #[error("`{command}` has `{found}` behind it, expected nothing")]
    Needless { command: String, found: String },
}

impl CommandError {
    /// What to do about it, one sentence.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                let names: Vec<&str> = names().collect();
                format!("there are {}; a message that begins with `/` is written with `//`", names.join(", "))
            }
            Self::Missing { command, expected } => format!("write `{command} {}`", expected.to_uppercase()),
            Self::Needless { command, .. } => format!("write `{command}` alone"),
        }
    }
}

/// What a line means. A message that begins with a slash begins with two here.
pub(super) fn parse(line: &str) -> Result<Entry, CommandError> {
    if line.trim().is_empty() {
        return Ok(Entry::Nothing);
    }
    match line.strip_prefix('/') {
        None => Ok(Entry::Message(line.to_owned())),
        Some(message) if message.starts_with('/') => Ok(Entry::Message(message.to_owned())),
        Some(_) => command(line).map(Entry::Command),
    }
}

fn command(line: &str) -> Result<Command, CommandError> {
    let (command, behind) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let behind = behind.trim();
    let needs = |expected| match behind {
        "" => Err(CommandError::Missing { command: command.to_owned(), expected }),
        behind => Ok(behind.to_owned()),
    };
    let alone = |done| match behind {
        "" => Ok(done),
        behind => Err(CommandError::Needless { command: command.to_owned(), found: behind.to_owned() }),
    };
    match command {
        "/help" => alone(Command::Help),
        "/reset" => alone(Command::Reset),
        "/fork" => needs("name").map(Command::Fork),
        "/switch" => Ok(Command::Switch(needs("name").ok())),
        "/stats" => alone(Command::Stats),
        "/save" => needs("file").map(|file| Command::Save(file.into())),
        "/load" => needs("file").map(|file| Command::Load(file.into())),
        "/quit" => alone(Command::Quit),
        found => Err(CommandError::Unknown { found: found.to_owned() }),
    }
}

/// All commands as they are written.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name)
}

/// What there is.
pub(super) fn help() -> String {
    let mut text = String::new();
    for (name, given, does) in COMMANDS {
        let _ = writeln!(text, "{:<16}{does}", format!("{name} {given}"));
    }
    text + "Ctrl-C stops an answer, or ends where nothing is written; what begins with // is said with one /."
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn check(line: &str, expected: Entry) {
        assert_eq!(parse(line), Ok(expected), "{line:?}");
    }

    #[test]
    fn what_begins_with_a_slash_is_a_command_and_all_else_is_said() {
        let message = |text: &str| Entry::Message(text.to_owned());
        check("Hello, /quit", message("Hello, /quit"));
        check(" /quit", message(" /quit"));
        check("//etc/hosts is what?", message("/etc/hosts is what?"));
        check("  ", Entry::Nothing);
        check("", Entry::Nothing);
        check("/quit ", Entry::Command(Command::Quit));
        check("/fork  an end", Entry::Command(Command::Fork("an end".into())));
        check("/switch", Entry::Command(Command::Switch(None)));
        check("/switch a", Entry::Command(Command::Switch(Some("a".into()))));
        check("/save\ta file.json ", Entry::Command(Command::Save("a file.json".into())));
    }

    #[test]
    fn every_command_that_is_told_of_is_one() {
        let help = help();
        for (name, given, _) in COMMANDS {
            let line = if given.is_empty() { name.to_owned() } else { format!("{name} {given}") };
            assert!(matches!(parse(&line), Ok(Entry::Command(_))), "{line}");
            assert!(help.contains(&line), "{help}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_with_what_there_is() {
        let refused = |line: &str| parse(line).map_err(|error| (error.to_string(), error.hint()));
        let (error, hint) = refused("/sing a song").unwrap_err();
        assert_eq!(error, "there is no command `/sing`");
        assert!(names().all(|name| hint.contains(name)), "{hint}");
        let (error, hint) = refused("/fork ").unwrap_err();
        assert_eq!((&*error, &*hint), ("`/fork` says nothing behind it, expected a name", "write `/fork NAME`"));
        let (error, hint) = refused("/reset all").unwrap_err();
        assert_eq!((&*error, &*hint), ("`/reset` has `all` behind it, expected nothing", "write `/reset` alone"));
        assert!(parse("/").is_err());
    }
}
