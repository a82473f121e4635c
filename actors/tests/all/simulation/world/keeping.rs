//! Who has which pages: all that there are belong to somebody, and each holds what its owner says.

use std::collections::BTreeSet;

use motorbrain_actors::{
    engine::{Page, Slides},
    job::{Commit, Report, RequestId},
    policy::{Event, Health},
};
use motorbrain_testing::page_number;

use super::super::model::{WINDOW, check_pages};
use super::{Due, World, ensure};

impl World {
    pub(super) fn check_pages(&mut self) -> Result<(), String> {
        let Some(size) = self.pages else { return Ok(()) };
        self.garble();
        // What is written wrongly stays so: it is enough to look now and then.
        let looks = self.tally.events.is_multiple_of(4) || self.over;
        for (name, history, resident) in self.policy.holdings() {
            if looks {
                check_pages(resident, &history.tokens, size.tokens)
                    .map_err(|broken| format!("`{name}` holds other than it says: {broken}"))?;
            }
            let window = self.cradle.loader.info.window;
            // Behind a slide only what never leaves is there at once.
            let slid = window.slides == Slides::Recompute && history.has_slid();
            let rows =
                if slid { window.kept_first(history.pinned).min(history.tokens.len()) } else { history.tokens.len() };
            ensure(resident.kv_len + 1 >= rows || self.left.contains(name), || {
                format!("`{name}` has lost rows: {resident:?}")
            })?;
            ensure(history.tokens.len() <= WINDOW.size, || format!("`{name}` is too long"))?;
        }
        self.forget_carried();
        let mut nobodys = self.cradle.loader.control.page_numbers();
        let mut reach = |number: u64| _ = nobodys.remove(&number);
        self.policy.pages().filter_map(page_number).for_each(&mut reach);
        self.due.values().flat_map(on_the_way).filter_map(page_number).for_each(&mut reach);
        let going = self.going.values().flatten().flat_map(|kept| &kept.resident.pages);
        going.filter_map(page_number).for_each(&mut reach);
        self.carried.values().flatten().copied().for_each(&mut reach);
        let alive = self.lives.values().filter(|life| !life.dead);
        alive.flat_map(|life| life.pages()).for_each(&mut reach);
        ensure(nobodys.is_empty(), || format!("pages {nobodys:?} are nobody's"))
    }

    /// Jobs that go from actor to actor end with their requests, though word of them may still be on its way.
    fn forget_carried(&mut self) {
        if self.carried.is_empty() {
            return;
        }
        let returned = |due: &Due| match due {
            Due::Tell(Event::Reported { report: Report::Returned { request, .. }, .. }) => {
                self.jobs.get(request).map(|job| job.serves)
            }
            _ => None,
        };
        let on_the_way: BTreeSet<RequestId> = self.due.values().filter_map(returned).collect();
        let (unanswered, lingering) = (&self.unanswered, &self.lingering);
        let goes_on = |request: &RequestId| unanswered.contains(request) || lingering.contains(request);
        self.carried.retain(|request, _| goes_on(request) || on_the_way.contains(request));
    }

    /// Abandoned lives do what they can.
    fn garble(&mut self) {
        let wild = self.lives.values_mut().filter(|life| life.garbles && !life.dead);
        self.tally.garbled += wild.map(|life| life.garble() as u64).sum::<u64>();
    }

    /// With no conversation left no actor that counts keeps anything, and of pages only as many are left as may be.
    pub(super) fn check_closed(&mut self) -> Result<(), String> {
        if matches!(self.policy.health(), Health::Down { .. }) || self.start_failed || self.shut {
            return Ok(()); // nobody could ask for it
        }
        ensure(self.policy.holdings().next().is_none(), || "conversations are left".to_owned())?;
        ensure(self.lingering.is_empty(), || format!("permits of {:?} are held for nothing", self.lingering))?;
        let counts = |life: &&super::Life| !life.dead && !life.abandoned;
        for life in self.lives.values().filter(counts) {
            ensure(life.slots() == 0, || format!("{} slots are kept", life.slots()))?;
        }
        let Some(_) = self.pages else {
            let bytes = self.lives.values().filter(counts).map(super::Life::kv_bytes).sum::<usize>();
            let told = self.policy.stats().map_or(0, |stats| stats.kv_bytes);
            return ensure((bytes, told) == (0, 0), || format!("{bytes} bytes are left, {told} are told of"));
        };
        let mut idle = self.cradle.loader.control.page_numbers();
        let left: BTreeSet<u64> = self.due.values().flat_map(on_the_way).filter_map(page_number).collect();
        let wild = self.lives.values().filter(|life| life.abandoned && !life.dead);
        let wild: BTreeSet<u64> = wild.flat_map(super::Life::pages).collect();
        let carried: BTreeSet<u64> = self.carried.values().flatten().copied().collect();
        idle.retain(|page| !left.contains(page) && !wild.contains(page) && !carried.contains(page));
        self.tally.idle += u64::from(!idle.is_empty());
        ensure(idle.len() <= self.idle_max, || {
            format!("{} pages are left for nobody, {} may be", idle.len(), self.idle_max)
        })
    }
}

/// The pages of what is yet to be heard.
fn on_the_way(due: &Due) -> impl Iterator<Item = &Page> {
    let commits = match due {
        Due::Tell(Event::Reported { report: Report::Token { commit, .. }, .. }) => [Some(commit), None],
        Due::Tell(Event::Reported { report: Report::Done(done), .. }) => [Some(&done.commit), done.read.as_ref()],
        _ => [None, None],
    };
    let held = commits.into_iter().flatten().filter_map(|Commit { held, .. }| held.as_ref());
    let fetched = match due {
        Due::Tell(Event::Fetched { result: Ok(kept), .. }) => &kept[..],
        _ => &[],
    };
    held.flat_map(|held| &held.pages).chain(fetched.iter().flat_map(|kept| &kept.resident.pages))
}
