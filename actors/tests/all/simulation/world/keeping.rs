//! Who has which pages: all that there are belong to somebody, and each holds what its owner says.

use motorbrain_actors::{
    engine::Page,
    job::{Commit, Report},
    policy::Event,
};

use super::super::{
    model::WINDOW,
    pages::{Memory, address, read},
};
use super::{Due, World, ensure};

impl World {
    pub(super) fn check_pages(&mut self) -> Result<(), String> {
        self.garble();
        let Some(store) = &self.store else { return Ok(()) };
        for (name, history, resident) in self.policy.holdings() {
            read(resident, history, store.size.tokens, |_| ())
                .map_err(|broken| format!("`{name}` holds other than it says: {broken}"))?;
            ensure(resident.kv_len + 1 >= history.tokens.len(), || format!("`{name}` has lost rows: {resident:?}"))?;
            ensure(history.tokens.len() <= WINDOW.size, || format!("`{name}` is too long"))?;
        }
        let mut reached: Vec<*const Memory> = self.policy.pages().map(address).collect();
        reached.extend(store.carried().iter().map(address));
        reached.extend(self.lives.values().flat_map(|life| life.actor.pages()));
        reached.extend(self.due.values().flat_map(on_the_way).map(address));
        let (alive, reached) = (store.alive(), count(reached));
        ensure(alive == reached, || format!("{} of {alive} pages are nobody's", alive - reached))
    }

    /// Abandoned lives do what they can.
    fn garble(&mut self) {
        let wild = self.lives.values_mut().filter(|life| life.garbles && !life.dead);
        self.tally.garbled += wild.map(|life| life.actor.garble()).sum::<u64>();
    }

    /// With no conversation left, no actor that counts keeps anything, and of pages only as many are left as may be.
    pub(super) fn check_closed(&mut self) -> Result<(), String> {
        if self.down == self.actors || self.start_failed {
            return Ok(()); // nobody could ask for it
        }
        ensure(self.policy.holdings().next().is_none(), || "conversations are left".to_owned())?;
        let mut left = Vec::new();
        for (key, life) in &self.lives {
            if life.abandoned {
                left.extend(life.actor.pages());
                continue;
            }
            let slots: Vec<_> = life.actor.slots().collect();
            ensure(slots.is_empty(), || format!("{key:?} keeps {slots:?}"))?;
        }
        let Some(store) = &self.store else { return Ok(()) };
        let idle = store.alive() - count(left);
        self.tally.idle += u64::from(idle > 0);
        ensure(idle <= self.idle_max, || format!("{idle} pages are left for nobody, {} may be", self.idle_max))
    }
}

/// How many different ones there are.
fn count(mut pages: Vec<*const Memory>) -> usize {
    pages.sort_unstable();
    pages.dedup();
    pages.len()
}

/// The pages of what is yet to be heard.
fn on_the_way(due: &Due) -> impl Iterator<Item = &Page> {
    let commit = match due {
        Due::Tell(Event::Reported { report: Report::Token { commit, .. }, .. }) => Some(commit),
        Due::Tell(Event::Reported { report: Report::Done(done), .. }) => Some(&done.commit),
        _ => None,
    };
    commit.and_then(|Commit { held, .. }| held.as_ref()).into_iter().flat_map(|held| &held.pages)
}
