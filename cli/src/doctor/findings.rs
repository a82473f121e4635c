//! What doctor found: one line a thing, what to do about it, and the figures for a program.

use motorbrain::StartError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{exit::Exit, failure::chain, output};

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Served, but its user may want to know.
    Note,
    /// Not served.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    what: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    facts: Map<String, Value>,
}

impl Finding {
    /// A thing that is as it should be.
    pub(super) fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Ok, found: found.into(), hint: None, facts: Map::new() }
    }

    /// A thing to know.
    pub(super) fn note(what: &'static str, found: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::ok(what, found) }
    }

    /// What to do about it.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A figure for a program.
    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

/// Everything that was found, in the order of looking.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    /// The exit status: that of the first thing that is wrong.
    status: u8,
    findings: Vec<Finding>,
    #[serde(skip)]
    exit: Exit,
}

impl Findings {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { status: Exit::Fine.code(), findings: Vec::new(), exit: Exit::Fine }
    }

    /// Adds a finding.
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Adds a thing that is wrong.
    pub(super) fn wrong(&mut self, what: &'static str, error: impl Into<StartError>) {
        let error = error.into();
        let exit = Exit::of(&error);
        if self.exit == Exit::Fine {
            self.exit = exit;
            self.status = exit.code();
        }
        let finding = Finding { state: State::Wrong, ..Finding::ok(what, chain(&error)) };
        self.add(Finding { hint: error.hint(), ..finding });
    }

    /// The exit status.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// The findings as a table.
    pub(super) fn table(&self) -> String {
        let mut table = output::table(["", "", "found"]);
        for finding in &self.findings {
            let mark = match finding.state {
                State::Ok => "ok",
                State::Note => "note",
                State::Wrong => "WRONG",
            };
            let hint = finding.hint.as_ref().map(|hint| format!("\n-> {hint}")).unwrap_or_default();
            table.add_row([mark, finding.what, &format!("{}{hint}", finding.found)]);
        }
        let verdict = match self.exit {
            Exit::Fine => "This model can be served.",
            _ => "This cannot be served; the arrows say what to do.",
        };
        format!("{table}\n{verdict}")
    }
}
