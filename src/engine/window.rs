//! The window: which tokens of a conversation keep their keys and values.
//!
//! Keys are cached after rotation, so a token cannot just be cut out of the middle: those that stay
//! are rotated back by the number of positions that left ([`Slides::Shift`]), or are run again
//! ([`Slides::Recompute`]). This file only plans: where a run of one row ends, whether a slide comes
//! first, and which token is run again. No tensor is touched here.
//!
//! A slide happens at one exact place: when the token that would be number `size + 1` of the context
//! is appended or sampled. A row therefore ends where the context is full, and the state after N
//! tokens depends on the tokens alone, not on how they were cut. Under [`Slides::Recompute`] no slide
//! is planned here: the slot's owner slides, an actor's lane (`make_way`), and until it has, a full
//! context takes nothing but one token that is sampled from it; what does not fit is refused.
//!
//! Lengths are in tokens. Invariant: `slide >= 1`, `sinks + slide <= size`.

use motorbrain_actors::engine::{Slides, Want, Window};

/// The window's size where neither the settings nor the model say less.
const SIZE_DEFAULT: usize = 2048;

/// What happens when the window is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest tokens after the sinks leave.
    #[default]
    Slide,
    /// A token that does not fit is refused with `context_full`.
    Error,
}

/// How what stays is kept where the window slides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowPolicy {
    /// Its keys and values stay, and its keys are turned back.
    #[default]
    Shift,
    /// It is read again, which costs as much as a prompt of its length, so that answers depend on nothing but its tokens.
    Recompute,
}

/// The window as the settings have it; `None` is the default, which depends on the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowOptions {
    /// The most tokens a context holds; by default 2048 or the model's context where that is smaller.
    pub size: Option<usize>,
    /// The first tokens, which never leave; by default the smaller of 4 and `size / 8`.
    pub sinks: Option<usize>,
    /// How many leave at once; by default `size / 4`, at least 1.
    pub slide: Option<usize>,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// How what stays is kept then.
    pub policy: WindowPolicy,
}

/// Why window options do not make a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// A window of no token.
    #[error("`window.size` is 0, expected at least 1")]
    Empty,
    /// The model cannot see that far.
    #[error("`window.size` is {size}, the model's context has only {context} tokens")]
    LargerThanContext {
        /// What was asked for.
        size: usize,
        /// The model's limit.
        context: usize,
    },
    /// Nothing would be left to slide.
    #[error("`window.sinks` is {sinks}, expected less than the window's {size}")]
    Sinks {
        /// What was asked for.
        sinks: usize,
        /// The window's size.
        size: usize,
    },
    /// A slide that drops nothing, or more than there is after the sinks.
    #[error("`window.slide` is {slide}, expected 1 to {most} (`window.size` less `window.sinks`)")]
    Slide {
        /// What was asked for.
        slide: usize,
        /// `size - sinks`.
        most: usize,
    },
}

impl WindowError {
    /// What to do next, one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::LargerThanContext { .. } => {
                "choose another `window.size`, or leave the section `window` out"
            }
            Self::Sinks { .. } => "lower `window.sinks`, or raise `window.size`",
            Self::Slide { .. } => "lower `window.slide` or `window.sinks`, or raise `window.size`",
        }
    }
}

impl WindowOptions {
    /// The window on a model whose context has `context` tokens.
    ///
    /// # Errors
    /// Whatever option is out of its range.
    pub fn resolve(self, context: usize) -> Result<Window, WindowError> {
        let size = self.size.unwrap_or(SIZE_DEFAULT.min(context));
        if size == 0 {
            return Err(WindowError::Empty);
        }
        if size > context {
            return Err(WindowError::LargerThanContext { size, context });
        }
        let sinks = self.sinks.unwrap_or((size / 8).min(4));
        if sinks >= size {
            return Err(WindowError::Sinks { sinks, size });
        }
        let most = size - sinks;
        let slide = self.slide.unwrap_or((size / 4).clamp(1, most));
        if slide == 0 || slide > most {
            return Err(WindowError::Slide { slide, most });
        }
        let slides = match (self.overflow, self.policy) {
            (Overflow::Error, _) => Slides::Never,
            (Overflow::Slide, WindowPolicy::Shift) => Slides::Shift,
            (Overflow::Slide, WindowPolicy::Recompute) => Slides::Recompute,
        };
        Ok(Window { size, sinks, slide, slides })
    }
}

/// Turns of a key that is kept in f16: each may round it by half a step, up to 2^-11 of itself.
const TURNS_IN_F16_MAX: usize = 8;

/// Whether a window's keys are turned so often before they leave that they are kept in f32.
pub(crate) fn turns_often(window: &Window) -> bool {
    (window.size - window.sinks).div_ceil(window.slide) > TURNS_IN_F16_MAX
}

/// What one run does for one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowPlan {
    /// Drop `slide` tokens before anything is read.
    pub slide: bool,
    /// Run the context's last token first: it has no keys and values yet, or its logits are wanted.
    pub last: bool,
    /// How many of the row's new tokens are read.
    pub take: usize,
}

impl RowPlan {
    /// The same where at most so many of its tokens may be scored, but for one: `most` is less by those that are.
    pub(crate) fn scored(self, most: &mut usize) -> Self {
        let take = self.take.min((*most).max(1));
        *most = most.saturating_sub(take);
        Self { take, ..self }
    }
}

/// How many tokens one run scores at most, of all its rows: a score takes the logits of the whole vocabulary, in f32, and
/// a run has those of all its tokens at once. 32 MiB are 55 tokens of a vocabulary of 151,936, and with a copy, where the
/// graph gives fewer bits, less than 64.
pub(crate) fn scored_max(vocab: usize) -> usize {
    (32 << 20) / (vocab.max(1) * size_of::<f32>())
}

/// The row's new tokens, and perhaps the one it samples, do not fit, and the window does not slide or its owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoesNotFit;

/// Plans a row with `new` new tokens on a slot of `context_len` tokens, `kv_len` of them cached.
pub(crate) fn plan(
    window: &Window,
    context_len: usize,
    kv_len: usize,
    new: usize,
    want: &Want<'_>,
) -> Result<RowPlan, DoesNotFit> {
    let sampled = usize::from(matches!(want, Want::Next { .. }));
    let refused = match window.slides {
        Slides::Never => context_len + new + sampled > window.size,
        Slides::Shift => false,
        // What was sampled last must be taken back first.
        Slides::Recompute => context_len > window.size,
    };
    if refused {
        return Err(DoesNotFit);
    }
    let pending = kv_len < context_len;
    let logits_of_last = match want {
        Want::Next { .. } => new == 0,
        Want::Scores { first, .. } => *first && context_len > 0,
        Want::Nothing | Want::Hidden(_) => false,
    };
    let last = pending || logits_of_last;
    let size = window.size;
    assert!(context_len <= size, "{context_len} tokens in a window of {size}");
    assert!(kv_len <= context_len, "{kv_len} tokens are cached of {context_len}");
    let room = size - context_len;
    Ok(match (room, new) {
        (0, 1..) if window.slides == Slides::Recompute && !logits_of_last => return Err(DoesNotFit),
        // The last token must see the whole window, so it runs before the slide and alone.
        (0, 1..) if last => RowPlan { slide: false, last, take: 0 },
        (0, 1..) => RowPlan { slide: true, last, take: new.min(window.slide) },
        _ => RowPlan { slide: false, last, take: new.min(room) },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use motorbrain_actors::engine::Sampling;

    use super::*;

    const WINDOW: Window = Window { size: 16, sinks: 2, slide: 4, slides: Slides::Shift };
    const NEXT: Want<'static> = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 0, guide: None };
    const SCORE: Want<'static> = Want::Scores { first: true, next: None, top: 0 };

    #[test]
    fn defaults_follow_the_model() {
        let window = |size, context| WindowOptions { size, ..Default::default() }.resolve(context);
        assert_eq!(window(None, 8192).unwrap(), Window { size: 2048, sinks: 4, slide: 512, slides: Slides::Shift });
        assert_eq!(window(None, 512).unwrap(), Window { size: 512, sinks: 4, slide: 128, slides: Slides::Shift });
        assert_eq!(window(Some(1), 512).unwrap(), Window { size: 1, sinks: 0, slide: 1, slides: Slides::Shift });
        assert_eq!(window(Some(0), 512), Err(WindowError::Empty));
        assert_eq!(window(Some(513), 512), Err(WindowError::LargerThanContext { size: 513, context: 512 }));
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let window = |sinks, slide| {
            WindowOptions {
                size: Some(16),
                sinks: Some(sinks),
                slide: Some(slide),
                overflow: Overflow::Error,
                policy: WindowPolicy::Shift,
            }
            .resolve(16)
        };
        assert_eq!(window(16, 1), Err(WindowError::Sinks { sinks: 16, size: 16 }));
        assert_eq!(window(2, 0), Err(WindowError::Slide { slide: 0, most: 14 }));
        assert_eq!(window(2, 15), Err(WindowError::Slide { slide: 15, most: 14 }));
        assert_eq!(window(2, 14), Ok(Window { size: 16, sinks: 2, slide: 14, slides: Slides::Never }));
    }

    #[test]
    fn rows_end_where_the_context_is_full() {
        let check = |context_len, kv_len, new, want: &Want<'_>, slide, last, take| {
            let found = plan(&WINDOW, context_len, kv_len, new, want);
            assert_eq!(found, Ok(RowPlan { slide, last, take }), "{context_len} {kv_len} {new} {want:?}");
        };
        check(0, 0, 40, &Want::Nothing, false, false, 16);
        check(16, 16, 40, &Want::Nothing, true, false, 4);
        check(12, 12, 3, &Want::Nothing, false, false, 3);
        // A sampled token is read before anything else, in a full window alone.
        check(5, 4, 3, &Want::Nothing, false, true, 3);
        check(16, 15, 3, &Want::Nothing, false, true, 0);
        // Logits of the last token.
        check(5, 5, 0, &NEXT, false, true, 0);
        check(16, 16, 0, &NEXT, false, true, 0);
        check(5, 5, 3, &NEXT, false, false, 3);
        check(0, 0, 3, &SCORE, false, false, 3);
        check(5, 5, 3, &SCORE, false, true, 3);
        check(16, 16, 3, &SCORE, false, true, 0);
    }

    #[test]
    fn what_is_scored_in_a_run_has_a_bound_and_every_row_goes_on() {
        assert_eq!(scored_max(151_936), 55);
        let mut most = 10;
        let mut taken = |context_len, new| {
            let row = plan(&WINDOW, context_len, context_len, new, &SCORE).unwrap();
            row.scored(&mut most).take
        };
        let rows = [taken(0, 7), taken(5, 9), taken(5, 9), taken(0, 1), taken(16, 9)];
        assert_eq!(rows, [7, 3, 1, 1, 0], "the last one scores the token that stands before it");
    }

    #[test]
    fn where_the_owner_slides_a_full_context_says_what_comes_next_and_takes_nothing() {
        let window = WindowOptions { size: Some(16), policy: WindowPolicy::Recompute, ..Default::default() };
        let window = window.resolve(16).unwrap();
        assert_eq!(window.slides, Slides::Recompute);
        let full = |kv_len, new, want| plan(&window, 16, kv_len, new, want);
        let last = RowPlan { slide: false, last: true, take: 0 };
        assert_eq!([full(16, 0, &NEXT), full(15, 0, &NEXT), full(16, 3, &SCORE)], [Ok(last); 3]);
        assert_eq!([full(16, 3, &NEXT), full(15, 3, &Want::Nothing)], [Err(DoesNotFit); 2]);
        assert_eq!(plan(&window, 17, 16, 0, &NEXT), Err(DoesNotFit));
        assert_eq!(plan(&window, 12, 12, 9, &NEXT).map(|row| row.take), Ok(4));
    }

    #[test]
    fn without_slides_what_does_not_fit_is_refused_whole() {
        let window = Window { slides: Slides::Never, ..WINDOW };
        assert_eq!(plan(&window, 10, 10, 7, &Want::Nothing), Err(DoesNotFit));
        assert_eq!(plan(&window, 10, 10, 6, &NEXT), Err(DoesNotFit));
        assert!(plan(&window, 10, 10, 6, &Want::Nothing).is_ok());
        assert!(plan(&window, 10, 10, 5, &NEXT).is_ok());
    }
}
