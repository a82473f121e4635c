//! Who has which jobs, told from what the policy heard and said: nobody waits for nothing. Where there are pages, nobody
//! that is ready may have nothing to do beside one that has several jobs; and what could be done is with an actor, if one
//! is ready. What a request takes up is free when nobody works on it any more, and not before.

use std::collections::{BTreeMap, BTreeSet};

use motorbrain_actors::{
    job::{Report, RequestId, Work},
    message::ConversationId,
    policy::{ActorIndex, Effect, Event},
};

use super::{Due, LifeKey, World, account::Jobs, ensure};

#[derive(Default)]
pub(super) struct Ledger {
    /// The jobs of those that are ready, and whether they were recalled.
    ready: BTreeMap<LifeKey, BTreeMap<RequestId, bool>>,
    /// Since when they have had any.
    busy: BTreeMap<LifeKey, u64>,
    /// Lives that no longer count.
    over: BTreeSet<LifeKey>,
    /// Requests whose text is being tokenised.
    tokenising: BTreeSet<RequestId>,
}

impl Ledger {
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Reported { actor, incarnation, report } => {
                let key = (*actor, *incarnation);
                match report {
                    Report::Ready(_) if !self.over.contains(&key) => _ = self.ready.insert(key, BTreeMap::new()),
                    Report::Done(done) => self.let_go(key, done.request),
                    Report::Returned { request, .. } => self.let_go(key, *request),
                    _ => {}
                }
            }
            Event::Tokenised { request, .. } => _ = self.tokenising.remove(request),
            Event::Died { actor, incarnation, .. } => self.end((*actor, *incarnation)),
            _ => {}
        }
    }

    /// What an effect may not say.
    pub(super) fn check(&self, effect: &Effect, jobs: &Jobs) -> Result<(), String> {
        let works = |request: &RequestId| {
            let mut all = self.ready.values().flat_map(BTreeMap::keys);
            all.any(|job| jobs.get(job).is_some_and(|job| job.serves == *request))
        };
        match effect {
            Effect::Fail { request, lingers: false, .. }
            | Effect::Drop { request, lingers: false }
            | Effect::Answer { request, .. }
            | Effect::Release(request) => {
                ensure(!works(request), || format!("{request:?} is over while an actor works on it: {effect:?}"))
            }
            Effect::Recall { actor, incarnation, requests } => {
                let has = self.ready.get(&(*actor, *incarnation));
                let stay = has.into_iter().flatten().filter(|(it, recalled)| !**recalled && !requests.contains(it));
                let (newest, oldest) = (stay.map(|(it, _)| it).max(), requests.iter().min());
                ensure(newest < oldest, || format!("{oldest:?} is to move, {newest:?} came later and stays"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn perform(&mut self, effect: &Effect, now: u64) {
        match effect {
            Effect::Send { actor, incarnation, job } if job.work != Work::Forget => {
                self.ready.entry((*actor, *incarnation)).or_default().insert(job.request, false);
                self.busy.entry((*actor, *incarnation)).or_insert(now);
            }
            Effect::Recall { actor, incarnation, requests } => {
                let jobs = self.ready.entry((*actor, *incarnation)).or_default();
                jobs.extend(requests.iter().map(|request| (*request, true)));
            }
            Effect::Abandon { actor, incarnation } | Effect::Stop { actor, incarnation } => {
                self.end((*actor, *incarnation));
            }
            Effect::Tokenise { request, .. } => _ = self.tokenising.insert(*request),
            _ => {}
        }
    }

    /// Those of these jobs that a life has.
    pub(super) fn having<'a>(&self, key: LifeKey, jobs: &'a [RequestId]) -> impl Iterator<Item = &'a RequestId> {
        let has = self.ready.get(&key);
        jobs.iter().filter(move |job| has.is_some_and(|has| has.contains_key(job)))
    }

    /// Who has jobs, and since when they have had any.
    pub(super) fn busy(&self) -> impl Iterator<Item = (&LifeKey, u64)> {
        self.busy.iter().map(|(key, since)| (key, *since))
    }

    /// Whether another actor than this one is ready.
    pub(super) fn has_other(&self, actor: ActorIndex) -> bool {
        self.ready.keys().any(|(other, _)| *other != actor)
    }

    fn let_go(&mut self, key: LifeKey, request: RequestId) {
        let Some(jobs) = self.ready.get_mut(&key) else { return };
        jobs.remove(&request);
        if jobs.is_empty() {
            self.busy.remove(&key);
        }
    }

    fn end(&mut self, key: LifeKey) {
        self.ready.remove(&key);
        self.busy.remove(&key);
        self.over.insert(key);
    }

    /// Each that has nothing to do is to get a job that is on its way.
    fn check_idle(&self) -> Result<(), String> {
        let idle = self.ready.values().filter(|jobs| jobs.is_empty()).count();
        let on_the_way = self.ready.values().flat_map(BTreeMap::values).filter(|recalled| **recalled).count();
        let busy = self.ready.iter().find(|(_, jobs)| jobs.values().filter(|recalled| !**recalled).count() > 1);
        ensure(idle <= on_the_way || busy.is_none(), || {
            format!("{idle} have nothing to do and {on_the_way} jobs come beside {busy:?}")
        })
    }
}

impl World {
    fn served(&self) -> BTreeSet<RequestId> {
        let jobs = self.ledger.ready.values().flat_map(BTreeMap::keys);
        jobs.filter_map(|job| Some(self.jobs.get(job)?.serves)).collect()
    }

    /// The unfinished requests that are first in all their queues; `served`: those that an actor works on. Of a request
    /// that was answered already a job may go on.
    fn firsts(&self, served: &BTreeSet<RequestId>) -> Vec<RequestId> {
        let mut busy: BTreeSet<&ConversationId> = BTreeSet::new();
        let mut is_first = |request: &&RequestId| {
            let asked = self.asked.get(request);
            asked.is_some_and(|asked| asked.names().filter(|name| !busy.insert(name)).count() == 0)
        };
        self.unanswered.union(served).filter(&mut is_first).copied().collect()
    }

    pub(super) fn check_waiting(&self) -> Result<(), String> {
        if self.pages.is_some() {
            self.ledger.check_idle()?;
        }
        if self.ledger.ready.is_empty() {
            return Ok(());
        }
        let served = self.served();
        let fetched: BTreeSet<&ConversationId> = self.due.values().filter_map(fetched).collect();
        if self.bounded && !(served.is_empty() && self.going.is_empty() && fetched.is_empty()) {
            return Ok(()); // the rest may find no memory beside those
        }
        let comes =
            |request: &RequestId| self.asked.get(request).is_some_and(|it| it.names().any(|it| fetched.contains(it)));
        let waits = |request: &RequestId| {
            !comes(request) && !served.contains(request) && !self.ledger.tokenising.contains(request)
        };
        match self.firsts(&served).into_iter().find(waits) {
            None => Ok(()),
            Some(request) => Err(format!("{request:?} waits beside an actor that is ready")),
        }
    }

    /// Nobody's permit is held for nothing.
    pub(super) fn check_permits(&self) -> Result<(), String> {
        if self.over || self.lingering.is_empty() || self.lives.values().any(|life| life.stopped) {
            return Ok(());
        }
        let served = self.served();
        match self.lingering.iter().find(|request| !served.contains(request)) {
            None => Ok(()),
            Some(request) => Err(format!("{request:?} holds its permit, and nobody works on it")),
        }
    }

    /// Before the first of all actors is ready (again): who stands in line for it.
    pub(super) fn line_before(&self, event: &Event) -> Vec<RequestId> {
        let ready = matches!(event, Event::Reported { report: Report::Ready(_), .. });
        if ready && self.ledger.ready.is_empty() { self.firsts(&BTreeSet::new()) } else { Vec::new() }
    }
}

/// Whose keys and values are on their way from a file.
fn fetched(due: &Due) -> Option<&ConversationId> {
    match due {
        Due::Tell(Event::Fetched { conversation, .. }) => Some(conversation),
        _ => None,
    }
}

/// Who stood in line is served in the order of arrival.
pub(super) fn check_line(line: &[RequestId], effects: &[Effect]) -> Result<(), String> {
    let mut last = None;
    for effect in effects {
        if let Effect::Send { job, .. } = effect
            && job.request == job.serves
            && line.contains(&job.request)
        {
            ensure(last < Some(job.request), || format!("{:?} is served behind {last:?}", job.request))?;
            last = Some(job.request);
        }
    }
    Ok(())
}
