//! What is done by many requests: one deadline for all of them, and one place at the gate for as long as they take.

use std::time::Duration;

use super::{
    Brain, Temporary,
    gate::{Lane, Permit},
};
use crate::{
    clock::{Clock, Time},
    message::BrainError,
};

/// Who has it all done.
#[derive(Debug)]
pub(crate) struct Many {
    brain: Brain,
    clock: Clock,
    /// When all is to be done, and how long that was.
    until: Option<(Time, Duration)>,
    _permit: Option<Permit>,
}

impl Brain {
    /// Takes a place for something that so many bytes of text are brought along for.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`] and [`BrainError::InputTooLong`].
    pub(crate) async fn many(&self, bytes: usize) -> Result<Many, BrainError> {
        let clock = self.gate.as_ref().map_or_else(Clock::start, |gate| gate.clock().clone());
        let allowed = self.deadline.or(self.limits.and_then(|limits| limits.deadline));
        let until = allowed.map(|allowed| (clock.now() + allowed, allowed));
        match self.limits.map(|limits| limits.text_bytes) {
            Some(limit) if bytes > limit => Err(BrainError::InputTooLong { found: bytes, limit }),
            _ => Ok(Many { clock, until, _permit: self.patiently(Lane::Many, 1).await?, brain: self.clone() }),
        }
    }
}

impl Many {
    /// The handle for the next request: it waits for a permit, since what came before it would be for nothing otherwise,
    /// and has what is left of the time.
    ///
    /// # Errors
    /// [`BrainError::Timeout`].
    pub(crate) fn brain(&self) -> Result<Brain, BrainError> {
        let deadline = self.until.map(|(at, deadline)| match at.since(self.clock.now()) {
            Duration::ZERO => Err(BrainError::Timeout { deadline }),
            left => Ok(left),
        });
        Ok(self.brain.patient(deadline.transpose()?))
    }

    /// Waits where there were too many conversations, since others' end.
    ///
    /// # Errors
    /// Every other one.
    pub(crate) async fn wait(&self, error: BrainError) -> Result<(), BrainError> {
        match error {
            BrainError::Overloaded { retry_after: Some(pause), .. } => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            error => Err(error),
        }
    }

    /// An error of one of the requests as that of all: who asked knows of one deadline.
    pub(crate) fn whole(&self, error: BrainError) -> BrainError {
        match (error, self.until) {
            (BrainError::Timeout { .. }, Some((_, deadline))) => BrainError::Timeout { deadline },
            (error, _) => error,
        }
    }

    /// A conversation for one of the requests, or some.
    pub(crate) fn temporary(&self, what: &str) -> Temporary {
        Temporary::new(&self.brain, what)
    }
}
