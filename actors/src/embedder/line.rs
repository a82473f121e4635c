//! What a run of so many rows takes, as a line that forgets: the newest runs say where it lies, and all runs whose
//! numbers differed, the newer the more, how steep it is.
//!
//! Least squares with weights that fade, one run at a time (West 1979, "Updating Mean and Variance Estimates: An
//! Improved Method"; the factor that fades as in Finch 2009, "Incremental calculation of weighted mean and variance").
//! Costs are never negative, nor are they for no rows: the slope lies between none and that through the origin, which
//! it is until two runs have differed in their rows.

use super::pace::NEWEST;

/// The weight of the newest run in the slope: it is a property of the machine and the model, and changes slowly.
const NEWEST_IN_SLOPE: f64 = 0.05;

/// A line through the mean of the newest runs.
#[derive(Clone, Debug)]
pub(super) struct Line {
    rows: f64,
    took: f64,
    /// Variance of rows, and covariance of rows and seconds.
    rows_rows: f64,
    rows_took: f64,
    slope: Option<f64>,
    /// Less than this in the square of rows tells nothing of a slope.
    variance_min: f64,
}

impl Line {
    /// Through the origin and a run of so many rows, at least one, which took so many seconds.
    pub(super) fn through(rows: usize, took: f64) -> Self {
        Self { rows: rows as f64, took, rows_rows: 0.0, rows_took: 0.0, slope: None, variance_min: 1e-3 }
    }

    /// Level, through a run of so many rows, at least one, which took so many seconds; what differs in fewer than `apart`
    /// rows does not tilt it.
    pub(super) fn level(rows: usize, took: f64, apart: f64) -> Self {
        Self { slope: Some(0.0), variance_min: NEWEST_IN_SLOPE * apart * apart, ..Self::through(rows, took) }
    }

    /// Takes in a run as one of many.
    pub(super) fn blend(&mut self, rows: usize, took: f64) {
        self.see(rows as f64, took, NEWEST);
    }

    /// The line goes through this run, whatever were those before it.
    pub(super) fn put(&mut self, rows: usize, took: f64) {
        self.see(rows as f64, took, 1.0);
    }

    fn see(&mut self, rows: f64, took: f64, weight: f64) {
        let (off_rows, off_took) = (rows - self.rows, took - self.took);
        self.rows += weight * off_rows;
        self.took += weight * off_took;
        let kept = 1.0 - NEWEST_IN_SLOPE;
        self.rows_rows = kept * (self.rows_rows + NEWEST_IN_SLOPE * off_rows * off_rows);
        self.rows_took = kept * (self.rows_took + NEWEST_IN_SLOPE * off_rows * off_took);
        if self.rows_rows > self.variance_min {
            self.slope = Some(self.rows_took / self.rows_rows);
        }
    }

    /// What the newest runs took.
    pub(super) fn newest(&self) -> f64 {
        self.took
    }

    /// Seconds for one row more.
    fn slope(&self) -> f64 {
        let through_origin = self.took / self.rows;
        self.slope.unwrap_or(through_origin).clamp(0.0, through_origin)
    }

    /// Seconds that so many rows take.
    pub(super) fn at(&self, rows: usize) -> f64 {
        self.took + self.slope() * (rows as f64 - self.rows)
    }

    /// The most rows that take no longer than `seconds`.
    pub(super) fn fits(&self, seconds: f64) -> usize {
        // What costs nothing is as many as there are.
        let slope = self.slope().max(f64::MIN_POSITIVE);
        ((seconds - self.took) / slope + self.rows).max(0.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9 + expected.abs() * 1e-6, "{found} instead of {expected}");
    }

    #[test]
    fn one_run_is_a_line_through_the_origin() {
        let mut line = Line::through(8, 0.016);
        (0..100).for_each(|_| line.blend(8, 0.016));
        check(line.at(4), 0.008);
        assert_eq!(line.fits(0.1), 50);
    }

    #[test]
    fn runs_of_different_rows_tell_the_slope() {
        for order in [[1, 8, 3, 5], [8, 8, 8, 9]] {
            let cost = |rows: usize| 0.008 + 0.001 * rows as f64;
            let mut line = Line::through(order[0], cost(order[0]));
            for _ in 0..20 {
                order.iter().for_each(|&rows| line.blend(rows, cost(rows)));
            }
            check(line.at(0), 0.008);
            check(line.at(100), 0.108);
            assert!((89..=92).contains(&line.fits(0.1)), "{}", line.fits(0.1));
        }
    }

    #[test]
    fn a_level_line_is_tilted_by_what_differs_much() {
        let cost = |rows: usize| 0.001 + 1e-6 * rows as f64;
        let mut line = Line::level(1000, cost(1000), 64.0);
        (0..20).for_each(|run| line.blend(1000 + run % 8, 0.001 * (1 + run % 3) as f64));
        check(line.at(1), line.newest());
        (0..50).for_each(|run| line.blend(1000 + run % 2 * 1000, cost(1000 + run % 2 * 1000)));
        assert!((line.at(1) - cost(1)).abs() < 1e-4, "{}", line.at(1));
    }

    #[test]
    fn it_follows_a_machine_that_becomes_slower() {
        let mut line = Line::through(1, 0.009);
        (0..50).for_each(|run| line.blend(1 + run % 8, 0.008 + 0.001 * (1 + run % 8) as f64));
        (0..40).for_each(|_| line.blend(4, 0.036));
        assert!((line.at(4) - 0.036).abs() < 1e-5, "{}", line.at(4));
    }

    #[test]
    fn no_cost_is_negative() {
        let mut line = Line::through(100, 0.01);
        // The more the shorter, as if: noise.
        line.blend(1, 0.09);
        line.blend(50, 0.02);
        assert!(line.at(0) >= 0.0 && line.at(1000) >= 0.0);
        assert!(line.fits(1e-9) <= 100 && line.fits(1e9) > 1_000_000);
    }
}
