//! Weights outside the graph: which files a graph refers to, and inline weights made into references.
//!
//! Every reference is checked before ONNX Runtime sees it: it stays in the model's folder, its file is
//! there and long enough. Inline weights become references into the very file they were read from.
//! Lengths and offsets are in bytes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use super::onnx::{
    self, AttributeProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto,
};

/// Inline weights from this size up leave the graph. Smaller ones are the shapes, axes and scalars
/// that ONNX Runtime wants to see while it infers shapes.
const INLINE_BYTES_MAX: usize = 1024;

/// Why a graph's weights cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// A reference that leads out of the folder.
    #[error("the weights `{tensor}` lie in `{location}`, outside the model's folder {}", folder.display())]
    OutsideFolder {
        /// The tensor's name.
        tensor: String,
        /// The path as the graph has it.
        location: String,
        /// The folder of the graph file.
        folder: PathBuf,
    },
    /// The file is not there.
    #[error("the weights `{tensor}` lie in {}, which cannot be read", file.display())]
    Missing {
        /// The tensor's name.
        tensor: String,
        /// The file.
        file: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// The file ends before the weights do.
    #[error(
        "the weights `{tensor}` need {needed} bytes of {}, which has {found}", file.display()
    )]
    TooShort {
        /// The tensor's name.
        tensor: String,
        /// The file.
        file: PathBuf,
        /// Where the weights end.
        needed: u64,
        /// Where the file ends.
        found: u64,
    },
    /// An offset or length that is no number, or no location at all.
    #[error("the weights `{tensor}` have the {key} `{value}`")]
    Malformed {
        /// The tensor's name.
        tensor: String,
        /// Which entry.
        key: &'static str,
        /// What it says.
        value: String,
    },
}

impl ExternalError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OutsideFolder { .. } => {
                Some("copy the file into the model's folder and export the model again".into())
            }
            Self::Missing { file, .. } => {
                let name = file.file_name().unwrap_or(file.as_os_str()).display();
                Some(format!(
                    "put `{name}` beside the graph; both belong to one export"
                ))
            }
            Self::TooShort { .. } => {
                Some("fetch the file again; a download that was interrupted looks like this".into())
            }
            Self::Malformed { .. } => Some("export the model again; the graph is damaged".into()),
        }
    }
}

/// Checks every reference of a graph file in `folder` to other files, those of subgraphs included.
pub(crate) fn check(graph: &GraphProto, path: &Path, folder: &Path) -> Result<(), ExternalError> {
    let mut files = Files {
        folder,
        roots: roots(path, folder),
        lengths: HashMap::new(),
    };
    let mut checked = Ok(());
    each_tensor(graph, &mut |tensor| {
        if checked.is_ok() && tensor.data_location() == onnx::EXTERNAL {
            checked = files.check(tensor);
        }
    });
    checked
}

/// Makes the large inline initializers of a graph, slices of `file`, references into it.
pub(crate) fn point_into(graph: &mut GraphProto, file: &Bytes, name: &str) {
    for tensor in &mut graph.initializer {
        let Some(data) = tensor
            .raw_data
            .take_if(|data| data.len() >= INLINE_BYTES_MAX)
        else {
            continue;
        };
        let Some(offset) = offset_in(file, &data) else {
            tensor.raw_data = Some(data);
            continue;
        };
        tensor.data_location = Some(onnx::EXTERNAL);
        tensor.external_data = vec![
            StringStringEntryProto::new("location", name),
            StringStringEntryProto::new("offset", offset.to_string()),
            StringStringEntryProto::new("length", data.len().to_string()),
        ];
    }
}

/// A reference of a tensor to a part of another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'t> {
    pub(crate) location: &'t str,
    pub(crate) offset: u64,
    pub(crate) length: Option<u64>,
}

impl<'t> Reference<'t> {
    /// What a tensor's entries say.
    pub(crate) fn of(tensor: &'t TensorProto) -> Result<Self, ExternalError> {
        let entry = |key| tensor.external_data.iter().find(|entry| entry.key() == key);
        let number = |key| {
            let value = entry(key).map(StringStringEntryProto::value);
            value
                .map(str::parse)
                .transpose()
                .map_err(|_| malformed(tensor, key, value))
        };
        let location = entry("location").map(StringStringEntryProto::value);
        Ok(Self {
            location: location
                .filter(|location| !location.is_empty())
                .ok_or_else(|| malformed(tensor, "location", location))?,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        })
    }
}

fn malformed(tensor: &TensorProto, key: &'static str, value: Option<&str>) -> ExternalError {
    let (tensor, value) = (
        tensor.name().to_owned(),
        value.unwrap_or_default().to_owned(),
    );
    ExternalError::Malformed { tensor, key, value }
}

/// The folders that weights may lie in: the graph's own and, where the graph file is a link (as in
/// the Hugging Face cache, where each file of a model is a link into one store), that of its target.
fn roots(graph: &Path, folder: &Path) -> Vec<PathBuf> {
    let target = graph
        .canonicalize()
        .ok()
        .and_then(|target| target.parent().map(Path::to_owned));
    folder.canonicalize().into_iter().chain(target).collect()
}

struct Files<'f> {
    folder: &'f Path,
    roots: Vec<PathBuf>,
    /// The lengths of the files already found, by location.
    lengths: HashMap<String, u64>,
}

impl Files<'_> {
    fn check(&mut self, tensor: &TensorProto) -> Result<(), ExternalError> {
        let reference = Reference::of(tensor)?;
        let found = self.length(tensor, reference.location)?;
        let needed = reference.length.or_else(|| bytes_of(tensor)).unwrap_or(0);
        let needed = reference.offset.saturating_add(needed);
        if needed <= found {
            return Ok(());
        }
        let file = self.folder.join(reference.location);
        Err(ExternalError::TooShort {
            tensor: tensor.name().to_owned(),
            file,
            needed,
            found,
        })
    }

    fn length(&mut self, tensor: &TensorProto, location: &str) -> Result<u64, ExternalError> {
        if let Some(&length) = self.lengths.get(location) {
            return Ok(length);
        }
        let outside = || ExternalError::OutsideFolder {
            tensor: tensor.name().to_owned(),
            location: location.to_owned(),
            folder: self.folder.to_owned(),
        };
        let file = self.folder.join(location);
        let missing = |cause| ExternalError::Missing {
            tensor: tensor.name().to_owned(),
            file: file.clone(),
            cause,
        };
        let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if !Path::new(location).components().all(inside) {
            return Err(outside());
        }
        let target = file.canonicalize().map_err(missing)?;
        if !self.roots.iter().any(|root| target.starts_with(root)) {
            return Err(outside());
        }
        let length = fs::metadata(&target).map_err(missing)?.len();
        self.lengths.insert(location.to_owned(), length);
        Ok(length)
    }
}

/// The bytes that a tensor's shape and type ask for, where both are known.
fn bytes_of(tensor: &TensorProto) -> Option<u64> {
    let bits: u64 = match tensor.data_type() {
        1 | 6 | 12 => 32,
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        25 | 26 => 2,
        _ => return None,
    };
    let dims = tensor.dims.iter().map(|&dim| u64::try_from(dim).ok());
    let elements = dims
        .reduce(|product, dim| product?.checked_mul(dim?))
        .unwrap_or(Some(1))?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}

/// Where a slice of `file` begins in it; `None` if it is no slice of it.
fn offset_in(file: &Bytes, slice: &Bytes) -> Option<usize> {
    let offset = slice.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
    (offset + slice.len() <= file.len()).then_some(offset)
}

/// Calls `visit` with every tensor of a graph: initializers and attributes, in subgraphs, too.
fn each_tensor<'g>(graph: &'g GraphProto, visit: &mut impl FnMut(&'g TensorProto)) {
    graph.initializer.iter().for_each(&mut *visit);
    let sparse = graph
        .sparse_initializer
        .iter()
        .flat_map(|sparse| [&sparse.values, &sparse.indices]);
    sparse.flatten().for_each(&mut *visit);
    graph
        .node
        .iter()
        .flat_map(|node: &NodeProto| &node.attribute)
        .for_each(|attribute| {
            each_tensor_of(attribute, visit);
        });
}

fn each_tensor_of<'g>(attribute: &'g AttributeProto, visit: &mut dyn FnMut(&'g TensorProto)) {
    attribute
        .t
        .iter()
        .chain(&attribute.tensors)
        .for_each(&mut *visit);
    let sparse = attribute
        .sparse_tensor
        .iter()
        .chain(&attribute.sparse_tensors);
    sparse
        .flat_map(|sparse| [&sparse.values, &sparse.indices])
        .flatten()
        .for_each(&mut *visit);
    for graph in attribute.g.iter().chain(&attribute.graphs) {
        each_tensor(graph, &mut |tensor| visit(tensor));
    }
}
