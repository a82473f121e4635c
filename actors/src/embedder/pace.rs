//! How much of a prompt is read in one run: as much as the conversations that decode beside it can bear.
//!
//! A run is as long as all that rides in it. Prompts alone are read in whole chunks, which is fastest.
//! Beside decodes a chunk may make a run [`STRETCH_MAX`] times as long as the decodes alone take, so
//! that a gap between two tokens stays within that bound however long a prompt is. What a token of a
//! prompt costs, which grows with its context, is learnt from every run with prompts; what decodes cost, from
//! runs without: beside a prompt there are [`LOOKS`] after each [`LOOK`]. (Learnt from the same runs, each would be charged with
//! what the other has grown by, and chunks would grow without a bound.)
//!
//! Pure: durations are told, no clock is read.

use std::time::Duration;

/// How many times longer a run with decodes may become by the prompts in it. At 3 a prompt takes half as long
/// again as alone, and more where small chunks cost more; much beyond 4 a conversation's reader notices. The benchmark
/// claims both, reading in 1.5 times the time alone and a 99th percentile gap below 4 times the undisturbed one. At 3.7
/// they were 1.53 and 3.6, at 3.88 1.50 and 3.46, here 1.45 and 3.53 (SmolLM2, eight decodes beside 8,000 tokens,
/// Zen 1).
const STRETCH_MAX: f64 = 4.1;

/// A run of so many seconds is short enough for everybody, whatever the decodes alone take.
const SHORT: f64 = 0.01;

/// Fewer tokens than this are not worth a place in a run.
const CHUNK_MIN: usize = 4;

/// The least part of a run that its prompts are charged with.
const SHARE_MIN: f64 = 0.05;

/// Runs from one look at what decodes cost alone to the next.
const LOOK: u32 = 64;

/// Runs of a look: the first finds the caches full of the prompt's, so the shortest counts.
const LOOKS: u32 = 2;

/// The weight of the newest run in what is remembered.
const NEWEST: f64 = 0.25;

/// What runs cost, in seconds.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    chunk_max: usize,
    /// A run of nothing but decodes.
    decodes: Option<f64>,
    /// A token of a prompt.
    token: Option<f64>,
    /// Runs with both since the last of nothing but decodes.
    both: u32,
    /// Of the looks beside a prompt, those that are done.
    looked: u32,
}

impl Pace {
    /// Nothing is known yet: chunks are whole. `chunk_max` is at least 1.
    pub(super) fn new(chunk_max: usize) -> Self {
        Self { chunk_max, decodes: None, token: None, both: 0, looked: 0 }
    }

    /// The most prompt tokens in the next run; `decoding`: whether a decode rides in it. 0: decodes alone.
    pub(super) fn chunk(&self, decoding: bool) -> usize {
        let due = if self.decodes.is_some() { LOOK } else { 1 };
        if decoding && (self.looked > 0 || self.both >= due) {
            return 0;
        }
        let (true, Some(decodes), Some(token)) = (decoding, self.decodes, self.token) else {
            return self.chunk_max;
        };
        let allowed = (decodes * STRETCH_MAX).max(SHORT) - decodes;
        let tokens = (allowed / token.max(f64::MIN_POSITIVE)) as usize;
        tokens.clamp(CHUNK_MIN.min(self.chunk_max), self.chunk_max)
    }

    /// A run of so many decode rows and prompt tokens took so long.
    pub(super) fn observe(&mut self, decodes: usize, tokens: usize, took: Duration) {
        let took = took.as_secs_f64();
        match (decodes, tokens) {
            (_, 0) => {
                if self.both == 0 {
                    return blend(&mut self.decodes, took);
                }
                // Who is there now is seen; who was there before is no matter.
                let shortest = self.decodes.filter(|_| self.looked > 0).map_or(took, |known| known.min(took));
                self.decodes = Some(shortest);
                self.looked += 1;
                if self.looked == LOOKS {
                    (self.both, self.looked) = (0, 0);
                }
            }
            (0, _) => blend(&mut self.token, took / tokens as f64),
            _ => {
                self.both += 1;
                let prompts = (took - self.decodes.unwrap_or(0.0)).max(took * SHARE_MIN);
                blend(&mut self.token, prompts / tokens as f64);
            }
        }
    }
}

fn blend(known: &mut Option<f64>, newest: f64) {
    *known = Some(known.map_or(newest, |known| known + NEWEST * (newest - known)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_not_known_is_read_whole() {
        let mut pace = Pace::new(256);
        assert_eq!(pace.chunk(true), 256);
        pace.observe(4, 0, ms(30));
        assert_eq!(pace.chunk(true), 256, "the cost of a prompt's token is not known");
        pace.observe(0, 256, ms(512));
        assert_eq!(pace.chunk(false), 256, "nobody decodes");
    }

    #[test]
    fn beside_decodes_a_run_is_stretched_by_a_bound() {
        let mut pace = Pace::new(256);
        pace.observe(8, 0, ms(30));
        pace.observe(0, 100, ms(200));
        // 3.1 times 30 ms at 2 ms a token.
        assert_eq!(pace.chunk(true), 46);
        for _ in 0..50 {
            let chunk = pace.chunk(true);
            pace.observe(8, chunk, ms(30 + 2 * chunk as u64));
            let run = 30.0 + 2.0 * pace.chunk(true) as f64;
            let look = pace.chunk(true) == 0;
            assert!(look || (90.0..=30.0 * STRETCH_MAX).contains(&run), "{run}");
        }
    }

    #[test]
    fn a_crowd_that_grows_beside_an_endless_prompt_is_noticed() {
        let mut pace = Pace::new(512);
        pace.observe(1, 0, ms(11));
        pace.observe(0, 100, ms(100));
        assert_eq!(pace.chunk(true), 34, "3.1 times 11 ms at 1 ms a token");
        for _ in 0..2 * LOOK {
            let chunk = pace.chunk(true);
            pace.observe(16, chunk, ms(91 + chunk as u64));
        }
        assert_eq!(pace.chunk(true), 282, "3.1 times 91 ms");
        let mut unknown = Pace::new(256);
        for _ in 0..50 {
            let chunk = unknown.chunk(true);
            unknown.observe(4, chunk, ms(30 + chunk as u64));
        }
        assert!(unknown.chunk(true) < 120, "no run of decodes alone was ever seen: {}", unknown.chunk(true));
    }

    #[test]
    fn the_shortest_look_counts_and_none_from_before() {
        let mut pace = Pace::new(256);
        // One decoded alone, then seven more beside a prompt of 1 ms a token.
        pace.observe(1, 0, ms(5));
        pace.observe(0, 100, ms(100));
        while pace.chunk(true) > 0 {
            pace.observe(8, pace.chunk(true), ms(20 + pace.chunk(true) as u64));
        }
        for took in [26, 20] {
            assert_eq!(pace.chunk(true), 0, "a look is due");
            pace.observe(8, 0, ms(took));
        }
        assert_eq!(pace.decodes, Some(0.02));
        assert!(pace.chunk(true) > 0);
    }

    #[test]
    fn a_prompt_whose_tokens_cost_more_and_more_is_read_in_smaller_chunks() {
        let mut pace = Pace::new(256);
        pace.observe(8, 0, ms(20));
        let mut read = 0;
        let mut longest = 0.0f64;
        for run in 0..400 {
            let chunk = pace.chunk(true);
            // A millisecond a token at first, three at 8,000.
            let took = 20.0 + chunk as f64 * (1.0 + read as f64 / 4000.0);
            pace.observe(8, chunk, Duration::from_secs_f64(took / 1e3));
            read += chunk;
            // The first chunks are whole: what a token costs is not known yet.
            if run > 8 {
                longest = longest.max(took);
            }
        }
        assert!(read > 5000, "{read}");
        // A token's cost is learnt some runs late, in each of which it grows by 1.5 %.
        assert!(longest <= 20.0 * STRETCH_MAX * 1.04, "{longest}");
    }

    #[test]
    fn a_chunk_is_never_too_small_nor_shrunk_without_need() {
        let mut pace = Pace::new(256);
        pace.observe(1, 0, ms(1));
        pace.observe(0, 10, ms(1));
        assert_eq!(pace.chunk(true), 90, "ten milliseconds are short enough");
        pace.observe(0, 1, ms(10_000));
        assert_eq!(pace.chunk(true), CHUNK_MIN);
        let mut small = Pace::new(4);
        small.observe(1, 0, ms(100));
        small.observe(0, 1, ms(10_000));
        assert_eq!(small.chunk(true), 4);
    }
}
