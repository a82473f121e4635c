//! The embedder actors as the shell holds them: their mailboxes and their pulses.
//!
//! An entry is one incarnation. An abandoned one is no member any more; that it ends one day is told as every end is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ractor::{ActorCell, ActorRef, ActorStatus, registry::where_is};

use super::{
    config::BrainConfig,
    message::BrainMessage,
    notes::{Life, Post},
};
use crate::{
    clock::Clock,
    embedder::{EmbedderArguments, EmbedderMessage, spawn_on_thread},
    engine::{EngineLoader, LoadError},
    job::{Job, Pulse, RequestId, Running, Runs},
    policy::{ActorIndex, Chaos, Incarnation},
};

struct Member {
    incarnation: Incarnation,
    actor: ActorRef<EmbedderMessage>,
    pulse: Pulse,
}

/// The embedder actors: one a place, none where it is down or restarts.
pub(super) struct Crew {
    brain: ActorRef<BrainMessage>,
    post: Post,
    loader: Arc<dyn EngineLoader>,
    members: Vec<Option<Member>>,
    /// Counted of runs, those of actors that are gone among them.
    runs: Runs,
}

impl Crew {
    /// Places for so many, none of them taken.
    pub(super) fn new(brain: ActorRef<BrainMessage>, post: Post, loader: Arc<dyn EngineLoader>, actors: usize) -> Self {
        Self { brain, post, loader, members: (0..actors).map(|_| None).collect(), runs: Runs::default() }
    }

    /// Bytes of all pages of keys and values.
    pub(super) fn kv_bytes(&self) -> usize {
        // Somebody else's code, on the brain's thread.
        catch_unwind(AssertUnwindSafe(|| self.loader.kv_bytes())).unwrap_or_default()
    }

    /// What was counted of runs since it was emptied.
    pub(super) fn runs(&mut self) -> &mut Runs {
        self.members.iter().flatten().for_each(|member| member.pulse.take_runs(&mut self.runs));
        &mut self.runs
    }

    /// Starts an actor on a thread of its own, without waiting for its model.
    pub(super) fn spawn(
        &mut self,
        index: ActorIndex,
        incarnation: Incarnation,
        config: &BrainConfig,
        clock: &Clock,
    ) -> Result<(), LoadError> {
        let name = config.name.as_ref().map(|brain| format!("{brain}/embedder-{}.{}", index.0, incarnation.0));
        // ractor frees a name when its actor has ended. One that was left to itself has not, be it an earlier brain's.
        let name = name.filter(|name| where_is(name).is_none());
        let pulse = Pulse::default();
        let life = Life { actor: index, incarnation, post: self.post.clone() };
        let arguments = EmbedderArguments {
            loader: Arc::clone(&self.loader),
            report: Arc::new(move |report| life.tell(report)),
            pulse: pulse.clone(),
            clock: clock.clone(),
            straighten: config.embedding.straighten.clone(),
            chunk: config.chunk,
            beside_max: config.beside_max,
        };
        // Who is stopping is given no children; those that it then has end with [`Crew`].
        let supervisor = (self.brain.get_status() < ActorStatus::Draining).then(|| self.brain.get_cell());
        let actor = spawn_on_thread(name, supervisor, arguments).map_err(|error| LoadError {
            transient: true,
            message: format!("the actor could not be spawned: {error}"),
            hint: None,
        })?;
        self.members[index.0] = Some(Member { incarnation, actor, pulse });
        Ok(())
    }

    fn member(&self, index: ActorIndex, incarnation: Incarnation) -> Option<&Member> {
        self.members.get(index.0)?.as_ref().filter(|member| member.incarnation == incarnation)
    }

    // A message to an actor that has died meanwhile is lost; its death is on its way and takes the
    // jobs back. So no send below looks at the result.

    /// Gives an actor a job.
    pub(super) fn send(&self, index: ActorIndex, incarnation: Incarnation, job: Job) {
        if let Some(member) = self.member(index, incarnation) {
            let _ = member.actor.cast(EmbedderMessage::Job(Box::new(job)));
        }
    }

    /// Has an actor end a job that nobody waits for.
    pub(super) fn cancel(&self, index: ActorIndex, incarnation: Incarnation, request: RequestId) {
        if let Some(member) = self.member(index, incarnation) {
            let _ = member.actor.cast(EmbedderMessage::Cancel(request));
        }
    }

    /// Has an actor give jobs back.
    pub(super) fn recall(&self, index: ActorIndex, incarnation: Incarnation, requests: Vec<RequestId>) {
        if let Some(member) = self.member(index, incarnation) {
            let _ = member.actor.cast(EmbedderMessage::Recall(requests));
        }
    }

    /// Makes an actor crash or hang, for whoever tries what then happens.
    pub(super) fn inflict(&self, index: ActorIndex, incarnation: Incarnation, chaos: Chaos) {
        if let Some(member) = self.member(index, incarnation) {
            let _ = member.actor.cast(match chaos {
                Chaos::Crash => EmbedderMessage::Crash,
                Chaos::Hang(duration) => EmbedderMessage::Hang(duration),
            });
        }
    }

    /// What an actor is running, by its pulse; `None` between two runs.
    pub(super) fn observe(&self, index: ActorIndex, incarnation: Incarnation) -> Option<Running> {
        self.member(index, incarnation)?.pulse.running()
    }

    /// Ends an actor behind what it was sent.
    pub(super) fn stop(&self, index: ActorIndex, incarnation: Incarnation) {
        if let Some(member) = self.member(index, incarnation) {
            member.actor.stop(None);
        }
    }

    /// Leaves a thread to itself: it ends when its run does, if ever.
    pub(super) fn abandon(&mut self, index: ActorIndex, incarnation: Incarnation) {
        if self.member(index, incarnation).is_some()
            && let Some(member) = self.members[index.0].take()
        {
            member.pulse.take_runs(&mut self.runs);
            member.abandon(&self.brain);
        }
    }

    /// Takes a dead actor out: for which requests it did what it died of. Nothing is known of one that was abandoned.
    pub(super) fn bury(&mut self, index: ActorIndex, incarnation: Incarnation) -> Vec<RequestId> {
        if self.member(index, incarnation).is_none() {
            return Vec::new();
        }
        let dead = self.members[index.0].take();
        dead.iter().for_each(|member| member.pulse.take_runs(&mut self.runs));
        dead.and_then(|member| member.pulse.running()).map(|running| running.requests).unwrap_or_default()
    }
}

impl Member {
    fn abandon(self, brain: &ActorRef<BrainMessage>) {
        if let Some(run) = self.pulse.interrupter() {
            // Somebody else's code, on the brain's thread.
            let _ = catch_unwind(AssertUnwindSafe(|| run.interrupt()));
        }
        let actor: ActorCell = self.actor.get_cell();
        actor.unlink(brain.get_cell());
        actor.kill();
    }
}

impl Drop for Crew {
    /// Whoever is left, since the brain was killed, serves nobody.
    fn drop(&mut self) {
        for member in self.members.drain(..).flatten() {
            member.abandon(&self.brain);
        }
    }
}
