//! Where a conversation stands: its tokens, what there is of their keys and values, and how far back it can go.
//!
//! Plain values. A state is cheap to copy, since pages and tokens are counted, and so a fork is one. Lengths are in
//! tokens. Invariant: `resident.kv_len` is at most the context's length, and `resident.pages` are as many as it needs.

use std::ops::RangeInclusive;

use crate::{
    engine::{EngineInfo, PageSize, Resident, Window},
    job::{Commit, History},
    keep::Kept,
    tokens::TokenId,
};

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Every committed token that the window still holds.
    pub(super) history: History,
    /// The pages of their keys and values; none where engines keep these to themselves.
    pub(super) resident: Resident,
    /// The fewest tokens that it can go back to: what the last slide left.
    floor: usize,
}

impl State {
    /// Tokens in the context.
    pub(super) fn len(&self) -> usize {
        self.history.tokens.len()
    }

    /// What it is, for a file.
    pub(super) fn kept(&self) -> Kept {
        Kept { history: self.history.clone(), floor: self.floor, resident: self.resident.clone() }
    }

    /// What a file says that it was; `None` where that cannot be.
    pub(super) fn of(kept: Kept, model: &EngineInfo) -> Option<Self> {
        let Kept { history, floor, resident } = kept;
        let (len, left) = (history.tokens.len(), history.left.len());
        // Far from where counting on would overflow.
        let is_total = history.total == (len + left) as u64 || left == 0 && history.total > len as u64;
        let is_total = is_total && history.total <= i64::MAX as u64;
        let tokens = history.tokens.iter().chain(&*history.left);
        let are_known = tokens.into_iter().all(|token| (token.0 as usize) < model.vocab);
        let state = Self { history, resident, floor };
        let mut broken = Vec::new();
        state.check_invariants(model.pages, &mut broken);
        let fits = len <= model.window.size && state.history.pinned <= model.window.pinned_max();
        (is_total && are_known && fits && broken.is_empty()).then_some(state)
    }

    /// Bytes of its tokens.
    pub(super) fn tokens_bytes(&self) -> usize {
        (self.len() + self.history.left.len()) * size_of::<TokenId>()
    }

    /// The lengths that it can go back to.
    pub(super) fn lengths(&self) -> RangeInclusive<usize> {
        self.floor..=self.len()
    }

    /// Whether that can be a commit to it: no more left or is pinned than there was.
    pub(super) fn takes(&self, commit: &Commit, window: &Window) -> bool {
        let (new, pinned) = (commit.appended.len(), self.history.pinned + commit.pinned);
        // Asked only where there is something to pin: what it refuses with is a text, and each token shown comes by here.
        let pins = || commit.pinned <= new && self.history.check_pin(commit.pinned, window).is_ok();
        (commit.pinned == 0 || pins())
            && (commit.dropped == 0 || window.kept_first(pinned) + commit.dropped <= self.len() + new)
    }

    /// Takes a commit over that was made on `base` where there is one, else on what is resident; false if it cannot be
    /// one, and then nothing changed.
    pub(super) fn commit(&mut self, commit: &Commit, base: Option<Resident>, window: &Window) -> bool {
        if !self.takes(commit, window) {
            return false;
        }
        commit.apply(&mut self.history, window);
        if let Some(base) = base {
            self.resident = base;
        }
        self.resident.apply(commit.held.clone());
        if commit.dropped > 0 {
            self.floor = window.size.saturating_sub(window.slide);
        }
        true
    }

    /// Whether more of its rows are lacking than that of the last token, which was sampled or is the end of an input
    /// that others had read: the next run reads it first.
    pub(super) fn lacks_rows(&self) -> bool {
        self.resident.kv_len + 1 < self.len()
    }

    /// Takes the rows over that it lacks from one that has gone on from it, if that has not slid on the way.
    pub(super) fn read_again(&mut self, further: &Self, pages: Option<PageSize>) {
        let added = further.history.total - self.history.total;
        if let Some(page) = pages
            && self.len() as u64 + added == further.len() as u64
        {
            self.resident = further.resident.clone();
            self.resident.truncate(self.len(), page.tokens);
        }
    }

    /// Goes back to the first `len` tokens, which [`Self::lengths`] allows.
    pub(super) fn rewind(&mut self, len: usize, pages: Option<PageSize>) {
        debug_assert!(self.lengths().contains(&len), "back to {len} of {:?}", self.lengths());
        self.history.truncate(len);
        if let Some(page) = pages {
            self.resident.truncate(len, page.tokens);
        }
    }

    /// What does not fit together, as sentences.
    pub(super) fn check_invariants(&self, pages: Option<PageSize>, broken: &mut Vec<String>) {
        let (len, Resident { pages: held, kv_len }) = (self.len(), &self.resident);
        if *kv_len > len {
            broken.push(format!("{kv_len} tokens are resident of a context of {len}"));
        }
        if self.floor > len {
            broken.push(format!("a context of {len} tokens can only go back to {}", self.floor));
        }
        let pinned = self.history.pinned;
        if pinned > len {
            broken.push(format!("{pinned} tokens are pinned of a context of {len}"));
        }
        let expected = pages.map_or(0, |page| kv_len.div_ceil(page.tokens));
        if held.len() != expected {
            broken.push(format!("{} pages hold {kv_len} tokens, expected {expected}", held.len()));
        }
    }
}
