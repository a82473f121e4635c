//! The ONNX Runtime library, opened once for the whole process.
//!
//! A process has one library and one environment; both stay until it ends. Every other call of the
//! runtime panics before this one has succeeded, so nothing in the engine can be made without a
//! [`Runtime`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::environment::Environment;

use crate::places::RUN_SETUP;

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No such file.
    #[error("cannot read the ONNX Runtime library {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file is no library of ONNX Runtime, or one that is too old.
    #[error("cannot open the ONNX Runtime library {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The loader's own words.
        reason: String,
    },
    /// The process has opened another library, and it can have only one.
    #[error("this process has opened the ONNX Runtime library {}, so it cannot open {} as well", open.display(), path.display())]
    AnotherIsOpen {
        /// The file asked for.
        path: PathBuf,
        /// The one in use.
        open: PathBuf,
    },
}

impl RuntimeError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => {
                Some(format!("{RUN_SETUP}, or set `runtime.library` or ORT_DYLIB_PATH to the library's file"))
            }
            Self::Open { .. } => Some(format!(
                "use a library of ONNX Runtime 1.{} or newer for this machine; `cargo xtask setup` puts one in place",
                ort::MINOR_VERSION
            )),
            Self::AnotherIsOpen { .. } => Some("use one library in all of the process".into()),
        }
    }
}

/// The opened library. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
}

static OPEN: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Opens the library at `library`, or gives the one that is open. Builds of ONNX Runtime 1.31 note the process
    /// when they are opened and try to send it to their maker, unless its environment has
    /// `ORT_DISABLE_TELEMETRY=1`, which only a program's first thread can set safely.
    ///
    /// # Errors
    /// The file cannot be read, is no such library, is too old, or another one is open.
    pub fn open(library: &Path) -> Result<Self, RuntimeError> {
        let path = library.canonicalize().map_err(|cause| RuntimeError::Read { path: library.to_owned(), cause })?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(runtime) if runtime.library == path => Ok(runtime.clone()),
            Some(runtime) => Err(RuntimeError::AnotherIsOpen { path, open: runtime.library.clone() }),
            None => {
                let refused = |reason: String| RuntimeError::Open { path: path.clone(), reason };
                let environment = ort::init_from(&path)
                    .map_err(|error| refused(error.to_string()))?
                    .with_name("motorbrain")
                    .with_telemetry(false)
                    .build()
                    .map_err(|error| refused(error.message().to_owned()))?;
                let runtime = Self { environment, library: path };
                *open = Some(runtime.clone());
                Ok(runtime)
            }
        }
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The library's version, commit and compiler flags, in its own words.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The process's environment, for an application that runs other models beside this one.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}
