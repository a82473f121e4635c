//! The policy's notices as lines of the log. Facts are fields; no text of a user is among them.

use crate::{message::ConversationId, policy::Notice};

pub(super) fn log(notice: Notice) {
    match notice {
        Notice::Ready { actor, incarnation } => {
            tracing::info!(actor = actor.0, incarnation = incarnation.0, "an actor is ready");
        }
        Notice::LoadFailed { actor, error } => {
            tracing::warn!(actor = actor.0, transient = error.transient, %error, "a model could not be loaded");
        }
        Notice::Hung { actor, incarnation, ran } => tracing::warn!(
            actor = actor.0,
            incarnation = incarnation.0,
            ran_ms = ran.as_millis(),
            "a run took too long; its thread is abandoned"
        ),
        Notice::Restarting { actor, incarnation, pause, charged } => tracing::warn!(
            actor = actor.0,
            incarnation = incarnation.0,
            pause_ms = pause.as_millis(),
            charged,
            "an actor died and starts again"
        ),
        Notice::Down { actor, conversations, reason, pause } => tracing::error!(
            actor = actor.0,
            conversations,
            reason,
            pause_ms = pause.as_millis(),
            "an actor is down; its conversations move"
        ),
        Notice::Quarantined(conversation) => {
            let conversation = conversation.as_ref().map(ConversationId::as_str);
            tracing::warn!(conversation, "what is asked has killed actors and is refused for a time");
        }
        Notice::Rebuilt(conversation) => {
            tracing::info!(conversation = conversation.as_str(), "a conversation is read again from its window");
        }
        Notice::Adopted { conversation, from, to } => tracing::debug!(
            conversation = conversation.as_str(),
            from = from.0,
            to = to.0,
            "a conversation goes on with another actor"
        ),
        Notice::KeepFailed { conversation, error } => {
            let (conversation, hint) = (conversation.as_str(), error.hint());
            // Room is short for many at once, and only time is lost for it.
            if error.is_full() {
                tracing::debug!(conversation, %error, hint, "keys and values are not kept; tokens are read again");
            } else {
                tracing::warn!(conversation, %error, hint, "keys and values are not kept; tokens are read again");
            }
        }
        Notice::Left { conversation, to_file, bytes } => tracing::debug!(
            conversation = conversation.as_str(),
            to_file,
            bytes,
            "an idle conversation's keys and values have left memory"
        ),
        Notice::Back { conversation, bytes } => tracing::debug!(
            conversation = conversation.as_str(),
            bytes,
            "a conversation's keys and values are in memory again"
        ),
        Notice::Forgotten { conversation } => {
            tracing::info!(conversation = conversation.as_str(), "a conversation that nobody closed was forgotten");
        }
        Notice::Freed { actor, incarnation, abandoned } => {
            tracing::info!(actor = actor.0, incarnation = incarnation.0, abandoned, "an abandoned thread has ended")
        }
        Notice::Impossible(what) => {
            tracing::error!(what, "an event that cannot happen: please report it")
        }
    }
}
