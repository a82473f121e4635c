//! The pictures, as SVG in the benchmark's style: bars with their intervals, or lines over a place. Pure.
//!
//! Text stays text, so that no font of the system is needed. A picture has a background of its own, so that it reads
//! the same on a light page and on a dark one.

use std::fmt::Write as _;

use super::bootstrap::Figure;

const WIDTH: f64 = 640.0;
const LINES_HEIGHT: f64 = 380.0;
const BAR_HEIGHT: f64 = 26.0;
/// Above what is drawn stands the title, below it the axis.
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;
const RIGHT: f64 = 60.0;
/// As in the benchmark: dark enough on white, and apart also for those who do not tell red from green.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#aa3377", "#5a5a5a", "#b8860b"];
const GREY: &str = "#d7d7d7";
/// A letter's width at the size of labels, near enough to leave room.
const LETTER: f64 = 7.2;

/// A picture.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it is of.
    pub(super) title: String,
    /// What is drawn.
    pub(super) marks: Marks,
}

/// What a picture shows.
#[derive(Clone, Debug)]
pub(super) enum Marks {
    /// One below the other, from 0 on.
    Bars(Vec<Bar>),
    /// Over one axis.
    Lines {
        /// What the places are.
        across: String,
        /// The lowest value of the axis, where it is not that of the lines.
        least: Option<f64>,
        /// Whether something happened at a place, drawn as a thin line.
        events: Vec<f64>,
        /// The lines.
        lines: Vec<Line>,
    },
}

/// A figure with a name.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// Whose.
    pub(super) name: String,
    /// How much.
    pub(super) figure: Figure,
}

/// Values over places.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Whose.
    pub(super) name: String,
    /// Places and values, in the order of the places.
    pub(super) points: Vec<(f64, f64)>,
}

impl Chart {
    /// The picture's file.
    pub(super) fn svg(&self) -> String {
        let (height, drawn) = match &self.marks {
            Marks::Bars(bars) => bars_of(bars),
            Marks::Lines { across, least, events, lines } => lines_of(across, *least, events, lines),
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}{drawn}</svg>\n",
            text(WIDTH / 2.0, 24.0, "middle", &self.title, " font-size=\"16\"")
        )
    }
}

fn bars_of(bars: &[Bar]) -> (f64, String) {
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0) as f64;
    let left = (longest * LETTER + 20.0).clamp(60.0, WIDTH / 2.0);
    let axis = Axis::of(0.0, bars.iter().map(|bar| bar.figure.high).fold(0.0, f64::max), left, WIDTH - RIGHT);
    let bottom = TOP + BAR_HEIGHT * bars.len() as f64;
    let mut svg = String::new();
    for tick in axis.ticks() {
        let x = axis.at(tick);
        svg += &line(x, TOP, x, bottom, GREY, 1.0);
        svg += &text(x, bottom + 18.0, "middle", &axis.label(tick), "");
    }
    for (row, bar) in bars.iter().enumerate() {
        let (middle, Figure { value, low, high }) = (TOP + BAR_HEIGHT * (row as f64 + 0.5), bar.figure);
        let width = (axis.at(value) - left).max(0.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\"0.75\"/>",
            middle - 8.0,
            16.0,
            COLOURS[0]
        );
        svg += &line(axis.at(low), middle, axis.at(high), middle, "#000000", 1.5);
        for end in [low, high] {
            svg += &line(axis.at(end), middle - 4.0, axis.at(end), middle + 4.0, "#000000", 1.5);
        }
        svg += &text(left - 8.0, middle + 4.5, "end", &bar.name, "");
        svg += &text(axis.at(high) + 8.0, middle + 4.5, "start", &format!("{value:.3}"), "");
    }
    (bottom + BOTTOM - 16.0, svg)
}

fn lines_of(across: &str, least: Option<f64>, events: &[f64], lines: &[Line]) -> (f64, String) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (low, high) = range(|point| point.1);
    let legend = 18.0 * lines.len() as f64;
    let (top, bottom, left) = (TOP + legend + 6.0, LINES_HEIGHT + legend - BOTTOM, 60.0);
    let rise = Axis::of(least.unwrap_or(low), high, bottom, top);
    let run = {
        let (low, high) = range(|point| point.0);
        Axis::of(low, high, left, WIDTH - 24.0)
    };
    let mut svg = String::new();
    for tick in rise.ticks() {
        let y = rise.at(tick);
        svg += &self::line(left, y, WIDTH - 24.0, y, GREY, 1.0);
        svg += &text(left - 8.0, y + 4.5, "end", &rise.label(tick), "");
    }
    for tick in run.ticks() {
        svg += &text(run.at(tick), bottom + 18.0, "middle", &run.label(tick), "");
    }
    svg += &text((left + WIDTH - 24.0) / 2.0, bottom + 38.0, "middle", across, "");
    for event in events {
        svg += &self::line(run.at(*event), top, run.at(*event), bottom, "#bbbbbb", 0.8);
    }
    for (index, (Line { name, points }, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let places: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", run.at(*x), rise.at(*y))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            places.join(" ")
        );
        let y = TOP + 18.0 * index as f64;
        svg += &self::line(left, y, left + 18.0, y, colour, 3.0);
        svg += &text(left + 26.0, y + 4.5, "start", name, "");
    }
    (LINES_HEIGHT + legend, svg)
}

/// From values to places in the picture.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over values from `low` to `high`, widened to whole steps of 1, 2 or 5, from one place to another.
    fn of(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = if low.is_finite() && high > low { (low, high) } else { (0.0, 1.0) };
        let rough = (high - low) / 5.0;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|part| part * power).find(|step| *step >= rough).unwrap_or(rough);
        Self { low: (low / step + 1e-9).floor() * step, high: (high / step - 1e-9).ceil() * step, step, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (low, step, count) = (self.low, self.step, ((self.high - self.low) / self.step).round() as usize);
        (0..=count).map(move |tick| low + step * tick as f64)
    }

    /// With as many decimals as a step has.
    fn label(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let tick = if tick.abs() < self.step / 2.0 { 0.0 } else { tick };
        format!("{tick:.decimals$}")
    }
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, width: f64) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n"
    )
}

fn text(x: f64, y: f64, anchor: &str, words: &str, more: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#000000\"{more}>{words}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_steps_around_its_values() {
        let check = |low, high, expected: &[&str]| {
            let axis = Axis::of(low, high, 0.0, 100.0);
            assert_eq!(axis.ticks().map(|tick| axis.label(tick)).collect::<Vec<_>>(), expected);
            assert_eq!((axis.at(axis.low), axis.at(axis.high)), (0.0, 100.0));
        };
        check(0.0, 0.83, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(13.2, 17.9, &["13", "14", "15", "16", "17", "18"]);
        check(-0.2, 0.9, &["-0.5", "0.0", "0.5", "1.0"]);
        check(3.0, 3.0, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }

    #[test]
    fn a_picture_has_its_words_and_is_closed() {
        let figure = Figure { value: 0.5, low: 0.4, high: 0.6 };
        let bars = Chart { title: "a < b".into(), marks: Marks::Bars(vec![Bar { name: "one & two".into(), figure }]) };
        let line = Line { name: "slid".into(), points: vec![(0.0, 1.0), (10.0, 2.0)] };
        let marks = Marks::Lines { across: "tokens".into(), least: None, events: vec![5.0], lines: vec![line] };
        let lines = Chart { title: "c".into(), marks };
        for (chart, words) in [(bars, ["a &lt; b", "one &amp; two", "0.500"]), (lines, ["slid", "tokens", "polyline"])]
        {
            let svg = chart.svg();
            assert!(svg.ends_with("</svg>\n"), "{svg}");
            for word in words {
                assert!(svg.contains(word), "no `{word}` in {svg}");
            }
        }
    }
}
