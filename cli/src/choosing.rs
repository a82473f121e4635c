//! How tokens are chosen, as the command line says it: the keys of the pipe's `step`, whose ranges the brain judges.

use std::borrow::Cow;

use motorbrain::Sampling;

/// How tokens are chosen.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct Choosing {
    /// Divides logits; 0 always takes the most likely token
    #[arg(long, value_name = "NUMBER", default_value_t = Sampling::GREEDY.temperature)]
    temperature: f32,

    /// Keep so many of the most likely tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = Sampling::GREEDY.top_k)]
    top_k: usize,

    /// Keep the smallest set of the most likely tokens that has this probability
    #[arg(long, value_name = "NUMBER", default_value_t = Sampling::GREEDY.top_p)]
    top_p: f32,

    /// Keep what is at least so many times as likely as the most likely token
    #[arg(long, value_name = "NUMBER", default_value_t = Sampling::GREEDY.min_p)]
    min_p: f32,

    /// Above 1 makes less likely what the window holds
    #[arg(long, value_name = "NUMBER", default_value_t = Sampling::GREEDY.repetition_penalty)]
    repetition_penalty: f32,

    /// Taken off a token's logit once where the window holds it
    #[arg(long, value_name = "NUMBER", default_value_t = Sampling::GREEDY.presence_penalty)]
    #[arg(allow_negative_numbers = true)]
    presence_penalty: f32,

    /// Taken off a token's logit as often as the window holds it
    #[arg(long, value_name = "NUMBER", default_value_t = Sampling::GREEDY.frequency_penalty)]
    #[arg(allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// The same seed and text draw the same tokens [default: one that is drawn]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl Choosing {
    /// The same for the brain.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: Cow::Borrowed(&[]),
        }
    }
}
