//! The one clock: times are durations since it began. Real, or told by a test.

use std::{
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Time since a clock's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl Time {
    /// How long ago `earlier` was; zero if it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// A clock; clones are the same one. A brain has one, and its actors read it, too.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The system's, which never goes back.
    System { start: Instant },
    /// Nanoseconds that somebody sets.
    Told(Arc<AtomicU64>),
}

impl Clock {
    /// The system's, at zero now.
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn start() -> Self {
        Self(Source::System { start: Instant::now() })
    }

    /// One that stands still until its owner sets `nanoseconds`: for simulations.
    pub fn told(nanoseconds: Arc<AtomicU64>) -> Self {
        Self(Source::Told(nanoseconds))
    }

    /// The time since the start.
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    pub fn now(&self) -> Time {
        Time(match &self.0 {
            Source::System { start } => Instant::now().saturating_duration_since(*start),
            Source::Told(nanoseconds) => Duration::from_nanos(nanoseconds.load(Ordering::Acquire)),
        })
    }
}
