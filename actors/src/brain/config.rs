//! What a brain starts with, and why it may not start.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    embedder::EmbeddingConfig,
    engine::{EngineLoader, LoadError},
    policy::{Limits, PolicyConfig, Supervision},
    tokens::Tokenizer,
};

/// A brain's settings.
#[derive(Clone, Debug)]
pub struct BrainConfig {
    /// The name under which other actors find it; its embedders are `{name}/embedder-{index}.{incarnation}`.
    pub name: Option<String>,
    /// Embedder actors, each a thread and an engine; at least 1.
    pub actors: usize,
    /// Bounds on what is admitted.
    pub limits: Limits,
    /// How vectors are made.
    pub embedding: EmbeddingConfig,
    /// When an actor is given up, and when it is tried again.
    pub supervision: Supervision,
    /// The most prefill tokens in one run; at least 1.
    pub chunk: usize,
    /// The most bytes of keys and values that no conversation uses any more and that are kept for those to come.
    pub cached_bytes: usize,
}

impl Default for BrainConfig {
    fn default() -> Self {
        Self {
            name: None,
            actors: 1,
            limits: Limits::default(),
            embedding: EmbeddingConfig::default(),
            supervision: Supervision::default(),
            chunk: 256,
            cached_bytes: 1 << 30,
        }
    }
}

impl BrainConfig {
    /// Checks what no type can hold.
    ///
    /// # Errors
    /// [`StartError::Setting`].
    pub fn check(&self) -> Result<(), StartError> {
        let settings = [("actors", self.actors), ("chunk", self.chunk), ("limits.requests", self.limits.requests)];
        match settings.into_iter().find(|&(_, value)| value == 0) {
            Some((what, found)) => Err(StartError::Setting { what, found }),
            None => Ok(()),
        }
    }

    /// The part of it that the policy decides by.
    pub(super) fn policy(&self) -> PolicyConfig {
        let Self { actors, limits, supervision, cached_bytes, .. } = *self;
        PolicyConfig { actors, limits, supervision, cached_bytes }
    }
}

/// What a [`MotorBrain`](super::MotorBrain) is spawned with.
pub struct BrainArguments {
    /// What it is to be like.
    pub(super) config: BrainConfig,
    /// Makes its actors' engines.
    pub(super) loader: Arc<dyn EngineLoader>,
    /// The model's.
    pub(super) tokenizer: Arc<dyn Tokenizer>,
    /// Told once whether the first actor became ready.
    pub(super) started: Option<oneshot::Sender<Result<(), StartError>>>,
}

impl BrainArguments {
    /// For a brain that is spawned, perhaps linked, by somebody else's hand. It takes requests at
    /// once; they wait until an actor is ready. Where none can ever be, it stops.
    pub fn new(config: BrainConfig, loader: Arc<dyn EngineLoader>, tokenizer: Arc<dyn Tokenizer>) -> Self {
        Self { config, loader, tokenizer, started: None }
    }
}

impl fmt::Debug for BrainArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrainArguments").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a brain did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its range.
    #[error("`{what}` is {found}, expected at least 1")]
    Setting {
        /// Which one.
        what: &'static str,
        /// Its value.
        found: usize,
    },
    /// The model could not be loaded, and trying again would not help or did not.
    #[error("the model could not be loaded")]
    Load(#[source] LoadError),
    /// The actor could not be spawned: its name is taken.
    #[error("the brain's actor could not be spawned")]
    Spawn(#[source] ractor::SpawnErr),
    /// It was stopped before an actor was ready.
    #[error("the brain was stopped before it was ready")]
    Stopped,
}

impl StartError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setting { what, .. } => Some(format!("set `{what}` to 1 or more")),
            Self::Load(error) => error.hint.clone(),
            Self::Spawn(_) => Some("give each brain of a process a name of its own".to_owned()),
            Self::Stopped => None,
        }
    }
}
