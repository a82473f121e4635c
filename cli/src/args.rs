//! The command line: what may be written, with an example of each.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use motorbrain::{
    model::Weights,
    settings::{Settings, SettingsError, Sources, env},
};

use crate::{calibrate, chat, embed, eval::Eval, exit::Exit, generate, man, serve};

/// Many conversations on one local language model: supervised actors on ONNX Runtime.
#[derive(Debug, Parser)]
#[command(name = "motorbrain", version, after_help = Exit::help(), arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) common: Common,
}

impl Args {
    /// The process's own; what cannot be meant ends it with clap's words and exit status 2.
    pub(crate) fn of_process() -> Self {
        let args = Self::parse();
        if matches!(args.command, Command::Prepare { .. }) && args.common.model.is_some() {
            let message = "`prepare` takes the model's folder as <MODEL_DIR>, not by `--model`";
            Self::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        args
    }

    /// What to log, where that was said. Who kills on purpose tells of it itself, so that a warning would only be in
    /// the way.
    pub(crate) fn log(&self) -> Option<&str> {
        let kills = matches!(self.command, Command::Demo { .. } | Command::Eval { eval: Eval::Drift(_) });
        let quiet = kills && std::env::var_os(env::LOG).is_none();
        self.common.log.as_deref().or(quiet.then_some("error"))
    }

    /// Whether traces are sent.
    pub(crate) fn traces(&self) -> bool {
        matches!(&self.command, Command::Serve(request) if request.otlp)
    }
}

/// What every command understands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// The model's folder [default: model.dir, or the model that `cargo xtask setup` put in place]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,

    /// The settings file [default: config/motorbrain.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Set one key for this run, such as window.size=512; beats file and environment
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// What to log, such as info or motorbrain_actors=debug [default: MOTORBRAIN_LOG, or warn]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

impl Common {
    /// The settings of this run; `--model` beats `model.dir` wherever that stands.
    pub(crate) fn settings(&self) -> Result<Settings, SettingsError> {
        let sources = Sources::of_process(self.config.clone(), self.overrides.clone());
        let mut settings = Settings::load(&sources)?;
        if let Some(dir) = &self.model {
            settings.model.dir = Some(dir.clone());
        }
        Ok(settings)
    }
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See a first answer, then an actor that dies while conversations go on with the same tokens
    #[command(after_help = "\
Examples:
  motorbrain demo
  motorbrain demo --record kill.jsonl && python3 tools/docs/demo_picture.py kill.jsonl kill.svg")]
    Demo {
        /// Write the events of the kill as JSON lines: who said which token when, who died, who went on
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },

    /// Show what was found where, and what to do about each thing that is wrong
    #[command(after_help = "\
Examples:
  motorbrain doctor
  motorbrain doctor --model models/qwen2.5-coder-0.5b --set model.preset=qwen2.5-coder-0.5b
  motorbrain doctor --json | jq .findings
  motorbrain doctor --model models/mine --write-manifest")]
    Doctor {
        /// Write JSON for a program instead of a table
        #[arg(long)]
        json: bool,

        /// Write manifest.json (size and SHA-256 of each file) into the model's folder
        #[arg(long)]
        write_manifest: bool,
    },

    /// Try a model: does its cache grow, do its vectors drift, does its window slide, does a reset reset
    #[command(after_help = "\
Examples:
  motorbrain smoke
  motorbrain smoke --model models/mine --json
  motorbrain smoke --set window.size=128

Without a window.size a small one is used, so that it is soon full.")]
    Smoke {
        /// Write JSON for a program instead of a table
        #[arg(long)]
        json: bool,
    },

    /// Talk with a model: at a terminal, or line by line from standard input
    #[command(after_help = r#"Examples:
  motorbrain chat
  motorbrain chat --system "Answer in one sentence." --temperature 0.7 --top-p 0.9
  printf 'What is 2+2?\nWhy?\n' | motorbrain chat --count 40
  motorbrain chat --messages said.json

A line is a message, and /help tells which lines are not. Ctrl-C stops an answer, what it has said stays said; where
nothing is typed it ends the chat, as Ctrl-D does. Lines that are typed are kept for the arrow keys, in the user's folder
for what programs remember ($XDG_STATE_HOME/motorbrain/chat_history, for this user alone)."#)]
    Chat(chat::Request),

    /// Go on with a text, from the command line or standard input
    #[command(after_help = r#"Examples:
  motorbrain generate --count 40 "Once upon a time, a young fox"
  motorbrain generate --stop $'\n\n' < notes.txt > more.txt
  motorbrain generate --schema person.json "A person: "
  motorbrain generate --regex '[0-9]{4}' --json "Rome was founded in " | jq .text

Only the text comes to standard output. A prompt that spells one of the model's markers, such as <|im_end|>, has that
marker; `motorbrain chat` puts messages between them. Ctrl-C ends it with the text so far."#)]
    Generate(generate::Request),

    /// Make vectors of texts, from the command line or standard input: one line of JSON a text
    #[command(after_help = r#"Examples:
  motorbrain embed "fn add(a: i32, b: i32) -> i32 { a + b }" | jq .embedding
  motorbrain embed --kind query --dim 256 "where are numbers added?"
  motorbrain embed --lines --format i8 < titles.txt > vectors.jsonl
  motorbrain embed --pieces each < README.md

Lines are as the pipe's `embed` is answered, in the order of the texts: docs/pipe.md of the project, "Vectors"."#)]
    Embed(embed::Request),

    /// Serve one JSON request a line on standard input, one JSON reply a line on standard output
    #[command(after_help = r#"Examples:
  echo '{"id":1,"op":"step","conversation":"a","text":"def add(a, b):","count":8}' | motorbrain pipe
  motorbrain pipe --model models/mine --set brain.actors=2 < requests.jsonl > replies.jsonl

Requests:
  {"id":1,"op":"embed","conversation":"a","text":"..."}    a vector (no conversation: nothing is kept)
  {"id":2,"op":"step","conversation":"a","text":"...","count":8}
  {"id":3,"op":"score","conversation":"a","text":"..."}
  {"id":4,"op":"reset","conversation":"a"}    {"id":5,"op":"close","conversation":"a"}
  {"id":6,"op":"fork","conversation":"a","to":"b"}    {"id":7,"op":"rewind","conversation":"a","context_len":5}
  {"id":17,"op":"rerank","query":"...","documents":["...","..."]}
  {"id":8,"op":"tokenize","text":"..."}    {"id":9,"op":"detokenize","token_ids":[1,2]}
  {"id":10,"op":"cancel","request":2}    {"id":11,"op":"cancel","conversation":"a"}
  {"id":12,"op":"stats"}    {"id":13,"op":"list"}    {"id":14,"op":"inspect","conversation":"a"}
  {"id":15,"op":"export","conversation":"a","path":"..."}    {"id":16,"op":"import","conversation":"b","path":"..."}

Replies come as they are done, each with the id of its request. All keys: docs/pipe.md of the project."#)]
    Pipe {
        /// Also serve the ops `crash` and `hang`, which break actors on purpose (brain.chaos=true)
        #[arg(long)]
        chaos: bool,

        /// Also serve the ops `export` and `import`, which write and read files that requests name
        #[arg(long)]
        allow_files: bool,
    },

    /// Serve HTTP: OpenAI's interface under /v1, the brain's own under /brain
    #[command(after_help = r#"Examples:
  motorbrain serve
  motorbrain serve --address 127.0.0.1:0 --model models/mine
  openssl rand -hex 32 > tokens && motorbrain serve --address 0.0.0.0:8080 --token-file tokens

  curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \
    -d '{"model":"smollm2-135m","messages":[{"role":"user","content":"Hello"}]}'

A line tells the address when it is ready. Ctrl-C or SIGTERM ends it: what was accepted is answered first, within
server.shutdown_ms_max. All paths and keys: docs/server.md of the project, or /docs of the server."#)]
    Serve(serve::Request),

    /// See what a running brain does: its actors and its conversations, refreshed
    #[command(after_help = "\
Examples:
  motorbrain pipe --set observe.socket=/tmp/brain.sock    in one terminal, and in another:
  motorbrain top --socket /tmp/brain.sock
  motorbrain top --socket /tmp/brain.sock --once --json | jq .stats

Any program that starts a brain with `observe.socket` set opens such a socket, for its own user alone.")]
    Top {
        /// The brain's socket [default: observe.socket]
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,

        /// Look once and end
        #[arg(long)]
        once: bool,

        /// Write a line of JSON a look instead of tables
        #[arg(long)]
        json: bool,

        /// Milliseconds from one look to the next
        #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..))]
        every_ms: u64,

        /// The most conversations to show: the busiest, then those used last
        #[arg(long, value_name = "N", default_value_t = 20)]
        rows: usize,
    },

    /// Make a model's vectors worth comparing, from texts or pairs of your own
    #[command(after_help = "\
Examples:
  motorbrain calibrate models/mine --texts docs src
  motorbrain calibrate models/mine --pairs questions.jsonl --out questions.safetensors
  motorbrain pipe --model models/mine --set embedding.calibration=questions.safetensors

A thousand texts of the kinds that will be embedded are enough. Whoever is stopped goes on when started again.")]
    Calibrate(calibrate::Request),

    /// Measure vectors and windows on texts of your own
    Eval {
        #[command(subcommand)]
        eval: Eval,
    },

    /// Write a model into a new folder with its weights in another form, and measure what that changed
    #[command(after_help = "\
Examples:
  motorbrain prepare models/mine --out models/mine-fast --weights fast
  motorbrain prepare models/mine --out models/mine-f32 --weights faithful --json | jq .result
  motorbrain prepare models/mine --out models/mine-small --weights small --force

Forms:
  fast      8 bits; refused where it predicts more than 2 % worse
  faithful  f32, products of one input merged: the same answers
  small     4 bits, the output projection 8; the table says what it loses")]
    Prepare {
        /// The model's folder; it stays as it is
        #[arg(value_name = "MODEL_DIR")]
        dir: PathBuf,

        /// The new folder, a complete model
        #[arg(long, value_name = "DIR")]
        out: PathBuf,

        /// What the weights become: fast, faithful or small
        #[arg(long, value_name = "FORM")]
        weights: Weights,

        /// Replace what is in the new folder
        #[arg(long)]
        force: bool,

        /// Write JSON for a program instead of a table
        #[arg(long)]
        json: bool,
    },

    /// Write what a shell needs to complete commands and options
    #[command(after_help = "\
Examples:
  motorbrain completions bash > ~/.local/share/bash-completion/completions/motorbrain
  motorbrain completions zsh > ~/.zfunc/_motorbrain
  motorbrain completions fish > ~/.config/fish/completions/motorbrain.fish")]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },

    /// Write the manual
    #[command(after_help = "\
Examples:
  motorbrain man | man -l -
  motorbrain man --out ~/.local/share/man/man1 && man motorbrain-chat")]
    Man(man::Request),
}
