//! Who is to blame for actors' deaths, and for how long.
//!
//! What is charged with a death is not the request, which may be over by then, but a fingerprint of what it asks: its
//! conversation, or the stateless input. Whatever an actor was doing something for when it died or hung is charged, and
//! suspect from then on: its next job has its first runs to itself. The first one survived alone lifts the suspicion, as
//! most who are charged were only in company; who dies alone while suspect is condemned, and refused for a time. Who is
//! charged again after that has twice as many runs to survive, so that what kills in its tenth run only is found, too;
//! where others may have killed as well, at most [`RUNS_IN_DOUBT_MAX`]: many deaths in company serialise nobody for long.
//!
//! Pure. Charges fade: a record is forgotten [`Supervision::quarantine`](super::Supervision::quarantine) after its last
//! charge. There are at most [`RECORDS_MAX`] of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use super::{ActorIndex, Ask, Time};
use crate::{message::ConversationId, tokens::TokenId};

/// The most fingerprints that are remembered; beyond it those charged longest ago are forgotten.
const RECORDS_MAX: usize = 4096;

/// The most runs that a death in company has anybody survive alone: what kills more seldom than that costs less than to
/// look for it among all that ride.
const RUNS_IN_DOUBT_MAX: u32 = 32;

/// What may kill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fingerprint {
    /// Anything asked of this conversation, until it is reset.
    Conversation(ConversationId),
    /// An input without a conversation.
    Input(u64),
}

impl Fingerprint {
    /// Of an input that is asked without a conversation. `seed`: nobody foresees which inputs look alike.
    pub(super) fn of_input(seed: u64, ask: &Ask, tokens: &[TokenId]) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, std::mem::discriminant(ask), tokens).hash(&mut hasher);
        Self::Input(hasher.finish())
    }

    /// The conversation, if it is one.
    pub(super) fn conversation(&self) -> Option<&ConversationId> {
        match self {
            Self::Conversation(name) => Some(name),
            Self::Input(_) => None,
        }
    }
}

/// How a fingerprint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It was charged, and survived alone since.
    Cleared,
    /// It is to survive alone first.
    Suspect,
    /// It is refused.
    Condemned,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    standing: Standing,
    /// How often it was charged.
    charges: u32,
    /// How many runs it is to survive alone before it may ride with others.
    alone: u32,
    /// Who died of it last: another one is to show that it was not the actor.
    killed: ActorIndex,
    /// When it was charged last.
    last: Time,
}

/// What is charged with deaths.
#[derive(Debug)]
pub(super) struct Blame {
    records: BTreeMap<Fingerprint, Record>,
    /// The same by their last charge.
    by_age: BTreeSet<(Time, Fingerprint)>,
    /// How long a charge is remembered.
    fades_after: Duration,
}

impl Blame {
    /// Nobody is charged with anything.
    pub(super) fn new(fades_after: Duration) -> Self {
        Self { records: BTreeMap::new(), by_age: BTreeSet::new(), fades_after }
    }

    /// Whether nobody is charged: then nobody's fingerprint need be looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Charges it with a death; true where it is condemned for that. `alone`: nothing else could have been it.
    pub(super) fn charge(&mut self, who: &Fingerprint, killed: ActorIndex, alone: bool, now: Time) -> bool {
        self.fade(now);
        let before = self.forget(who);
        let suspect = before.is_some_and(|record| record.standing != Standing::Cleared);
        let standing = if suspect && alone { Standing::Condemned } else { Standing::Suspect };
        let charges = before.map_or(0, |record| record.charges) + 1;
        let runs = 1_u32.checked_shl(charges - 1).unwrap_or(u32::MAX);
        let runs = if alone { runs } else { runs.min(RUNS_IN_DOUBT_MAX) };
        self.records.insert(who.clone(), Record { standing, charges, alone: runs, killed, last: now });
        self.by_age.insert((now, who.clone()));
        while self.records.len() > RECORDS_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.records.remove(&oldest);
        }
        standing == Standing::Condemned
    }

    /// It has survived so many runs alone.
    pub(super) fn survive(&mut self, who: &Fingerprint, runs: u32) {
        if let Some(record) = self.records.get_mut(who).filter(|record| record.standing == Standing::Suspect) {
            record.alone = record.alone.saturating_sub(runs);
            if record.alone == 0 {
                record.standing = Standing::Cleared;
            }
        }
    }

    /// It begins anew: nothing of it is what it was.
    pub(super) fn pardon(&mut self, who: &Fingerprint) {
        self.forget(who);
    }

    /// How many runs it has to itself before it may ride with others.
    pub(super) fn runs_alone(&self, who: &Fingerprint, now: Time) -> u32 {
        match self.records.get(who) {
            Some(&Record { standing: Standing::Suspect, alone, last, .. }) if now.since(last) < self.fades_after => {
                alone
            }
            _ => 0,
        }
    }

    /// The actor that is not to try it again, if there is another: a suspect's last one.
    pub(super) fn killed(&self, who: &Fingerprint) -> Option<ActorIndex> {
        let record = self.records.get(who).filter(|record| record.standing == Standing::Suspect);
        record.map(|record| record.killed)
    }

    /// For how much longer it is refused, if it is.
    pub(super) fn refused(&self, who: &Fingerprint, now: Time) -> Option<Duration> {
        let record = self.records.get(who).filter(|record| record.standing == Standing::Condemned)?;
        let left = self.fades_after.checked_sub(now.since(record.last))?;
        (!left.is_zero()).then_some(left)
    }

    /// What was charged long ago is forgotten.
    pub(super) fn fade(&mut self, now: Time) {
        while let Some((last, _)) = self.by_age.first()
            && now.since(*last) >= self.fades_after
            && let Some((_, who)) = self.by_age.pop_first()
        {
            self.records.remove(&who);
        }
    }

    fn forget(&mut self, who: &Fingerprint) -> Option<Record> {
        let record = self.records.remove(who)?;
        self.by_age.remove(&(record.last, who.clone()));
        Some(record)
    }

    /// What does not fit together, as sentences.
    pub(super) fn check_invariants(&self, broken: &mut Vec<String>) {
        let (records, ages) = (self.records.len(), self.by_age.len());
        if records != ages || records > RECORDS_MAX {
            broken.push(format!("{records} fingerprints are charged, {ages} have an age"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ActorIndex = ActorIndex(0);
    const FADES: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    fn named(name: &str) -> Fingerprint {
        Fingerprint::Conversation(name.into())
    }

    #[test]
    fn who_dies_alone_while_suspect_is_condemned_and_refused_for_a_time() {
        let (mut blame, who) = (Blame::new(FADES), named("a"));
        assert!(!blame.charge(&who, A, false, at(0)));
        assert_eq!((blame.runs_alone(&who, at(1)), blame.refused(&who, at(1))), (1, None));
        assert!(blame.charge(&who, A, true, at(1)));
        assert_eq!(blame.refused(&who, at(11)), Some(Duration::from_secs(50)));
        assert_eq!(blame.refused(&who, at(61)), None);
        assert!(!blame.charge(&who, A, true, at(62)), "what it did is forgotten");
    }

    #[test]
    fn company_condemns_nobody_and_serialises_nobody_for_long() {
        let (mut blame, who) = (Blame::new(FADES), named("a"));
        for second in 0..20 {
            assert!(!blame.charge(&who, A, false, at(second)));
        }
        assert_eq!(blame.runs_alone(&who, at(20)), RUNS_IN_DOUBT_MAX);
    }

    #[test]
    fn a_run_survived_alone_lifts_suspicion_and_the_next_time_takes_twice_as_many() {
        let (mut blame, who) = (Blame::new(FADES), named("a"));
        for expected in [1, 2, 4] {
            assert!(!blame.charge(&who, A, true, at(1)), "it was cleared");
            assert_eq!(blame.runs_alone(&who, at(1)), expected);
            for left in (0..expected).rev() {
                blame.survive(&who, 1);
                assert_eq!(blame.runs_alone(&who, at(1)), left);
            }
            assert_eq!(blame.killed(&who), None);
        }
        blame.charge(&who, A, true, at(1));
        assert!(blame.charge(&who, A, true, at(2)));
        blame.survive(&who, u32::MAX);
        assert!(blame.refused(&who, at(3)).is_some(), "who is condemned is not cleared by what came before");
        blame.pardon(&who);
        assert!(blame.is_empty());
    }

    #[test]
    fn those_charged_longest_ago_are_forgotten_first() {
        let mut blame = Blame::new(FADES);
        for number in 0..=RECORDS_MAX as u64 {
            blame.charge(&Fingerprint::Input(number), A, true, Time(Duration::from_millis(number)));
        }
        assert_eq!(blame.runs_alone(&Fingerprint::Input(0), at(5)), 0);
        assert_eq!(blame.runs_alone(&Fingerprint::Input(1), at(5)), 1);
        let mut broken = Vec::new();
        blame.check_invariants(&mut broken);
        assert!(broken.is_empty(), "{broken:?}");
    }
}
