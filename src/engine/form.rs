//! In which form a model is run: paged, where that can be made and gives the model's own numbers, else
//! as its exporter wrote it.
//!
//! The choice is made by the first load of a process. A form that was made is compared with the model's
//! own graph before it is used; what came of it is kept on disk, see `kept.rs`.

use std::path::PathBuf;

use crate::model::{Activations, NotPaged};

/// How a form is chosen.
#[derive(Clone, Debug, Default)]
pub struct FormOptions {
    /// What becomes of activations.
    pub activations: Activations,
    /// Where forms that were made are kept; `None`: nowhere.
    pub cache: Option<PathBuf>,
}

/// The form that engines run.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Conversations share each run, keys and values lie in pages.
    Paged {
        /// The attention of a plain export was rewritten for it.
        fused: bool,
        /// How far it was from the model's own graph, a log-probability; `None` where an earlier
        /// process has compared them.
        difference: Option<f32>,
    },
    /// The model's own graph, one conversation after the other.
    Plain(WhyPlain),
}

/// Why a model is run as its exporter wrote it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WhyPlain {
    /// It rounds activations, and the settings do not say otherwise.
    #[error("its products round activations to 8 bits, as exported")]
    RoundsActivations,
    /// No paged form can be made.
    #[error(transparent)]
    NotPaged(#[from] NotPaged),
    /// The graph as exported gives nothing that a form could be compared with.
    #[error("its own graph gives nothing to compare with: {message}")]
    NothingToCompare {
        /// The engine's words.
        message: String,
    },
    /// The runtime does not run the form.
    #[error("the paged form does not run: {message}")]
    DoesNotRun {
        /// The runtime's own words.
        message: String,
    },
    /// The form gives other numbers.
    #[error("the paged form differs by {found} in log-probability, at most {allowed} is allowed")]
    Differs {
        /// The difference.
        found: f32,
        /// The bound.
        allowed: f32,
    },
}

impl WhyPlain {
    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        matches!(self, Self::RoundsActivations).then(|| {
            "set `runtime.activations` to \"int8\" or, more exactly, \"f32\": many conversations then share a run, \
             and answers are equal however they are cut"
                .into()
        })
    }
}
