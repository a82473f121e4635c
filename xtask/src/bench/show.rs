//! Figures as people read them: a line while the benchmark runs, a cell of a table afterwards.

use super::results::{Group, Measure, Point, Results, Series, Team};
use super::statistics::{median, quartiles};

/// The peers.
pub(super) const PEERS: [Team; 3] = [Team::Genai, Team::LlamaCpp, Team::OpenVino];

/// What every engine did at a point, and ours over the better of the peers.
pub(super) fn point(results: &Results, group: Group, measure: Measure, point: Point) -> String {
    let mut line = format!("{:<12} {:<14}", measure.name(), at(point));
    for series in results.of(group, measure).filter(|series| series.point == point) {
        line += &format!("  {} {}", series.engine, figure(measure, &series.samples));
    }
    let ours = results.best(group, measure, point, &[Team::MotorBrain]);
    let theirs = results.best(group, measure, point, &PEERS);
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        line += &format!("  -> {:.2} of {}", advantage(measure, ours, theirs), theirs.engine);
    }
    line
}

/// How many times better the first is than the second, by their medians.
pub(super) fn advantage(measure: Measure, one: &Series, other: &Series) -> f64 {
    let ratio = one.median() / other.median();
    if measure.fewer_is_better() { ratio.recip() } else { ratio }
}

/// The median with its unit, and the quartiles where there are some.
pub(super) fn figure(measure: Measure, samples: &[f64]) -> String {
    let (scale, unit) = measure.unit();
    let number = |value: f64| round(value / scale);
    let (low, high) = quartiles(samples);
    let spread = if samples.len() > 1 { format!(" ({}-{})", number(low), number(high)) } else { String::new() };
    format!("{} {unit}{spread}", number(median(samples)))
}

/// Three digits that count, all of them before the point where there are more.
pub(super) fn round(value: f64) -> String {
    let digits = match value.abs() {
        magnitude if magnitude >= 100.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        magnitude if magnitude >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, _)| (whole, &text[whole.len()..]));
    grouped(whole) + rest
}

/// A whole number as people read it.
pub(super) fn count(number: usize) -> String {
    grouped(&number.to_string())
}

/// Thousands apart.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = (first > 0).then(|| &digits[..first]).into_iter().collect();
    groups.extend((first..digits.len()).step_by(3).map(|start| &digits[start..start + 3]));
    format!("{sign}{}", groups.join(","))
}

/// Where a point lies.
fn at(point: Point) -> String {
    let parts =
        [(point.conversations, "x"), (point.context, " at "), (point.tokens, " + "), (point.actors, " actors ")];
    let text: String = parts.iter().filter_map(|(value, sign)| Some(format!("{sign}{}", (*value)?))).collect();
    text.trim_start_matches([' ', '+']).to_owned()
}

impl Measure {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::DecodeSampled => "sampled",
            Self::DecodeBeside => "greedy beside",
            Self::DecodeSteps => "steps",
            Self::LayerDecode => "layer",
            Self::Prefill => "prefill",
            Self::Embed => "embed",
            Self::Turn => "turn",
            Self::TurnAgain => "read again",
            Self::Load => "load",
            Self::LoadCold => "cold load",
            Self::GapP50 => "gap p50",
            Self::GapP99 => "gap p99",
            Self::BusyGapP50 => "busy p50",
            Self::BusyGapP99 => "busy p99",
            Self::ReadAlone => "read alone",
            Self::ReadAmong => "read among",
            Self::Resident => "resident",
            Self::Conversation => "conversation",
            Self::ConversationKv => "its KV rows",
            Self::Messages => "messages",
            Self::Bandwidth => "bandwidth",
            Self::Matmul => "matmul",
        }
    }

    /// What one unit of display is in the series' own, and its name.
    fn unit(self) -> (f64, &'static str) {
        match self {
            Self::Decode
            | Self::DecodeSampled
            | Self::DecodeBeside
            | Self::DecodeSteps
            | Self::LayerDecode
            | Self::Prefill => (1.0, "tok/s"),
            Self::Embed | Self::Messages => (1.0, "/s"),
            Self::Turn | Self::TurnAgain => (1e-3, "ms"),
            Self::Load | Self::LoadCold | Self::ReadAlone | Self::ReadAmong => (1.0, "s"),
            Self::GapP50 | Self::GapP99 | Self::BusyGapP50 | Self::BusyGapP99 => (1.0, "ms"),
            Self::Resident | Self::Conversation | Self::ConversationKv => (1e6, "MB"),
            Self::Bandwidth => (1e9, "GB/s"),
            Self::Matmul => (1e9, "GFLOP/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, text) in [
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (-1e6, "-1,000,000"),
        ] {
            assert_eq!(round(value), text);
        }
    }

    #[test]
    fn a_figure_has_its_spread_and_its_unit() {
        assert_eq!(figure(Measure::Turn, &[0.3, 0.1, 0.2]), "200 ms (100-300)");
        assert_eq!(figure(Measure::Resident, &[250e6]), "250 MB");
    }

    #[test]
    fn a_line_compares_ours_with_the_better_peer() {
        let series = |team, engine: &str, seconds: f64| Series {
            measure: Measure::Turn,
            group: Group::Equal,
            engine: engine.into(),
            team,
            point: Point::turn(1000, 20),
            samples: vec![seconds],
        };
        let results = Results {
            series: vec![
                series(Team::MotorBrain, "ours", 0.1),
                series(Team::Genai, "one", 0.3),
                series(Team::LlamaCpp, "other", 0.2),
            ],
            ..Results::default()
        };
        let line = point(&results, Group::Equal, Measure::Turn, Point::turn(1000, 20));
        assert!(line.starts_with("turn         at 1000 + 20"), "{line}");
        assert!(line.ends_with("-> 2.00 of other"), "{line}");
    }
}
