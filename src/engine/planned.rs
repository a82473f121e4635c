//! A row of a run on its way: what it will do, which tokens it runs for that, and what it has done.
//!
//! Pure, and in memory that is kept from run to run.

use motorbrain_actors::{
    engine::{EngineInfo, Pooling, Row, RowOutput, Want, Window},
    grammar::{Guide, SpellingError},
    tokens::TokenId,
};
use motorbrain_kernels::vector;

use super::{
    backend::{Feed, Given},
    sampling::{self, NoChoice, NoDistribution},
    slot::Slot,
    window::RowPlan,
};

/// Why what a run gave is not what a row wanted.
#[derive(Debug)]
pub(super) enum Fault {
    /// What of it is no finite numbers.
    NotNumbers(&'static str),
    /// What the row's grammar says.
    Grammar(SpellingError),
}

impl From<NoDistribution> for Fault {
    fn from(NoDistribution: NoDistribution) -> Self {
        Self::NotNumbers("logits")
    }
}

impl From<NoChoice> for Fault {
    fn from(none: NoChoice) -> Self {
        match none {
            NoChoice::NoDistribution => NoDistribution.into(),
            NoChoice::NothingAllowed => {
                let reason = "the model gives none of the tokens that it allows a share".to_owned();
                Self::Grammar(SpellingError { reason })
            }
        }
    }
}

impl From<SpellingError> for Fault {
    fn from(error: SpellingError) -> Self {
        Self::Grammar(error)
    }
}

/// What a row's run did, before it is committed.
pub(super) struct Executed<K> {
    /// The cache to go on with, where it is a new one.
    pub(super) kv: Option<K>,
    /// Rows of it that are filled.
    pub(super) kv_len: usize,
    /// All but the context's new length.
    pub(super) output: RowOutput,
}

/// What a row will do in its run.
#[derive(Default)]
pub(super) struct Planned {
    /// Where it ends, and whether a slide comes first.
    pub(super) plan: RowPlan,
    /// What it runs.
    pub(super) fed: Fed,
}

impl Planned {
    /// Makes of what the run gave what the row wants.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) fn digest<K>(
        &self,
        row: &Row<'_>,
        info: &EngineInfo,
        given: Given<'_, K>,
        scratch: &mut sampling::Scratch,
    ) -> Result<Executed<K>, Fault> {
        let Self { plan, fed } = self;
        let sampled = match row.want {
            Want::Next { sampling, seed, number, top, guide } if !given.logits.is_empty() => {
                let at = sampling::uniform(seed, number);
                // Worked out while the model ran.
                let allowed = guide.map(Guide::allowed).transpose()?;
                let allowed = allowed.as_deref();
                Some(sampling::sample(given.logits, sampling, at, top, &fed.window, allowed, scratch)?)
            }
            _ => None,
        };
        let hidden = fed.pooled(given.hidden, info.hidden, row.want);
        if !hidden.iter().all(|x| x.is_finite()) {
            return Err(Fault::NotNumbers("hidden states"));
        }
        let mut output = RowOutput {
            taken: plan.take,
            dropped: if plan.slide { info.window.slide } else { 0 },
            context_len: 0,
            hidden,
            sampled,
            ..RowOutput::default()
        };
        if let Want::Scores { top, .. } = row.want {
            fed.score(given.logits, info.vocab, top, scratch, &mut output)?;
        }
        Ok(Executed { kv: given.kv, kv_len: fed.past + fed.tokens.len(), output })
    }
}

/// The tokens that a row really runs, and which of their logits are wanted for what.
#[derive(Default)]
pub(super) struct Fed {
    /// The context's last token where the plan says so, then the new ones that are taken.
    pub(super) tokens: Vec<TokenId>,
    /// Tokens cached before them.
    pub(super) past: usize,
    /// Tokens that are cached already: the first of them, too, where it runs again.
    cached: usize,
    /// How many of them are not new: 0 or 1.
    lead: usize,
    logits_of: Vec<usize>,
    /// The tokens whose log-probabilities the logits give, one each; none where one is sampled.
    targets: Vec<TokenId>,
    /// Whether hidden states are wanted.
    hidden: bool,
    /// The tokens that the window holds when the next one is drawn, where its sampling penalises them.
    window: Vec<u32>,
}

impl Fed {
    /// Fills in those of a row on its slot, in the memory of an earlier one's.
    pub(super) fn fill<K>(&mut self, slot: &Slot<K>, row: &Row<'_>, plan: RowPlan, window: &Window) {
        let (context, kv_len) = (&slot.context[..], slot.kv_len);
        let Self { tokens, logits_of, targets, window: held, .. } = self;
        let last = context.last().filter(|_| plan.last);
        let lead = usize::from(last.is_some());
        tokens.clear();
        tokens.extend(last.into_iter().chain(&row.tokens[..plan.take]));
        logits_of.clear();
        targets.clear();
        held.clear();
        let dropped = if plan.slide { window.slide } else { 0 };
        match row.want {
            Want::Next { sampling, .. } if plan.take == row.tokens.len() => {
                logits_of.push(tokens.len() - 1);
                if sampling.penalises() {
                    // Taken once: no window holds more.
                    held.reserve(window.size);
                    let (first, rest) = context.split_at(if plan.slide { window.kept_first(slot.pinned) } else { 0 });
                    held.extend(first.iter().chain(&rest[dropped..]).chain(row.tokens).map(|token| token.0));
                }
            }
            Want::Scores { first, next, .. } => {
                let start = if first { 0 } else { lead };
                // What follows the token at `start`.
                let following = row.tokens.iter().chain(&next).skip(start + 1 - lead);
                for (index, target) in (start..tokens.len()).zip(following) {
                    logits_of.push(index);
                    targets.push(*target);
                }
            }
            _ => {}
        }
        let context_len = context.len();
        assert!(dropped + lead <= context_len, "{dropped} tokens leave and {lead} runs again of {context_len}");
        self.past = context_len - dropped - lead;
        self.cached = kv_len - dropped;
        self.lead = lead;
        self.hidden = matches!(row.want, Want::Hidden(_)) && plan.take > 0;
    }

    /// What a backend is given.
    pub(super) fn feed(&self) -> Feed<'_> {
        Feed {
            tokens: &self.tokens,
            past: self.past,
            cached: self.cached,
            logits_of: &self.logits_of,
            hidden: self.hidden,
        }
    }

    /// Tells how likely each target is, and the `top` most likely tokens in its place.
    fn score(
        &self,
        logits: &[f32],
        vocab: usize,
        top: usize,
        scratch: &mut sampling::Scratch,
        output: &mut RowOutput,
    ) -> Result<(), NoDistribution> {
        for (logits, target) in logits.chunks_exact(vocab).zip(&self.targets) {
            let normaliser = sampling::log_sum_exp(logits)?;
            output.scores.push(sampling::logprob(logits, normaliser, *target));
            if top > 0 {
                output.top.push(sampling::likeliest(logits, normaliser, top, scratch));
            }
        }
        Ok(())
    }

    /// The new tokens' hidden states, `[tokens, width]`, as one vector; empty if there are none.
    fn pooled(&self, hidden: &[f32], width: usize, want: Want<'_>) -> Vec<f32> {
        let mut rows = hidden.chunks_exact(width.max(1)).skip(self.lead).map(<[f32]>::to_vec);
        match want {
            Want::Hidden(Pooling::Last) => rows.next_back(),
            Want::Hidden(Pooling::Sum) => rows.next().map(|first| {
                rows.fold(first, |mut sum, row| {
                    vector::add(&mut sum, &row);
                    sum
                })
            }),
            _ => None,
        }
        .unwrap_or_default()
    }
}
