//! What always holds between two events. Tests ask after every one of them.

use super::{ActorIndex, Ask, Caller, Life, Policy, Stage, conversations::Slot, keeping::Away, placement};
use crate::{
    engine::{Page, Resident},
    job::{History, RequestId},
    message::ConversationId,
};

impl Policy {
    /// Every conversation's tokens and what there is of their keys and values; those of answers that wait, too.
    pub fn holdings(&self) -> impl Iterator<Item = (&ConversationId, &History, &Resident)> {
        self.conversations.iter().flat_map(|(name, conversation)| {
            let states = std::iter::once(&conversation.state).chain(&conversation.choices);
            states.map(move |state| (name, &state.history, &state.resident))
        })
    }

    /// Every page that is kept, once for each that keeps it: conversations, requests and what is there to be shared.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        let requests = self.requests.values().flat_map(|pending| {
            let parted = pending.several.iter().flat_map(|several| several.states());
            let part = pending.part.iter().map(|part| &part.state);
            pending.base.iter().chain(part.chain(parted).map(|state| &state.resident))
        });
        let held = self.holdings().map(|(_, _, resident)| resident).chain(requests);
        let shared = self.prefixes.iter().flat_map(|prefixes| prefixes.indexed());
        held.flat_map(|resident| &resident.pages).chain(shared)
    }

    /// Every broken invariant, as a sentence with its numbers; empty if all hold.
    pub fn check_invariants(&self) -> Vec<String> {
        let mut broken = Vec::new();
        self.check_requests(&mut broken);
        self.check_conversations(&mut broken);
        self.check_actors(&mut broken);
        self.check_placement(&mut broken);
        self.check_resting(&mut broken);
        self.check_keeping(&mut broken);
        self.blame.check_invariants(&mut broken);
        self.conversations.check_invariants(&mut broken);
        let seats = || self.conversations.values().filter_map(|conversation| conversation.seat.as_ref());
        broken.extend(self.prefixes.iter().flat_map(|prefixes| prefixes.check_invariants(seats())));
        broken
    }

    /// Nobody waits while an actor that is ready could do it.
    fn check_placement(&self, broken: &mut Vec<String>) {
        if self.model.is_none() || !self.actors.iter().any(|actor| actor.life == Life::Ready) {
            return;
        }
        if let Some(request) = self.waiting.first().filter(|request| self.has_room(*request)) {
            broken.push(format!("{request:?} waits for no actor beside one that is ready"));
        }
        for (name, conversation) in self.conversations.iter() {
            let first = conversation.queue.first().filter(|request| self.has_room(**request));
            let first = first.and_then(|request| self.requests.get(request));
            if first.is_some_and(|first| first.stage == Stage::Waiting && first.other.is_none())
                && !matches!(conversation.away, Away::Coming(_))
            {
                broken.push(format!("`{name}` waits beside an actor that is ready"));
            }
        }
        if let Some((busy, count)) = self.page_size().and_then(|_| placement::to_move(&self.actors)) {
            broken.push(format!("{count} jobs of {busy:?} wait beside an actor that has less to do"));
        }
    }

    fn check_requests(&self, broken: &mut Vec<String>) {
        let with_deadline = self.requests.values().filter(|pending| pending.deadline.is_some()).count();
        if with_deadline != self.deadlines.len() {
            broken.push(format!("{} deadlines, {with_deadline} requests have one", self.deadlines.len()));
        }
        for (request, pending) in &self.requests {
            let is_queued = |name| self.conversations.get(&name).is_some_and(|it| it.queue.contains(request));
            let is_first = |name| self.conversations.get(&name).is_some_and(|it| it.queue.first() == Some(request));
            let runs = matches!(pending.ask, Ask::Step(_) | Ask::Embed(_) | Ask::Score { .. });
            let comes = |name| self.conversations.get(&name).is_some_and(|it| matches!(it.away, Away::Coming(_)));
            let awaits = runs && pending.stage == Stage::Waiting && pending.names().all(is_first);
            let awaits = awaits && !pending.names().any(comes);
            // What runs nothing waits there for memory, where it is in a file.
            let waits = self.waiting.contains(request);
            let waits_rightly =
                waits == awaits || waits && !runs && pending.conversation.as_ref().is_some_and(|it| self.is_kept(it));
            if !pending.names().all(is_queued) || !waits_rightly {
                broken.push(format!("{request:?} in stage {:?} is not where it should wait", pending.stage));
            }
            if let Some(several) = &pending.several
                && (pending.stage != Stage::Parted || several.parts.is_empty())
            {
                broken.push(format!("{request:?} in stage {:?} awaits {} parts", pending.stage, several.parts.len()));
            }
            if pending.caller == Caller::Told && !matches!(pending.stage, Stage::Assigned(_) | Stage::Parted) {
                broken.push(format!("{request:?} has its answer, no job, and is still there"));
            }
            if let Stage::Assigned(actor) = pending.stage
                && !self.actors[actor.0].jobs.contains(request)
            {
                broken.push(format!("{request:?} is with {actor:?}, which does not know it"));
            }
        }
    }

    fn check_conversations(&self, broken: &mut Vec<String>) {
        let window = self.model.as_ref().map_or(usize::MAX, |model| model.window.size);
        for (name, conversation) in self.conversations.iter() {
            let tokens = conversation.state.history.tokens.len();
            if conversation.is_blank() {
                broken.push(format!("`{name}` is kept for nothing"));
            }
            if tokens > window || (tokens as u64) > conversation.state.history.total {
                broken.push(format!("`{name}` remembers {tokens} of {} tokens", conversation.state.history.total));
            }
            conversation.state.check_invariants(self.page_size(), broken);
            conversation.choices.iter().for_each(|choice| choice.check_invariants(self.page_size(), broken));
            let (seated, shares) = (conversation.seat.is_some(), conversation.state.history.is_plain(&self.window()));
            if seated && !shares {
                broken.push(format!("`{name}` has slid, was not read again, and shares"));
            }
            let is_out = |it: &RequestId| self.requests.get(it).is_some_and(|pending| pending.stage.is_out());
            if matches!(conversation.slot, Slot::Dirty(actor, life) if self.serves(actor, life))
                && !conversation.queue.iter().any(is_out)
            {
                broken.push(format!("`{name}` has a slot that went astray, and no job"));
            }
            for (place, request) in conversation.queue.iter().enumerate() {
                let Some(pending) = self.requests.get(request) else {
                    broken.push(format!("`{name}` waits for {request:?}, which is finished"));
                    continue;
                };
                if place > 0 && matches!(pending.stage, Stage::Assigned(_)) {
                    broken.push(format!("`{name}` has {request:?} out of turn"));
                }
            }
        }
    }

    fn check_actors(&self, broken: &mut Vec<String>) {
        for (index, actor) in self.actors.iter().enumerate() {
            let here = Some(ActorIndex(index));
            let lodgers = self.conversations.values().filter(|it| self.lives_with(it.home) == here).count();
            if lodgers != actor.conversations {
                broken
                    .push(format!("actor {index} counts {} conversations, {lodgers} live there", actor.conversations));
            }
            if !actor.recalled.is_subset(&actor.jobs) {
                broken.push(format!("actor {index} is to give back what it does not have: {:?}", actor.recalled));
            }
            if matches!(actor.life, Life::Down { .. }) && lodgers > 0 {
                broken.push(format!("{lodgers} conversations live with actor {index}, which is down"));
            }
            if !matches!(actor.life, Life::Ready | Life::Stopping) && !actor.jobs.is_empty() {
                broken.push(format!("actor {index} has {} jobs in {:?}", actor.jobs.len(), actor.life));
            }
            let is_watched = actor.is_busy() || matches!(actor.life, Life::Loading { .. });
            if is_watched != actor.watch_at.is_some() {
                let (jobs, life) = (actor.jobs.len(), actor.life);
                broken.push(format!("actor {index} with {jobs} jobs in {life:?} is watched at {:?}", actor.watch_at));
            }
            for request in &actor.jobs {
                if self.requests.get(request).is_none_or(|pending| pending.stage != Stage::Assigned(ActorIndex(index)))
                {
                    broken.push(format!("actor {index} has {request:?}, which is not with it"));
                }
            }
        }
    }
}
