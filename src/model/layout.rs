//! Where a model's files lie: the graph that `genai_config.json` names, `model.onnx` in the folder, or one of
//! `onnx/model*.onnx`.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
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
    /// There are files, but no graph of a usual name.
    #[error("the folder {} holds no `model.onnx` and no `onnx/model*.onnx`{}", dir.display(), but(candidates))]
    NoGraph {
        /// The folder.
        dir: PathBuf,
        /// The graphs of other names that are there, as paths in the folder.
        candidates: Vec<PathBuf>,
    },
    /// Several graphs, and none is called `model.onnx`.
    #[error("the folder {} holds several graphs: {}", dir.display(), names(candidates))]
    Ambiguous {
        /// The folder.
        dir: PathBuf,
        /// Their paths in it.
        candidates: Vec<PathBuf>,
    },
    /// `model.file`, or `genai_config.json`, names a file that is not there.
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
            Self::NoFolder { .. } | Self::EmptyFolder { .. } => Some(format!("{EXPECTED}; `model.dir` names it")),
            Self::NoGraph { candidates, .. } if candidates.is_empty() => {
                Some(format!("{EXPECTED}; `model.dir` names it"))
            }
            Self::NotAFolder { .. } => {
                Some("give the folder as `model.dir` and the file's name as `model.file`".into())
            }
            Self::Unreadable { .. } => None,
            Self::NoFile { candidates, .. } if candidates.is_empty() => Some(EXPECTED.into()),
            Self::NoGraph { candidates, .. } | Self::Ambiguous { candidates, .. } | Self::NoFile { candidates, .. } => {
                Some(format!("choose one with `model.file`: {}", names(candidates)))
            }
        }
    }
}

/// With the working folder in front of what is relative to it, which is not the caller's in every program.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// A folder is there, and something in it.
pub(crate) fn check(dir: &Path) -> Result<(), LayoutError> {
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
    Ok(())
}

/// The graph file of the model in `dir`: `file` in it where given, else the one that its `genai_config.json` names,
/// else the only sensible one.
pub(crate) fn find_graph(dir: &Path, file: Option<&Path>, genai: Option<&Path>) -> Result<PathBuf, LayoutError> {
    let dir_path = || dir.to_owned();
    let unreadable = |cause| LayoutError::Unreadable { dir: dir_path(), cause };
    let mut candidates = graphs_in(dir, "").map_err(unreadable)?;
    candidates.extend(graphs_in(dir, "onnx").map_err(unreadable)?);
    // A config file chooses among the folder's own files.
    let genai = genai.filter(|file| file.components().all(|part| matches!(part, Component::Normal(_))));
    if let Some(file) = file.or_else(|| genai.filter(|file| dir.join(file).is_file())) {
        let file = dir.join(file);
        return if file.is_file() { Ok(file) } else { Err(LayoutError::NoFile { file, candidates }) };
    }
    let usual = ["model.onnx", "onnx/model.onnx"].map(PathBuf::from);
    if let Some(usual) = usual.iter().find(|usual| candidates.contains(usual)) {
        return Ok(dir.join(usual));
    }
    let is_model = |graph: &&PathBuf| graph.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model"));
    match (candidates.iter().filter(is_model).collect::<Vec<_>>().as_slice(), genai) {
        ([only], _) => Ok(dir.join(only)),
        ([], Some(genai)) => Err(LayoutError::NoFile { file: dir.join(genai), candidates }),
        ([], None) => Err(LayoutError::NoGraph { dir: dir_path(), candidates }),
        _ => Err(LayoutError::Ambiguous { dir: dir_path(), candidates }),
    }
}

/// The files `*.onnx` of a folder in `dir`, as paths in `dir`, sorted. None if there is no such
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
        if name.ends_with(".onnx") {
            graphs.push(Path::new(folder).join(&*name));
        }
    }
    graphs.sort();
    Ok(graphs)
}

fn but(candidates: &[PathBuf]) -> String {
    if candidates.is_empty() { String::new() } else { format!(", but {}", names(candidates)) }
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    names.join(", ")
}
