//! The figures as SVG: for decode a line an engine over the number of conversations, for prefill a
//! line over the length of the prompt. Text stays text, so that no font of the system is needed. A picture
//! has a background of its own, so that it reads the same on a light page and on a dark one, and is small
//! enough to be shown as it is.

use std::fs;
use std::path::Path;

use plotters::prelude::*;

use super::results::{Group, Measure, Point, Results};
use super::show::count;
use super::statistics::{quartiles, range};
use crate::error::Error;

const SIZE: (u32, u32) = (600, 360);
/// Ours first; dark enough on white, and apart also for those who do not tell red from green.
const COLOURS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(170, 51, 119), RGBColor(90, 90, 90)];

/// A picture: its file, its words and its lines.
struct Plot {
    file: String,
    title: String,
    across: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    /// Place on the axis, then the lower quartile, the median and the upper one.
    points: Vec<(f64, [f64; 3])>,
}

/// Draws all plots for which there is something, in place of those of another run; returns their files' names.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<String>, Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::files("remove", folder))?;
    }
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
        title: format!("Decode, tokens a second of all conversations (context {})", count(context)),
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
        let (low, high) = quartiles(&series.samples);
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
        let mut places: Vec<f64> = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let (left, right) = range(&places);
        let highest = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1[2])).fold(0.0, f64::max);
        let text = ("sans-serif", 14).into_font().color(&BLACK);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 16).into_font().color(&BLACK))
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(48)
            .build_cartesian_2d(
                (left * 0.92..right * 1.08).log_scale().base(2.0).with_key_points(places),
                0.0..highest * 1.45,
            )?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .disable_x_mesh()
            .bold_line_style(RGBColor(215, 215, 215))
            .light_line_style(WHITE)
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .y_labels(6)
            .x_label_formatter(&|place| count(place.round() as usize))
            .y_label_formatter(&|value| count(value.round() as usize))
            .draw()?;
        for (index, (line, colour)) in self.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let width = if index == 0 { 4 } else { 2 };
            let medians = line.points.iter().map(|(place, [_, median, _])| (*place, *median));
            chart
                .draw_series(LineSeries::new(medians.clone(), colour.stroke_width(width)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(width)));
            chart.draw_series(line.points.iter().map(|(place, [low, median, high])| {
                ErrorBar::new_vertical(*place, *low, *median, *high, colour.filled(), 5)
            }))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(text)
            .background_style(WHITE)
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
