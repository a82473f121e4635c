//! A worker: an engine in a process of its own that answers a JSON object a line.
//!
//! All workers of a comparison live at the same time, and only the one that was asked works: the others
//! wait for a line. What they write to standard error goes into a log.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::engines::Engine;
use crate::error::Error;
use crate::project::Project;

/// A process that is waiting for requests; it ends when this is dropped.
pub(super) struct Worker {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What every answer is.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Ok(Value),
    Error(String),
}

impl Worker {
    /// Starts a program.
    pub(super) fn start(project: &Project, name: &str, mut command: Command) -> Result<Self, Error> {
        let folder = project.bench().join("logs");
        fs::create_dir_all(&folder).map_err(Error::files("make", &folder))?;
        let log = folder.join(format!("{}.log", name.replace([' ', ',', '/'], "-")));
        let errors = File::create(&log).map_err(Error::files("write", &log))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |cause| Error::Start { program, cause };
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = started.map_err(failed)?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().map(BufReader::new);
        let answers = answers.ok_or_else(|| broken(name, "it has no output".into()))?;
        Ok(Self { name: name.to_owned(), child, requests, answers })
    }

    /// Starts an engine's program and has it load the engine's model; with what it says about that.
    pub(super) fn load(project: &Project, engine: &Engine) -> Result<(Self, Loaded), Error> {
        let mut worker = Self::start(project, &engine.name, engine.program.command())?;
        let loaded = worker.ask(engine.load.clone())?;
        Ok((worker, loaded))
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: Value) -> Result<T, Error> {
        match self.exchange(&request) {
            Ok(Answer::Ok(value)) => serde_json::from_value(value).map_err(|error| self.refused(&request, &error)),
            Ok(Answer::Error(message)) => Err(self.refused(&request, &message)),
            Err(error) => Err(self.refused(&request, &error)),
        }
    }

    fn exchange(&mut self, request: &Value) -> io::Result<Answer> {
        if let Some(requests) = &mut self.requests {
            writeln!(requests, "{request}")?;
            requests.flush()?;
        }
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended; see its log"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn refused(&self, request: &Value, why: &dyn std::fmt::Display) -> Error {
        broken(&self.name, format!("asked {request}: {why}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input ends it, once it has done what it was last asked.
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}

/// The answer to `load`.
#[derive(Debug, Deserialize)]
pub(super) struct Loaded {
    /// Until a first token had come.
    pub(super) first_seconds: f64,
    pub(super) version: String,
}

fn broken(worker: &str, what: String) -> Error {
    Error::Worker { worker: worker.to_owned(), what }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    /// A worker that answers each line with the next of these.
    fn worker(answers: &[&str]) -> Worker {
        let script: String = answers.iter().map(|answer| format!("read line; echo '{answer}'\n")).collect();
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        Worker::start(&Project::here(), "a test's", command).unwrap()
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        let mut worker = worker(&[r#"{"ok":{"first_seconds":1.5,"version":"x"}}"#, r#"{"error":"no such model"}"#]);
        let loaded: Loaded = worker.ask(json!({ "op": "load" })).unwrap();
        assert_eq!((loaded.first_seconds, loaded.version.as_str()), (1.5, "x"));
        let error = worker.ask::<Loaded>(json!({ "op": "load" })).unwrap_err().to_string();
        assert!(error.contains("no such model") && error.contains("a test's"), "{error}");
    }

    #[test]
    fn a_worker_that_died_is_an_error() {
        let error = worker(&[]).ask::<Loaded>(json!({ "op": "load" })).unwrap_err().to_string();
        assert!(error.contains("load"), "{error}");
    }
}
