//! MotorBrain: the supervisor actor. A thin shell around the [`policy`](crate::policy).
//!
//! It turns messages into events, performs effects and decides nothing. It owns the reply ports, so
//! an actor that dies or hangs takes no caller's port with it; one timer; the tokenizer's threads;
//! and the pulses, in which it reads what an actor was running when it died or hung.
//!
//! It never waits: models are loaded on the actors' own threads, texts tokenised on others. It is an
//! ordinary ractor actor: use it through a [`Brain`], or find it by its name and send it a
//! [`BrainMessage`], or spawn [`MotorBrain`] under a supervisor of your own.

mod clock;
mod config;
mod crew;
mod desk;
mod effects;
mod handle;
mod message;
mod notices;
mod shell;
mod stream;
mod tokenizing;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

pub use config::{BrainArguments, BrainConfig, StartError};
pub use handle::Brain;
pub use message::{BrainMessage, Delivery, Envelope, Internal, QueuePort, ReplyQueue, StepItem, StreamPort};
pub use stream::StepStream;

use message::Note;
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
        state.0.start();
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.0.handle(message);
        Ok(())
    }

    /// Deaths are put behind what the dead have reported: ractor hands supervision over first, and a
    /// result that is already in the mailbox shall count.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let dead = match event {
            SupervisionEvent::ActorFailed(dead, reason) => {
                tracing::debug!(actor_name = dead.get_name(), %reason, "an actor failed");
                dead
            }
            SupervisionEvent::ActorTerminated(dead, ..) => dead,
            _ => return Ok(()),
        };
        // A brain that is stopping itself takes no message, and needs none.
        let _ = myself.cast(BrainMessage::Internal(Internal(Note::Died(dead.get_id()))));
        Ok(())
    }
}
