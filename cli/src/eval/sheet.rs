//! A table as cells: printed for a person, written into JSON for who makes a page of it.

use comfy_table::CellAlignment;
use serde::Serialize;

use super::bootstrap::Figure;
use crate::output;

/// Figures side by side want more room than words.
const WIDTH: u16 = 124;

/// The first column is words, the others are figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Sheet {
    /// What stands in each column.
    pub(super) header: Vec<String>,
    /// Cells, each row as long as the header.
    pub(super) rows: Vec<Vec<String>>,
}

impl Sheet {
    /// A table of no rows.
    pub(super) fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// The table as people read it.
    pub(super) fn text(&self) -> String {
        let mut table = output::table([""; 0]);
        table.set_width(WIDTH).set_header(&self.header).add_rows(&self.rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// Between what a figure lies.
pub(super) fn interval(figure: Figure) -> String {
    format!("{:.3}-{:.3}", figure.low, figure.high)
}

/// A figure with its interval.
pub(super) fn with_interval(figure: Figure) -> String {
    format!("{:.3} ({})", figure.value, interval(figure))
}
