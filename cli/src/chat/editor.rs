//! Lines as they are typed at a terminal: edited, completed and remembered.

use std::{cell::Cell, io, path::PathBuf};

use rustyline::{
    CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, FilenameCompleter, Pair},
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
    files: FilenameCompleter,
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

    fn complete(&self, line: &str, pos: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if line.starts_with("/save ") || line.starts_with("/load ") {
            return self.files.complete(line, pos, context);
        }
        let begun = &line[..pos];
        let names = command::names().filter(|name| !begun.is_empty() && name.starts_with(begun));
        let pair = |name: &str| Pair { display: name.to_owned(), replacement: name.to_owned() };
        Ok((0, names.map(pair).collect()))
    }
}
