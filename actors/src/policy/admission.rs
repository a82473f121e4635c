//! Whether a request may come in: its ranges, its size, its tokens. Pure checks, each a typed error.

use super::{
    config::Limits,
    event::{Arrival, Ask, Given, StepAsk},
};
use crate::{
    engine::EngineInfo,
    message::{BrainError, check_vocabulary},
    tokens::TokenId,
};

/// The most likely tokens a step may list for each sampled one. Not a setting: it only keeps one
/// reply from asking for the whole vocabulary 65,536 times.
pub const TOP_MAX: usize = 256;

/// The bytes of a conversation's name. Not a setting: it only keeps names from being where a text
/// should be, without a limit and for as long as the conversation lives.
pub const NAME_BYTES_MAX: usize = 1024;

/// The request's own values, before anything else is looked at.
pub(super) fn check_ranges(arrival: &Arrival, limits: &Limits) -> Result<(), BrainError> {
    let name_bytes = arrival.conversation.as_ref().map_or(0, |name| name.as_str().len());
    if name_bytes > NAME_BYTES_MAX {
        return out_of_range("conversation", format!("{name_bytes} bytes long"), format!("at most {NAME_BYTES_MAX}"));
    }
    if let Ask::Step(step) = &arrival.ask {
        check_step(step, limits)?;
    }
    check_input(arrival, limits)
}

fn check_step(step: &StepAsk, limits: &Limits) -> Result<(), BrainError> {
    let sampling = step.sampling;
    if step.count > limits.count {
        return out_of_range("count", step.count, format!("at most {} (`limits.count`)", limits.count));
    }
    if !(sampling.temperature.is_finite() && sampling.temperature >= 0.0) {
        return out_of_range("temperature", sampling.temperature, "a finite number, 0 or more");
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return out_of_range("top_p", sampling.top_p, "above 0 and at most 1");
    }
    if step.top > TOP_MAX {
        return out_of_range("top", step.top, format!("at most {TOP_MAX}"));
    }
    Ok(())
}

fn out_of_range(what: &'static str, found: impl ToString, expected: impl Into<String>) -> Result<(), BrainError> {
    Err(BrainError::BadRequest { what, found: found.to_string(), expected: expected.into() })
}

fn check_input(arrival: &Arrival, limits: &Limits) -> Result<(), BrainError> {
    let bytes = match (&arrival.input, arrival.ask) {
        (Some(Given::Text { bytes }), _) => *bytes,
        (Some(Given::Tokens(tokens)), _) => tokens.len().saturating_mul(size_of::<TokenId>()),
        (None, Ask::Embed | Ask::Score) => 0,
        (None, Ask::Step(step)) if step.count == 0 => {
            return Err(BrainError::EmptyInput { reason: "a step of count 0 without input" });
        }
        (None, _) => return Ok(()),
    };
    if bytes == 0 {
        return Err(BrainError::EmptyInput { reason: "the input is empty" });
    }
    if bytes > limits.text_bytes {
        return Err(BrainError::InputTooLong { found: bytes, limit: limits.text_bytes });
    }
    Ok(())
}

/// What only the model can say of a request's tokens.
pub(super) fn check_model(ask: &Ask, tokens: &[TokenId], model: &EngineInfo) -> Result<(), BrainError> {
    if matches!(ask, Ask::Embed) && !model.embeds {
        return Err(BrainError::Engine {
            message: "the model's graph gives no hidden states: it steps and scores, but cannot embed".to_owned(),
        });
    }
    check_vocabulary(tokens, model.vocab)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{engine::Sampling, job::RequestId, message::ErrorCode};

    /// The code with which an arrival is refused, `None` if it is not.
    fn check(ask: Ask, input: Option<Given>) -> Option<ErrorCode> {
        let limits = Limits { text_bytes: 100, count: 10, ..Limits::default() };
        let arrival = Arrival { request: RequestId(0), conversation: None, ask, input, deadline: None };
        check_ranges(&arrival, &limits).err().map(|error| error.code())
    }

    fn step(change: impl FnOnce(&mut StepAsk)) -> Ask {
        let mut step = StepAsk { count: 1, sampling: Sampling::GREEDY, seed: 0, top: 0, stream: false };
        change(&mut step);
        Ask::Step(step)
    }

    #[test]
    fn values_out_of_their_range_are_bad_requests() {
        let bad = Some(ErrorCode::BadRequest);
        assert_eq!(check(step(|_| ()), None), None);
        assert_eq!(check(step(|s| s.count = 10), None), None);
        assert_eq!(check(step(|s| s.count = 11), None), bad);
        for temperature in [f32::NAN, -0.1, f32::INFINITY] {
            assert_eq!(check(step(|s| s.sampling.temperature = temperature), None), bad);
        }
        for top_p in [0.0, 1.1, f32::NAN, -1.0] {
            assert_eq!(check(step(|s| s.sampling.top_p = top_p), None), bad);
        }
        assert_eq!(check(step(|s| s.top = TOP_MAX + 1), None), bad);
    }

    #[test]
    fn a_name_is_no_place_for_a_text() {
        let check = |bytes: usize| {
            let conversation = Some("x".repeat(bytes).into());
            let arrival = Arrival { request: RequestId(0), conversation, ask: Ask::Close, input: None, deadline: None };
            check_ranges(&arrival, &Limits::default()).err().map(|error| error.code())
        };
        assert_eq!(check(NAME_BYTES_MAX), None);
        assert_eq!(check(NAME_BYTES_MAX + 1), Some(ErrorCode::BadRequest));
    }

    #[test]
    fn nothing_to_read_is_an_empty_input() {
        let empty = Some(ErrorCode::EmptyInput);
        assert_eq!(check(Ask::Embed, None), empty);
        assert_eq!(check(Ask::Score, Some(Given::Tokens(vec![]))), empty);
        assert_eq!(check(step(|_| ()), Some(Given::Text { bytes: 0 })), empty);
        assert_eq!(check(step(|s| s.count = 0), None), empty);
        assert_eq!(check(step(|s| s.count = 0), Some(Given::Text { bytes: 1 })), None);
        assert_eq!(check(Ask::Reset, None), None);
    }

    #[test]
    fn inputs_over_the_limit_are_too_long() {
        let long = Some(ErrorCode::InputTooLong);
        assert_eq!(check(Ask::Embed, Some(Given::Text { bytes: 100 })), None);
        assert_eq!(check(Ask::Embed, Some(Given::Text { bytes: 101 })), long);
        assert_eq!(check(Ask::Embed, Some(Given::Tokens(vec![TokenId(1); 26]))), long);
    }
}
