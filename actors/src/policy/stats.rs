//! What the brain tells of itself, at once and without asking anybody.

use super::{Health, Life, Policy, Prefixes};
use crate::{engine::EngineInfo, message::BrainError};

/// The brain's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// How the brain is.
    pub health: Health,
    /// Threads that hang and were left to themselves.
    pub abandoned: usize,
    /// Requests that no actor has.
    pub waiting: usize,
    /// One entry an actor.
    pub actors: Vec<ActorStats>,
    /// Bytes of keys and values, those that are only kept for conversations to come among them.
    pub kv_bytes: usize,
    /// The most of them that there may be; `None` where nothing bounds them.
    pub kv_bytes_max: Option<usize>,
    /// Bytes of keys and values that no conversation uses.
    pub cached_bytes: usize,
    /// Bytes of those that several conversations use, each page once.
    pub shared_bytes: usize,
    /// Conversations that are known.
    pub conversations: usize,
    /// The model.
    pub model: EngineInfo,
}

/// One actor's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorStats {
    /// Its index.
    pub actor: usize,
    /// Where it is in its life.
    pub state: ActorState,
    /// Conversations whose last job was here.
    pub conversations: usize,
    /// How often it was started again.
    pub restarts: u64,
    /// Requests with it.
    pub queued: usize,
}

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorState {
    /// Its model is being loaded for the first time.
    Starting,
    /// It serves.
    Ready,
    /// It died and pauses, or is being loaded again.
    Restarting,
    /// It died too often, or was stopped.
    Down,
}

impl ActorState {
    /// The state as the pipe protocol spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Down => "down",
        }
    }
}

impl Policy {
    /// The figures now.
    ///
    /// # Errors
    /// [`BrainError::Unavailable`] before the first actor has loaded the model.
    pub fn stats(&self) -> Result<Stats, BrainError> {
        let Some(model) = self.model.clone() else {
            return Err(BrainError::Unavailable { reason: "no actor has loaded the model yet".to_owned() });
        };
        let actors = self.actors.iter().enumerate().map(|(index, actor)| ActorStats {
            actor: index,
            state: match actor.life {
                Life::Loading { .. } if actor.incarnation.0 == 0 => ActorState::Starting,
                Life::Loading { .. } | Life::Restarting { .. } => ActorState::Restarting,
                Life::Ready => ActorState::Ready,
                Life::Down { .. } | Life::Stopping | Life::Stopped => ActorState::Down,
            },
            conversations: actor.conversations,
            restarts: actor.incarnation.0,
            queued: actor.jobs.len(),
        });
        let assigned: usize = self.actors.iter().map(|actor| actor.jobs.len()).sum();
        let page = self.page_size().map_or(0, |page| page.bytes);
        let idle = self.prefixes.as_ref().map_or(0, Prefixes::idle_pages);
        let shared = self.prefixes.as_ref().map_or(0, Prefixes::shared_pages);
        // Those that engines keep to themselves; pages are counted by who makes them.
        let kv_bytes = self.actors.iter().map(|actor| actor.kv_bytes).sum();
        Ok(Stats {
            health: self.health(),
            abandoned: self.abandoned.len(),
            waiting: self.requests.len() - assigned - self.parted,
            actors: actors.collect(),
            kv_bytes,
            kv_bytes_max: Some(self.config.memory.kv_bytes).filter(|most| *most != usize::MAX),
            cached_bytes: idle * page,
            shared_bytes: shared * page,
            conversations: self.conversations.len(),
            model,
        })
    }
}
