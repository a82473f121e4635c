//! Why nothing was calibrated.

use std::{io, path::PathBuf};

use motorbrain::{BrainError, calibration::CalibrationError};
use motorbrain_actors::tokens::EncodeError;

use crate::{exit::Exit, failure::Failure};

/// What is wrong with what is calibrated from, or with what makes vectors of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CalibrateError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// `expected` is what each line has.
    #[error("{path}, line {line}, has no {expected}")]
    Line {
        path: PathBuf,
        line: usize,
        expected: &'static str,
        #[source]
        cause: Option<serde_json::Error>,
    },
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    #[error(transparent)]
    Brain(#[from] BrainError),
}

impl From<CalibrateError> for Failure {
    fn from(error: CalibrateError) -> Self {
        let (exit, hint) = match &error {
            CalibrateError::Read { .. } => {
                (Exit::Settings, Some("name files of text, or folders with some".to_owned()))
            }
            CalibrateError::Line { .. } => {
                (Exit::Settings, Some("each line is JSON of its own; see `motorbrain calibrate --help`".to_owned()))
            }
            CalibrateError::Calibration(error) => (Exit::Model, error.hint()),
            CalibrateError::Encode(_) | CalibrateError::Brain(_) => (Exit::Unexpected, None),
        };
        Self::new(exit, error, hint)
    }
}
