//! What is asked for completions, and what of it is refused.

use std::collections::BTreeMap;

use motorbrain::{ConversationId, Input, Sampling, Step, Terms, TokenId};
use motorbrain_actors::message::N_MAX;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    openai::{
        sampling::{Choosing, Texts, only, seed, stops},
        tokens::{TokenIdSent, tokens},
        usage::StreamOptions,
    },
    spans::Operation,
};

/// So many tokens are sampled where a request does not say: OpenAI's default.
const COUNT: usize = 16;

/// The most alternatives that are listed for a token.
const LOGPROBS_MAX: usize = 20;

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CompletionRequest)]
pub(crate) struct Request {
    /// One of the served names.
    pub(super) model: String,
    /// What is gone on from. Text that spells one of the model's markers becomes that marker.
    prompt: Prompts,
    /// The most tokens that are sampled; left out, 16.
    max_tokens: Option<usize>,
    /// Left out, 1; 0 takes the most likely token.
    temperature: Option<f64>,
    top_p: Option<f64>,
    /// Beyond OpenAI's.
    top_k: Option<usize>,
    /// Beyond OpenAI's.
    min_p: Option<f64>,
    /// Beyond OpenAI's.
    repetition_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    /// By token id.
    logit_bias: Option<BTreeMap<String, f64>>,
    seed: Option<i64>,
    stop: Option<Texts>,
    /// How many answers to each prompt; with more than one they are drawn, and cannot be streamed.
    n: Option<usize>,
    /// Whether the prompt stands before its answer.
    echo: Option<bool>,
    /// How many of the most likely tokens are listed beside each, 0 to 20.
    logprobs: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Only 1.
    best_of: Option<usize>,
    /// Not served.
    suffix: Option<String>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    user: Option<String>,
}

/// One prompt or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, a list of texts, a list of token ids, or a list of such lists")]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<TokenIdSent>),
    Lists(Vec<Vec<TokenIdSent>>),
}

/// What one answer goes on from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prompt {
    Text(String),
    Ids(Vec<TokenId>),
}

/// A request that can be meant.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) model: String,
    pub(super) prompts: Vec<Prompt>,
    pub(super) count: usize,
    pub(super) n: usize,
    pub(super) echo: bool,
    pub(super) logprobs: Option<usize>,
    pub(super) stream: bool,
    /// Whether a stream tells it.
    pub(super) usage: bool,
    sampling: Sampling,
    seed: Option<u64>,
    stop: Vec<String>,
}

impl Request {
    /// What can be meant of it. `count_max`: tokens that may be sampled; `prompts_max`: prompts.
    ///
    /// # Errors
    /// What cannot, and what is not served.
    pub(super) fn asking(self, count_max: usize, prompts_max: usize) -> Result<Asking, ApiError> {
        only("best_of", self.best_of, 1)?;
        if self.suffix.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(ApiError::unsupported("suffix", "what stands behind an answer is not read"));
        }
        let (count, n, stream) = (self.max_tokens.unwrap_or(COUNT), self.n.unwrap_or(1), self.stream.unwrap_or(false));
        if count > count_max {
            return Err(ApiError::invalid("max_tokens", count, format!("at most {count_max} (`limits.count`)")));
        }
        if !(1..=N_MAX).contains(&n) {
            return Err(ApiError::invalid("n", n, format!("1 to {N_MAX}")));
        }
        if stream && n > 1 {
            return Err(ApiError::unsupported("n", "several answers to a prompt are not streamed"));
        }
        if let Some(found) = self.logprobs.filter(|logprobs| *logprobs > LOGPROBS_MAX) {
            return Err(ApiError::invalid("logprobs", found, format!("at most {LOGPROBS_MAX}")));
        }
        if self.stream_options.is_some() && !stream {
            return Err(ApiError::invalid("stream_options", "given", "none where `stream` is not true"));
        }
        let prompts = self.prompt.prompts();
        match prompts.len() {
            0 => return Err(ApiError::invalid("prompt", "empty", "one prompt or more")),
            many if many > prompts_max => {
                return Err(ApiError::invalid("prompt", format!("{many} prompts"), format!("at most {prompts_max}")));
            }
            _ => {}
        }
        let choosing = Choosing {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
        };
        Ok(Asking {
            model: self.model,
            prompts,
            count,
            n,
            echo: self.echo.unwrap_or(false),
            logprobs: self.logprobs,
            stream,
            usage: StreamOptions::usage(self.stream_options),
            sampling: choosing.sampling()?,
            seed: seed(self.seed),
            stop: stops(self.stop),
        })
    }
}

impl Prompts {
    fn prompts(self) -> Vec<Prompt> {
        match self {
            Self::Text(one) => vec![Prompt::Text(one)],
            Self::Texts(many) => many.into_iter().map(Prompt::Text).collect(),
            Self::Ids(one) => vec![Prompt::Ids(tokens(one))],
            Self::Lists(many) => many.into_iter().map(|one| Prompt::Ids(tokens(one))).collect(),
        }
    }
}

impl Asking {
    /// Whether it is told how likely the prompt's tokens are.
    pub(super) fn is_scored(&self) -> bool {
        self.echo && self.logprobs.is_some()
    }

    /// What is asked of the model.
    pub(super) fn operation(&self) -> Operation<'_> {
        Operation {
            stream: self.stream,
            sampling: Some(&self.sampling),
            count: Some(self.count),
            seed: self.seed,
            n: self.n,
            ..Operation::new("text_completion", &self.model)
        }
    }

    /// The step of one prompt; without tokens it goes on from what the conversation has read.
    pub(super) fn step(&self, conversation: ConversationId, terms: &Terms, tokens: Option<Vec<TokenId>>) -> Step {
        Step {
            count: self.count,
            sampling: self.sampling.clone(),
            seed: self.seed,
            top: self.logprobs.unwrap_or(0),
            stop: self.stop.clone(),
            n: self.n,
            terms: terms.clone(),
            input: tokens.map(Input::Tokens),
            ..Step::greedy(conversation, "", 0)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn asking(json: &str) -> Result<Asking, ApiError> {
        crate::body::parse::<Request>(json.as_bytes())?.asking(100, 3)
    }

    fn check(json: &str, code: &str, param: &str) {
        let refused = asking(json).expect_err(json);
        assert_eq!((refused.code, refused.param.as_deref()), (code, Some(param)), "{json}: {}", refused.message);
    }

    #[test]
    fn what_is_left_out_is_as_openais_is() {
        let asked = asking(r#"{"model":"m","prompt":"a","user":"me","best_of":1,"suffix":null}"#).unwrap();
        assert_eq!((asked.prompts, asked.count, asked.n), (vec![Prompt::Text("a".into())], 16, 1));
        let asked = asking(r#"{"model":"m","prompt":[[1],[2,3]]}"#).unwrap();
        assert_eq!(asked.prompts, [Prompt::Ids(vec![TokenId(1)]), Prompt::Ids(vec![TokenId(2), TokenId(3)])]);
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_name() {
        check(r#"{"model":"m","prompt":"a","suffix":"b"}"#, "unsupported_parameter", "suffix");
        check(r#"{"model":"m","prompt":"a","best_of":2}"#, "unsupported_parameter", "best_of");
        check(r#"{"model":"m","prompt":"a","n":2,"stream":true}"#, "unsupported_parameter", "n");
        check(r#"{"model":"m","prompt":"a","messages":[]}"#, "unsupported_parameter", "messages");
        check(r#"{"model":"m","prompt":"a","max_tokens":101}"#, "invalid_value", "max_tokens");
        check(r#"{"model":"m","prompt":"a","logprobs":21}"#, "invalid_value", "logprobs");
        check(r#"{"model":"m","prompt":"a","n":0}"#, "invalid_value", "n");
        // Also where no step is asked that would be refused.
        check(r#"{"model":"m","prompt":"a","n":17,"echo":true,"logprobs":0,"max_tokens":0}"#, "invalid_value", "n");
        check(r#"{"model":"m","prompt":[]}"#, "invalid_value", "prompt");
        check(r#"{"model":"m","prompt":["a","b","c","d"]}"#, "invalid_value", "prompt");
        check(r#"{"model":"m","prompt":{}}"#, "invalid_type", "prompt");
        check(r#"{"model":"m","prompt":"a","stream_options":{}}"#, "invalid_value", "stream_options");
    }
}
