//! How often a point is measured: as often as its seconds allow.
//!
//! A round asks every engine once. Rounds are short and many where the machine is fast; where it is slow they
//! are fewer, down to a least number, so that a whole run takes about as long anywhere. Seconds only decide how
//! many rounds there are: what one of them measures is the same everywhere.

/// What a point may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Budget {
    seconds: f64,
    rounds_min: usize,
    rounds_max: usize,
}

/// A median of fewer says nothing.
const ROUNDS_MIN: usize = 3;
const ROUNDS_MIN_QUICK: usize = 2;

/// More of them no longer narrow it by much.
const ROUNDS_MAX: usize = 24;

/// What a quick run takes of a point's seconds.
const QUICK: f64 = 0.4;

impl Budget {
    /// So many seconds, and not fewer rounds than a median needs.
    pub(super) fn of(seconds: f64) -> Self {
        Self { seconds, rounds_min: ROUNDS_MIN, rounds_max: ROUNDS_MAX }
    }

    /// Less of it.
    pub(super) fn quick(self) -> Self {
        Self { seconds: QUICK * self.seconds, rounds_min: ROUNDS_MIN_QUICK, ..self }
    }

    /// With another least number of rounds.
    pub(super) fn at_least(self, rounds: usize) -> Self {
        Self { rounds_min: rounds, ..self }
    }

    /// Just so many rounds, however long they take.
    pub(super) fn exactly(rounds: usize) -> Self {
        Self { seconds: f64::INFINITY, rounds_min: rounds, rounds_max: rounds }
    }

    /// Whether there is another round, after so many that took so long together: if it costs as much as those
    /// did on average it has to end in time.
    pub(super) fn goes_on(&self, rounds: usize, elapsed: f64) -> bool {
        if rounds < self.rounds_min {
            return true;
        }
        let with_another = elapsed * (rounds + 1) as f64 / rounds.max(1) as f64;
        rounds < self.rounds_max && with_another <= self.seconds
    }
}

/// Rounds of `tokens` tokens before conversations are opened anew: without end they would measure other contexts than
/// the point's.
pub(super) fn rounds_of_an_opening(context: usize, tokens: usize) -> usize {
    (context / 2).max(GROWTH_MIN) / tokens.max(1)
}

/// Short contexts are not opened anew for every few tokens.
const GROWTH_MIN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds that a budget gives where each takes so long.
    fn rounds(budget: Budget, seconds: f64) -> usize {
        let mut rounds = 0;
        while budget.goes_on(rounds, rounds as f64 * seconds) {
            rounds += 1;
        }
        rounds
    }

    #[test]
    fn a_slower_machine_has_fewer_rounds_in_the_same_time() {
        for (seconds, expected) in [(0.1, ROUNDS_MAX), (1.0, 10), (2.5, 4), (100.0, ROUNDS_MIN)] {
            assert_eq!(rounds(Budget::of(10.0), seconds), expected, "{seconds} s a round");
        }
    }

    #[test]
    fn a_quick_run_has_fewer_still_and_a_number_that_was_asked_for_is_kept() {
        assert_eq!(rounds(Budget::of(10.0).quick(), 1.0), 4);
        assert_eq!(rounds(Budget::of(10.0).quick(), 100.0), ROUNDS_MIN_QUICK);
        assert_eq!(rounds(Budget::exactly(40), 100.0), 40);
        assert_eq!(rounds(Budget::exactly(1), 0.1), 1);
    }

    #[test]
    fn conversations_are_opened_anew_before_they_have_grown_much() {
        assert_eq!(rounds_of_an_opening(64, 17), 7);
        assert_eq!(rounds_of_an_opening(1024, 17), 30);
    }
}
