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
        if cfg!(windows) {
            self.venv().join("Scripts").join("python.exe")
        } else {
            self.venv().join("bin").join("python")
        }
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.home().join("runtime")
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.home().join("models")
    }

    /// What has been fetched and not been converted yet.
    pub(crate) fn download(&self) -> PathBuf {
        self.home().join("download")
    }
}
