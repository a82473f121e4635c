//! MotorBrain: the supervisor actor. A thin shell around the [`policy`](crate::policy).
//!
//! It turns messages into events, performs effects and decides nothing. It owns the reply ports, so
//! an actor that dies or hangs takes no caller's port with it; one timer; the tokenizer's threads;
//! and the pulses, in which it reads what an actor was running when it died or hung. How much comes to
//! it is bounded by a gate before its mailbox.
//!
//! It never waits: models are loaded on the actors' own threads, texts tokenised on others. It is an
//! ordinary ractor actor: use it through a [`Brain`], or find it by its name and send it a
//! [`BrainMessage`], or spawn [`MotorBrain`] under a supervisor of your own. However it is stopped (by
//! [`Brain::shutdown`], by ractor's `stop` or `drain`), everything that it had accepted is answered first.

mod alarm;
mod config;
mod crew;
mod cuts;
mod desk;
mod effects;
mod events;
mod gate;
mod handle;
mod keeper;
mod leaving;
mod many;
mod message;
mod meters;
mod notes;
mod notices;
mod quotas;
mod recipes;
mod requests;
mod shell;
mod stream;
mod temporary;
mod tokenizing;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

pub use config::{BrainArguments, BrainConfig, StartError};
pub use events::{BrainEvent, Events, Subscribe, Told};
pub use handle::Brain;
pub(crate) use many::Many;
pub use message::{BrainMessage, Delivery, Envelope, Internal, QueuePort, ReplyQueue, StepItem, StreamPort, Ticket};
pub use stream::StepStream;
pub use temporary::Temporary;

use shell::Shell;

/// The supervisor actor. See the module's page.
#[derive(Clone, Copy, Debug, Default)]
pub struct MotorBrain;

/// What a [`MotorBrain`] holds.
pub struct BrainState(Shell);

impl Actor for MotorBrain {
    type Msg = BrainMessage;
    type State = BrainState;
    type Arguments = BrainArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(BrainState(Shell::new(myself, arguments)?))
    }

    async fn post_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(state.0.start()?)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(state.0.handle(message)?)
    }

    /// However it is stopped, what was accepted is finished or answered.
    async fn post_stop(&self, _myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        Ok(state.0.finish().await?)
    }

    /// An actor's end is heard of by what it leaves behind (`notes.rs`), so this is for the log. Without it ractor would
    /// stop the brain.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(dead, reason) = event {
            tracing::debug!(actor_name = dead.get_name(), %reason, "an actor failed");
        }
        Ok(())
    }
}
