//! The engines that are compared: whose, with which setting, on which form of the model.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::results::{Group, Team};
use crate::project::Project;

/// Room for the longest prompts; the default window, which is smaller, would slide.
const WINDOW: usize = 8192;

/// An engine, its setting and its model.
pub(super) struct Engine {
    pub(super) name: String,
    pub(super) team: Team,
    pub(super) group: Group,
    /// How the weights are kept.
    pub(super) form: &'static str,
    /// The file with the weights.
    pub(super) weights: PathBuf,
    pub(super) program: Program,
    /// The request by which it loads its model.
    pub(super) load: Value,
}

impl Engine {
    /// With a window that holds the longest prompts.
    pub(super) fn roomy(mut self) -> Self {
        self.load["window"] = json!(WINDOW);
        self
    }
}

/// A command line that can be started more than once.
#[derive(Clone)]
pub(super) struct Program {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// What the engines run on.
pub(super) struct Stand {
    /// The built worker of MotorBrain.
    pub(super) worker: PathBuf,
    /// The peers' Python.
    pub(super) python: PathBuf,
    /// Their programs.
    pub(super) tools: PathBuf,
    /// The models made for the benchmark.
    pub(super) models: PathBuf,
    pub(super) threads: usize,
}

impl Stand {
    pub(super) fn new(project: &Project, worker: PathBuf, threads: usize) -> Self {
        Self {
            worker,
            python: project.bench_python(),
            tools: project.tool("bench"),
            models: project.bench_models(),
            threads,
        }
    }

    /// All engines of a group, ours first. `quick`: of a peer only the setting that is mostly its best.
    pub(super) fn engines(&self, group: Group, quick: bool) -> Vec<Engine> {
        let mut engines = vec![self.motorbrain(group).roomy(), self.genai(group)];
        let gguf = match group {
            Group::Equal => Some((form(Team::LlamaCpp, group), "smollm2.gguf")),
            Group::Lossy => None,
            Group::Qwen => Some((form(Team::LlamaCpp, group), "qwen.gguf")),
        };
        if let Some((form, file)) = gguf {
            let flash: &[&str] = if quick { &["on"] } else { &["on", "off"] };
            engines.extend(flash.iter().map(|flash| self.llama(group, form, file, flash)));
        }
        engines
    }

    /// Ours, as an application has it that changes no setting.
    pub(super) fn motorbrain(&self, group: Group) -> Engine {
        let folder = self.models.join(match group {
            Group::Equal => "smollm2-exact",
            Group::Lossy => "smollm2-4bit",
            Group::Qwen => "qwen",
        });
        Engine {
            name: "motorbrain".into(),
            team: Team::MotorBrain,
            group,
            form: form(Team::MotorBrain, group),
            weights: folder.join("model.onnx.data"),
            program: self.worker_program(),
            load: json!({ "op": "load", "model": folder }),
        }
    }

    /// Ours without actors: another engine in the same process.
    pub(super) fn bare(&self, group: Group) -> Engine {
        let mut engine = self.motorbrain(group);
        engine.name = "motorbrain's engine alone".into();
        engine.team = Team::BareEngine;
        engine
    }

    /// Ours with several actors.
    pub(super) fn actors(&self, group: Group, actors: usize) -> Engine {
        let mut engine = self.motorbrain(group);
        engine.load["actors"] = json!(actors);
        engine
    }

    pub(super) fn worker_program(&self) -> Program {
        Program { program: self.worker.clone(), arguments: Vec::new() }
    }

    fn genai(&self, group: Group) -> Engine {
        let folder = self.models.join(match group {
            Group::Equal => "smollm2-8bit-genai",
            Group::Lossy => "smollm2-4bit-genai",
            Group::Qwen => "qwen-genai",
        });
        Engine {
            name: "onnxruntime-genai".into(),
            team: Team::Genai,
            group,
            form: form(Team::Genai, group),
            weights: folder.join("model.onnx.data"),
            program: self.peer("peer_genai.py", &["--threads", &self.threads.to_string()]),
            load: json!({ "op": "load", "model": folder }),
        }
    }

    fn llama(&self, group: Group, form: &'static str, model: &str, flash: &str) -> Engine {
        let file = self.models.join(model);
        Engine {
            name: format!("llama.cpp, flash attention {flash}"),
            team: Team::LlamaCpp,
            group,
            form,
            weights: file.clone(),
            program: self.peer("peer_llama.py", &["--threads", &self.threads.to_string(), "--flash", flash]),
            load: json!({ "op": "load", "model": file }),
        }
    }

    fn peer(&self, script: &str, arguments: &[&str]) -> Program {
        let script = self.tools.join(script).to_string_lossy().into_owned();
        let arguments = std::iter::once(script).chain(arguments.iter().map(|&argument| argument.to_owned()));
        Program { program: self.python.clone(), arguments: arguments.collect() }
    }
}

/// How a team's form of a group keeps its weights.
fn form(team: Team, group: Group) -> &'static str {
    match (group, team) {
        (Group::Equal, Team::Genai) => "8-bit blocks of 32",
        (Group::Equal, _) => "the GGUF's 4-bit blocks, embeddings in 8 bits",
        (Group::Lossy, _) => "4-bit blocks of 32, rounded to nearest",
        (Group::Qwen, _) => "f32",
    }
}
