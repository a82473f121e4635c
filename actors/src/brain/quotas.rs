//! Who may have how many permits at once, and when the next one is likely to be free: pure.
//!
//! A limit alone lets one flood take everything; a fixed share for each client leaves unused what others do not need. The
//! threshold of Choudhury and Hahne ("Dynamic queue length thresholds in a shared-memory packet switch", IEEE/ACM
//! Transactions on Networking 6(2), 1998) does neither: nobody may have more than a fixed multiple of what is still free.
//! With the multiple chosen here one client alone has all but a reserve, several that want everything have equal shares,
//! and whoever comes new finds room.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Time,
    message::{ClientId, worth_waiting},
};

/// One permit in so many is left free by whoever has some already.
const RESERVE: usize = 8;

/// Permits that are out.
#[derive(Debug)]
pub(super) struct Quotas {
    limit: usize,
    /// Of each client that has any.
    held: BTreeMap<ClientId, usize>,
    total: usize,
    pace: Pace,
}

impl Quotas {
    /// So many permits, all of them free.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: BTreeMap::new(), total: 0, pace: Pace::default() }
    }

    /// The most at once.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.limit - self.total
    }

    /// How many a client has.
    pub(super) fn held_by(&self, client: &ClientId) -> usize {
        self.held.get(client).copied().unwrap_or(0)
    }

    /// Whether a client may have `wanted` more now.
    pub(super) fn admits(&self, client: &ClientId, wanted: usize) -> bool {
        let (held, reserve) = (self.held_by(client), self.limit / RESERVE);
        let Some(free) = self.limit.checked_sub(self.total.saturating_add(wanted)) else {
            return false;
        };
        // In integers: what it then has is at most (limit - reserve) / reserve times what is then free.
        let product = |one: usize, other: usize| one as u128 * other as u128;
        held == 0 || product(held + wanted, reserve) <= product(free, self.limit - reserve)
    }

    /// Gives a client `wanted` more, if it may have them.
    pub(super) fn take(&mut self, now: Time, client: &ClientId, wanted: usize) -> bool {
        if !self.admits(client, wanted) {
            return false;
        }
        if self.total == 0 {
            self.pace.begins(now);
        }
        self.total += wanted;
        match self.held.get_mut(client) {
            Some(held) => *held += wanted,
            None => drop(self.held.insert(client.clone(), wanted)),
        }
        true
    }

    /// Takes so many of a client's back.
    pub(super) fn give_back(&mut self, now: Time, client: &ClientId, count: usize) {
        self.pace.released(now, count);
        self.total = self.total.saturating_sub(count);
        if let Some(held) = self.held.get_mut(client) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.held.remove(client);
            }
        }
    }

    /// When it is worth asking for `wanted` again, if so many are asked for before; `None` where that never helps.
    pub(super) fn retry_after(&self, now: Time, wanted: usize, before: usize) -> Option<Duration> {
        (wanted <= self.limit).then(|| self.pace.foresee(now, wanted.saturating_add(before)))
    }
}

/// How fast permits come back.
#[derive(Debug, Default)]
struct Pace {
    /// The mean time between two of them, the last ones weighing most; `None` before the first.
    mean: Option<Duration>,
    /// When one came back last, or the first one was given.
    last: Time,
}

impl Pace {
    /// None was out; the time until now says nothing.
    fn begins(&mut self, now: Time) {
        self.last = now;
    }

    fn released(&mut self, now: Time, count: usize) {
        let gap = now.since(self.last) / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        self.mean = Some(self.mean.map_or(gap, |mean| mean - mean / 8 + gap / 8));
        self.last = now;
    }

    /// How long it takes until so many have come back. Where none has come for longer than usual, it goes on like that.
    fn foresee(&self, now: Time, count: usize) -> Duration {
        let gap = self.mean.unwrap_or_default().max(now.since(self.last));
        worth_waiting(gap.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(index: usize) -> ClientId {
        format!("client {index}").into()
    }

    fn at(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    /// How many each of so many clients has where all of them ask for as many as they get, in turn.
    fn greedy(limit: usize, clients: usize) -> Vec<usize> {
        let mut quotas = Quotas::new(limit);
        let mut round = || (0..clients).filter(|&index| quotas.take(at(0), &client(index), 1)).count();
        while round() > 0 {}
        (0..clients).map(|index| quotas.held_by(&client(index))).collect()
    }

    #[test]
    fn one_client_alone_has_all_but_the_reserve() {
        assert_eq!(greedy(1024, 1), [896]);
        assert_eq!(greedy(8, 1), [7]);
        assert_eq!(greedy(7, 1), [7], "where a reserve would be none");
        assert_eq!(greedy(1, 1), [1]);
    }

    #[test]
    fn several_that_want_everything_have_equal_shares_and_leave_room() {
        for clients in 2..10 {
            let shares = greedy(1024, clients);
            let (least, most) = (shares.iter().min().copied(), shares.iter().max().copied());
            assert!(most <= least.map(|least| least + 1), "{shares:?}");
            let free = 1024 - shares.iter().sum::<usize>();
            assert!(free >= 1024 / (1 + 7 * clients), "{free} are free beside {shares:?}");
        }
    }

    #[test]
    fn whoever_comes_new_finds_room_until_none_is_left() {
        let mut quotas = Quotas::new(64);
        while quotas.take(at(0), &client(0), 1) {}
        for new in 1..=8 {
            assert!(quotas.take(at(0), &client(new), 1), "client {new}");
        }
        assert!(!quotas.take(at(0), &client(9), 1));
    }

    #[test]
    fn when_to_come_back_is_what_the_last_permits_took() {
        let mut quotas = Quotas::new(2);
        let retry = |quotas: &Quotas, now, wanted, before| {
            quotas.retry_after(at(now), wanted, before).map(|after| after.as_millis())
        };
        assert!(quotas.take(at(10_000), &client(0), 2));
        assert_eq!(retry(&quotas, 10_000, 1, 0), Some(1));
        assert_eq!(retry(&quotas, 10_040, 1, 0), Some(40), "none has come back for so long");
        quotas.give_back(at(10_100), &client(0), 2);
        assert_eq!(retry(&quotas, 10_100, 1, 0), Some(50));
        assert_eq!(retry(&quotas, 10_100, 2, 1), Some(150));
        assert_eq!(retry(&quotas, 10_200, 1, 0), Some(100));
        assert_eq!(retry(&quotas, 1_000_000, 1, 0), Some(30_000));
        assert_eq!(retry(&quotas, 10_100, 3, 0), None, "so many are never free");
        // The time without any is none between two.
        assert!(quotas.take(at(50_000), &client(0), 1));
        assert_eq!(retry(&quotas, 50_001, 1, 0), Some(50));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_and_given_back_adds_up(
            limit in 1_usize..40,
            moves in prop::collection::vec((0_usize..4, 1_usize..5, any::<bool>()), 0..200),
        ) {
            let mut quotas = Quotas::new(limit);
            let mut out: Vec<(usize, usize)> = Vec::new();
            for (who, count, gives) in moves {
                if gives && !out.is_empty() {
                    let (who, count) = out.swap_remove(who % out.len());
                    quotas.give_back(at(0), &client(who), count);
                } else if quotas.take(at(0), &client(who), count) {
                    out.push((who, count));
                }
                let held: usize = out.iter().map(|&(_, count)| count).sum();
                prop_assert!(held <= limit);
                prop_assert_eq!(quotas.total, held);
            }
            for (who, count) in out {
                quotas.give_back(at(0), &client(who), count);
            }
            prop_assert_eq!(quotas.total, 0);
            prop_assert!(quotas.held.is_empty());
        }
    }
}
