//! Where a model's files lie: `model.onnx` in the folder, or one of `onnx/model*.onnx`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why a folder holds no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There is no such folder.
    #[error("there is no folder {}", absolute(dir).display())]
    NoFolder {
        /// The path asked for.
        dir: PathBuf,
    },
    /// It is a file.
    #[error("{} is a file, expected a folder", dir.display())]
    NotAFolder {
        /// The path asked for.
        dir: PathBuf,
    },
    /// It cannot be listed.
    #[error("cannot read the folder {}", dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// There is nothing in it.
    #[error("the folder {} is empty", dir.display())]
    EmptyFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// There are files, but no graph.
    #[error("the folder {} holds no `model.onnx` and no `onnx/model*.onnx`", dir.display())]
    NoGraph {
        /// The folder.
        dir: PathBuf,
    },
    /// Several graphs, and none is called `model.onnx`.
    #[error("the folder {} holds several graphs: {}", dir.display(), names(candidates))]
    Ambiguous {
        /// The folder.
        dir: PathBuf,
        /// Their paths in it.
        candidates: Vec<PathBuf>,
    },
    /// `model.file` names a file that is not there.
    #[error("there is no file {}", file.display())]
    NoFile {
        /// The file asked for.
        file: PathBuf,
        /// The graphs that are there, as paths in the folder.
        candidates: Vec<PathBuf>,
    },
}

impl LayoutError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        const EXPECTED: &str = "a folder with `model.onnx` (or `onnx/model*.onnx`) and `tokenizer.json` is expected";
        match self {
            Self::NoFolder { .. } | Self::EmptyFolder { .. } | Self::NoGraph { .. } => {
                Some(format!("{EXPECTED}; `model.dir` names it"))
            }
            Self::NotAFolder { .. } => {
                Some("give the folder as `model.dir` and the file's name as `model.file`".into())
            }
            Self::Unreadable { .. } => None,
            Self::NoFile { candidates, .. } if candidates.is_empty() => Some(EXPECTED.into()),
            Self::Ambiguous { candidates, .. } | Self::NoFile { candidates, .. } => {
                Some(format!("choose one with `model.file`: {}", names(candidates)))
            }
        }
    }
}

/// With the working folder in front of what is relative to it, which is not the caller's in every program.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// The graph file of the model in `dir`: `file` in it where given, else the only sensible one.
pub(crate) fn find_graph(dir: &Path, file: Option<&Path>) -> Result<PathBuf, LayoutError> {
    let dir_path = || dir.to_owned();
    let unreadable = |cause| LayoutError::Unreadable { dir: dir_path(), cause };
    let metadata = fs::metadata(dir).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => LayoutError::NoFolder { dir: dir_path() },
        _ => unreadable(cause),
    })?;
    if !metadata.is_dir() {
        return Err(LayoutError::NotAFolder { dir: dir_path() });
    }
    if fs::read_dir(dir).map_err(unreadable)?.next().is_none() {
        return Err(LayoutError::EmptyFolder { dir: dir_path() });
    }
    let mut candidates = graphs_in(dir, "").map_err(unreadable)?;
    candidates.extend(graphs_in(dir, "onnx").map_err(unreadable)?);
    if let Some(file) = file {
        let file = dir.join(file);
        return if file.is_file() { Ok(file) } else { Err(LayoutError::NoFile { file, candidates }) };
    }
    let usual = ["model.onnx", "onnx/model.onnx"].map(PathBuf::from);
    if let Some(usual) = usual.iter().find(|usual| candidates.contains(usual)) {
        return Ok(dir.join(usual));
    }
    match candidates.as_slice() {
        [] => Err(LayoutError::NoGraph { dir: dir_path() }),
        [only] => Ok(dir.join(only)),
        _ => Err(LayoutError::Ambiguous { dir: dir_path(), candidates }),
    }
}

/// The files `model*.onnx` of a folder in `dir`, as paths in `dir`, sorted. None if there is no such
/// folder.
fn graphs_in(dir: &Path, folder: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir.join(folder)) {
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut graphs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("model") && name.ends_with(".onnx") {
            graphs.push(Path::new(folder).join(&*name));
        }
    }
    graphs.sort();
    Ok(graphs)
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    names.join(", ")
}
