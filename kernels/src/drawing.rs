//! Drawing a token: the one at a given place of what may be drawn, the best first.
//!
//! Nothing is sorted. Candidates are the tokens that are not too far behind the best one, and more of them are looked at
//! only where these have too little of the mass; among them a place is found by selecting halves. So a token costs what
//! its candidates cost, and a row of nearly equal logits a few passes over the vocabulary.

use std::cmp::Ordering;

use crate::{ranking::Ranked, vector};

/// How far behind the best logit, over temperature, candidates are at first: mostly they have enough of the mass.
const DEPTH_FIRST: f64 = 6.0;

/// Farther behind is no weight in 64 bits: `exp(-746) = 0`.
const DEPTH_MAX: f64 = 746.0;

/// Which tokens may be drawn, and how unlike their probabilities are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Divides logits. Above 0.
    pub temperature: f32,
    /// So many of the best; 0: all.
    pub top_k: usize,
    /// Of those the smallest set of best ones that has this share of their mass; 1: all.
    pub top_p: f32,
    /// Of those the ones that are at least so many times as probable as the best; 0: all.
    pub min_p: f32,
}

/// Memory of a draw, kept from one to the next.
#[derive(Default)]
pub struct Drawing {
    candidates: Vec<Candidate>,
}

/// A token that may be drawn.
#[derive(Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
    /// Its probability over that of the most likely token. Not zero.
    weight: f64,
}

impl Drawing {
    /// The token at the place `at`, from 0 to 1, of the mass of what may be drawn, the best first; of equal ones the
    /// smaller. `mass`: the sum of `exp(logit - most)` over temperature, where it is known. One logit is finite, none a
    /// NaN or positive infinity.
    pub fn draw(&mut self, row: Ranked<'_>, choice: &Choice, at: f64, mass: Option<f64>) -> u32 {
        let candidates = &mut self.candidates;
        let mut row = Weighed::new(row, choice);
        let whole = |row: &Weighed<'_>| mass.unwrap_or_else(|| row.mass());
        let top_p = f64::from(choice.top_p);
        // What the best candidates have to have together.
        let enough = if row.has_more_than(choice.top_k) {
            top_p * row.best(choice.top_k, candidates)
        } else if top_p < 1.0 {
            let enough = top_p * whole(&row);
            row.gather(enough, candidates);
            enough
        } else if choice.min_p > 0.0 {
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
    fn new(row: Ranked<'a>, choice: &Choice) -> Self {
        Self {
            best: f64::from(row.most()),
            row,
            temperature: f64::from(choice.temperature),
            deepest: (-f64::from(choice.min_p).ln()).min(DEPTH_MAX),
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

    /// Fills in the best tokens, which have `enough` of the mass, or all that may be drawn.
    fn gather(&mut self, enough: f64, candidates: &mut Vec<Candidate>) {
        let Self { row, best, temperature, deepest } = self;
        let values = row.values();
        // Room for all, taken once: rows are of one length.
        candidates.clear();
        candidates.reserve(values.len());
        let mut depth = if enough.is_finite() { DEPTH_FIRST.min(*deepest) } else { *deepest };
        loop {
            let least = *best - depth * *temperature;
            // What is at the bound only as f32 rounds it is told apart in f64.
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

    /// The better one first; of equal ones the smaller.
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
fn last_of(candidates: &mut [Candidate], enough: f64) -> u32 {
    let reached = reach(candidates, enough);
    candidates[reached - 1].token
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::Ranking;

    const ALL: Choice = Choice { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

    fn draw(logits: &[f32], choice: &Choice, at: f64) -> u32 {
        Drawing::default().draw(Ranking::default().of(logits), choice, at, None)
    }

    /// What may be drawn, the best first, each with where its share of the mass ends: by sorting all.
    fn sorted(logits: &[f32], choice: &Choice) -> Vec<(u32, f64)> {
        let mut order: Vec<u32> = (0..logits.len() as u32).filter(|i| logits[*i as usize].is_finite()).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        order.truncate(if choice.top_k == 0 { usize::MAX } else { choice.top_k });
        let best = f64::from(logits[order[0] as usize]);
        let weight = |token: u32| ((f64::from(logits[token as usize]) - best) / f64::from(choice.temperature)).exp();
        let mass: f64 = order.iter().map(|token| weight(*token)).sum();
        let mut sum = 0.0;
        let cumulated: Vec<_> = order
            .into_iter()
            .map(|token| {
                let before = sum;
                sum += weight(token);
                (token, before, sum)
            })
            .take_while(|(token, before, _)| {
                (choice.top_p == 1.0 || *before < f64::from(choice.top_p) * mass)
                    && weight(*token) >= f64::from(choice.min_p)
            })
            .collect();
        let left = cumulated.last().map_or(0.0, |(_, _, sum)| *sum);
        cumulated.into_iter().map(|(token, _, sum)| (token, sum / left)).collect()
    }

    /// From steep to flat, and masked but for a few.
    fn rows() -> Vec<Vec<f32>> {
        let shuffled = |i: usize| ((i * 2657) % 5000) as f32;
        let falling = |steepness: f32| (0..5000).map(|i| -steepness * shuffled(i)).collect();
        let mut rows: Vec<Vec<f32>> = [3.0, 0.3, 0.01, 1e-4, 0.0].map(falling).into();
        // As models have it: few good ones, and many behind.
        rows.push((0..5000).map(|i| 20.0 - 3.0 * (1.0 + shuffled(i)).ln()).collect());
        rows.push((0..5000).map(|i| if i % 701 == 3 { shuffled(i) / 2000.0 } else { f32::NEG_INFINITY }).collect());
        rows
    }

    #[test]
    fn every_place_gives_the_token_that_sorting_gives() {
        for (number, logits) in rows().iter().enumerate() {
            for temperature in [0.3, 1.0, 1.7] {
                for (top_k, top_p, min_p) in [
                    (0, 1.0, 0.0),
                    (0, 0.9, 0.0),
                    (0, 1.0, 0.05),
                    (0, 0.9, 0.05),
                    (0, 0.5, 1.0),
                    (40, 1.0, 0.0),
                    (3000, 0.9, 0.0),
                    (3000, 0.9, 0.2),
                    (9999, 0.7, 1e-3),
                ] {
                    let choice = Choice { temperature, top_k, top_p, min_p };
                    let expected = sorted(logits, &choice);
                    let place_of =
                        |at: f64| expected.iter().position(|(_, end)| *end >= at).unwrap_or(expected.len() - 1);
                    for at in [0.0, 1e-9, 0.001, 0.25, 0.5, 0.75, 0.95, 0.999_999] {
                        let found = draw(logits, &choice, at);
                        // The mass is a sum of f32's exponentials, good to some 1e-6: by so much the place may move, and
                        // the end of a nucleus by a token.
                        let (first, last) = (place_of(at - 1e-6), place_of(at + 1e-6));
                        let near = &expected[first.saturating_sub(1)..(last + 2).min(expected.len())];
                        let is_near = near.iter().any(|(token, _)| *token == found);
                        assert!(is_near, "row {number} {choice:?} {at}: {found}, expected one of {near:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_mass_are_tokens_that_may_be_drawn() {
        // The quick sum of the masses is larger than theirs by more than what `top_p` leaves.
        let mut peaked = vec![-30.0; 1000];
        peaked[500] = 30.0;
        let nearly_all = Choice { temperature: 5.0, top_p: 0.999_999, ..ALL };
        for at in [0.0, 0.2, 0.5, 0.77] {
            assert_eq!(draw(&peaked, &nearly_all, at), 500, "{at}");
        }
        // What is masked has no weight, and is drawn at no place.
        let masked: Vec<f32> = (0..4000).map(|i| if i < 3000 { 0.0 } else { f32::NEG_INFINITY }).collect();
        for gap in [1e-7, 1e-8, 1e-10, f64::EPSILON / 2.0] {
            let drawn = draw(&masked, &ALL, 1.0 - gap);
            assert!(drawn < 3000, "{gap}: {drawn}");
        }
    }

    #[test]
    fn the_ends_of_the_temperatures_are_finite() {
        let logits = [f32::NEG_INFINITY, 1e30, -1e30, 1e30];
        // The inverse of the least is infinite in f32.
        for temperature in [f32::from_bits(1), 1e-39, 1e-6] {
            let coldest = |top_p, at| draw(&logits, &Choice { temperature, top_p, ..ALL }, at);
            assert_eq!([coldest(1.0, 0.2), coldest(0.9, 0.2), coldest(1.0, 0.9), coldest(0.9, 0.9)], [1, 1, 3, 3]);
        }
        let hottest = |at| draw(&logits, &Choice { temperature: f32::MAX, ..ALL }, at);
        assert_eq!([hottest(0.1), hottest(0.5), hottest(0.9)], [1, 3, 2]);
    }
}
