//! A graph file, decoded without copying its weights. It is read and not mapped, see `parts.rs`.
//!
//! What a message field of an unknown number held would be lost when the edited graph is written, so
//! a graph that does not encode to the length it was read from is refused.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;

use super::{
    files,
    footprint::{self, Refused},
    onnx::{GraphProto, ModelProto},
};

/// What a decoded graph may take in memory: so many bytes for each byte of its file, and so many besides.
/// Exporters' graphs take five to twelve for each byte that is no weight.
const MEMORY_FACTOR: u64 = 16;
const MEMORY_FREE: u64 = 8 << 20;

/// Why a graph file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// It cannot be opened.
    #[error("cannot read the graph {}", graph.display())]
    Read {
        /// The file.
        graph: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// It has no bytes.
    #[error("the graph {} is empty", graph.display())]
    Empty {
        /// The file.
        graph: PathBuf,
    },
    /// It is no ONNX file, or only a part of one.
    #[error("the graph {} is not an ONNX file or was cut short at {bytes} bytes", graph.display())]
    Malformed {
        /// The file.
        graph: PathBuf,
        /// Its length.
        bytes: usize,
        /// Where decoding ended.
        #[source]
        cause: prost::DecodeError,
    },
    /// A message, but not one of a model.
    #[error("the file {} holds no graph", graph.display())]
    NoGraph {
        /// The file.
        graph: PathBuf,
    },
    /// The operator sets, which a file ends with, are not all there.
    #[error("the graph {} uses operators of the domain `{domain}`, but names no version of it", graph.display())]
    NoOperatorSet {
        /// The file.
        graph: PathBuf,
        /// The domain that is not imported; empty is that of the standard operators.
        domain: String,
    },
    /// It would take far more memory than it has bytes: things with nothing in them, millions of them.
    #[error(
        "the graph {} would take more than {allowed} bytes of memory, too much for a file of {bytes}", graph.display()
    )]
    TooMuch {
        /// The file.
        graph: PathBuf,
        /// Its length.
        bytes: usize,
        /// The bound that it is above.
        allowed: u64,
    },
    /// Graphs in graphs in graphs, deeper than any exporter writes.
    #[error("the graph {} nests more than {deepest} messages in one another", graph.display())]
    TooDeep {
        /// The file.
        graph: PathBuf,
        /// How many are read.
        deepest: usize,
    },
    /// It has fields that this version of the schema does not.
    #[error(
        "the graph {} holds something this version does not know: {bytes} bytes were read, {known} understood",
        graph.display()
    )]
    Unknown {
        /// The file.
        graph: PathBuf,
        /// Its length.
        bytes: usize,
        /// What encoding it again would give.
        known: usize,
    },
}

impl GraphError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Empty { .. } | Self::Malformed { .. } | Self::NoOperatorSet { .. } => {
                Some("fetch the file again; a download that was interrupted looks like this".into())
            }
            Self::NoGraph { .. } => Some("choose the model's ONNX file with `model.file`".into()),
            Self::TooMuch { .. } => Some("export the model again; what exporters write takes a fraction of that".into()),
            Self::TooDeep { .. } => Some("export the model with fewer conditions and loops in one another".into()),
            Self::Unknown { .. } => Some(
                "write it again with the Python package onnx (`onnx.save(onnx.load(path, load_external_data=False), path)`)"
                    .into(),
            ),
        }
    }
}

/// A decoded graph file, its weights still in the bytes of the file.
#[derive(Debug)]
pub(crate) struct GraphFile {
    /// The whole file; inline weights are slices of it.
    pub(crate) bytes: Bytes,
    /// Everything around the graph; its own `graph` is taken out.
    pub(crate) model: ModelProto,
    pub(crate) graph: GraphProto,
}

impl GraphFile {
    /// Reads and decodes a graph file.
    pub(crate) fn read(path: &Path) -> Result<Self, GraphError> {
        let graph = || path.to_owned();
        let bytes = files::read(path).map_err(|cause| GraphError::Read { graph: graph(), cause })?;
        let bytes = Bytes::from(bytes);
        if bytes.is_empty() {
            return Err(GraphError::Empty { graph: graph() });
        }
        let allowed = MEMORY_FACTOR * bytes.len() as u64 + MEMORY_FREE;
        footprint::check(&bytes, allowed).map_err(|refused| match refused {
            Refused::TooMuch => GraphError::TooMuch { graph: graph(), bytes: bytes.len(), allowed },
            Refused::TooDeep => GraphError::TooDeep { graph: graph(), deepest: footprint::DEPTH_MAX },
        })?;
        let mut model = ModelProto::decode(bytes.clone()).map_err(|cause| GraphError::Malformed {
            graph: graph(),
            bytes: bytes.len(),
            cause,
        })?;
        let known = model.encoded_len();
        // Bytes that are no model at all often decode to a few unknown fields: first ask for the graph.
        let Some(inner) = model.graph.take() else {
            return Err(GraphError::NoGraph { graph: graph() });
        };
        if known != bytes.len() {
            return Err(GraphError::Unknown { graph: graph(), bytes: bytes.len(), known });
        }
        if let Some(domain) = domain_not_imported(&model, &inner) {
            return Err(GraphError::NoOperatorSet { graph: graph(), domain: domain.to_owned() });
        }
        Ok(Self { bytes, model, graph: inner })
    }
}

/// A domain that nodes use and the model does not import.
fn domain_not_imported<'g>(model: &ModelProto, graph: &'g GraphProto) -> Option<&'g str> {
    // Two names of the standard operators.
    fn usual(domain: &str) -> &str {
        if domain == "ai.onnx" { "" } else { domain }
    }
    let imported: HashSet<&str> = model.opset_import.iter().map(|set| usual(set.domain())).collect();
    let mut used = graph.node.iter().map(|node| usual(node.domain()));
    used.find(|domain| !imported.contains(domain))
}
