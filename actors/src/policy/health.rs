//! How the brain is, in one word and, where it could be better, with its reason.

use super::{Life, Policy, actors::Actor};

/// How a brain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No actor has loaded the model yet.
    Starting,
    /// All actors serve or are about to again.
    Ready,
    /// It serves with less than it was given.
    Degraded {
        /// What is missing, and why.
        reason: String,
    },
    /// It serves nothing.
    Down {
        /// Why.
        reason: String,
    },
}

impl Health {
    /// The state as the pipe protocol spells it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded { .. } => "degraded",
            Self::Down { .. } => "down",
        }
    }

    /// What is wrong; `None` where nothing is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Starting | Self::Ready => None,
            Self::Degraded { reason } | Self::Down { reason } => Some(reason),
        }
    }
}

impl Policy {
    /// How the brain is now.
    pub fn health(&self) -> Health {
        let (actors, abandoned) = (self.actors.len(), self.abandoned.len());
        let down = self.actors.iter().filter(|actor| matches!(actor.life, Life::Down { .. })).count();
        let bound = self.config.supervision.abandoned_max;
        match (&self.model, down) {
            (None, _) => Health::Starting,
            (_, down) if down == actors => Health::Down { reason: format!("every actor is down: {}", self.why_down()) },
            (_, 0) if abandoned == 0 || abandoned < bound => Health::Ready,
            (_, 0) => Health::Degraded {
                reason: format!(
                    "{abandoned} threads hang, as many as may (`brain.abandoned_max`): the next is not replaced"
                ),
            },
            (_, down) => Health::Degraded { reason: format!("{down} of {actors} actors down: {}", self.why_down()) },
        }
    }

    /// Why actors are down.
    pub(super) fn why_down(&self) -> &'static str {
        match self.actors.iter().any(Actor::is_crowded_out) {
            true => "too many threads hang (`brain.abandoned_max`)",
            false => "too many deaths in a row (`brain.restarts_max`)",
        }
    }
}
