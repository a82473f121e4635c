//! Who reads how much at a time: a long run would keep those who read little waiting many times as long as that takes.
//!
//! Callers who ask for one short text after the other are away between them, and just then a run of others begins. So
//! each counts for a moment after it came, and with the most that it had to read then. Those of one client keep only each
//! other waiting. Calls cost O(log n) of the clients that count, and O(n) when some are forgotten, once in a while. Pure:
//! the time is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{clock::Time, message::Party};

/// What somebody reads at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reads {
    pub(super) tokens: usize,
    /// Tokens before them, which they look at.
    pub(super) context: usize,
}

/// Those who read, or did a moment ago.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    linger: Duration,
    /// What each reads, and until when it counts.
    parties: BTreeMap<Party, (Reads, Time)>,
    /// The same, the fewest tokens first.
    order: BTreeSet<(Reads, Party)>,
    /// When those who have not come back are forgotten.
    sweep: Time,
}

impl Readers {
    /// Nobody. Each counts for `linger`, and at most twice as long.
    pub(super) fn new(linger: Duration) -> Self {
        Self { linger, parties: BTreeMap::new(), order: BTreeSet::new(), sweep: Time::default() }
    }

    /// This one waits to read.
    pub(super) fn wants(&mut self, party: &Party, reads: Reads, now: Time) {
        if let Some((before, until)) = self.parties.get(party).copied() {
            if before.tokens > reads.tokens && now < until {
                return;
            }
            self.order.remove(&(before, party.clone()));
        }
        self.order.insert((reads, party.clone()));
        self.parties.insert(party.clone(), (reads, now + self.linger));
    }

    /// Those who have not come back will not.
    pub(super) fn expire(&mut self, now: Time) {
        if now < self.sweep {
            return;
        }
        self.sweep = now + self.linger;
        self.parties.retain(|_, (_, until)| now < *until);
        self.order.retain(|(_, party)| self.parties.contains_key(party));
    }

    /// What the one of several reads at a time that reads the fewest tokens.
    pub(super) fn fewest(&self) -> Option<Reads> {
        let (reads, _) = self.order.first()?;
        (self.parties.len() > 1).then_some(*reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(500);

    const fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    const fn reads(tokens: usize) -> Reads {
        Reads { tokens, context: 7 }
    }

    fn party(name: &str) -> Party {
        Party { client: name.into(), ..Party::default() }
    }

    #[test]
    fn it_is_the_most_modest_of_several() {
        let mut readers = Readers::new(LINGER);
        assert_eq!(readers.fewest(), None);
        readers.wants(&party("a"), reads(20), at(0));
        assert_eq!(readers.fewest(), None, "it keeps nobody waiting but itself");
        readers.wants(&party("b"), reads(4000), at(0));
        assert_eq!(readers.fewest(), Some(reads(20)));
        readers.wants(&party("a"), reads(30), at(10));
        readers.wants(&party("a"), reads(10), at(20));
        assert_eq!(readers.fewest(), Some(reads(30)), "the most that it has to read");
        readers.wants(&party("a"), reads(10), at(510));
        assert_eq!(readers.fewest(), Some(reads(10)), "a moment ago, and no longer");
    }

    #[test]
    fn whoever_does_not_come_back_is_forgotten() {
        let mut readers = Readers::new(LINGER);
        readers.wants(&party("a"), reads(20), at(0));
        readers.wants(&party("b"), reads(4000), at(300));
        readers.expire(at(499));
        assert_eq!(readers.fewest(), Some(reads(20)));
        readers.expire(at(999));
        assert_eq!(readers.fewest(), None);
        assert!(readers.parties.is_empty() && readers.order.is_empty());
    }
}
