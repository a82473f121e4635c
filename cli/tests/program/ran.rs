//! The program run to its end on a tiny model, with a text as its standard input.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::common::{fixture, graph_cache, library};

/// A command in a window of 64 tokens, where no settings file is found, all its ends held.
pub(crate) fn command(model: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorbrain"));
    command
        .args(arguments)
        .arg("--model")
        .arg(fixture(&model.as_ref().to_string_lossy()))
        .current_dir(std::env::temp_dir())
        .env("ORT_DYLIB_PATH", library())
        .env("MOTORBRAIN__RUNTIME__CACHE", graph_cache())
        .env("MOTORBRAIN__WINDOW__SIZE", "64")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs it to its end, which is a good one.
    pub(crate) fn well(command: Command, input: &str) -> String {
        let ran = Self::of(command, input);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    }

    /// Runs it to its end. It may end before it has read all.
    pub(crate) fn of(mut command: Command, input: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writes = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        writes.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Whether standard error has these words, however its lines were folded.
    pub(crate) fn tells(&self, words: &str) -> bool {
        self.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ").contains(words)
    }
}

/// Lines of JSON.
pub(crate) fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
