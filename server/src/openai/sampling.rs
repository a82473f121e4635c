//! How tokens are chosen and where they end, as OpenAI's requests say it. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use motorbrain::{Sampling, TokenId};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ApiError;

/// What a request says of how tokens are chosen; what it leaves out is as OpenAI's is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choosing {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<usize>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
}

impl Choosing {
    /// The same for the brain, which judges the ranges.
    ///
    /// # Errors
    /// A bias of what is no token.
    pub(crate) fn sampling(self) -> Result<Sampling, ApiError> {
        let off = Sampling::GREEDY;
        Ok(Sampling {
            temperature: self.temperature.map_or(1.0, narrow),
            top_p: self.top_p.map_or(off.top_p, narrow),
            top_k: self.top_k.unwrap_or(off.top_k),
            min_p: self.min_p.map_or(off.min_p, narrow),
            repetition_penalty: self.repetition_penalty.map_or(off.repetition_penalty, narrow),
            presence_penalty: self.presence_penalty.map_or(off.presence_penalty, narrow),
            frequency_penalty: self.frequency_penalty.map_or(off.frequency_penalty, narrow),
            logit_bias: biases(self.logit_bias.unwrap_or_default())?,
        })
    }
}

/// The number in 32 bits, where only zero is zero: that means something else than the smallest number there is.
fn narrow(number: f64) -> f32 {
    match number as f32 {
        0.0 if number != 0.0 => f32::from_bits(1).copysign(number as f32),
        narrow => narrow,
    }
}

fn biases(biases: BTreeMap<String, f64>) -> Result<Cow<'static, [(TokenId, f32)]>, ApiError> {
    let bias = |(id, bias): (String, f64)| {
        let found = || format!("of {:?}", id.chars().take(20).collect::<String>());
        let token = id.parse().map_err(|_| ApiError::invalid("logit_bias", found(), "token ids and numbers"))?;
        Ok((TokenId(token), narrow(bias)))
    };
    biases.into_iter().map(bias).collect()
}

/// A seed, which OpenAI's clients may give a sign.
pub(crate) fn seed(seed: Option<i64>) -> Option<u64> {
    seed.map(|seed| seed as u64)
}

/// A text or a list of them.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

/// Texts that end an answer; none if none were given.
pub(crate) fn stops(texts: Option<Texts>) -> Vec<String> {
    texts.map(Vec::from).unwrap_or_default()
}

/// Refuses a key whose value would mean something, where only one value is the same as leaving it out.
pub(crate) fn only<T: PartialEq + std::fmt::Debug>(key: &str, value: Option<T>, one: T) -> Result<(), ApiError> {
    match value {
        Some(value) if value != one => Err(ApiError::unsupported(key, format!("only {one:?} may be said"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_left_out_is_as_openais_is() {
        let sampling = Choosing::default().sampling().unwrap();
        assert_eq!(sampling, Sampling { temperature: 1.0, ..Sampling::GREEDY });
        let logit_bias = Some(BTreeMap::from([("5".to_owned(), -100.0)]));
        let sampling = Choosing { logit_bias, ..Choosing::default() }.sampling().unwrap();
        assert_eq!(*sampling.logit_bias, [(TokenId(5), -100.0)]);
        let logit_bias = Some(BTreeMap::from([("x".to_owned(), 1.0)]));
        let refused = Choosing { logit_bias, ..Choosing::default() }.sampling().unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("logit_bias"));
    }

    #[test]
    fn what_is_not_zero_is_not_zero_in_32_bits() {
        assert_eq!(
            [0.7, 0.0, 1e-300, -1e-300, 1e39].map(narrow),
            [0.7, 0.0, f32::from_bits(1), -f32::from_bits(1), f32::INFINITY]
        );
    }

    #[test]
    fn what_means_nothing_else_may_be_said() {
        assert!(only("store", Some(false), false).is_ok() && only("store", None, false).is_ok());
        assert_eq!(only("store", Some(true), false).unwrap_err().code, "unsupported_parameter");
    }
}
