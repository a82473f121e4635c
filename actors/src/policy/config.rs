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
    /// Bounds on what conversations take.
    pub memory: Memory,
    /// Whether keys and values that leave memory can be kept elsewhere.
    pub keeps: bool,
    /// What becomes of a brain whose actors are all down.
    pub when_down: WhenDown,
    /// What pauses are drawn from, so that many brains do not wake up together.
    pub seed: u64,
}

/// What becomes of a brain whose actors are all down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// It refuses what comes, and goes on trying.
    #[default]
    Retry,
    /// It stops with an error, which its supervisor hears.
    Stop,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            actors: 1,
            limits: Limits::default(),
            supervision: Supervision::default(),
            cached_bytes: 0,
            memory: Memory::default(),
            keeps: false,
            when_down: WhenDown::Retry,
            seed: 0,
        }
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
    /// The same of one conversation.
    pub conversation_requests: usize,
    /// Conversations that hold keys and values, or of which something is asked, at once: for new ones those leave that
    /// rest longest.
    pub conversations: usize,
    /// How long a request may take that names no deadline itself; `None`: for ever.
    pub deadline: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 4 << 20,
            count: 65_536,
            requests: 1024,
            conversation_requests: 256,
            conversations: 1024,
            deadline: None,
        }
    }
}

/// Bounds on what conversations take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The most bytes of keys and values, those that are only kept for conversations to come among them; `usize::MAX`: no
    /// bound. Beyond it conversations of which nothing is asked leave, least recently used first.
    pub kv_bytes: usize,
    /// The most bytes of tokens of conversations that have left; beyond it those that rest longest are forgotten.
    pub history_bytes: usize,
    /// How long a conversation is remembered of which nothing is asked; `None`: for ever.
    pub idle_max: Option<Duration>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { kv_bytes: usize::MAX, history_bytes: 256 << 20, idle_max: None }
    }
}

/// When an actor is given up, and when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// The watchdog's limit: an actor whose run takes longer is abandoned.
    pub run_max: Duration,
    /// The same for a load, which takes minutes where a model is large.
    pub load_max: Duration,
    /// More restarts than this within `restarts_within`, and the actor is down. Deaths that requests are charged with do
    /// not count.
    pub restarts_max: usize,
    /// The span of time in which restarts are counted; loads that fail in a row all count.
    pub restarts_within: Duration,
    /// The pause before the second restart of that span, the first being at once; each further one doubles it.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// When an actor that is down is tried again for the first time; each further one waits twice as long.
    pub retry_min: Duration,
    /// The longest time between two such trials.
    pub retry_max: Duration,
    /// The most threads that hang and were left to themselves; an actor that hangs beyond that is down.
    pub abandoned_max: usize,
    /// For how long what has killed actors is refused.
    pub quarantine: Duration,
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
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            abandoned_max: 4,
            quarantine: Duration::from_secs(600),
        }
    }
}

impl Supervision {
    /// The time until an actor that is down is tried again after so many trials in a row: between three and five quarters
    /// of twice as long each time, drawn from `seed`, so that many brains do not wake up together.
    pub fn retry(&self, trials: u32, seed: u64) -> Duration {
        let factor = 1_u32.checked_shl(trials).unwrap_or(u32::MAX);
        let whole = self.retry_min.saturating_mul(factor).min(self.retry_max);
        let part = (mix(seed.wrapping_add(u64::from(trials))) >> 40) as f64 / (1_u64 << 24) as f64;
        Duration::try_from_secs_f64(whole.as_secs_f64() * (0.75 + 0.5 * part)).unwrap_or(Duration::MAX)
    }

    /// The pause before the `restart`-th restart of the span, counted from 1.
    pub fn backoff(&self, restart: usize) -> Duration {
        let Some(doublings) = restart.checked_sub(2) else { return Duration::ZERO };
        let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.backoff_min.saturating_mul(factor).min(self.backoff_max)
    }
}

/// The finaliser of splitmix64 (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators"): numbers that lie
/// next to each other become numbers that look drawn.
pub(super) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
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

    #[test]
    fn trials_are_farther_and_farther_apart_and_no_two_brains_have_the_same() {
        let supervision = Supervision::default();
        for trials in 0..40 {
            let whole = Duration::from_secs(1 << trials.min(6)).min(Duration::from_secs(60));
            for seed in 0..50 {
                let pause = supervision.retry(trials, seed);
                assert!((whole.mul_f64(0.75)..=whole.mul_f64(1.25)).contains(&pause), "{trials} {seed}: {pause:?}");
                assert_ne!(pause, supervision.retry(trials, seed + 1));
            }
        }
    }
}
