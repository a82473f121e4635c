//! Who gets what: each job goes to the least busy actor that is ready, to the last one where that is as good. Where one
//! has nothing to do beside others that have several jobs, it is given some of theirs.

use super::{
    Effect, Notice, Policy,
    actors::{Actor, Life},
    conversations::{Home, Slot},
    event::ActorIndex,
};
use crate::{job::RequestId, message::ConversationId};

impl Policy {
    /// The actor for a conversation's job: the one that holds its slot, if one does; `None` while none is ready.
    pub(super) fn actor_for(
        &mut self,
        name: &ConversationId,
        request: RequestId,
        effects: &mut Vec<Effect>,
    ) -> Option<ActorIndex> {
        let conversation = self.conversations.get(name)?;
        if let Slot::Clean(actor, incarnation) = conversation.slot
            && self.serves(actor, incarnation)
        {
            return Some(actor);
        }
        let before = conversation.home;
        let last = self.lives_with(before);
        let actor = self.least_busy(last, request)?;
        if let Some(Home { actor: from, .. }) = before.filter(|before| before.actor != actor) {
            effects.push(Effect::Notice(Notice::Adopted { conversation: name.clone(), from, to: actor }));
        }
        if let Some(last) = last {
            self.actors[last.0].conversations -= 1;
        }
        self.actors[actor.0].conversations += 1;
        let home = Home { actor, tenure: self.actors[actor.0].tenure };
        self.conversations.get_mut(name)?.home = Some(home);
        Some(actor)
    }

    /// The actor that is still a conversation's home.
    pub(super) fn lives_with(&self, home: Option<Home>) -> Option<ActorIndex> {
        home.filter(|home| self.actors[home.actor.0].tenure == home.tenure).map(|home| home.actor)
    }

    /// The actor for a request; `None` while none is ready. `last`: that of the conversation's last job.
    pub(super) fn least_busy(&self, last: Option<ActorIndex>, request: RequestId) -> Option<ActorIndex> {
        let moves = !self.blame.is_empty() && self.requests.get(&request).is_some_and(|pending| pending.moves);
        let who = if moves { self.fingerprint(request) } else { None };
        let killed = who.and_then(|who| self.blame.killed(&who));
        least_busy(&self.actors, last, killed)
    }

    /// Has an actor that has nothing to do take jobs over from those that have several.
    pub(super) fn even_out(&mut self, effects: &mut Vec<Effect>) {
        if self.page_size().is_none() {
            return; // what an engine keeps to itself stays with it
        }
        while let Some((actor, count)) = to_move(&self.actors) {
            let state = &mut self.actors[actor.0];
            let stays = |request: &&RequestId| !state.recalled.contains(request);
            let requests: Vec<RequestId> = state.jobs.iter().rev().filter(stays).take(count).copied().collect();
            state.recalled.extend(&requests);
            effects.push(Effect::Recall { actor, incarnation: state.incarnation, requests });
        }
    }
}

/// The actor for a job; `None` while none is ready. `last`: that of the conversation's last job; `killed`: the one that died
/// of this job before. Another one has to show that it was the job and not the actor.
fn least_busy(actors: &[Actor], last: Option<ActorIndex>, killed: Option<ActorIndex>) -> Option<ActorIndex> {
    let load = |index: usize, actor: &Actor| {
        let is = |other: Option<ActorIndex>| other == Some(ActorIndex(index));
        (is(killed), actor.load(), !is(last), actor.conversations, index)
    };
    let ready = actors.iter().enumerate().filter(|(_, actor)| actor.life == Life::Ready);
    ready.map(|(index, actor)| load(index, actor)).min().map(|(.., index)| ActorIndex(index))
}

/// Who has too many jobs, and how many of them another would do sooner: where one that is ready has nothing to do, as
/// many of the busiest as make both even.
pub(super) fn to_move(actors: &[Actor]) -> Option<(ActorIndex, usize)> {
    let ready = || actors.iter().enumerate().filter(|(_, actor)| actor.life == Life::Ready);
    let loads = || ready().map(|(index, actor)| (actor.load(), index));
    if loads().min()?.0 > 0 || loads().max()?.0 < 2 {
        return None; // as it nearly always is, and asked for every token
    }
    let mut loads: Vec<(usize, usize)> = loads().collect();
    // Jobs on their way back will go to the least busy ones.
    for _ in 0..actors.iter().map(|actor| actor.recalled.len()).sum() {
        loads.iter_mut().min()?.0 += 1;
    }
    let (least, _) = loads.iter().min()?;
    let (most, index) = loads.iter().max_by_key(|(load, index)| (*load, !index))?;
    (*least == 0 && *most >= 2).then(|| (ActorIndex(*index), most / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{job::RequestId, policy::Time};

    const LOADING: Life = Life::Loading { until: Time(std::time::Duration::MAX) };

    fn actor(life: Life, conversations: usize, jobs: u64, recalled: u64) -> Actor {
        let mut actor = Actor::new();
        actor.life = life;
        actor.conversations = conversations;
        actor.jobs = (0..jobs).map(RequestId).collect();
        actor.recalled = (0..recalled).map(RequestId).collect();
        actor
    }

    fn check(actors: &[Actor], last: Option<usize>, expected: Option<usize>) {
        assert_eq!(least_busy(actors, last.map(ActorIndex), None), expected.map(ActorIndex), "{last:?}");
    }

    #[test]
    fn a_job_goes_to_the_least_busy_ready_actor() {
        let pause = Life::Restarting { at: Time::default() };
        let actors = [actor(Life::Ready, 0, 2, 0), actor(Life::Ready, 9, 1, 0), actor(LOADING, 0, 0, 0)];
        check(&actors, None, Some(1));
        check(&actors, Some(0), Some(1));
        check(&actors[2..], Some(0), None);
        check(&[actor(pause, 0, 0, 0), actor(Life::Down { at: Time::default() }, 0, 0, 0)], None, None);
    }

    #[test]
    fn the_last_actor_is_taken_again_where_it_is_as_good() {
        let actors = [actor(Life::Ready, 0, 1, 0), actor(Life::Ready, 9, 1, 0)];
        check(&actors, Some(1), Some(1));
        check(&actors, None, Some(0));
    }

    #[test]
    fn what_killed_one_actor_is_tried_by_another() {
        let actors = [actor(Life::Ready, 0, 0, 0), actor(Life::Ready, 9, 8, 0)];
        let killed = Some(ActorIndex(0));
        assert_eq!(least_busy(&actors, killed, killed), Some(ActorIndex(1)));
        assert_eq!(least_busy(&actors[..1], killed, killed), killed, "there is no other");
    }

    #[test]
    fn an_idle_actor_is_given_half_of_the_jobs_of_the_busiest() {
        let moved = |actors: &[Actor]| to_move(actors).map(|(actor, count)| (actor.0, count));
        let (idle, busy) = (actor(Life::Ready, 0, 0, 0), |jobs| actor(Life::Ready, 0, jobs, 0));
        assert_eq!(moved(&[busy(10), idle.clone()]), Some((0, 5)));
        assert_eq!(moved(&[busy(1), idle.clone()]), None);
        assert_eq!(moved(&[busy(3), busy(2)]), None);
        assert_eq!(moved(&[busy(10), actor(LOADING, 0, 0, 0)]), None, "nobody waits for one that loads");
        // Five of ten are on their way: nothing more is to be moved.
        assert_eq!(moved(&[actor(Life::Ready, 0, 10, 5), idle.clone()]), None);
        // One is on its way to one of two that have nothing to do; the other is given one, too.
        assert_eq!(moved(&[actor(Life::Ready, 0, 3, 1), idle.clone(), idle]), Some((0, 1)));
    }
}
