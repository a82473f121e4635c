//! Jobs: what an actor is given to do for a request whose turn has come. What is told of the conversation is where it
//! stands and what there is of its keys and values.

use super::{
    ActorIndex, Assignment, Effect, Incarnation, Pending, Policy, Stage, actors::Life, conversations::Slot,
    state::State,
};
use crate::{
    engine::Resident,
    job::{History, Holding, RequestId, Work},
    message::{ConversationId, Party, Sharing},
};

impl Policy {
    /// What waits for an actor is given to those that are ready, oldest request first.
    pub(super) fn place_waiting(&mut self, effects: &mut Vec<Effect>) {
        // What a request of several answers needs it has been given before its parts wait.
        while let Some(request) =
            self.waiting.first().filter(|it| self.has_room(*it)).or_else(|| self.waiting.first_part())
        {
            let Some(actor) = self.least_busy(None, request) else { return };
            self.waiting.remove(&request);
            let Some(pending) = self.requests.get(&request) else { continue };
            match pending.conversation.clone() {
                Some(name) => self.advance(&name, effects),
                None => self.place(request, actor, effects),
            }
        }
    }

    /// Gives a request without a conversation, or a part, to an actor, unless it is refused.
    fn place(&mut self, request: RequestId, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let whole = self.requests.get(&request).and_then(|pending| pending.whole_of());
        let known = if self.blame.is_empty() { None } else { self.fingerprint(request) };
        let checked = known.map_or(Ok(()), |who| self.check_blame(&who)).and_then(|()| self.check_work(request));
        match (checked, whole) {
            (Ok(()), None) if self.is_long(request) => self.part(request),
            (Ok(()), _) => self.send(request, actor, effects),
            (Err(error), Some(whole)) => self.fail_parted(whole, error, effects),
            (Err(error), None) => self.fail(request, error, effects),
        }
    }

    /// Gives a request whose turn it is to an actor.
    pub(super) fn send(&mut self, request: RequestId, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let serves = self.requests.get(&request).and_then(|pending| pending.whole_of()).unwrap_or(request);
        let sharing = self.sharing_of(serves);
        let suspect = if self.blame.is_empty() { None } else { self.fingerprint(request) };
        let alone = suspect.map_or(0, |who| self.blame.runs_alone(&who, self.now));
        self.reserve(request);
        let Some(mut pending) = self.requests.remove(&request) else { return };
        let incarnation = self.actors[actor.0].incarnation;
        let (state, slot) = self.begins_at(request, &pending, actor, incarnation);
        let held = match self.page_size() {
            Some(_) => Holding::Pages(self.begins_on(&state, &mut pending, &sharing)),
            None => slot,
        };
        (pending.stage, pending.alone) = (Stage::Assigned(actor), alone);
        let carried = pending.carried.take();
        if carried.is_none() {
            pending.shown.before = pending.shown.sampled.len();
        }
        let job = Assignment {
            request,
            serves,
            conversation: pending.conversation.clone(),
            context: state.history,
            held,
            carried,
            work: pending.work(),
            pins: pending.pins(),
            party: pending.party.clone(),
            alone,
        };
        self.requests.insert(request, pending);
        self.waiting.remove(&request);
        self.actors[actor.0].take_on(request, self.now, &self.config.supervision);
        effects.push(Effect::Send { actor, incarnation, job });
    }

    /// Where a request's job begins, and what this life of an actor has of that where engines keep keys and values to
    /// themselves; from now on it has the conversation's slot.
    fn begins_at(
        &mut self,
        request: RequestId,
        pending: &Pending,
        actor: ActorIndex,
        incarnation: Incarnation,
    ) -> (State, Holding) {
        let keeps = self.page_size().is_none();
        let conversation = pending.conversation.as_ref().and_then(|name| self.conversations.get_mut(name));
        let Some(conversation) = conversation else {
            let state = pending.part.as_ref().map(|part| part.state.clone());
            return (state.unwrap_or_default(), Holding::Nothing);
        };
        let first = conversation.queue.first();
        debug_assert!(first == Some(&request), "{request:?} is sent, {first:?} is first");
        let has_it = pending.choice.is_none() && conversation.slot == Slot::Clean(actor, incarnation);
        if keeps {
            conversation.slot = Slot::Clean(actor, incarnation);
        }
        let state = conversation.base(pending.choice).cloned().unwrap_or_default();
        (state, if has_it { Holding::Slot } else { Holding::Nothing })
    }

    /// The pages that a request's job begins on, which it keeps until its first commit.
    fn begins_on(&mut self, state: &State, pending: &mut Pending, sharing: &Sharing) -> Resident {
        let resident = match pending.carried {
            // What was done of it is told of the pages that it began with.
            Some(_) => pending.base.take().unwrap_or_else(|| state.resident.clone()),
            None => {
                let (resident, reused) = self.pages_for(state, pending, sharing);
                if pending.shown.sampled.is_empty() {
                    pending.reused = reused; // what an earlier job began with, and came to nothing, was for nothing
                }
                resident
            }
        };
        pending.base = Some(resident.clone());
        resident
    }

    /// Makes the actor forget what it holds of the conversation; the next job restores it.
    pub(super) fn give_slot_back(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let Some(conversation) = self.conversations.get_mut(name) else { return };
        let slot = std::mem::take(&mut conversation.slot);
        let (Slot::Clean(actor, incarnation) | Slot::Dirty(actor, incarnation)) = slot else { return };
        if !self.serves(actor, incarnation) {
            return;
        }
        let request = RequestId(self.next_own_job);
        self.next_own_job -= 1;
        self.actors[actor.0].release(request, self.now, &self.config.supervision);
        let job = Assignment {
            request,
            serves: request,
            conversation: Some(name.clone()),
            context: History::default(),
            held: Holding::Slot,
            carried: None,
            work: Work::Forget,
            pins: false,
            party: Party::default(),
            alone: 0,
        };
        effects.push(Effect::Send { actor, incarnation, job });
    }

    /// Whether this life of an actor takes jobs.
    pub(super) fn serves(&self, actor: ActorIndex, incarnation: Incarnation) -> bool {
        let state = &self.actors[actor.0];
        state.incarnation == incarnation && state.life == Life::Ready
    }
}
