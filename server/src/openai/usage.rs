//! How many tokens a request took.

use motorbrain::chat::Answered;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tokens of a completion or a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
    pub(crate) prompt_tokens_details: PromptDetails,
}

/// What became of the prompt's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PromptDetails {
    /// Those that need not be read, since somebody had read the same before.
    pub(crate) cached_tokens: usize,
    /// Those that were read, and are kept for who says the same.
    pub(crate) cache_write_tokens: usize,
}

impl Usage {
    pub(crate) fn new(prompt: usize, cached: usize, completion: usize) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptDetails {
                cached_tokens: cached,
                cache_write_tokens: prompt.saturating_sub(cached),
            },
        }
    }

    /// Those of a chat.
    pub(crate) fn of(answered: &Answered) -> Self {
        Self::new(answered.prompt_tokens, answered.reused, answered.completion_tokens)
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let cached = self.prompt_tokens_details.cached_tokens + other.prompt_tokens_details.cached_tokens;
        let prompt = self.prompt_tokens + other.prompt_tokens;
        Self::new(prompt, cached, self.completion_tokens + other.completion_tokens)
    }
}

/// What a stream says besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// Whether the last event but one says how many tokens it took.
    pub(crate) include_usage: Option<bool>,
    /// Only `false`: events are not padded.
    include_obfuscation: Option<bool>,
}

impl StreamOptions {
    /// Whether the usage is asked for.
    pub(crate) fn usage(options: Option<Self>) -> bool {
        options.and_then(|options| options.include_usage).unwrap_or(false)
    }
}
