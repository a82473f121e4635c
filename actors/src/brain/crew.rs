//! The embedder actors as the shell holds them: their mailboxes and their pulses.
//!
//! An entry is one incarnation. An abandoned one is no member any more, so what it still does, and
//! that it ends one day, is nobody's business.

use std::sync::Arc;

use ractor::{ActorCell, ActorId, ActorRef};

use super::{
    clock::Clock,
    config::BrainConfig,
    message::{BrainMessage, Internal, Note},
};
use crate::{
    embedder::{EmbedderArguments, EmbedderMessage, spawn_on_thread},
    engine::{EngineLoader, LoadError},
    job::{Job, Pulse, RequestId},
    policy::{ActorIndex, Chaos, Incarnation, ObservedRun},
};

struct Member {
    incarnation: Incarnation,
    actor: ActorRef<EmbedderMessage>,
    pulse: Pulse,
}

/// The embedder actors: one a place, none where it is down or restarts.
pub(super) struct Crew {
    brain: ActorRef<BrainMessage>,
    loader: Arc<dyn EngineLoader>,
    members: Vec<Option<Member>>,
}

impl Crew {
    /// Places for so many, none of them taken.
    pub(super) fn new(brain: ActorRef<BrainMessage>, loader: Arc<dyn EngineLoader>, actors: usize) -> Self {
        Self { brain, loader, members: (0..actors).map(|_| None).collect() }
    }

    /// Bytes of all pages of keys and values.
    pub(super) fn kv_bytes(&self) -> usize {
        self.loader.kv_bytes()
    }

    /// Starts an actor on a thread of its own, without waiting for its model.
    pub(super) fn spawn(
        &mut self,
        index: ActorIndex,
        incarnation: Incarnation,
        config: &BrainConfig,
    ) -> Result<(), LoadError> {
        let name = config.name.as_ref().map(|brain| format!("{brain}/embedder-{}.{}", index.0, incarnation.0));
        let pulse = Pulse::default();
        let brain = self.brain.clone();
        let arguments = EmbedderArguments {
            loader: Arc::clone(&self.loader),
            report: Arc::new(move |report| {
                // A brain that has stopped needs no reports.
                let _ = brain.cast(BrainMessage::Internal(Internal(Note::Reported(index, incarnation, report))));
            }),
            pulse: pulse.clone(),
            embedding: config.embedding,
            chunk: config.chunk,
        };
        let actor = spawn_on_thread(name, self.brain.get_cell(), arguments).map_err(|error| LoadError {
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
    pub(super) fn observe(&self, index: ActorIndex, incarnation: Incarnation, clock: &Clock) -> Option<ObservedRun> {
        let running = self.member(index, incarnation)?.pulse.running()?;
        Some(ObservedRun { since: clock.time_of(running.since), requests: running.requests })
    }

    /// Ends an actor behind what it was sent.
    pub(super) fn stop(&self, index: ActorIndex, incarnation: Incarnation) {
        if let Some(member) = self.member(index, incarnation) {
            member.actor.stop(None);
        }
    }

    /// Leaves a thread to itself: it ends when its run does, if ever.
    pub(super) fn abandon(&mut self, index: ActorIndex, incarnation: Incarnation) {
        if self.member(index, incarnation).is_none() {
            return;
        }
        if let Some(member) = self.members[index.0].take() {
            if let Some(run) = member.pulse.interrupter() {
                run.interrupt();
            }
            let actor: ActorCell = member.actor.get_cell();
            actor.unlink(self.brain.get_cell());
            actor.kill();
        }
    }

    /// Takes a dead actor out: who it was, and which requests had a row in the run that died.
    pub(super) fn bury(&mut self, dead: ActorId) -> Option<(ActorIndex, Incarnation, Vec<RequestId>)> {
        let is_dead = |member: &Option<Member>| member.as_ref().is_some_and(|member| member.actor.get_id() == dead);
        let index = self.members.iter().position(is_dead)?;
        let member = self.members[index].take()?;
        let running = member.pulse.running().map(|running| running.requests).unwrap_or_default();
        Some((ActorIndex(index), member.incarnation, running))
    }
}
