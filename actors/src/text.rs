//! Text as tokens come: what each adds to the text of all before it, never a part of a character.
//!
//! A [`Detokenizer`] is a function of the tokens it was given: one that is made behind a conversation's
//! tokens goes on as one that saw them all, so nothing is lost where an actor dies or a window slides.
//! [`StepText`] is the text of one step, which ends at a stop text. The brain shows it; an actor is
//! given one where a stop text may end the step.

mod detokenizer;
mod step;
mod stops;

pub use detokenizer::Detokenizer;
pub use step::StepText;
pub(crate) use step::broken as broken_text;
pub use stops::{STOP_BYTES_MAX, STOPS_MAX, StopTexts};
