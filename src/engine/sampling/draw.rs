//! Drawing a token: the one at a given place of what may be drawn, the best first.
//!
//! Nothing is sorted. Candidates are the tokens that are not too far behind the best one, and more of them are looked at
//! only where these have too little of the mass; among them a place is found by selecting halves. So a token costs what
//! its candidates cost, and a row of nearly equal logits a few passes over the vocabulary.

use std::cmp::Ordering;

use motorbrain_actors::{engine::Sampling, tokens::TokenId};
use motorbrain_kernels::{ranking::Ranked, vector};

/// How far behind the best logit, over temperature, candidates are at first: mostly they have enough of the mass.
const DEPTH_FIRST: f64 = 6.0;

/// Farther behind is no weight in 64 bits: `exp(-746) = 0`.
const DEPTH_MAX: f64 = 746.0;

/// A token that may be drawn.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) token: u32,
    logit: f32,
    /// Its probability over that of the most likely token. Not zero.
    weight: f64,
}

/// The token at the place `at`, from 0 to 1, of what may be drawn, the best first. `mass`: the sum of all weights, where
/// it is known. The temperature is not zero. What may be drawn is left in `candidates`, whose memory is kept.
pub(super) fn draw(
    row: Ranked<'_>,
    sampling: &Sampling,
    at: f64,
    mass: Option<f64>,
    candidates: &mut Vec<Candidate>,
) -> TokenId {
    let mut row = Weighed::new(row, sampling);
    let whole = |row: &Weighed<'_>| mass.unwrap_or_else(|| row.mass());
    let top_p = f64::from(sampling.top_p);
    // What the best candidates have to have together.
    let enough = if row.has_more_than(sampling.top_k) {
        top_p * row.best(sampling.top_k, candidates)
    } else if top_p < 1.0 {
        let enough = top_p * whole(&row);
        row.gather(enough, candidates);
        enough
    } else if sampling.min_p > 0.0 {
        row.gather(f64::INFINITY, candidates);
        f64::INFINITY
    } else {
        // All may be drawn: no more of them are looked at than lie before the place.
        let enough = at * whole(&row);
        row.gather(enough, candidates);
        return last_of(candidates, enough);
    };
    let nucleus = reach(candidates, enough);
    candidates.truncate(nucleus);
    let enough = at * total(candidates);
    last_of(candidates, enough)
}

/// A row with the weights of its tokens.
struct Weighed<'a> {
    row: Ranked<'a>,
    best: f64,
    temperature: f64,
    /// How far behind the best those are that `min_p` leaves.
    deepest: f64,
}

impl<'a> Weighed<'a> {
    fn new(row: Ranked<'a>, sampling: &Sampling) -> Self {
        let deepest = -f64::from(sampling.min_p).ln();
        Self {
            best: f64::from(row.most()),
            row,
            temperature: f64::from(sampling.temperature),
            deepest: deepest.min(DEPTH_MAX),
        }
    }

    /// Whether `top_k` leaves tokens out.
    fn has_more_than(&self, top_k: usize) -> bool {
        (1..self.row.values().len()).contains(&top_k)
    }

    /// The sum of all weights.
    fn mass(&self) -> f64 {
        // The inverse of the smallest temperatures would be infinite.
        let factor = (self.temperature.recip() as f32).min(f32::MAX);
        vector::sum_exp_below(self.row.values(), self.best as f32, factor)
    }

    /// Fills in the `count` best tokens less those that `min_p` leaves out; the mass of all `count`.
    fn best(&mut self, count: usize, candidates: &mut Vec<Candidate>) -> f64 {
        let Self { row, best, temperature, deepest } = self;
        let values = row.values();
        candidates.clear();
        candidates.extend(row.best(count).iter().map(|token| Candidate::new(values, *token, *best, *temperature)));
        let mass = total(candidates);
        candidates.retain(|candidate| candidate.reaches(*best - *deepest * *temperature));
        mass
    }

    /// Fills in tokens, the best ones, that have `enough` of the mass, or all that may be drawn.
    fn gather(&mut self, enough: f64, candidates: &mut Vec<Candidate>) {
        let Self { row, best, temperature, deepest } = self;
        let values = row.values();
        // Room for all, taken once: rows are of one length.
        candidates.clear();
        candidates.reserve(values.len());
        let mut depth = if enough.is_finite() { DEPTH_FIRST.min(*deepest) } else { *deepest };
        loop {
            let least = *best - depth * *temperature;
            // What f32 rounds up to the bound is told apart in f64.
            let places = row.at_least((least as f32).next_down());
            let weighed = places.iter().map(|token| Candidate::new(values, *token, *best, *temperature));
            candidates.clear();
            candidates.extend(weighed.filter(|candidate| candidate.reaches(least)));
            if depth >= *deepest || total(candidates) >= enough {
                return;
            }
            depth = (2.0 * depth).min(*deepest);
        }
    }
}

impl Candidate {
    fn new(values: &[f32], token: u32, best: f64, temperature: f64) -> Self {
        let logit = values[token as usize];
        Self { token, logit, weight: ((f64::from(logit) - best) / temperature).exp() }
    }

    fn reaches(&self, least: f64) -> bool {
        self.weight > 0.0 && f64::from(self.logit) >= least
    }

    /// The better one first; of equal ones the smaller id.
    fn order(&self, other: &Self) -> Ordering {
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.token.cmp(&other.token))
    }
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// How many of the candidates, the best first, have `enough` of the mass together; all where they have less. So many
/// are in front afterwards, the least of them last.
fn reach(candidates: &mut [Candidate], enough: f64) -> usize {
    let (mut start, mut end, mut before) = (0, candidates.len(), 0.0);
    while end - start > 1 {
        let half = start.midpoint(end);
        candidates[start..end].select_nth_unstable_by(half - start, Candidate::order);
        let sum = before + total(&candidates[start..half]);
        if sum >= enough {
            end = half;
        } else {
            (start, before) = (half, sum);
        }
    }
    end
}

/// The token with which `enough` of the mass is reached.
fn last_of(candidates: &mut [Candidate], enough: f64) -> TokenId {
    let reached = reach(candidates, enough);
    TokenId(candidates[reached - 1].token)
}
