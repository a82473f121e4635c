//! Weights outside the graph: which files a graph refers to, and inline weights made into references.
//!
//! Every reference is checked before ONNX Runtime sees it: it stays in the model's folder, its file is
//! there and long enough. Inline weights become references into the very file they were read from.
//! Lengths and offsets are in bytes.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use super::{
    files,
    onnx::{self, GraphProto, SparseTensorProto, StringStringEntryProto, TensorProto},
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
    /// The file is not there, or is no regular one.
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
    /// Many weights are the same bytes, each of which would be read.
    #[error(
        "the weights refer to {bytes} bytes of files that have {found}, expected at most {TIMES_MAX} times as many"
    )]
    TooMuch {
        /// Of all references together.
        bytes: u64,
        /// Of all the files.
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
                Some(format!("put `{name}` beside the graph; both belong to one export"))
            }
            Self::TooShort { .. } => {
                Some("fetch the file again; a download that was interrupted looks like this".into())
            }
            Self::Malformed { .. } | Self::TooMuch { .. } => {
                Some("export the model again; the graph is damaged".into())
            }
        }
    }
}

/// Where the weights of a graph file may lie: in its folder.
///
/// Where the graph file is a link, as in the Hugging Face cache (each file of a model is a link into
/// one store), that is the folder of its target: ONNX Runtime follows links, and refuses what lies
/// outside the folder it is given.
#[derive(Debug)]
pub(crate) struct Home {
    /// The folder that references are relative to, as the model's user gave it.
    given: PathBuf,
    /// The folder that the graph file really lies in.
    real: PathBuf,
    /// What the graph file is called there.
    graph_name: String,
    /// Whether the two are different folders.
    linked: bool,
}

impl Home {
    /// The home of a graph file that was just read.
    pub(crate) fn of(graph: &Path) -> Self {
        let parent = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        let given = parent(graph);
        let target = graph.canonicalize().unwrap_or_else(|_| graph.to_owned());
        let real = parent(&target);
        let linked = given.canonicalize().is_ok_and(|given| given != real);
        let graph_name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { given, real, graph_name, linked }
    }

    /// The folder that the overlay's references are relative to.
    pub(crate) fn folder(&self) -> &Path {
        if self.linked { &self.real } else { &self.given }
    }
}

/// How often each byte of a file may be referred to, on average: weights that are used twice are two references in
/// some exports, an embedding and its projection for instance.
const TIMES_MAX: u64 = 4;

/// Checks every reference of a graph to other files, those of subgraphs included, and makes it
/// relative to [`Home::folder`].
pub(crate) fn resolve(graph: &mut GraphProto, home: &Home) -> Result<(), ExternalError> {
    let mut files = Files { home, found: HashMap::new(), sizes: HashMap::new(), referred: 0 };
    let mut resolved = Ok(());
    each_tensor(graph, &mut |tensor| {
        if resolved.is_ok() && tensor.data_location() == onnx::EXTERNAL {
            resolved = files.resolve(tensor);
        }
    });
    resolved?;
    let found = files.sizes.values().sum::<u64>();
    if files.referred > found.saturating_mul(TIMES_MAX) {
        return Err(ExternalError::TooMuch { bytes: files.referred, found });
    }
    Ok(())
}

/// Makes the large inline initializers of a graph, slices of `file`, references into it.
pub(crate) fn point_into(graph: &mut GraphProto, file: &Bytes, home: &Home) {
    for tensor in &mut graph.initializer {
        let Some(data) = tensor.raw_data.take_if(|data| data.len() >= INLINE_BYTES_MAX) else {
            continue;
        };
        let Some(offset) = offset_in(file, &data) else {
            tensor.raw_data = Some(data);
            continue;
        };
        tensor.data_location = Some(onnx::EXTERNAL);
        tensor.external_data = vec![
            StringStringEntryProto::new("location", home.graph_name.as_str()),
            StringStringEntryProto::new("offset", offset.to_string()),
            StringStringEntryProto::new("length", data.len().to_string()),
        ];
    }
}

/// The files that a graph's references lead to, relative to [`Home::folder`] once they are resolved.
pub(crate) fn files_of(graph: &mut GraphProto) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    each_tensor(graph, &mut |tensor| {
        if tensor.data_location() == onnx::EXTERNAL
            && let Ok(reference) = Reference::of(tensor)
        {
            files.insert(reference.location.into());
        }
    });
    files
}

/// A reference of a tensor to a part of another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'t> {
    /// The file, relative to the graph's folder.
    pub(crate) location: &'t str,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes; `None`: as many as the shape asks for.
    pub(crate) length: Option<u64>,
}

impl<'t> Reference<'t> {
    /// What a tensor's entries say.
    pub(crate) fn of(tensor: &'t TensorProto) -> Result<Self, ExternalError> {
        let entry = |key| tensor.external_data.iter().find(|entry| entry.key() == key);
        let number = |key| {
            let value = entry(key).map(StringStringEntryProto::value);
            value.map(str::parse).transpose().map_err(|_| malformed(tensor, key, value))
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
    let (tensor, value) = (tensor.name().to_owned(), value.unwrap_or_default().to_owned());
    ExternalError::Malformed { tensor, key, value }
}

struct Files<'h> {
    home: &'h Home,
    /// The files already found, by location.
    found: HashMap<String, Found>,
    /// Bytes of each file, however its location is spelled.
    sizes: HashMap<PathBuf, u64>,
    /// Bytes of all references.
    referred: u64,
}

struct Found {
    bytes: u64,
    /// Relative to the home's folder.
    location: String,
}

impl Files<'_> {
    fn resolve(&mut self, tensor: &mut TensorProto) -> Result<(), ExternalError> {
        let reference = Reference::of(tensor)?;
        if !self.found.contains_key(reference.location) {
            let found = self.find(tensor, reference.location)?;
            self.found.insert(reference.location.to_owned(), found);
        }
        let found = &self.found[reference.location];
        let length = reference.length.or_else(|| bytes_of(tensor)).unwrap_or(0);
        let needed = reference.offset.saturating_add(length);
        if needed > found.bytes {
            let (file, found) = (self.home.given.join(reference.location), found.bytes);
            let tensor = tensor.name().to_owned();
            return Err(ExternalError::TooShort { tensor, file, needed, found });
        }
        self.referred = self.referred.saturating_add(length);
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key() == "location") {
            entry.value = Some(found.location.clone());
        }
        Ok(())
    }

    fn find(&mut self, tensor: &TensorProto, location: &str) -> Result<Found, ExternalError> {
        let outside = || ExternalError::OutsideFolder {
            tensor: tensor.name().to_owned(),
            location: location.to_owned(),
            folder: self.home.folder().to_owned(),
        };
        let file = self.home.given.join(location);
        let missing = |cause| {
            let (tensor, file) = (tensor.name().to_owned(), file.clone());
            ExternalError::Missing { tensor, file, cause }
        };
        let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if !Path::new(location).components().all(inside) {
            return Err(outside());
        }
        let target = file.canonicalize().map_err(missing)?;
        let real = self.home.real.canonicalize().map_err(missing)?;
        let below = target.strip_prefix(real).map_err(|_| outside())?;
        let bytes = files::open(&target).and_then(|file| file.metadata()).map_err(missing)?.len();
        let below = below.to_string_lossy().into_owned();
        self.sizes.insert(target, bytes);
        Ok(Found { bytes, location: if self.home.linked { below } else { location.to_owned() } })
    }
}

/// The bytes that a tensor's shape and type ask for, where both are known.
pub(crate) fn bytes_of(tensor: &TensorProto) -> Option<u64> {
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
    let elements = dims.reduce(|product, dim| product?.checked_mul(dim?)).unwrap_or(Some(1))?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}

/// Where a slice of `file` begins in it; `None` if it is no slice of it.
fn offset_in(file: &Bytes, slice: &Bytes) -> Option<usize> {
    let offset = slice.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
    (offset + slice.len() <= file.len()).then_some(offset)
}

/// Calls `visit` with every tensor of a graph: initializers and attributes, in subgraphs, too.
pub(crate) fn each_tensor(graph: &mut GraphProto, visit: &mut dyn FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *visit);
    graph.sparse_initializer.iter_mut().for_each(|sparse| each_tensor_of_sparse(sparse, visit));
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.as_deref_mut().into_iter().chain(&mut attribute.tensors).for_each(&mut *visit);
        let sparse = attribute.sparse_tensor.as_deref_mut().into_iter().chain(&mut attribute.sparse_tensors);
        sparse.for_each(|sparse| each_tensor_of_sparse(sparse, visit));
        let graphs = attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs);
        graphs.for_each(|graph| each_tensor(graph, visit));
    }
}

fn each_tensor_of_sparse(sparse: &mut SparseTensorProto, visit: &mut dyn FnMut(&mut TensorProto)) {
    sparse.values.iter_mut().chain(&mut sparse.indices).for_each(visit);
}
