//! Exit statuses: each tells a script whose turn it is.

use std::{fmt::Write as _, process::ExitCode};

use motorbrain::{ErrorCode, StartError};

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Fine,
    /// Something that should not happen.
    Unexpected,
    /// The command line or the settings are wrong; clap's own status for a wrong command line.
    Settings,
    /// The ONNX Runtime library is missing, or is none, or too old.
    Library,
    /// The model is missing, incomplete or of the wrong kind, or contradicts its preset.
    Model,
    /// The library does not load this model.
    Engine,
    /// `smoke` ran and found something wrong.
    Smoke,
    /// `prepare --weights fast` would have lost too much of the model's quality.
    Quality,
    /// Ctrl-C ended it, by the status that shells have for that.
    Interrupted,
}

impl Exit {
    const ALL: [Self; 9] = [
        Self::Fine,
        Self::Unexpected,
        Self::Settings,
        Self::Library,
        Self::Model,
        Self::Engine,
        Self::Smoke,
        Self::Quality,
        Self::Interrupted,
    ];

    /// The status of an error that kept a brain from starting.
    pub(crate) fn of(error: &StartError) -> Self {
        match error {
            StartError::Settings(_) | StartError::Window(_) | StartError::Spill(_) | StartError::Observe(_) => {
                Self::Settings
            }
            StartError::Library(_) | StartError::Runtime(_) => Self::Library,
            StartError::NoModel | StartError::Model(_) | StartError::Calibration(_) => Self::Model,
            StartError::Brain(_) => Self::Engine,
            _ => Self::Unexpected,
        }
    }

    /// The status where the one thing that was asked of a brain has this error.
    pub(crate) const fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::BadRequest
            | ErrorCode::EmptyInput
            | ErrorCode::InvalidToken
            | ErrorCode::InputTooLong
            | ErrorCode::TooLarge
            | ErrorCode::ContextFull => Self::Settings,
            _ => Self::Unexpected,
        }
    }

    /// The status the program leaves behind.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Unexpected => 1,
            Self::Settings => 2,
            Self::Library => 3,
            Self::Model => 4,
            Self::Engine => 5,
            Self::Smoke => 6,
            Self::Quality => 7,
            Self::Interrupted => 130,
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unexpected => "something unexpected, such as an unreadable standard input",
            Self::Settings => "the command line or the settings are wrong",
            Self::Library => "the ONNX Runtime library is missing, none, or too old",
            Self::Model => "the model is missing, incomplete, of the wrong kind, or not as its preset says",
            Self::Engine => "the library does not load this model",
            Self::Smoke => "the smoke test found something wrong",
            Self::Quality => "the prepared model would predict too much worse than the original",
            Self::Interrupted => "Ctrl-C ended it",
        }
    }

    /// The list for `--help`.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit status:");
        for exit in Self::ALL {
            let _ = write!(text, "\n  {}  {}", exit.code(), exit.meaning());
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
