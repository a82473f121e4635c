//! Where things are: the project's folder and what set-up puts into `.motorbrain/`.

use std::path::{Path, PathBuf};

/// The checkout that this program was built from.
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    pub(crate) fn here() -> Self {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: xtask.parent().unwrap_or(xtask).to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of `tools/`.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.root.join("tools").join(name)
    }

    /// The ignored folder that holds everything that is fetched or made.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join(".motorbrain")
    }

    pub(crate) fn venv(&self) -> PathBuf {
        self.home().join("venv")
    }

    /// The interpreter of the tools' virtual environment.
    pub(crate) fn venv_python(&self) -> PathBuf {
        interpreter(&self.venv())
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.home().join("runtime")
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.home().join("models")
    }

    /// What the benchmark needs beside that.
    pub(crate) fn bench(&self) -> PathBuf {
        self.home().join("bench")
    }

    /// The virtual environment of the benchmark's peers.
    pub(crate) fn bench_venv(&self) -> PathBuf {
        self.bench().join("venv")
    }

    pub(crate) fn bench_python(&self) -> PathBuf {
        interpreter(&self.bench_venv())
    }

    pub(crate) fn bench_models(&self) -> PathBuf {
        self.bench().join("models")
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), |folder| self.root.join(folder))
    }

    /// What has been fetched and not been converted yet.
    pub(crate) fn download(&self) -> PathBuf {
        self.home().join("download")
    }
}

/// The interpreter of a virtual environment.
pub(crate) fn interpreter(venv: &Path) -> PathBuf {
    if cfg!(windows) { venv.join("Scripts").join("python.exe") } else { venv.join("bin").join("python") }
}
