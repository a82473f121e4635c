//! What the policy may be told: how many actors there are, and the bounds it holds.
//!
//! Plain values with the defaults of the settings' table; where they come from is not known here.

use std::time::Duration;

/// The policy's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    /// Embedder actors, at least one; each a thread and an engine.
    pub actors: usize,
    /// Bounds on what is admitted.
    pub limits: Limits,
    /// When an actor is given up, and when it is tried again.
    pub supervision: Supervision,
    /// The most bytes of pages that no conversation uses and that are kept for those to come.
    pub cached_bytes: usize,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { actors: 1, limits: Limits::default(), supervision: Supervision::default(), cached_bytes: 0 }
    }
}

/// Bounds on what is admitted; each has its own typed error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one text; a token id counts four.
    pub text_bytes: usize,
    /// Tokens one step may sample.
    pub count: usize,
    /// Requests that wait or are being served at once.
    pub requests: usize,
    /// Conversations that are kept at once.
    pub conversations: usize,
    /// How long a request may take that names no deadline itself; `None`: for ever.
    pub deadline: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { text_bytes: 4 << 20, count: 65_536, requests: 1024, conversations: 1024, deadline: None }
    }
}

/// When an actor is given up, and when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// The watchdog's limit: an actor whose run takes longer is abandoned.
    pub run_max: Duration,
    /// The same for a load, which takes minutes where a model is large.
    pub load_max: Duration,
    /// More restarts than this within `restarts_within`, and the actor is down for good.
    pub restarts_max: usize,
    /// The span of time in which restarts are counted; loads that fail in a row all count.
    pub restarts_within: Duration,
    /// The pause before the second restart of that span, the first being at once; each further one doubles it.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            run_max: Duration::from_secs(30),
            load_max: Duration::from_secs(600),
            restarts_max: 5,
            restarts_within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
        }
    }
}

impl Supervision {
    /// The pause before the `restart`-th restart of the span, counted from 1.
    pub fn backoff(&self, restart: usize) -> Duration {
        let Some(doublings) = restart.checked_sub(2) else { return Duration::ZERO };
        let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.backoff_min.saturating_mul(factor).min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_pauses_then_double_up_to_the_longest() {
        let supervision = Supervision::default();
        let pauses: Vec<u128> = [1, 2, 3, 7, 8, 1000].map(|n| supervision.backoff(n).as_millis()).into();
        assert_eq!(pauses, [0, 50, 100, 1600, 3200, 5000]);
    }
}
