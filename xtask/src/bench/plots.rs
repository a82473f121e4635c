//! The figures as SVG: for decode a line an engine over the number of conversations, for prefill a
//! line over the length of the prompt. Text stays text, so that no font of the system is needed.

use std::fs;
use std::path::Path;

use plotters::prelude::*;

use super::results::{Group, Measure, Point, Results};
use super::show::round;
use super::statistics::range;
use crate::error::Error;

const SIZE: (u32, u32) = (720, 420);
const COLOURS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167), RGBColor(90, 90, 90)];

/// A picture: its file, its words and its lines.
struct Plot {
    file: String,
    title: String,
    across: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    /// Place on the axis, then the lowest, the median and the highest sample.
    points: Vec<(f64, [f64; 3])>,
}

/// Draws all plots for which there is something; returns their files' names.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<String>, Error> {
    fs::create_dir_all(folder).map_err(Error::files("make", folder))?;
    let mut files = Vec::new();
    for plot in plots(results) {
        let path = folder.join(&plot.file);
        let svg = plot.svg().map_err(|cause| Error::files("draw", &path)(std::io::Error::other(cause)))?;
        fs::write(&path, svg).map_err(Error::files("write", &path))?;
        files.push(plot.file);
    }
    Ok(files)
}

fn plots(results: &Results) -> Vec<Plot> {
    let mut contexts: Vec<usize> =
        results.of(Group::Equal, Measure::Decode).filter_map(|series| series.point.context).collect();
    contexts.sort_unstable();
    contexts.dedup();
    let decode = contexts.into_iter().map(|context| Plot {
        file: format!("decode-{context}.svg"),
        title: format!("Decode at context {context}, tokens a second"),
        across: "conversations",
        lines: lines(results, Measure::Decode, |point| point.conversations.filter(|_| point.context == Some(context))),
    });
    let prefill = Plot {
        file: "prefill.svg".into(),
        title: "Prefill, tokens a second".into(),
        across: "tokens of the prompt",
        lines: lines(results, Measure::Prefill, |point| point.tokens),
    };
    decode.chain([prefill]).filter(|plot| plot.lines.iter().any(|line| line.points.len() > 1)).collect()
}

/// A line an engine, over what `place` says of a point.
fn lines(results: &Results, measure: Measure, place: impl Fn(Point) -> Option<usize>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for series in results.of(Group::Equal, measure) {
        let Some(place) = place(series.point) else {
            continue;
        };
        let (low, high) = range(&series.samples);
        let point = (place as f64, [low, series.median(), high]);
        match lines.iter_mut().find(|line| line.name == series.engine) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: series.engine.clone(), points: vec![point] }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}

impl Plot {
    fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        self.draw_on(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area()).map_err(|error| error.to_string())?;
        Ok(svg)
    }

    fn draw_on<B: DrawingBackend>(
        &self,
        area: DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let places: Vec<f64> = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        let (left, right) = range(&places);
        let highest = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1[2])).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((left * 0.95..right * 1.05).log_scale().base(2.0), 0.0..highest * 1.05)?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .light_line_style(WHITE)
            .x_label_formatter(&|place| round(place.round()))
            .y_label_formatter(&|value| round(*value))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let medians = line.points.iter().map(|(place, [_, median, _])| (*place, *median));
            chart
                .draw_series(LineSeries::new(medians.clone(), colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(line.points.iter().map(|(place, [low, median, high])| {
                ErrorBar::new_vertical(*place, *low, *median, *high, colour.filled(), 5)
            }))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::results::{Series, Team};
    use super::*;

    #[test]
    fn a_line_an_engine_over_the_conversations() {
        let series = |engine: &str, conversations, samples: &[f64]| Series {
            measure: Measure::Decode,
            group: Group::Equal,
            engine: engine.into(),
            team: Team::MotorBrain,
            point: Point::decode(conversations, 64),
            samples: samples.to_vec(),
        };
        let results = Results {
            series: vec![
                series("one", 16, &[300.0, 310.0]),
                series("one", 1, &[95.0, 100.0, 105.0]),
                series("other", 1, &[50.0]),
            ],
            ..Results::default()
        };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(draw(&results, folder.path()).unwrap(), ["decode-64.svg"]);
        let svg = fs::read_to_string(folder.path().join("decode-64.svg")).unwrap();
        for text in ["one", "other", "conversations", "tokens a second"] {
            assert!(svg.contains(text), "no `{text}` in {svg}");
        }
        let lines = lines(&results, Measure::Decode, |point| point.conversations);
        assert_eq!(lines[0].points, [(1.0, [95.0, 100.0, 105.0]), (16.0, [300.0, 305.0, 310.0])]);
    }
}
