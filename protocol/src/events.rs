//! What happens in a brain, as JSON: the name of the event, and an object with what it says. Pure.

use std::time::Duration;

use motorbrain_actors::{brain::BrainEvent, message::ConversationId};
use serde::Serialize;

use crate::encode::json;

/// An event's name.
pub fn event_name(event: &BrainEvent) -> &'static str {
    match event {
        BrainEvent::ActorReady { .. } => "actor_ready",
        BrainEvent::ActorDead { .. } => "actor_dead",
        BrainEvent::ActorHung { .. } => "actor_hung",
        BrainEvent::ActorDown { .. } => "actor_down",
        BrainEvent::ActorBack { .. } => "actor_back",
        BrainEvent::ConversationRebuilt { .. } => "conversation_rebuilt",
        BrainEvent::ConversationAdopted { .. } => "conversation_adopted",
        BrainEvent::ConversationLeft { .. } => "conversation_left",
        BrainEvent::ConversationBack { .. } => "conversation_back",
        BrainEvent::ConversationQuarantined { .. } => "conversation_quarantined",
        BrainEvent::ConversationForgotten { .. } => "conversation_forgotten",
        BrainEvent::Refused { .. } => "refused",
        BrainEvent::Lost { .. } => "lost",
        _ => "unknown",
    }
}

/// An event as an object: `event` is its name, times are in milliseconds.
pub fn encode_event(event: &BrainEvent) -> Vec<u8> {
    json(&body(event))
}

/// All that events say; each says some of it.
#[derive(Default, Serialize)]
struct Body<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charged: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_file: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

fn body(event: &BrainEvent) -> Body<'_> {
    let body = Body { event: event_name(event), ..Body::default() };
    match event {
        BrainEvent::ActorReady { actor } => Body { actor: Some(*actor), ..body },
        BrainEvent::ActorDead { actor, life, pause, charged } => {
            Body { actor: Some(*actor), life: Some(*life), pause_ms: Some(ms(*pause)), charged: Some(*charged), ..body }
        }
        BrainEvent::ActorHung { actor, life, ran } => {
            Body { actor: Some(*actor), life: Some(*life), ran_ms: Some(ms(*ran)), ..body }
        }
        BrainEvent::ActorDown { actor, conversations, reason, pause } => Body {
            actor: Some(*actor),
            conversations: Some(*conversations),
            reason: Some(reason),
            pause_ms: Some(ms(*pause)),
            ..body
        },
        BrainEvent::ActorBack { actor, life } => Body { actor: Some(*actor), life: Some(*life), ..body },
        BrainEvent::ConversationRebuilt { conversation } | BrainEvent::ConversationForgotten { conversation } => {
            Body { conversation: Some(conversation.as_str()), ..body }
        }
        BrainEvent::ConversationAdopted { conversation, from, to } => {
            Body { conversation: Some(conversation.as_str()), from: Some(*from), to: Some(*to), ..body }
        }
        BrainEvent::ConversationLeft { conversation, to_file, bytes } => {
            Body { conversation: Some(conversation.as_str()), to_file: Some(*to_file), bytes: Some(*bytes), ..body }
        }
        BrainEvent::ConversationBack { conversation, bytes } => {
            Body { conversation: Some(conversation.as_str()), bytes: Some(*bytes), ..body }
        }
        BrainEvent::ConversationQuarantined { conversation } => {
            Body { conversation: conversation.as_ref().map(ConversationId::as_str), ..body }
        }
        BrainEvent::Refused { code, count } => Body { code: Some(code.as_str()), count: Some(*count), ..body },
        BrainEvent::Lost { count } => Body { count: Some(*count), ..body },
        _ => body,
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &BrainEvent, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&encode_event(event)), expected);
    }

    #[test]
    fn an_event_says_its_name_and_what_it_has_to_say() {
        check(&BrainEvent::ActorReady { actor: 0 }, r#"{"event":"actor_ready","actor":0}"#);
        let pause = Duration::from_millis(50);
        let dead = BrainEvent::ActorDead { actor: 1, life: 0, pause, charged: 2 };
        check(&dead, r#"{"event":"actor_dead","actor":1,"life":0,"pause_ms":50,"charged":2}"#);
        let quarantined = |conversation| BrainEvent::ConversationQuarantined { conversation };
        check(&quarantined(None), r#"{"event":"conversation_quarantined"}"#);
        check(&quarantined(Some("a".into())), r#"{"event":"conversation_quarantined","conversation":"a"}"#);
        let left = BrainEvent::ConversationLeft { conversation: "a".into(), to_file: false, bytes: 9 };
        check(&left, r#"{"event":"conversation_left","conversation":"a","to_file":false,"bytes":9}"#);
        check(&BrainEvent::Lost { count: 3 }, r#"{"event":"lost","count":3}"#);
    }
}
