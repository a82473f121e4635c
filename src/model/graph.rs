//! A graph file, decoded without copying its weights.
//!
//! What a message field of an unknown number held would be lost when the edited graph is written, so
//! a graph that does not encode to the length it was read from is refused.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;

use super::{
    mapped,
    onnx::{GraphProto, ModelProto},
};

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
            Self::Empty { .. } | Self::Malformed { .. } => {
                Some("fetch the file again; a download that was interrupted looks like this".into())
            }
            Self::NoGraph { .. } => Some("choose the model's ONNX file with `model.file`".into()),
            Self::Unknown { .. } => Some(
                "write it again with the Python package onnx (`onnx.save(onnx.load(path, load_external_data=False), path)`)"
                    .into(),
            ),
        }
    }
}

/// A decoded graph file, its weights still in the mapped file.
#[derive(Debug)]
pub(crate) struct GraphFile {
    pub(crate) path: PathBuf,
    /// The whole file; inline weights are slices of it.
    pub(crate) bytes: Bytes,
    /// Everything around the graph; its own `graph` is taken out.
    pub(crate) model: ModelProto,
    pub(crate) graph: GraphProto,
}

impl GraphFile {
    /// Maps and decodes a graph file.
    pub(crate) fn read(path: &Path) -> Result<Self, GraphError> {
        let graph = || path.to_owned();
        let bytes = mapped::map(path).map_err(|cause| GraphError::Read { graph: graph(), cause })?;
        if bytes.is_empty() {
            return Err(GraphError::Empty { graph: graph() });
        }
        let mut model = ModelProto::decode(bytes.clone()).map_err(|cause| GraphError::Malformed {
            graph: graph(),
            bytes: bytes.len(),
            cause,
        })?;
        let known = model.encoded_len();
        // Bytes that are no model at all often decode to a few unknown fields: first ask for the graph.
        match model.graph.take() {
            None => Err(GraphError::NoGraph { graph: graph() }),
            Some(_) if known != bytes.len() => Err(GraphError::Unknown { graph: graph(), bytes: bytes.len(), known }),
            Some(graph) => Ok(Self { path: path.to_owned(), bytes, model, graph }),
        }
    }
}
