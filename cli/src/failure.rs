//! The one adapter between the library's typed errors and what a person reads.

use std::{error::Error, fmt, io::Write as _};

use miette::Diagnostic;
use motorbrain::{
    BrainError, StartError,
    chat::{ChatError, GrammarError, TemplateError},
    settings::SettingsError,
};

use crate::exit::Exit;

/// An error that ends the program, with its hint and its exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The status to leave behind.
    pub(crate) exit: Exit,
    cause: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    /// A failure of a typed error.
    pub(crate) fn new(exit: Exit, cause: impl Into<Box<dyn Error + Send + Sync>>, hint: Option<String>) -> Self {
        Self { exit, cause: cause.into(), hint }
    }

    /// The same with another hint.
    pub(crate) fn with_hint(self, hint: String) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Prints the chain of causes and the hint to standard error.
    pub(crate) fn report(self) {
        // Nothing is left to do where standard error is closed.
        let _ = writeln!(std::io::stderr(), "{:?}", miette::Report::new(self));
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

impl Diagnostic for Failure {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let hint = error.hint();
        Self::new(Exit::Settings, error, hint)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let hint = error.hint();
        Self::new(Exit::of(&error), error, hint)
    }
}

impl From<BrainError> for Failure {
    fn from(error: BrainError) -> Self {
        Self::new(Exit::of_code(error.code()), error, None)
    }
}

impl From<ChatError> for Failure {
    fn from(error: ChatError) -> Self {
        let exit = match &error {
            ChatError::Template(
                TemplateError::Read { .. }
                | TemplateError::TooLarge { .. }
                | TemplateError::Value { .. }
                | TemplateError::Missing { .. }
                | TemplateError::Syntax { .. },
            ) => Exit::Model,
            error => Exit::of_code(error.code()),
        };
        let hint = error.hint();
        Self::new(exit, error, hint)
    }
}

impl From<GrammarError> for Failure {
    fn from(error: GrammarError) -> Self {
        let exit = if matches!(error, GrammarError::Vocabulary { .. }) { Exit::Model } else { Exit::Settings };
        let hint = error.hint();
        Self::new(exit, error, hint)
    }
}

/// An error with its causes, one a line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}\n{inner}");
        cause = inner.source();
    }
    text
}
