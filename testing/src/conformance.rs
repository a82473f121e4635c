//! The contract of [`Engine`] as laws that any engine must obey.
//!
//! Each law gets a fresh engine and panics where it is broken, so [`check`] is a test. It takes its
//! tokens from the engine's vocabulary and reads a few windows of them: give it an engine with a
//! window of 16 to 64 tokens. Laws about sliding hold of an engine that slides, those of the full
//! context of one that does not, or whose owner does: check all three.

use motorbrain_actors::engine::{Engine, Sampling, Slides};

mod driver;
mod failing;
mod reading;
mod sampling;
mod sliding;

/// How far two answers that should be equal may be apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of log-probabilities, absolute.
    pub logprob: f32,
    /// Of hidden states, relative to the largest value of the vector.
    pub hidden: f32,
}

impl Tolerance {
    /// None at all.
    pub const EXACT: Self = Self { logprob: 0.0, hidden: 0.0 };
}

/// Holds every law against an engine of its own.
///
/// # Panics
/// Where a law is broken.
pub fn check(mut make_engine: impl FnMut() -> Box<dyn Engine>, tolerance: Tolerance) {
    for law in laws(make_engine().info().window.slides) {
        law(&mut *make_engine(), tolerance);
    }
}

type Law = fn(&mut dyn Engine, Tolerance);

fn laws(slides: Slides) -> Vec<Law> {
    let mut laws: Vec<Law> = vec![
        reading::chunking_changes_no_score,
        reading::scores_are_what_sampling_says,
        reading::the_last_token_runs_again_for_its_logits,
        reading::batching_changes_no_answer,
        reading::the_most_likely_tokens_come_first,
        reading::a_draw_depends_on_seed_and_number,
        sampling::draws_are_the_same_alone_and_batched,
        reading::hidden_states_add_up_over_chunks,
        reading::a_closed_slot_leaves_nothing_behind,
        failing::a_refused_row_changes_no_slot,
        failing::an_interrupted_run_changes_no_slot,
        failing::a_rewound_slot_is_as_it_was,
    ];
    match slides {
        Slides::Shift => laws.extend([
            sliding::the_context_is_what_was_taken_less_what_was_dropped as Law,
            sliding::chunking_changes_no_score_over_slides,
            sliding::scores_are_what_sampling_says_over_slides,
            sliding::a_slide_cannot_be_rewound,
            sampling::penalties_count_what_the_context_holds,
        ]),
        Slides::Never => laws.push(failing::a_full_context_is_refused),
        Slides::Recompute => laws.push(failing::a_full_context_samples_one_more_and_is_taken_back),
    }
    laws
}

/// Draws from the whole distribution.
const HOT: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
