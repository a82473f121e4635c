//! Who decodes, and who did a moment ago: those whom a long run would keep waiting.
//!
//! Callers who ask for a token, wait for it and ask for the next are away between their requests, and just then a run
//! begins. So one that has come back from such an absence counts as if it waited to decode for as long as it may come
//! back again. The first time nobody knows that it will; one that does not come back is forgotten.
//!
//! Rows are counted by party, for fair shares. Everything costs O(log n) of those who are counted or may be. Pure: the
//! time is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{lane::LaneKey, pace::NEWEST};
use crate::{clock::Time, message::Party};

/// Who has come back to decode, or may.
#[derive(Clone, Debug)]
struct Member {
    party: Party,
    /// Asks for few tokens at a time.
    short: bool,
    /// Has come back from an absence.
    returns: bool,
    /// Until when it may come back; `None`: it is here.
    away: Option<Time>,
}

impl Member {
    /// Whether it comes back again and again.
    fn steps(&self) -> bool {
        self.short && self.returns
    }

    fn counts(&self) -> bool {
        self.away.is_none() || self.steps()
    }
}

/// Above this part of those who step coming back at once it is worth waiting for them.
const WORTH_WAITING: f64 = 0.2;

/// Above this it is counted upon.
const PROMPT: f64 = 0.5;

/// Runs from one trial to the next whether they come back at once, while it is not known that they do.
const TRIAL: u32 = 32;

/// Those who decode, here or away.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    /// For how long one that is away may come back.
    linger: Duration,
    members: BTreeMap<LaneKey, Member>,
    /// Rows that count, of each party that has any.
    parties: BTreeMap<Party, usize>,
    /// How many parties have so many rows.
    sizes: BTreeMap<usize, usize>,
    rows: usize,
    steppers: usize,
    /// Absences in the order of their ends; those that ended before are still here.
    absences: VecDeque<(Time, LaneKey)>,
    /// Those who step, were answered since the last run began, and are not back.
    awaited: BTreeSet<LaneKey>,
    /// How many were answered.
    answered: usize,
    /// Which part of them is back where they are waited for, the latest counting most.
    prompt: f64,
    runs: u32,
}

impl Crowd {
    /// Nobody.
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            linger,
            members: BTreeMap::new(),
            parties: BTreeMap::new(),
            sizes: BTreeMap::new(),
            rows: 0,
            steppers: 0,
            absences: VecDeque::new(),
            awaited: BTreeSet::new(),
            answered: 0,
            prompt: 0.0,
            runs: 0,
        }
    }

    /// Rows that decode or did a moment ago.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Whose they are.
    pub(super) fn parties(&self) -> usize {
        self.parties.len()
    }

    /// The fewest rows of one of them; 0 where there is none.
    pub(super) fn modest(&self) -> usize {
        self.sizes.first_key_value().map_or(0, |(rows, _)| *rows)
    }

    /// Whether some of them are away between their tokens.
    pub(super) fn steps(&self) -> bool {
        self.steppers > 0
    }

    /// Whether those who step come back before the next run where it waits for them.
    pub(super) fn is_prompt(&self) -> bool {
        self.prompt > PROMPT
    }

    /// Whether the next run is better begun when some who were just answered are back.
    pub(super) fn awaits(&self) -> bool {
        !self.awaited.is_empty() && (self.prompt > WORTH_WAITING || self.runs.is_multiple_of(TRIAL))
    }

    /// The next run begins; `waited`: it has waited for those who were answered.
    pub(super) fn run_begins(&mut self, waited: bool) {
        if waited && self.answered > 0 {
            let back = self.answered.saturating_sub(self.awaited.len()) as f64 / self.answered as f64;
            self.prompt += NEWEST * (back - self.prompt);
        }
        self.awaited.clear();
        self.answered = 0;
        self.runs = self.runs.wrapping_add(1);
    }

    /// This one is here to decode; `short`: it asks for few tokens and may then be away.
    pub(super) fn here(&mut self, key: &LaneKey, party: &Party, short: bool) {
        self.awaited.remove(key);
        let before = self.take(key);
        let returns = before.is_some_and(|member| member.returns || member.away.is_some());
        self.put(key, Member { party: party.clone(), short, returns, away: None });
    }

    /// This one has got what it asked for.
    pub(super) fn away(&mut self, key: &LaneKey, now: Time) {
        let Some(member) = self.take(key) else { return };
        let until = now + self.linger;
        if member.steps() {
            self.answered += 1;
            self.awaited.insert(key.clone());
        }
        self.absences.push_back((until, key.clone()));
        self.put(key, Member { away: Some(until), ..member });
    }

    /// This one does not decode any more.
    pub(super) fn leave(&mut self, key: &LaneKey) {
        self.awaited.remove(key);
        self.take(key);
    }

    /// Those who have not come back will not.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((until, _)) = self.absences.front()
            && *until <= now
        {
            let Some((until, key)) = self.absences.pop_front() else { break };
            if self.members.get(&key).is_some_and(|member| member.away == Some(until)) {
                self.leave(&key);
            }
        }
    }

    fn put(&mut self, key: &LaneKey, member: Member) {
        if member.counts() {
            self.steppers += usize::from(member.steps());
            self.rows += 1;
            self.count(&member.party, 1);
        }
        self.members.insert(key.clone(), member);
    }

    fn take(&mut self, key: &LaneKey) -> Option<Member> {
        let member = self.members.remove(key)?;
        if member.counts() {
            self.steppers -= usize::from(member.steps());
            self.rows -= 1;
            self.count(&member.party, -1);
        }
        Some(member)
    }

    fn count(&mut self, party: &Party, change: isize) {
        let before = self.parties.get(party).copied().unwrap_or(0);
        let after = before.saturating_add_signed(change);
        if let Some(parties) = self.sizes.get_mut(&before) {
            *parties -= 1;
            if *parties == 0 {
                self.sizes.remove(&before);
            }
        }
        if after == 0 {
            self.parties.remove(party);
        } else {
            *self.sizes.entry(after).or_default() += 1;
            match self.parties.get_mut(party) {
                Some(rows) => *rows = after,
                None => drop(self.parties.insert(party.clone(), after)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(500);

    const fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn key(name: &str) -> LaneKey {
        LaneKey::Conversation(name.into())
    }

    fn party(name: &str) -> Party {
        Party { client: name.into(), ..Party::default() }
    }

    fn found(crowd: &Crowd) -> (usize, usize, usize, bool) {
        (crowd.rows(), crowd.parties(), crowd.modest(), crowd.steps())
    }

    #[test]
    fn whoever_comes_back_for_the_next_token_counts_while_it_is_away() {
        let mut crowd = Crowd::new(LINGER);
        crowd.here(&key("a"), &party("a"), true);
        crowd.away(&key("a"), at(10));
        assert_eq!(found(&crowd), (0, 0, 0, false), "nobody knows yet that it comes back");
        crowd.expire(at(300));
        crowd.here(&key("a"), &party("a"), true);
        crowd.away(&key("a"), at(400));
        assert_eq!(found(&crowd), (1, 1, 1, true));
        crowd.expire(at(899));
        assert_eq!(found(&crowd), (1, 1, 1, true), "the end of its first absence is no matter");
        crowd.expire(at(900));
        assert_eq!(found(&crowd), (0, 0, 0, false));
        assert!(crowd.members.is_empty() && crowd.absences.is_empty() && crowd.sizes.is_empty());
        crowd.here(&key("a"), &party("a"), true);
        crowd.away(&key("a"), at(2000));
        assert_eq!(found(&crowd), (0, 0, 0, false), "it begins anew");
    }

    #[test]
    fn whoever_asks_for_many_tokens_is_not_waited_for() {
        let mut crowd = Crowd::new(LINGER);
        for start in [0, 100, 200] {
            crowd.here(&key("a"), &party("a"), false);
            assert_eq!(found(&crowd), (1, 1, 1, false));
            crowd.away(&key("a"), at(start));
            assert_eq!(found(&crowd), (0, 0, 0, false));
        }
    }

    #[test]
    fn rows_are_counted_by_party() {
        let mut crowd = Crowd::new(LINGER);
        for index in 0..10 {
            crowd.here(&key(&index.to_string()), &party("many"), false);
            crowd.here(&key(&index.to_string()), &party("many"), false);
        }
        assert_eq!(found(&crowd), (10, 1, 10, false), "each once");
        crowd.here(&key("x"), &party("two"), false);
        crowd.here(&key("y"), &party("two"), false);
        assert_eq!(found(&crowd), (12, 2, 2, false));
        crowd.leave(&key("x"));
        crowd.leave(&key("unknown"));
        assert_eq!(found(&crowd), (11, 2, 1, false));
        crowd.leave(&key("y"));
        assert_eq!(found(&crowd), (10, 1, 10, false));
    }
}
