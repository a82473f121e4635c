//! Fair shares: who is next among many who wait, by client, then by flow, then in the order of arrival.
//!
//! Start-time fair queueing in two levels (Goyal, Vin, Cheng 1996, "Start-time Fair Queuing: A Scheduling Algorithm for
//! Integrated Services Packet Switching Networks"). Everybody has an account of what they were served, in any unit, and
//! whoever was served least is next. The virtual time is the account of whoever came last to be next; one that was away
//! comes back at the present virtual time at least, so that nobody saves up credit and nobody's debt is older than
//! what they were served last. A flow is a conversation, or all requests of a client without one together: neither many
//! conversations nor many single requests get a client more than its share.
//!
//! [`Priority::Background`] is charged [`BACKGROUND`] times what it costs. A client's background requests have an
//! account beside that of its interactive ones, so that neither waits for the other's debts.
//!
//! Pure: it knows neither what waits nor what it costs, and equal calls give equal orders. Each call costs O(log n) of
//! what waits and was served lately, spread over the calls. Accounts with nothing waiting are forgotten when the virtual
//! time has passed them, now and then; of others there are at most [`RECENT_PARTIES`] and, for each of them,
//! [`RECENT_FLOWS`].

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{ConversationId, Party, Priority};

/// How many times more a background request is charged, see [`Priority`].
pub(crate) const BACKGROUND: u64 = 16;

/// The most parties with nothing waiting whose accounts are kept.
pub(crate) const RECENT_PARTIES: usize = 256;

/// The most flows of a party with nothing waiting whose accounts are kept.
pub(crate) const RECENT_FLOWS: usize = 256;

/// Names something that waits, so that it can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u64);

/// A client's requests that follow each other: those of a conversation, or (`None`) all of them without one.
pub(crate) type Flow = Option<ConversationId>;

/// What was next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next<K> {
    /// Whose it is.
    pub(crate) party: Party,
    /// Its flow.
    pub(crate) flow: Flow,
    /// What waited.
    pub(crate) item: K,
}

/// What waits for a share of something.
#[derive(Clone, Debug)]
pub(crate) struct Shares<K> {
    parties: Level<Party, Level<Flow, BTreeMap<u64, K>>>,
    len: usize,
    /// The next place, and the next rank among those that were served as much.
    next: u64,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { parties: Level::new(RECENT_PARTIES), len: 0, next: 0 }
    }
}

impl<K> Shares<K> {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more waits, behind all others of its flow; also one that comes back after a part of what it needs.
    pub(crate) fn push(&mut self, party: &Party, flow: &Flow, item: K) -> Place {
        let number = self.next;
        self.next += 1;
        let flows = self.parties.enter(party, number, || Level::new(RECENT_FLOWS));
        flows.enter(flow, number, BTreeMap::new).insert(number, item);
        self.len += 1;
        Place(number)
    }

    /// The first of the least served flow of the least served client; of equals, who was next longest ago. It is
    /// charged for what it is given by [`Self::charge`].
    pub(crate) fn pop(&mut self) -> Option<Next<K>> {
        let number = self.next;
        self.next += 1;
        let (party, next) = self.parties.pop(number, |flows| {
            let next = flows.pop(number, |items| (items.pop_first(), !items.is_empty()));
            (next, !flows.ready.is_empty())
        })?;
        let (flow, item) = next?;
        let (_, item) = item?;
        self.len -= 1;
        Some(Next { party, flow, item })
    }

    /// Takes out what waits under this place, if it still does.
    pub(crate) fn remove(&mut self, party: &Party, flow: &Flow, place: Place) -> Option<K> {
        let item = self.parties.take(party, |flows| {
            let item = flows.take(flow, |items| Some((items.remove(&place.0)?, !items.is_empty())))?;
            Some((item, !flows.ready.is_empty()))
        })?;
        self.len -= 1;
        Some(item)
    }

    /// What a flow was given, in any unit that is the same for all. Counts at once: the next [`Self::pop`] sees it.
    pub(crate) fn charge(&mut self, party: &Party, flow: &Flow, cost: u64) {
        let factor = match party.priority {
            Priority::Interactive => 1,
            Priority::Background => BACKGROUND,
        };
        let flows = self.parties.charge(party, u128::from(cost) * u128::from(factor), || Level::new(RECENT_FLOWS));
        flows.charge(flow, u128::from(cost), BTreeMap::new);
    }

    /// Everything that waits, in no order that means anything.
    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = &K> {
        let flows = self.parties.accounts.values().flat_map(|party| party.waiting.accounts.values());
        flows.flat_map(|flow| flow.waiting.values())
    }

    /// Accounts that are kept, of parties and of flows.
    #[cfg(test)]
    fn accounts(&self) -> (usize, usize) {
        let flows = self.parties.accounts.values().map(|party| party.waiting.accounts.len()).sum();
        (self.parties.accounts.len(), flows)
    }
}

/// What somebody was served, and what of theirs waits.
#[derive(Clone, Debug)]
struct Account<Waiting> {
    served: u128,
    /// Their place among those that were served as much, while something waits.
    place: Option<u64>,
    waiting: Waiting,
}

/// Accounts beside each other.
#[derive(Clone, Debug)]
struct Level<Name, Waiting> {
    /// The virtual time: never goes back.
    now: u128,
    accounts: BTreeMap<Name, Account<Waiting>>,
    /// Those with something waiting, by what they were served and their place.
    ready: BTreeSet<(u128, u64, Name)>,
    /// The most others that are kept.
    idle_max: usize,
    /// As many accounts are looked through for those to be forgotten: so many more than the last time were left that
    /// each costs its opening as much again.
    look_at: usize,
}

impl<Name: Ord + Clone, Waiting> Level<Name, Waiting> {
    fn new(idle_max: usize) -> Self {
        Self { now: 0, accounts: BTreeMap::new(), ready: BTreeSet::new(), idle_max, look_at: idle_max }
    }

    /// Opens their account, if need be, at the virtual time.
    fn open(&mut self, name: &Name, waiting: impl FnOnce() -> Waiting) {
        // Two looks where an entry would be one, but no copy of the name for one that is known.
        if !self.accounts.contains_key(name) {
            if self.accounts.len() >= self.look_at {
                self.forget();
            }
            self.accounts.insert(name.clone(), Account { served: self.now, place: None, waiting: waiting() });
        }
    }

    /// Something of theirs waits, `place` is theirs if nothing did.
    fn enter(&mut self, name: &Name, place: u64, waiting: impl FnOnce() -> Waiting) -> &mut Waiting {
        self.open(name, waiting);
        let account = self.accounts.get_mut(name).unwrap_or_else(|| unreachable!("just opened"));
        if account.place.is_none() {
            account.served = account.served.max(self.now);
            account.place = Some(place);
            self.ready.insert((account.served, place, name.clone()));
        }
        &mut account.waiting
    }

    /// Takes from whoever was served least, whose account is the virtual time then; `take` says also whether more of
    /// theirs waits, and then `place` is theirs.
    fn pop<T>(&mut self, place: u64, take: impl FnOnce(&mut Waiting) -> (T, bool)) -> Option<(Name, T)> {
        let (served, _, name) = self.ready.pop_first()?;
        self.now = self.now.max(served);
        let account = self.accounts.get_mut(&name)?;
        let (taken, more) = take(&mut account.waiting);
        account.place = more.then_some(place);
        if more {
            self.ready.insert((served, place, name.clone()));
        }
        Some((name, taken))
    }

    /// Takes something that waits; `take` says also whether more of theirs does.
    fn take<T>(&mut self, name: &Name, take: impl FnOnce(&mut Waiting) -> Option<(T, bool)>) -> Option<T> {
        let account = self.accounts.get_mut(name)?;
        let (taken, more) = take(&mut account.waiting)?;
        if !more && let Some(place) = account.place.take() {
            self.ready.remove(&(account.served, place, name.clone()));
        }
        Some(taken)
    }

    fn charge(&mut self, name: &Name, cost: u128, waiting: impl FnOnce() -> Waiting) -> &mut Waiting {
        self.open(name, waiting);
        let account = self.accounts.get_mut(name).unwrap_or_else(|| unreachable!("just opened"));
        if let Some(place) = account.place {
            self.ready.remove(&(account.served, place, name.clone()));
            self.ready.insert((account.served + cost, place, name.clone()));
        }
        account.served += cost;
        &mut account.waiting
    }

    /// Forgets those with nothing waiting who would come back at the virtual time anyway; where too many others are left
    /// the virtual time passes half of them.
    fn forget(&mut self) {
        let now = self.now;
        self.accounts.retain(|_, account| account.place.is_some() || account.served >= now);
        if self.accounts.len() - self.ready.len() > self.idle_max / 2 {
            let idle = self.accounts.values().filter(|account| account.place.is_none());
            let mut served: Vec<_> = idle.map(|account| account.served).collect();
            served.sort_unstable();
            let now = served[served.len().saturating_sub(self.idle_max / 2)];
            self.now = self.now.max(now);
            self.accounts.retain(|_, account| account.place.is_some() || account.served > now);
        }
        self.look_at = self.accounts.len() + self.ready.len() + self.idle_max / 2;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(name: &str) -> Party {
        Party { client: name.into(), priority: Priority::Interactive }
    }

    fn background(name: &str) -> Party {
        Party { priority: Priority::Background, ..client(name) }
    }

    fn flow(name: &str) -> Flow {
        Some(name.into())
    }

    /// Everybody has work without end; `rounds` are given out, each of the cost that `cost` says. What each party got.
    fn serve(
        waiting: &[(Party, Flow)],
        rounds: usize,
        mut cost: impl FnMut(&Party, &Flow) -> u64,
    ) -> BTreeMap<(Party, Flow), u64> {
        let mut shares = Shares::new();
        let mut served: BTreeMap<_, u64> = waiting.iter().map(|both| (both.clone(), 0)).collect();
        for (party, flow) in waiting {
            shares.push(party, flow, ());
        }
        for _ in 0..rounds {
            let Some(Next { party, flow, item }) = shares.pop() else { break };
            let cost = cost(&party, &flow);
            shares.charge(&party, &flow, cost);
            shares.push(&party, &flow, item);
            *served.entry((party, flow)).or_default() += cost;
        }
        served
    }

    fn of(served: &BTreeMap<(Party, Flow), u64>, party: &Party) -> u64 {
        served.iter().filter(|((whose, _), _)| whose == party).map(|(_, cost)| cost).sum()
    }

    #[test]
    fn a_thousand_flows_get_no_more_than_one() {
        let mut waiting: Vec<_> = (0..1000).map(|index| (client("many"), flow(&index.to_string()))).collect();
        waiting.push((client("one"), flow("0")));
        let served = serve(&waiting, 4000, |_, _| 1);
        assert_eq!((of(&served, &client("many")), of(&served, &client("one"))), (2000, 2000));
        assert!(served.iter().all(|((party, _), &got)| *party == client("one") || got == 2), "flows share alike");
    }

    #[test]
    fn requests_without_a_conversation_are_one_flow_together() {
        let (mut shares, party) = (Shares::new(), client("a"));
        for index in 0..1000 {
            shares.push(&party, &None, index);
        }
        shares.push(&party, &flow("talk"), 1000);
        let mut before = 0;
        while let Some(Next { flow, item, .. }) = shares.pop()
            && item != 1000
        {
            assert_eq!(item, before, "in the order of arrival");
            shares.charge(&party, &flow, 1);
            before += 1;
        }
        assert!(before <= 1, "{before} went before the conversation");
    }

    #[test]
    fn background_gets_a_sixteenth() {
        for (one, other) in [("a", "b"), ("a", "a")] {
            let served = serve(&[(client(one), None), (background(other), None)], 1700, |_, _| 3);
            let (front, back) = (of(&served, &client(one)), of(&served, &background(other)));
            assert_eq!((front, back), (1600 * 3, 100 * 3));
        }
    }

    #[test]
    fn one_that_was_away_has_neither_saved_up_nor_owes_for_ever() {
        let mut shares = Shares::new();
        let (busy, away) = (client("busy"), client("away"));
        let turn = |shares: &mut Shares<()>| {
            let Next { party, flow, .. } = shares.pop().unwrap();
            shares.charge(&party, &flow, 10);
            shares.push(&party, &flow, ());
            party
        };
        shares.push(&away, &None, ());
        shares.push(&busy, &None, ());
        (0..10).for_each(|_| drop(turn(&mut shares)));
        // Away leaves while busy is served for long, and comes back.
        while shares.pop().unwrap().party != away {
            shares.push(&busy, &None, ());
        }
        if shares.is_empty() {
            shares.push(&busy, &None, ());
        }
        (0..1000).for_each(|_| drop(turn(&mut shares)));
        shares.push(&away, &None, ());
        let turns: Vec<_> = (0..10).map(|_| turn(&mut shares)).collect();
        assert_eq!(turns.iter().filter(|party| **party == away).count(), 5, "{turns:?}");
        // And one that had everything to itself for long shares at once with a newcomer.
        shares.push(&client("new"), &None, ());
        let turns: Vec<_> = (0..9).map(|_| turn(&mut shares)).collect();
        assert!(turns.iter().filter(|party| **party == busy).count() >= 2, "{turns:?}");
    }

    #[test]
    fn what_is_taken_out_is_not_next_and_leaves_nothing() {
        let (mut shares, party) = (Shares::new(), client("a"));
        let places: Vec<_> = (0..4).map(|index| shares.push(&party, &None, index)).collect();
        assert_eq!(shares.remove(&party, &None, places[1]), Some(1));
        assert_eq!(shares.remove(&party, &None, places[1]), None, "twice");
        assert_eq!(shares.remove(&client("b"), &None, places[2]), None, "another's");
        let order: Vec<_> = std::iter::from_fn(|| shares.pop().map(|next| next.item)).collect();
        assert_eq!(order, [0, 2, 3]);
        let last = shares.push(&party, &flow("x"), 9);
        assert_eq!((shares.remove(&party, &flow("x"), last), shares.len()), (Some(9), 0));
        assert_eq!(shares.pop(), None);
    }

    #[test]
    fn accounts_are_bounded_by_what_waits_and_what_was_served_lately() {
        let mut shares = Shares::new();
        for index in 0..20_000 {
            let (party, flow) = (client(&(index / 100).to_string()), flow(&index.to_string()));
            shares.push(&party, &flow, ());
            shares.pop().unwrap();
            shares.charge(&party, &flow, 1 + index % 7);
        }
        let (parties, flows) = shares.accounts();
        assert!(parties <= RECENT_PARTIES && flows <= parties * RECENT_FLOWS, "{parties} and {flows}");
        // Whoever is served goes past all of them, and then they are forgotten as others come.
        let (party, flow) = (client("last"), flow("last"));
        for _ in 0..3 {
            shares.push(&party, &flow, ());
            shares.pop().unwrap();
            shares.charge(&party, &flow, 1 << 40);
        }
        (0..RECENT_PARTIES).for_each(|index| shares.charge(&client(&format!("new {index}")), &None, 1));
        let (parties, flows) = shares.accounts();
        assert!(parties <= 2 * RECENT_PARTIES && flows <= parties, "{parties} and {flows}");
    }

    fn parties() -> impl Strategy<Value = Vec<(Party, Flow)>> {
        let both = (0_u8..4, 0_u8..3, prop::bool::weighted(0.2)).prop_map(|(who, which, later)| {
            let party = if later { background(&who.to_string()) } else { client(&who.to_string()) };
            (party, if which == 0 { None } else { flow(&which.to_string()) })
        });
        prop::collection::vec(both, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// However many flows a background party has, each is served once by when the others had 16 charges each for it.
        #[test]
        fn nobody_starves(waiting in parties(), costs in prop::collection::vec(1_u64..4, 1..8)) {
            let mut turn = 0;
            let served = serve(&waiting, 12 * 12 * 16 * 3, |_, _| {
                turn += 1;
                costs[turn % costs.len()]
            });
            prop_assert!(served.values().all(|&got| got > 0), "{served:?}");
        }

        #[test]
        fn shares_differ_by_at_most_one_largest_charge(
            flows in (1_usize..6, 1_usize..6),
            costs in prop::collection::vec((1_u64..100, 1_u64..100), 1..8),
            rounds in 1_usize..500,
        ) {
            let (one, other) = (client("one"), client("other"));
            let flows = (0..flows.0).map(|index| (one.clone(), flow(&index.to_string())))
                .chain((0..flows.1).map(|index| (other.clone(), flow(&index.to_string()))));
            let mut turn = 0;
            let served = serve(&flows.collect::<Vec<_>>(), rounds, |party, _| {
                turn += 1;
                let (of_one, of_other) = costs[turn % costs.len()];
                if *party == one { of_one } else { of_other }
            });
            let difference = of(&served, &one).abs_diff(of(&served, &other));
            prop_assert!(difference <= 100, "{difference}");
        }

        /// What waits is what was pushed and neither popped nor taken out, whatever is done in which order.
        #[test]
        fn nothing_is_lost(actions in prop::collection::vec((0_u8..4, 0_u8..3, 0_u8..3), 1..200)) {
            let mut shares = Shares::new();
            let mut waiting = BTreeMap::new();
            for (number, (action, who, which)) in actions.into_iter().enumerate() {
                let (party, flow) = (client(&who.to_string()), if which == 0 { None } else { flow(&which.to_string()) });
                match action {
                    0 | 1 => {
                        let place = shares.push(&party, &flow, number);
                        waiting.insert(number, (party, flow, place));
                    }
                    2 => {
                        let popped = shares.pop();
                        prop_assert_eq!(popped.is_some(), !waiting.is_empty());
                        if let Some(Next { party, flow, item }) = popped {
                            shares.charge(&party, &flow, u64::from(which));
                            let known = waiting.remove(&item);
                            prop_assert!(known.is_some_and(|(whose, of, _)| (whose, of) == (party, flow)));
                        }
                    }
                    _ => {
                        if let Some((number, (party, flow, place))) = waiting.pop_first() {
                            prop_assert_eq!(shares.remove(&party, &flow, place), Some(number));
                        }
                    }
                }
                prop_assert_eq!(shares.len(), waiting.len());
                prop_assert_eq!(shares.iter().count(), waiting.len());
            }
        }
    }
}
