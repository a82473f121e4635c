//! Why a task ended without success, and what to do then.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What can go wrong in a task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} {path}")]
    Files {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot start `{program}`")]
    Start {
        program: String,
        #[source]
        cause: io::Error,
    },
    /// `output` is what the program wrote last, where it was not shown while it ran.
    #[error("{what}: `{program}` ended with {status}{output}")]
    Failed { what: String, program: String, status: ExitStatus, output: String },
    #[error("no Python 3.11 or newer with venv and pip; tried {}", tried.join(", "))]
    NoPython { tried: Vec<String> },
    #[error("no ONNX Runtime library in {folder}")]
    NoLibrary { folder: PathBuf },
    #[error("`{package}` depends on `{forbidden}`, and must not")]
    Arrow { package: &'static str, forbidden: &'static str },
    #[error("the worker of {worker}: {what}")]
    Worker { worker: String, what: String },
    #[error("{} of the linters found something: {}", names.len(), names.join(", "))]
    Lint { names: Vec<&'static str> },
    #[error("mutations: {what}")]
    Mutants { what: String },
}

impl Error {
    /// An error of the file system, for `map_err`.
    pub(crate) fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Files { action, path, cause }
    }

    /// What to do next, one sentence.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Files { .. } => "check the path and the free disk space, then run it again".into(),
            Self::Start { program, .. } => format!("install `{program}` or put it on the PATH"),
            Self::Failed { .. } => {
                "see the output above; run it again once that is solved, what was done is kept".into()
            }
            Self::NoPython { .. } => {
                "install Python 3.11 or newer with venv and pip (Debian: python3-venv), or set PYTHON to one".into()
            }
            Self::NoLibrary { .. } => "run `cargo xtask setup --force`".into(),
            Self::Arrow { .. } => "see \"The rooms\" in ARCHITECTURE.md, and move the code that needs it".into(),
            Self::Worker { .. } => "see its log in `.motorbrain/bench/logs/`".into(),
            Self::Lint { .. } => "mend what they name above, then run `cargo xtask lint` again".into(),
            Self::Mutants { .. } => {
                "write a test for the rule, or mend its text in `xtask/src/mutants/list.rs`, then run it again".into()
            }
        }
    }
}
