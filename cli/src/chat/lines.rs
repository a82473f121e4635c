//! Where the lines of a chat come from: somebody at a terminal, or standard input as it is.
//!
//! They are read by a thread, one when it is asked for: reading blocks, and Ctrl-C must be heard meanwhile.

use std::{
    env,
    io::{self, BufReader, IsTerminal as _},
    path::PathBuf,
    sync::mpsc,
    thread,
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::editor::Typist;
use crate::{
    input::{InputError, TextLines},
    signals::Interrupts,
};

/// What was typed.
#[derive(Debug)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C where nothing was typed.
    Interrupted,
    /// There is no more.
    End,
    Failed(InputError),
}

/// The lines of standard input.
pub(super) struct Lines {
    /// The prompt of each that is wanted.
    wanted: mpsc::Sender<String>,
    typed: UnboundedReceiver<Typed>,
    is_terminal: bool,
    /// Whether Ctrl-C is a key while a line is typed.
    edits: bool,
}

/// Reads a line behind a prompt.
type Read = Box<dyn FnMut(&str) -> Typed>;

impl Lines {
    /// `history`: where lines that are typed are kept; `None`: nowhere.
    pub(super) fn open(history: Option<PathBuf>) -> io::Result<Self> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let (wanted, prompts) = mpsc::channel::<String>();
        let (told, typed) = unbounded_channel();
        let read_all = move || {
            let mut read = match is_terminal {
                true => typist(history),
                false => plain(),
            };
            // Whoever wants no more, or waits for none, has ended.
            while let Ok(prompt) = prompts.recv() {
                if told.send(read(&prompt)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("stdin".into()).spawn(read_all)?;
        Ok(Self { wanted, typed, is_terminal, edits: is_terminal && moves_cursor() })
    }

    /// Whether somebody sits there.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The next line.
    pub(super) async fn next(&mut self, prompt: String, interrupts: &mut Interrupts) -> Typed {
        if self.wanted.send(prompt).is_err() {
            return Typed::End;
        }
        loop {
            tokio::select! {
                typed = self.typed.recv() => return typed.unwrap_or(Typed::End),
                // While a line is edited Ctrl-C is a key, and whatever sends the signal else leaves the terminal alone.
                () = interrupts.next() => if !self.edits { return Typed::Interrupted },
            }
        }
    }
}

/// Whether lines can be edited: the terminal is none of those in which rustyline takes them as they come.
fn moves_cursor() -> bool {
    let none = |term: String| ["dumb", "cons25", "emacs"].iter().any(|none| none.eq_ignore_ascii_case(&term));
    !env::var("TERM").is_ok_and(none)
}

fn typist(history: Option<PathBuf>) -> Read {
    match Typist::open(history) {
        Ok(mut typist) => Box::new(move |prompt| typist.read(prompt)),
        Err(error) => {
            let mut failed = Some(Typed::Failed(InputError::Read(io::Error::other(error))));
            Box::new(move |_| failed.take().unwrap_or(Typed::End))
        }
    }
}

fn plain() -> Read {
    let mut lines = TextLines::new(BufReader::new(io::stdin()));
    Box::new(move |_| match lines.next() {
        Some(Ok(line)) => Typed::Line(line),
        Some(Err(error)) => Typed::Failed(error),
        None => Typed::End,
    })
}
