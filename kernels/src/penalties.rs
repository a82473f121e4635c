//! What is added to single logits and taken off them before a token is drawn: the bias of named tokens, then the
//! penalties of those that stand in a window.
//!
//! A token that is masked stays masked, and no finite logit becomes infinite: what may be drawn has a share.

use std::mem;

/// How tokens that stand in a window are made less likely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// Divides a positive logit and multiplies a negative one, first. Above 0; 1 is off.
    pub repetition: f32,
    /// Taken off once; 0 is off.
    pub presence: f32,
    /// Taken off as often as the token stands there; 0 is off.
    pub frequency: f32,
}

/// How often each token stands in a window. All zero between two uses, so that nothing is cleared that was not used.
#[derive(Default)]
pub struct Counts(Vec<u32>);

impl Penalties {
    /// Changes the logits of the window's tokens.
    pub fn apply(&self, logits: &mut [f32], window: &[u32], Counts(counts): &mut Counts) {
        counts.resize(logits.len(), 0);
        for token in window {
            counts[*token as usize] += 1;
        }
        for token in window {
            let count = mem::take(&mut counts[*token as usize]);
            // Its first place in the window has taken the whole count.
            if count > 0 {
                change(&mut logits[*token as usize], |logit| self.penalised(logit, count));
            }
        }
    }

    /// The logit of a token that stands there `count` times.
    fn penalised(&self, logit: f32, count: u32) -> f32 {
        let repeated = if logit > 0.0 { logit / self.repetition } else { logit * self.repetition };
        repeated - self.frequency * count as f32 - self.presence
    }
}

/// Adds a token's bias to its logit.
pub fn add_bias(logit: &mut f32, bias: f32) {
    change(logit, |logit| logit + bias);
}

/// Changes a logit that is not masked.
fn change(logit: &mut f32, to: impl FnOnce(f32) -> f32) {
    if *logit > f32::NEG_INFINITY {
        *logit = to(*logit).clamp(f32::MIN, f32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: Penalties = Penalties { repetition: 1.0, presence: 0.0, frequency: 0.0 };

    fn check(penalties: Penalties, window: &[u32], expected: [f32; 4]) {
        let mut counts = Counts::default();
        // Twice: nothing is left of the first time.
        for _ in 0..2 {
            let mut logits = [2.0, -2.0, 0.0, f32::NEG_INFINITY];
            penalties.apply(&mut logits, window, &mut counts);
            assert_eq!(logits, expected, "{penalties:?} {window:?}");
        }
    }

    #[test]
    fn each_penalty_is_as_its_source_defines_it() {
        const MASKED: f32 = f32::NEG_INFINITY;
        check(OFF, &[0, 0, 1, 2, 3], [2.0, -2.0, 0.0, MASKED]);
        let repetition = Penalties { repetition: 2.0, ..OFF };
        check(repetition, &[], [2.0, -2.0, 0.0, MASKED]);
        check(repetition, &[0, 0, 1, 2, 3], [1.0, -4.0, 0.0, MASKED]);
        check(Penalties { presence: 0.5, ..OFF }, &[0, 0, 3], [1.5, -2.0, 0.0, MASKED]);
        check(Penalties { frequency: 0.5, ..OFF }, &[0, 2, 0, 3, 0], [0.5, -2.0, -0.5, MASKED]);
        let all = Penalties { repetition: 4.0, presence: 1.0, frequency: 0.25 };
        check(all, &[1, 0, 0], [0.5 - 0.5 - 1.0, -8.0 - 0.25 - 1.0, 0.0, MASKED]);
    }

    #[test]
    fn no_logit_leaves_the_finite_numbers() {
        let huge = [f32::MAX, f32::MIN, 0.0];
        let penalised = |penalties: Penalties| {
            let mut logits = huge;
            penalties.apply(&mut logits, &[0, 1, 2], &mut Counts::default());
            logits
        };
        let strong = Penalties { repetition: 1e-30, presence: -2.0, ..OFF };
        assert_eq!(penalised(strong), [f32::MAX, f32::MIN * 1e-30 + 2.0, 2.0]);
        let weak = Penalties { repetition: 1e30, frequency: 2.0, ..OFF };
        assert_eq!(penalised(weak), [f32::MAX / 1e30 - 2.0, f32::MIN, -2.0]);
        let mut biased = [f32::MIN, 1.0, f32::NEG_INFINITY];
        biased.iter_mut().for_each(|logit| add_bias(logit, 100.0));
        assert_eq!(biased, [f32::MIN, 101.0, f32::NEG_INFINITY]);
    }
}
