//! What `/stats` tells: how full the window is, and what the last answer took. Pure.

use std::time::Duration;

use motorbrain::chat::Answered;

/// What an answer took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Tokens of all that was said before it.
    prompt: usize,
    /// How many of them need not be read.
    reused: usize,
    /// Tokens of the answer.
    tokens: usize,
    /// When its text began.
    first: Duration,
    /// When it was over.
    over: Duration,
}

impl Figures {
    /// Of an answer whose text began and was over so long after it was asked for.
    pub(super) fn of(answered: &Answered, first: Duration, over: Duration) -> Self {
        Self {
            prompt: answered.prompt_tokens,
            reused: answered.reused,
            tokens: answered.completion_tokens,
            first,
            over,
        }
    }

    /// Tokens a second behind the first one; `None` where there is none.
    fn rate(&self) -> Option<f64> {
        let seconds = self.over.saturating_sub(self.first).as_secs_f64();
        (self.tokens > 1 && seconds > 0.0).then(|| (self.tokens - 1) as f64 / seconds)
    }
}

/// All of it in words.
pub(super) fn words(context_len: usize, window: usize, last: Option<&Figures>) -> String {
    let context = format!("{context_len} of {window} tokens in the window");
    let Some(last) = last else { return context };
    let Figures { prompt, reused, tokens, first, .. } = last;
    let rate = last.rate().map_or_else(String::new, |rate| format!(" at {rate:.1} a second"));
    format!(
        "{context}\nlast answer: {} tokens read, {reused} reused, text after {} ms, {tokens} tokens{rate}",
        prompt - reused,
        first.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_words() {
        let figures = |tokens, over| Figures {
            prompt: 50,
            reused: 41,
            tokens,
            first: Duration::from_millis(80),
            over: Duration::from_millis(over),
        };
        assert_eq!(words(0, 64, None), "0 of 64 tokens in the window");
        let told = words(61, 64, Some(&figures(11, 580)));
        let expected = "61 of 64 tokens in the window\n\
             last answer: 9 tokens read, 41 reused, text after 80 ms, 11 tokens at 20.0 a second";
        assert_eq!(told, expected);
        assert!(words(51, 64, Some(&figures(1, 80))).ends_with("80 ms, 1 tokens"));
    }
}
