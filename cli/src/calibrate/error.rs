//! Why nothing was calibrated.

use motorbrain::{BrainError, calibration::CalibrationError};
use motorbrain_actors::tokens::EncodeError;

use crate::{exit::Exit, failure::Failure, texts::TextsError};

/// What is wrong with what is calibrated from, or with what makes vectors of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CalibrateError {
    #[error(transparent)]
    Texts(#[from] TextsError),
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
            CalibrateError::Texts(error) => (Exit::Settings, Some(error.hint().to_owned())),
            CalibrateError::Calibration(error @ (CalibrationError::TooFew { .. } | CalibrationError::Taken { .. })) => {
                (Exit::Settings, error.hint())
            }
            CalibrateError::Calibration(error) => (Exit::Model, error.hint()),
            CalibrateError::Encode(_) | CalibrateError::Brain(_) => (Exit::Unexpected, None),
        };
        Self::new(exit, error, hint)
    }
}
