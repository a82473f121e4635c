//! What always holds between two events. Tests ask after every one of them.

use super::{Life, Policy, Stage};

impl Policy {
    /// Every broken invariant, as a sentence with its numbers; empty if all hold.
    pub fn check_invariants(&self) -> Vec<String> {
        let mut broken = Vec::new();
        self.check_requests(&mut broken);
        self.check_conversations(&mut broken);
        self.check_actors(&mut broken);
        broken
    }

    fn check_requests(&self, broken: &mut Vec<String>) {
        if self.requests.len() > self.config.limits.requests {
            broken.push(format!("{} requests, the limit is {}", self.requests.len(), self.config.limits.requests));
        }
        let with_deadline = self.requests.values().filter(|pending| pending.deadline.is_some()).count();
        if with_deadline != self.deadlines.len() {
            broken.push(format!("{} deadlines, {with_deadline} requests have one", self.deadlines.len()));
        }
        for (request, pending) in &self.requests {
            let queued = match &pending.conversation {
                Some(name) => self.conversations.get(name).is_some_and(|it| it.queue.contains(request)),
                None => self.loose.contains(request) == (pending.stage == Stage::Waiting),
            };
            if !queued {
                broken.push(format!("{request:?} in stage {:?} is not where it should wait", pending.stage));
            }
            if pending.told && !matches!(pending.stage, Stage::Assigned(_)) {
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
        for (name, conversation) in &self.conversations {
            let tokens = conversation.history.tokens.len();
            if conversation.is_blank() {
                broken.push(format!("`{name}` is kept for nothing"));
            }
            if tokens > window || (tokens as u64) > conversation.history.total {
                broken.push(format!("`{name}` remembers {tokens} of {} tokens", conversation.history.total));
            }
            if conversation.held
                && !conversation.owner.is_some_and(|owner| {
                    matches!(self.actors[owner.0].life, Life::Ready | Life::Stopping | Life::Stopped)
                })
            {
                broken.push(format!("`{name}` is held by nobody who lives"));
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
            let lodgers = self.conversations.values().filter(|it| it.owner.is_some_and(|owner| owner.0 == index));
            let lodgers = lodgers.count();
            if lodgers != actor.conversations {
                broken
                    .push(format!("actor {index} counts {} conversations, {lodgers} live there", actor.conversations));
            }
            if actor.life == Life::Down && lodgers > 0 {
                broken.push(format!("{lodgers} conversations live with actor {index}, which is down"));
            }
            if actor.life != Life::Ready && !actor.jobs.is_empty() {
                broken.push(format!("actor {index} has {} jobs in {:?}", actor.jobs.len(), actor.life));
            }
            if actor.jobs.is_empty() != actor.watch_at.is_none() {
                broken.push(format!("actor {index} with {} jobs is watched at {:?}", actor.jobs.len(), actor.watch_at));
            }
            for request in &actor.jobs {
                if self
                    .requests
                    .get(request)
                    .is_none_or(|pending| pending.stage != Stage::Assigned(super::ActorIndex(index)))
                {
                    broken.push(format!("actor {index} has {request:?}, which is not with it"));
                }
            }
        }
    }
}
