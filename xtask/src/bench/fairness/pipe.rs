//! A running `motorbrain pipe`, as a program that asks much at once has it: one thread writes, one reads, and what came
//! when is told in one queue.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::error::Error;
use crate::project::Project;

/// Nothing that is asked here takes so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Which program is measured, and how it is set.
pub(super) struct Program {
    pub(super) file: PathBuf,
    /// Overrides, as `--set` has them.
    pub(super) set: Vec<String>,
}

/// A line of the pipe, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    pub(super) id: Option<u64>,
    /// Of a stream that goes on.
    part: Option<Part>,
    #[serde(default)]
    ok: Option<IgnoredAny>,
    #[serde(default)]
    error: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Part {
    token_ids: Vec<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    code: String,
    message: String,
}

impl Reply {
    /// Tokens that a stream shows.
    pub(super) fn shown(&self) -> Option<usize> {
        self.part.as_ref().map(|part| part.token_ids.len())
    }

    pub(super) fn is_ok(&self) -> bool {
        self.ok.is_some()
    }

    /// The code of a refusal.
    pub(super) fn code(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.code.as_str())
    }
}

/// What happened in the pipe.
pub(super) enum Event {
    /// A line of a flood is written: its id.
    Written(u64, Instant),
    /// A line came.
    Came(Reply, Instant),
}

enum ToWrite {
    Line(String),
    /// Lines that give way to single ones, with their ids.
    Flood(Vec<(u64, String)>),
}

/// The process; it is killed when this is dropped.
pub(super) struct Pipe {
    child: Child,
    to_write: Sender<ToWrite>,
    events: Receiver<Event>,
}

impl Pipe {
    /// Starts a program on a model.
    pub(super) fn start(project: &Project, program: &Program, model: &Path) -> Result<Self, Error> {
        let folder = project.bench().join("logs");
        fs::create_dir_all(&folder).map_err(Error::files("make", &folder))?;
        let log = folder.join("fairness.log");
        let errors = File::create(&log).map_err(Error::files("write", &log))?;
        let mut command = Command::new(&program.file);
        command.args(["pipe", "--model"]).arg(model).current_dir(project.root());
        command.args(program.set.iter().flat_map(|set| ["--set", set]));
        let failed = |cause| Error::Start { program: program.file.display().to_string(), cause };
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = started.map_err(failed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("it has no input or no output"));
        };
        let (to_write, lines) = mpsc::channel();
        let (tell, events) = mpsc::channel();
        let told = tell.clone();
        thread::spawn(move || write(input, &lines, &told));
        thread::spawn(move || read(output, &tell));
        let pipe = Self { child, to_write, events };
        // It is loaded when it answers.
        pipe.ask(json!({ "op": "stats" }))?;
        Ok(pipe)
    }

    /// Sends a request.
    pub(super) fn send(&self, request: &Value) {
        // A process that is gone is noticed by whoever waits for its answer.
        let _ = self.to_write.send(ToWrite::Line(request.to_string()));
    }

    /// Sends many, one after the other; the time at which each is written is told.
    pub(super) fn flood(&self, requests: impl Iterator<Item = (u64, Value)>) {
        let lines = requests.map(|(id, request)| (id, request.to_string())).collect();
        let _ = self.to_write.send(ToWrite::Flood(lines));
    }

    /// What happens next, `None` where nothing does until then.
    pub(super) fn next(&self, until: Instant) -> Result<Option<Event>, Error> {
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(broken("it has ended; see its log")),
        }
    }

    /// Asks for something while nothing else is under way; the seconds until it was answered.
    pub(super) fn ask(&self, mut request: Value) -> Result<f64, Error> {
        request["id"] = json!(0);
        let asked = Instant::now();
        self.send(&request);
        loop {
            match self.next(asked + PATIENCE)? {
                Some(Event::Came(reply, at)) if reply.id == Some(0) => {
                    return match reply.error {
                        None => Ok((at - asked).as_secs_f64()),
                        Some(refused) => Err(broken(format!("asked {request}: {}", refused.message))),
                    };
                }
                Some(_) => {}
                None => return Err(broken(format!("asked {request}: no answer for minutes"))),
            }
        }
    }

    /// Bytes of memory that the process has now; `None` where the system does not tell.
    pub(super) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Single lines go before those of a flood, as with a program that hands many callers' lines on in turn.
fn write(mut input: ChildStdin, lines: &Receiver<ToWrite>, told: &Sender<Event>) {
    let mut flood = VecDeque::new();
    loop {
        let next =
            if flood.is_empty() { lines.recv().map_err(|_| TryRecvError::Disconnected) } else { lines.try_recv() };
        let (line, id) = match (next, flood.is_empty()) {
            (Ok(ToWrite::Line(line)), _) => (line, None),
            (Ok(ToWrite::Flood(more)), _) => {
                flood.extend(more);
                continue;
            }
            (Err(TryRecvError::Empty), _) => match flood.pop_front() {
                Some((id, line)) => (line, Some(id)),
                None => continue,
            },
            (Err(TryRecvError::Disconnected), _) => return,
        };
        if input.write_all((line + "\n").as_bytes()).is_err() {
            return;
        }
        if let Some(id) = id {
            let _ = told.send(Event::Written(id, Instant::now()));
        }
    }
}

fn read(output: ChildStdout, tell: &Sender<Event>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let at = Instant::now();
        let Ok(reply) = serde_json::from_str(&line) else { return };
        if tell.send(Event::Came(reply, at)).is_err() {
            return;
        }
    }
}

pub(super) fn broken(what: impl Into<String>) -> Error {
    Error::Worker { worker: "motorbrain pipe".into(), what: what.into() }
}
