//! The engines that are compared: whose, with which setting, on which form of the model.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::options::Way;
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
    pub(super) form: String,
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

    /// All files that a load reads, and the folders of such.
    pub(super) fn model(&self) -> PathBuf {
        self.load["model"].as_str().map(PathBuf::from).unwrap_or_default()
    }

    /// Whether it has a way to decode like this. To OpenVINO a request of one token is a prompt of the whole
    /// conversation.
    pub(super) fn can(&self, way: Way) -> bool {
        way != Way::Steps || self.team != Team::OpenVino
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

    /// What is run, and how: the program's file and its arguments.
    pub(super) fn parts(&self) -> (&Path, &[String]) {
        (&self.program, &self.arguments)
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
    /// Where MotorBrain keeps forms of them.
    pub(super) forms: PathBuf,
    pub(super) threads: usize,
}

impl Stand {
    pub(super) fn new(project: &Project, worker: PathBuf, threads: usize) -> Self {
        Self {
            worker,
            python: project.bench_python(),
            tools: project.tool("bench"),
            models: project.bench_models(),
            forms: project.bench().join("forms"),
            threads,
        }
    }

    /// All engines of a group, ours first. `quick`: of llama.cpp only with its default for keys and values.
    pub(super) fn engines(&self, group: Group, quick: bool) -> Vec<Engine> {
        let mut engines = vec![self.motorbrain(group).roomy(), self.genai(group)];
        match group {
            Group::Equal => {
                engines.push(self.llama(group, "smollm2.gguf", "f16"));
                engines.extend((!quick).then(|| self.llama(group, "smollm2.gguf", "f32")));
                engines.push(self.openvino(group, "smollm2-q8_0.gguf"));
            }
            Group::EightBit => {}
            Group::Lossy => {
                engines.push(self.llama(group, "smollm2-q4_0.gguf", "f16"));
                engines.push(self.openvino(group, "smollm2-q4_0.gguf"));
            }
            Group::Qwen => engines.push(self.llama(group, "qwen.gguf", "f16")),
        }
        engines
    }

    /// Ours, as an application has it that changes no setting.
    pub(super) fn motorbrain(&self, group: Group) -> Engine {
        let folder = self.models.join(match group {
            Group::Equal => "smollm2-exact",
            Group::EightBit => "smollm2-8bit",
            Group::Lossy => "smollm2-4bit",
            Group::Qwen => "qwen",
        });
        Engine {
            name: "motorbrain".into(),
            team: Team::MotorBrain,
            group,
            form: form(Team::MotorBrain, group).into(),
            weights: folder.join("model.onnx.data"),
            program: self.worker_program(),
            load: json!({ "op": "load", "model": folder, "cache": self.forms }),
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
            Group::Equal | Group::EightBit => "smollm2-8bit-genai",
            Group::Lossy => "smollm2-4bit-genai",
            Group::Qwen => "qwen-genai",
        });
        Engine {
            name: "onnxruntime-genai".into(),
            team: Team::Genai,
            group,
            form: form(Team::Genai, group).into(),
            weights: folder.join("model.onnx.data"),
            program: self.peer("peer_genai.py", &[]),
            load: json!({ "op": "load", "model": folder }),
        }
    }

    /// With keys and values of a type.
    fn llama(&self, group: Group, model: &str, kv: &str) -> Engine {
        let file = self.models.join(model);
        Engine {
            name: format!("llama.cpp, {kv} KV"),
            team: Team::LlamaCpp,
            group,
            form: form(Team::LlamaCpp, group).into(),
            weights: file.clone(),
            program: self.peer("peer_llama.py", &["--kv", kv]),
            load: json!({ "op": "load", "model": file }),
        }
    }

    fn openvino(&self, group: Group, model: &str) -> Engine {
        let file = self.models.join(model);
        Engine {
            name: "OpenVINO GenAI".into(),
            team: Team::OpenVino,
            group,
            form: form(Team::OpenVino, group).into(),
            weights: file.clone(),
            program: self.peer("peer_openvino.py", &[]),
            load: json!({ "op": "load", "model": file }),
        }
    }

    fn peer(&self, script: &str, arguments: &[&str]) -> Program {
        let script = self.tools.join(script).to_string_lossy().into_owned();
        let threads = ["--threads".to_owned(), self.threads.to_string()];
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        Program {
            program: self.python.clone(),
            arguments: std::iter::once(script).chain(threads).chain(arguments).collect(),
        }
    }
}

/// How a team's form of a group keeps its weights.
fn form(team: Team, group: Group) -> &'static str {
    match (group, team) {
        (Group::Equal, Team::Genai) | (Group::EightBit, _) => "8-bit blocks of 32",
        (Group::Equal, Team::OpenVino) => "the GGUF's weights in 8-bit blocks of 32 (Q8_0)",
        (Group::Equal, _) => "the GGUF's 4-bit blocks (Q4_1), embeddings in 8 bits",
        (Group::Lossy, Team::LlamaCpp | Team::OpenVino) => "4-bit blocks of 32 (Q4_0), embeddings in 8 bits",
        (Group::Lossy, _) => "4-bit blocks of 32, rounded to nearest",
        (Group::Qwen, _) => "f32",
    }
}
