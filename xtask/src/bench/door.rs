//! `cargo xtask bench door`: what the HTTP server costs beside the library alone, and what llama-cpp-python's server does
//! under the same load. All are asked by turns by one program; its own work is a part of every server's figures.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{build_worker, peers, worker::Worker};
use crate::error::Error;
use crate::model;
use crate::process::{cargo, show};
use crate::project::Project;
use crate::setup;

/// What is measured, and for how long.
#[derive(Args)]
pub(super) struct Arguments {
    /// Seconds of each mix with each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How often all are asked
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Also llama-cpp-python's server, which is built where it is not there
    #[arg(long)]
    peer: bool,
}

/// What is asked: a name, callers who chat, callers who embed, tokens of an answer.
const MIXES: [(&str, usize, usize, usize); 2] = [("64 connections", 48, 16, 48), ("16 streams", 16, 0, 128)];

/// Rates and what each is to be of the library's, at least.
const PROMISED: [(&str, &str, f64); 2] =
    [("64 connections", "tokens_per_second", 0.95), ("16 streams", "tokens_per_second", 0.97)];

/// Bytes of keys and values that ours keeps for conversations to come: full within seconds, so that what grows behind that
/// is something else.
const CACHED_BYTES: usize = 256 << 20;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and prints.
pub(super) fn run(project: &Project, arguments: &Arguments) -> Result<String, Error> {
    let lock = setup::provide(project, false)?;
    if arguments.peer {
        peers::provide(project, false, false)?;
    }
    drop(lock);
    let worker = build_worker(project)?;
    show("build", cargo().args(["build", "--release", "--bin", "motorbrain"]).current_dir(project.root()), |_| ())?;
    let mut worker = Worker::start(project, "door", Command::new(worker))?;
    for (mix, chats, embeds, tokens) in MIXES {
        let asked = json!({ "chats": chats, "embeds": embeds, "tokens": tokens });
        let mut rates = [Vec::new(), Vec::new()];
        for round in 1..=arguments.rounds {
            let mut ask = |who: &str, target: Value| -> Result<f64, Error> {
                let seconds = arguments.seconds as f64;
                let asked = json!({ "op": "door", "target": target, "mix": asked, "seconds": seconds });
                let found: Value = worker.ask(asked)?;
                println!("{mix}, round {round}, {who}: {found}");
                Ok(found["tokens_per_second"].as_f64().unwrap_or(f64::NAN))
            };
            let model = project.models().join(model::DEFAULT);
            let library = json!({ "library": { "model": model, "cached_bytes": CACHED_BYTES } });
            rates[0].push(ask("the library", library)?);
            let server = Server::ours(project)?;
            rates[1].push(ask("the server", server.target(model::DEFAULT))?);
            drop(server);
            if arguments.peer {
                let server = Server::llama(project)?;
                ask("llama-cpp-python's server", server.target("smollm2"))?;
            }
        }
        let [library, server] = rates.map(|rates| rates.iter().copied().fold(f64::NAN, f64::max));
        for (of, what, promised) in PROMISED.iter().filter(|(of, ..)| *of == mix) {
            let ratio = server / library;
            println!("{of}, {what}: {ratio:.3} of the library's (best of each), promised at least {promised}");
        }
    }
    Ok("measure on a quiet machine, and compare only what one run has measured".into())
}

/// A server in a process of its own; it is killed when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn ours(project: &Project) -> Result<Self, Error> {
        let file = project.target().join("release").join(format!("motorbrain{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(&file);
        command.args(["serve", "--address", "127.0.0.1:0", "--set", &format!("memory.cached_bytes={CACHED_BYTES}")]);
        command.arg("--model").arg(project.models().join(model::DEFAULT));
        let mut child = start(project, "door-server", command.stdout(Stdio::piped()))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(Error::files("read from", &file))?;
        }
        let address = line.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        // Held before anything can fail, so that it is killed then.
        let server = Self { child, address: address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))) };
        match address {
            Some(_) => Ok(server),
            None => Err(broken(format!("it said {line:?} and no address; see its log"))),
        }
    }

    /// llama-cpp-python's own, with room for as long a context as ours, and the default model in 8 bits.
    fn llama(project: &Project) -> Result<Self, Error> {
        let address = free().map_err(Error::files("listen at", Path::new("127.0.0.1:0")))?;
        let mut command = Command::new(project.bench_python());
        command.args(["-m", "llama_cpp.server", "--model_alias", "smollm2", "--n_ctx", "8192", "--embedding", "true"]);
        // Else each request that comes cuts off the one that is answered.
        command.args(["--interrupt_requests", "false"]);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--model"]);
        command.arg(project.bench_models().join("smollm2-q8_0.gguf")).stdout(Stdio::null());
        let mut server = Self { child: start(project, "door-llama", &mut command)?, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if server.child.try_wait().is_ok_and(|ended| ended.is_some()) || began.elapsed() > PATIENCE {
                return Err(broken("llama-cpp-python's does not listen; see its log".into()));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn target(&self, model: &str) -> Value {
        json!({ "server": { "address": self.address, "model": model, "process": self.child.id() } })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(project: &Project, name: &str, command: &mut Command) -> Result<Child, Error> {
    let folder = project.bench().join("logs");
    fs::create_dir_all(&folder).map_err(Error::files("make", &folder))?;
    let log = folder.join(format!("{name}.log"));
    let errors = File::create(&log).map_err(Error::files("write", &log))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let started = command.current_dir(project.root()).stdin(Stdio::null()).stderr(errors).spawn();
    started.map_err(|cause| Error::Start { program, cause })
}

/// An address of this machine that nobody listens at.
fn free() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn broken(what: String) -> Error {
    Error::Worker { worker: "a server".into(), what }
}
