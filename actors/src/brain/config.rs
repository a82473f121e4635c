//! What a brain starts with, and why it may not start.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::gate::Gate;
use crate::{
    engine::{EngineLoader, LoadError},
    keep::Keep,
    policy::{Limits, Memory, PolicyConfig, Supervision, WhenDown},
    shown::shown,
    tokens::Tokenizer,
    vectors::{DIM_MIN, EmbeddingConfig},
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
    /// No run beside others that wait is longer than this, as far as can be foreseen.
    pub beside_max: Duration,
    /// The most bytes of keys and values that no conversation uses any more and that are kept for those to come.
    pub cached_bytes: usize,
    /// Bounds on what conversations take.
    pub memory: Memory,
    /// Where keys and values go that leave memory; `None`: nowhere, and tokens are read again.
    pub keep: Option<Arc<dyn Keep>>,
    /// What becomes of the brain when every actor is down.
    pub when_down: WhenDown,
    /// How long a shutdown may take that names no time itself.
    pub shutdown_max: Duration,
    /// Whether actors may be told to crash and to hang.
    pub chaos: bool,
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
            beside_max: Duration::from_millis(250),
            cached_bytes: 1 << 30,
            memory: Memory::default(),
            keep: None,
            when_down: WhenDown::Retry,
            shutdown_max: Duration::from_secs(30),
            chaos: false,
        }
    }
}

impl BrainConfig {
    /// Checks what no type can hold.
    ///
    /// # Errors
    /// [`StartError::Setting`].
    pub fn check(&self) -> Result<(), StartError> {
        let Self { limits, supervision, .. } = self;
        let counts = [
            ("actors", self.actors),
            ("chunk", self.chunk),
            ("limits.text_bytes", limits.text_bytes),
            ("limits.count", limits.count),
            ("limits.requests", limits.requests),
            ("limits.conversation_requests", limits.conversation_requests),
            ("limits.conversations", limits.conversations),
            ("memory.kv_bytes", self.memory.kv_bytes),
        ];
        let times = [
            ("beside_max", self.beside_max),
            ("supervision.run_max", supervision.run_max),
            ("supervision.load_max", supervision.load_max),
            ("supervision.restarts_within", supervision.restarts_within),
            ("supervision.backoff_max", supervision.backoff_max),
            ("supervision.retry_min", supervision.retry_min),
            ("supervision.retry_max", supervision.retry_max),
            ("supervision.quarantine", supervision.quarantine),
            ("memory.idle_max", self.memory.idle_max.unwrap_or(Duration::MAX)),
        ];
        let pairs = [
            ("supervision.backoff_min", supervision.backoff_min, "supervision.backoff_max", supervision.backoff_max),
            ("supervision.retry_min", supervision.retry_min, "supervision.retry_max", supervision.retry_max),
        ];
        let setting = |what, found, expected| Err(StartError::Setting { what, found, expected });
        if let Some(&(what, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return setting(what, "0".to_owned(), "1 or more".to_owned());
        }
        if let Some(dim) = self.embedding.dim.filter(|dim| *dim < DIM_MIN) {
            return setting("embedding.dim", dim.to_string(), format!("{DIM_MIN} or more"));
        }
        if let Some(&(what, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return setting(what, "0".to_owned(), "a time longer than that".to_owned());
        }
        if let Some((what, least, other, most)) = pairs.into_iter().find(|(_, least, _, most)| least > most) {
            return setting(what, format!("{least:?}"), format!("at most the {most:?} of `{other}`"));
        }
        Ok(())
    }

    /// The part of it that the policy decides by.
    pub(super) fn policy(&self, seed: u64) -> PolicyConfig {
        let Self { actors, limits, supervision, cached_bytes, memory, when_down, .. } = *self;
        let keeps = self.keep.is_some();
        PolicyConfig { actors, limits, supervision, cached_bytes, memory, keeps, when_down, seed }
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
    /// Its permits.
    pub(super) gate: Arc<Gate>,
    /// Told once whether the first actor became ready.
    pub(super) started: Option<oneshot::Sender<Result<(), StartError>>>,
}

impl BrainArguments {
    /// For a brain that is spawned, perhaps linked, by somebody else's hand. It takes requests at
    /// once; they wait until an actor is ready. Where none can ever be, it stops, and its supervisor hears why.
    pub fn new(config: BrainConfig, loader: Arc<dyn EngineLoader>, tokenizer: Arc<dyn Tokenizer>) -> Self {
        let gate = Gate::new(config.limits.requests);
        Self { config, loader, tokenizer, gate, started: None }
    }
}

impl fmt::Debug for BrainArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrainArguments").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a brain did not start.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its range.
    #[error("`{what}` is {found}, expected {expected}")]
    Setting {
        /// Which one.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
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
            Self::Setting { what, expected, .. } => Some(format!("set `{what}` to {expected}")),
            Self::Load(error) => error.hint.clone(),
            Self::Spawn(_) => Some("give each brain of a process a name of its own".to_owned()),
            Self::Stopped => None,
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, self, self.hint())
    }
}
