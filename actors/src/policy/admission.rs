//! Whether a request may come in: its ranges, its size, its tokens. Pure checks, each a typed error.

use super::{
    config::Limits,
    event::{Arrival, Ask, Given, StepAsk},
    requests::Pending,
};
use crate::{
    engine::{EngineInfo, Sampling},
    job::History,
    message::{BrainError, ConversationId, N_MAX, Sharing, check_vocabulary},
    tokens::TokenId,
};

/// The most likely tokens that a step or a score may list in one place. Not a setting: it only keeps one
/// reply from asking for the whole vocabulary 65,536 times.
pub const TOP_MAX: usize = 256;

/// Those that a score may list in all places together, of which a text has as many as tokens: 8 MiB in long lists, some
/// 50 in lists of one.
pub const LISTED_MAX: usize = 1 << 20;

/// The bytes of a conversation's name. Not a setting: it only keeps names from being where a text
/// should be, without a limit and for as long as the conversation lives.
pub const NAME_BYTES_MAX: usize = 1024;

/// The tokens that a step's `logit_bias` may name. Not a setting: it only keeps requests small.
pub const LOGIT_BIAS_MAX: usize = 1024;

/// The farthest that `logit_bias` may be from 0, as in OpenAI's API.
const BIAS_MAX: f32 = 100.0;

/// The farthest that the presence and the frequency penalty may be from 0, as in OpenAI's API.
const PENALTY_MAX: f32 = 2.0;

/// The request's own values, before anything else is looked at.
pub(super) fn check_ranges(arrival: &Arrival, limits: &Limits) -> Result<(), BrainError> {
    if let Some(name) = &arrival.conversation {
        check_name("conversation", name.as_str())?;
    }
    match &arrival.ask {
        Ask::Step(step) => check_step(step, limits)?,
        Ask::Score { top } => check_top(*top)?,
        Ask::Fork { to, .. } => check_fork(arrival, to)?,
        _ => {}
    }
    if let (None, Some(choice)) = (&arrival.conversation, arrival.terms.choice) {
        return out_of_range("choice", choice, "none: without a conversation no answers wait");
    }
    if arrival.terms.pin && arrival.conversation.is_none() {
        return out_of_range("pin", true, "false: without a conversation nothing is kept");
    }
    if arrival.terms.pin && arrival.input.is_none() {
        return out_of_range("pin", "true without an input", "an input that is pinned");
    }
    if let Some(Sharing::With(Some(scope))) = &arrival.terms.sharing {
        check_name("scope", scope.as_str())?;
    }
    check_input(arrival, limits)
}

fn check_name(what: &'static str, name: &str) -> Result<(), BrainError> {
    match name.len() {
        bytes if bytes > NAME_BYTES_MAX => {
            out_of_range(what, format!("{bytes} bytes long"), format!("at most {NAME_BYTES_MAX}"))
        }
        _ => Ok(()),
    }
}

fn check_fork(arrival: &Arrival, to: &ConversationId) -> Result<(), BrainError> {
    check_name("to", to.as_str())?;
    if arrival.conversation.as_ref() == Some(to) {
        return out_of_range("to", "the conversation itself", "another name");
    }
    Ok(())
}

fn check_step(step: &StepAsk, limits: &Limits) -> Result<(), BrainError> {
    if step.count > limits.count {
        return out_of_range("count", step.count, format!("at most {} (`limits.count`)", limits.count));
    }
    check_top(step.top)?;
    if !(1..=N_MAX).contains(&step.n) {
        return out_of_range("n", step.n, format!("1 to {N_MAX}"));
    }
    if step.n > 1 && step.sampling.temperature == 0.0 {
        return out_of_range("n", step.n, "1 where `temperature` is 0: all answers would be one");
    }
    if step.n > 1 && (step.stream || step.count == 0) {
        return out_of_range("n", step.n, "1 for a streamed step, and for one that samples nothing");
    }
    check_sampling(&step.sampling)
}

fn check_top(top: usize) -> Result<(), BrainError> {
    if top > TOP_MAX {
        return out_of_range("top", top, format!("at most {TOP_MAX}"));
    }
    Ok(())
}

fn check_sampling(sampling: &Sampling) -> Result<(), BrainError> {
    let Sampling { temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, .. } = sampling;
    let penalty = -PENALTY_MAX..=PENALTY_MAX;
    let ranges = [
        ("temperature", temperature, temperature.is_finite() && *temperature >= 0.0, "a finite number, 0 or more"),
        ("top_p", top_p, *top_p > 0.0 && *top_p <= 1.0, "above 0 and at most 1"),
        ("min_p", min_p, (0.0..=1.0).contains(min_p), "0 to 1"),
        (
            "repetition_penalty",
            repetition_penalty,
            repetition_penalty.is_finite() && *repetition_penalty > 0.0,
            "a finite number above 0",
        ),
        ("presence_penalty", presence_penalty, penalty.contains(presence_penalty), "-2 to 2"),
        ("frequency_penalty", frequency_penalty, penalty.contains(frequency_penalty), "-2 to 2"),
    ];
    if let Some((what, found, _, expected)) = ranges.into_iter().find(|(_, _, is_in_range, _)| !is_in_range) {
        return out_of_range(what, found, expected);
    }
    check_bias(&sampling.logit_bias)
}

fn check_bias(bias: &[(TokenId, f32)]) -> Result<(), BrainError> {
    if bias.len() > LOGIT_BIAS_MAX {
        return out_of_range("logit_bias", format!("of {} tokens", bias.len()), format!("at most {LOGIT_BIAS_MAX}"));
    }
    if let Some((token, found)) = bias.iter().find(|(_, bias)| !(-BIAS_MAX..=BIAS_MAX).contains(bias)) {
        return out_of_range("logit_bias", format!("{found} for token {token}"), "-100 to 100");
    }
    let mut tokens: Vec<TokenId> = bias.iter().map(|(token, _)| *token).collect();
    tokens.sort_unstable();
    match tokens.array_windows().find(|[token, next]| token == next) {
        Some([token, _]) => out_of_range("logit_bias", format!("given twice for token {token}"), "each token once"),
        None => Ok(()),
    }
}

fn out_of_range(what: &'static str, found: impl ToString, expected: impl Into<String>) -> Result<(), BrainError> {
    Err(BrainError::BadRequest { what, found: found.to_string(), expected: expected.into() })
}

fn check_input(arrival: &Arrival, limits: &Limits) -> Result<(), BrainError> {
    let bytes = match (&arrival.input, &arrival.ask) {
        (Some(Given::Text { bytes }), _) => *bytes,
        (Some(Given::Tokens(tokens)), _) => tokens.len().saturating_mul(size_of::<TokenId>()),
        (None, Ask::Embed(_) | Ask::Score { .. }) => 0,
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

/// What can be said once a request's tokens are known and those that it follows.
pub(super) fn check_work(pending: &Pending, context: &History, model: &EngineInfo) -> Result<(), BrainError> {
    if pending.has_input && pending.text_len == 0 {
        return Err(BrainError::EmptyInput { reason: "the text has no tokens" });
    }
    if let Ask::Score { top } = pending.ask {
        check_listed(top, pending.text_len)?;
    }
    if let Some(frame) = pending.frame() {
        check_vocabulary(frame.prefix.iter().chain(&frame.probe), model.vocab)?;
    }
    if pending.pins() {
        context.check_pin(pending.text_len, &model.window)?;
    }
    pending.work().check(context.tokens.len(), model)
}

fn check_listed(top: usize, tokens: usize) -> Result<(), BrainError> {
    let most = LISTED_MAX / tokens.max(1);
    if top > most {
        return out_of_range("top", top, format!("at most {most} in the places of {tokens} tokens"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        job::RequestId,
        message::{ErrorCode, Party, Terms},
        policy::EmbedAsk,
    };

    /// The code with which an arrival is refused, `None` if it is not.
    fn check(ask: Ask, input: Option<Given>) -> Option<ErrorCode> {
        let limits = Limits { text_bytes: 100, count: 10, ..Limits::default() };
        let arrival = Arrival {
            request: RequestId(0),
            conversation: None,
            ask,
            input,
            terms: Terms::default(),
            party: Party::default(),
            deadline: None,
        };
        check_ranges(&arrival, &limits).err().map(|error| error.code())
    }

    fn step(change: impl FnOnce(&mut StepAsk)) -> Ask {
        let mut step =
            StepAsk { count: 1, sampling: Sampling::GREEDY, seed: 0, top: 0, stream: false, n: 1, grammar: None };
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
        let score = |top| check(Ask::Score { top }, Some(Given::Text { bytes: 1 }));
        assert_eq!((score(TOP_MAX), score(TOP_MAX + 1)), (None, bad));
        for min_p in [-0.1, 1.1, f32::NAN] {
            assert_eq!(check(step(|s| s.sampling.min_p = min_p), None), bad, "{min_p}");
        }
        for penalty in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(check(step(|s| s.sampling.repetition_penalty = penalty), None), bad, "{penalty}");
        }
        for penalty in [-2.1, 2.1, f32::NAN, f32::NEG_INFINITY] {
            assert_eq!(check(step(|s| s.sampling.presence_penalty = penalty), None), bad, "{penalty}");
            assert_eq!(check(step(|s| s.sampling.frequency_penalty = penalty), None), bad, "{penalty}");
        }
        let bias = |bias: &[(u32, f32)]| {
            let bias = bias.iter().map(|(token, bias)| (TokenId(*token), *bias)).collect();
            check(step(|s| s.sampling.logit_bias = bias), None)
        };
        for value in [-100.1, 100.1, f32::NAN, f32::INFINITY] {
            assert_eq!(bias(&[(1, 0.0), (2, value)]), bad, "{value}");
        }
        assert_eq!(bias(&[(1, 1.0), (2, 1.0), (1, 1.0)]), bad);
        let many: Vec<_> = (0..=LOGIT_BIAS_MAX as u32).map(|token| (token, 1.0)).collect();
        assert_eq!((bias(&many), bias(&many[1..])), (bad, None));
    }

    #[test]
    fn the_ends_of_the_ranges_are_in_them() {
        for end in [-1.0, 1.0] {
            let all = Sampling {
                temperature: f32::MAX,
                top_k: usize::MAX,
                top_p: 1.0,
                min_p: f32::midpoint(1.0, end),
                repetition_penalty: f32::MAX,
                presence_penalty: 2.0 * end,
                frequency_penalty: -2.0 * end,
                logit_bias: vec![(TokenId(u32::MAX), 100.0 * end)].into(),
            };
            assert_eq!(check(step(|s| s.sampling = all), None), None, "{end}");
        }
    }

    #[test]
    fn a_name_is_no_place_for_a_text() {
        let check = |bytes: usize| {
            let conversation = Some("x".repeat(bytes).into());
            let arrival = Arrival {
                request: RequestId(0),
                conversation,
                ask: Ask::Close,
                input: None,
                terms: Terms::default(),
                party: Party::default(),
                deadline: None,
            };
            check_ranges(&arrival, &Limits::default()).err().map(|error| error.code())
        };
        assert_eq!(check(NAME_BYTES_MAX), None);
        assert_eq!(check(NAME_BYTES_MAX + 1), Some(ErrorCode::BadRequest));
    }

    #[test]
    fn nothing_to_read_is_an_empty_input() {
        let empty = Some(ErrorCode::EmptyInput);
        assert_eq!(check(Ask::Embed(EmbedAsk::default()), None), empty);
        assert_eq!(check(Ask::Score { top: 0 }, Some(Given::Tokens(vec![]))), empty);
        assert_eq!(check(step(|_| ()), Some(Given::Text { bytes: 0 })), empty);
        assert_eq!(check(step(|s| s.count = 0), None), empty);
        assert_eq!(check(step(|s| s.count = 0), Some(Given::Text { bytes: 1 })), None);
        assert_eq!(check(Ask::Reset, None), None);
    }

    #[test]
    fn inputs_over_the_limit_are_too_long() {
        let long = Some(ErrorCode::InputTooLong);
        assert_eq!(check(Ask::Embed(EmbedAsk::default()), Some(Given::Text { bytes: 100 })), None);
        assert_eq!(check(Ask::Embed(EmbedAsk::default()), Some(Given::Text { bytes: 101 })), long);
        assert_eq!(check(Ask::Embed(EmbedAsk::default()), Some(Given::Tokens(vec![TokenId(1); 26]))), long);
    }
}
