//! What a request of several answers is made of: its parts, and what they have come to. Plain values.

use std::collections::BTreeSet;

use super::state::State;
use crate::job::{Choice, RequestId};

/// What a part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Reads the input.
    Reading,
    /// Gives the answer with this number.
    Answering(usize),
}

/// A request's answers under way.
#[derive(Clone, Debug)]
pub(super) struct Several {
    /// The parts that are not done.
    pub(super) parts: BTreeSet<RequestId>,
    /// Where they begin.
    pub(super) start: State,
    /// Whether the conversation held tokens before.
    pub(super) had: bool,
    /// A part had to read again what had slid.
    pub(super) rebuilt: bool,
    /// Those that are done: what each came to and where its conversation would stand.
    pub(super) done: Vec<Option<(Choice, State)>>,
}

impl Several {
    /// Where its answers stand, and where they began.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.start).chain(self.done.iter().flatten().map(|(_, state)| state))
    }
}

/// That a request is a part of another.
#[derive(Clone, Debug)]
pub(super) struct PartOf {
    /// The request that asks for several answers.
    pub(super) whole: RequestId,
    /// What this part does.
    pub(super) part: Part,
    /// Where it begins.
    pub(super) state: State,
}
