//! The page: tables as `motorbrain eval` gives them, pictures, and the commands that made them. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What `motorbrain eval` writes as JSON, as far as the page shows it.
#[derive(Deserialize, Serialize)]
pub(super) struct Outcome {
    table: Sheet,
    /// Of retrieval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<usize>,
    /// Of perplexity.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
}

#[derive(Deserialize, Serialize)]
struct Sheet {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A part of the page.
#[derive(Deserialize, Serialize)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) command: String,
    /// The picture's file in `plots/`.
    pub(super) plot: String,
    pub(super) outcome: Outcome,
}

/// The whole page.
pub(super) fn markdown(sections: &[Section], quick: bool) -> String {
    let flag = if quick { " --quick" } else { "" };
    let mut page = format!(
        "# Evaluation\n\nWritten by `cargo xtask eval{flag}`; do not edit. What the columns mean: [docs/eval.md](../docs/eval.md).\n"
    );
    for Section { title, command, plot, outcome } in sections {
        let _ = write!(page, "\n## {title}\n\n```console\n$ {command}\n```\n\n");
        let rule =
            outcome.table.header.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "--:" }.to_owned());
        let rows = [outcome.table.header.clone(), rule.collect()].into_iter().chain(outcome.table.rows.iter().cloned());
        for row in rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(page, "| {} |", cells.join(" | "));
        }
        let count = outcome.pairs.map(|pairs| format!("{pairs} pairs."));
        if let Some(count) = count.or(outcome.tokens.map(|tokens| format!("{tokens} tokens."))) {
            let _ = write!(page, "\n{count}\n");
        }
        let _ = write!(page, "\n![{title}](plots/{plot})\n");
    }
    page
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=,:".contains(letter);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_page_has_each_table_with_its_command_and_its_picture() {
        let json = r#"{"pairs": 2, "table": {"header": ["vectors", "MRR"], "rows": [["a|b", "0.5"]]}, "other": 1}"#;
        let section = Section {
            title: "Rust".into(),
            command: "motorbrain eval".into(),
            plot: "rust.svg".into(),
            outcome: serde_json::from_str(json).unwrap(),
        };
        let page = markdown(&[section], true);
        for part in [
            "`cargo xtask eval --quick`",
            "## Rust\n\n```console\n$ motorbrain eval\n```\n\n| vectors | MRR |\n| --- | --: |\n| a\\|b | 0.5 |\n\n2 pairs.\n",
            "![Rust](plots/rust.svg)",
        ] {
            assert!(page.contains(part), "no {part:?} in {page}");
        }
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_cut_them() {
        assert_eq!(quoted("--dims"), "--dims");
        assert_eq!(quoted("mean: a=b"), "'mean: a=b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
