//! Who has which jobs, told from what the policy heard and said: nobody waits for nothing. Where there are pages, nobody
//! that is ready may have nothing to do beside one that has several jobs; and what could be done is with an actor, if one
//! is ready.

use std::collections::{BTreeMap, BTreeSet};

use motorbrain_actors::{
    job::{Report, RequestId, Work},
    message::ConversationId,
    policy::{Ask, Effect, Event},
};

use super::{LifeKey, World, account::Asked, ensure};

#[derive(Default)]
pub(super) struct Ledger {
    /// The jobs of those that are ready, and whether they were recalled.
    ready: BTreeMap<LifeKey, BTreeMap<RequestId, bool>>,
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

    pub(super) fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Send { actor, incarnation, job } if job.work != Work::Forget => {
                self.ready.entry((*actor, *incarnation)).or_default().insert(job.request, false);
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

    fn let_go(&mut self, key: LifeKey, request: RequestId) {
        self.ready.get_mut(&key).and_then(|jobs| jobs.remove(&request));
    }

    fn end(&mut self, key: LifeKey) {
        self.ready.remove(&key);
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
    pub(super) fn check_waiting(&self) -> Result<(), String> {
        if self.store.is_some() {
            self.ledger.check_idle()?;
        }
        if self.ledger.ready.is_empty() {
            return Ok(());
        }
        let jobs = self.ledger.ready.values().flat_map(BTreeMap::keys);
        let served: BTreeSet<RequestId> = jobs.filter_map(|job| Some(self.jobs.get(job)?.serves)).collect();
        // Conversations in which something goes on or waits. Of a request that was answered already a job may go on.
        let mut busy: BTreeSet<&ConversationId> = BTreeSet::new();
        for request in self.unanswered.union(&served) {
            let Some(asked) = self.asked.get(request) else { continue };
            let is_served = served.contains(request);
            let is_first = names(asked).filter(|name| !busy.insert(name)).count() == 0;
            ensure(!is_first || is_served || self.ledger.tokenising.contains(request), || {
                format!("{request:?} waits beside an actor that is ready")
            })?;
        }
        Ok(())
    }
}

/// The conversations in whose queues a request waits.
fn names(asked: &Asked) -> impl Iterator<Item = &ConversationId> {
    let to = match &asked.arrival.ask {
        Ask::Fork { to, .. } => Some(to),
        _ => None,
    };
    asked.arrival.conversation.iter().chain(to)
}
