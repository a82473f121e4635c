//! Why weights cannot be rewritten.

use std::io;

use crate::model::{external::ExternalError, lm_head::NoLmHead};

/// Why weights cannot be rewritten. The model they come from was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// They lie in a file that cannot be read.
    #[error(transparent)]
    External(#[from] ExternalError),
    /// A tensor has more or fewer bytes than its shape and type ask for.
    #[error("the weights `{tensor}` of shape {dims:?} have {found} bytes, expected {expected}")]
    Length {
        /// Its name.
        tensor: String,
        /// Its shape.
        dims: Vec<i64>,
        /// What shape and type ask for.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A constant that a node takes is none.
    #[error("the weights `{tensor}` are not constant")]
    NoConstant {
        /// Its name.
        tensor: String,
    },
    /// A constant that is neither f32 nor f16.
    #[error("the weights `{tensor}` are of ONNX type {data_type}, expected f32 (1) or f16 (10)")]
    NoFloats {
        /// Its name.
        tensor: String,
        /// As ONNX numbers them.
        data_type: i32,
    },
    /// The output projection is of a kind whose weights are not read.
    #[error("the output projection is a `{operator}` of weights that are not understood")]
    Projection {
        /// Its type.
        operator: String,
    },
    /// There is no output projection.
    #[error(transparent)]
    NoLmHead(#[from] NoLmHead),
    /// The new weights cannot be written.
    #[error("cannot write the new weights")]
    Write(#[from] io::Error),
}

impl WeightsError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::External(error) => error.hint(),
            Self::Length { .. } | Self::NoConstant { .. } | Self::NoFloats { .. } => {
                Some("export the model again; the graph is damaged".into())
            }
            Self::Projection { .. } => {
                Some("export the model with weights in f32, f16, or blocks of 2, 4 or 8 bits (MatMulNBits)".into())
            }
            Self::NoLmHead(_) => None,
            Self::Write(_) => Some("the new folder takes as much space as the model, or less".into()),
        }
    }
}
