//! Lines as they are typed at a terminal: edited, completed and remembered.

use std::{
    cell::Cell,
    fs, io,
    path::{PathBuf, is_separator},
};

use rustyline::{
    CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::Validator,
};

use super::{command, history, lines::Typed};
use crate::{input::InputError, output};

/// Lines that are remembered.
const REMEMBERED: usize = 1000;

/// Somebody at a terminal.
pub(super) struct Typist {
    editor: Editor<Typing, FileHistory>,
    /// Where lines are kept; `None`: nowhere.
    history: Option<PathBuf>,
}

impl Typist {
    /// Where lines cannot be kept, that is told, and they are not.
    pub(super) fn open(history: Option<PathBuf>) -> rustyline::Result<Self> {
        let config = Config::builder().max_history_size(REMEMBERED)?.completion_type(CompletionType::List);
        let mut editor = Editor::with_config(config.build())?;
        editor.set_helper(Some(Typing::default()));
        let mut typist = Self { editor, history };
        if let Some(path) = &typist.history {
            let loaded =
                history::make(path).map_err(ReadlineError::from).and_then(|()| typist.editor.load_history(path));
            typist.unless_kept(loaded);
        }
        Ok(typist)
    }

    /// The next line. Ctrl-C clears what is typed, and interrupts where nothing is.
    pub(super) fn read(&mut self, prompt: &str) -> Typed {
        loop {
            match self.editor.readline(prompt) {
                Ok(line) => {
                    self.remember(&line);
                    return Typed::Line(line);
                }
                Err(ReadlineError::Eof) => return Typed::End,
                Err(ReadlineError::Interrupted) if self.nothing_is_typed() => return Typed::Interrupted,
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    output::tell("what was typed is no UTF-8 and is not taken");
                }
                Err(error) => return Typed::Failed(InputError::Read(io::Error::other(error))),
            }
        }
    }

    fn nothing_is_typed(&self) -> bool {
        self.editor.helper().is_none_or(|typing| !typing.something.get())
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line);
        if let Some(path) = &self.history {
            let kept = added.and_then(|_| self.editor.append_history(path));
            self.unless_kept(kept);
        }
    }

    fn unless_kept(&mut self, kept: rustyline::Result<()>) {
        if let (Err(error), Some(path)) = (kept, &self.history) {
            output::tell(&format!("what is typed is not kept in {}: {error}", path.display()));
            self.history = None;
        }
    }
}

/// What helps with typing: commands and files are completed.
#[derive(Default)]
struct Typing {
    /// Whether something is typed. The editor does not tell when Ctrl-C comes; it asks for a hint at each change.
    something: Cell<bool>,
}

impl Helper for Typing {}

impl Highlighter for Typing {}

impl Validator for Typing {}

impl Hinter for Typing {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.something.set(!line.is_empty());
        None
    }
}

impl Completer for Typing {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let begun = &line[..pos];
        if let Some(path) = begun.strip_prefix("/save ").or_else(|| begun.strip_prefix("/load ")) {
            let name = path.rfind(is_separator).map_or(path, |separator| &path[separator + 1..]);
            return Ok((pos - name.len(), files(&path[..path.len() - name.len()], name)));
        }
        let names = command::names().filter(|name| !begun.is_empty() && name.starts_with(begun));
        let pair = |name: &str| Pair { display: name.to_owned(), replacement: name.to_owned() };
        Ok((0, names.map(pair).collect()))
    }
}

/// What there is in a folder whose name begins so, as commands take it: blanks and quotation marks are those of the name.
fn files(folder: &str, begun: &str) -> Vec<Pair> {
    let entries = fs::read_dir(if folder.is_empty() { "." } else { folder }).into_iter().flatten().flatten();
    let pair = |entry: fs::DirEntry| {
        let display = entry.file_name().into_string().ok().filter(|name| name.starts_with(begun))?;
        let behind = if entry.path().is_dir() { "/" } else { "" };
        Some(Pair { replacement: format!("{display}{behind}"), display })
    };
    let mut pairs: Vec<Pair> = entries.filter_map(pair).collect();
    pairs.sort_by(|one, other| one.display.cmp(&other.display));
    pairs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn files_are_completed_as_commands_take_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a talk.json", "a.json", "b.json"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("a folder")).unwrap();
        let folder = format!("{}/", folder.path().display());
        let found = |begun| files(&folder, begun).into_iter().map(|pair| pair.replacement).collect::<Vec<_>>();
        assert_eq!(found("a "), ["a folder/", "a talk.json"]);
        assert_eq!(found("c"), [""; 0]);
        assert!(files("no such folder/", "").is_empty());
    }
}
