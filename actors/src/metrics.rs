//! What a brain counts and measures, through the facade of the crate `metrics`: one table.
//!
//! Which recorder gets it is for the program to say that installs one; without, nothing is kept. What is described to a
//! recorder, what `docs/metrics.md` says and what the brain emits are made from this table and from nothing else.
//!
//! A brain publishes once a second while something happens, and when it ends; between, it counts in fields of its own
//! (`brain/meters.rs`).

use std::fmt::Write as _;

use metrics::{Counter, Gauge, Histogram, Label, Unit};

/// How a metric's values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// As it is now.
    Gauge,
    /// Many values, of which a recorder makes a distribution.
    Histogram,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, the same for every recorder.
    pub name: &'static str,
    /// How its values are to be read.
    pub kind: Kind,
    /// Of what they are so many.
    pub unit: Unit,
    /// The keys of its labels, besides `brain` where the brain has a name.
    pub labels: &'static [&'static str],
    /// One line: what it is.
    pub description: &'static str,
}

macro_rules! table {
    ($( $(#[doc = $description:literal])+ $constant:ident = $name:literal: $kind:ident of $unit:ident by $labels:expr; )+) => {
        $(
            $(#[doc = $description])+
            pub const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &$labels,
                description: concat!($($description),+),
            };
        )+

        /// The table.
        pub const METRICS: &[Metric] = &[$($constant),+];
    };
}

table! {
    /// Requests that are over, by what was asked and what came of it: `ok`, an error's code, or `dropped` where nobody waited for the answer any more.
    REQUESTS = "motorbrain_requests_total": Counter of Count by ["op", "outcome"];
    /// Requests that ended with an error before an actor had them, and not by their caller or their deadline.
    REFUSALS = "motorbrain_refusals_total": Counter of Count by ["code"];
    /// Tokens that the model has read, those among them that were read again.
    TOKENS_READ = "motorbrain_tokens_read_total": Counter of Count by [];
    /// Tokens that need not be read, since somebody had read the same before.
    TOKENS_REUSED = "motorbrain_tokens_reused_total": Counter of Count by [];
    /// Tokens that were sampled.
    TOKENS_DECODED = "motorbrain_tokens_decoded_total": Counter of Count by [];
    /// Of a streamed step, the time from its arrival to its first token.
    FIRST_TOKEN = "motorbrain_first_token_seconds": Histogram of Seconds by [];
    /// Of a streamed step, the time from one of its tokens to the next.
    TOKEN_GAP = "motorbrain_token_gap_seconds": Histogram of Seconds by [];
    /// Rows of a run of the model: how many conversations and inputs it did something for at once.
    RUN_ROWS = "motorbrain_run_rows": Histogram of Count by [];
    /// Requests that no actor has.
    QUEUE = "motorbrain_queue_length": Gauge of Count by [];
    /// Conversations that are known.
    CONVERSATIONS = "motorbrain_conversations": Gauge of Count by [];
    /// Bytes of keys and values in memory, each page once.
    KV_BYTES = "motorbrain_kv_bytes": Gauge of Bytes by [];
    /// Bytes of those that no conversation uses and that are kept for conversations to come.
    CACHED_BYTES = "motorbrain_cached_bytes": Gauge of Bytes by [];
    /// Bytes of those that several conversations use, each page once.
    SHARED_BYTES = "motorbrain_shared_bytes": Gauge of Bytes by [];
    /// Idle conversations whose keys and values have left memory: to a `file`, or to `tokens` that are read again.
    LEFT = "motorbrain_conversations_left_total": Counter of Count by ["to"];
    /// Bytes of memory that were free for that.
    LEFT_BYTES = "motorbrain_left_bytes_total": Counter of Bytes by ["to"];
    /// Conversations whose keys and values came back from a file.
    BACK = "motorbrain_conversations_back_total": Counter of Count by [];
    /// Bytes of memory that they took.
    BACK_BYTES = "motorbrain_back_bytes_total": Counter of Bytes by [];
    /// Conversations that were forgotten and that nobody had closed.
    FORGOTTEN = "motorbrain_conversations_forgotten_total": Counter of Count by [];
    /// Lives of actors that have ended before their time, hangs and loads that failed among them.
    RESTARTS = "motorbrain_restarts_total": Counter of Count by [];
    /// Runs that took too long, and whose threads were left to themselves.
    HANGS = "motorbrain_hangs_total": Counter of Count by [];
}

/// Describes all metrics to the recorder that is installed. A brain does so when it starts; a program that installs its
/// recorder later calls this itself.
pub fn describe() {
    for Metric { name, kind, unit, description, .. } in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *unit, *description),
            Kind::Gauge => metrics::describe_gauge!(*name, *unit, *description),
            Kind::Histogram => metrics::describe_histogram!(*name, *unit, *description),
        }
    }
}

impl Metric {
    pub(crate) fn counter(&self, labels: Vec<Label>) -> Counter {
        self.check(Kind::Counter, &labels);
        metrics::counter!(self.name, labels)
    }

    pub(crate) fn gauge(&self, labels: Vec<Label>) -> Gauge {
        self.check(Kind::Gauge, &labels);
        metrics::gauge!(self.name, labels)
    }

    pub(crate) fn histogram(&self, labels: Vec<Label>) -> Histogram {
        self.check(Kind::Histogram, &labels);
        metrics::histogram!(self.name, labels)
    }

    /// What is emitted is what the table says.
    fn check(&self, kind: Kind, labels: &[Label]) {
        let keys = labels.iter().map(Label::key).filter(|key| *key != BRAIN);
        debug_assert!(self.kind == kind && keys.eq(self.labels.iter().copied()), "{self:?} with {labels:?}");
    }
}

/// The label of a brain that has a name.
pub(crate) const BRAIN: &str = "brain";

const HEAD: &str = "\
# Metrics

What a brain counts, through the facade of the crate [`metrics`](https://docs.rs/metrics): a program installs a recorder
(for Prometheus, StatsD, or its own) before it starts a brain, and has all of this. Without one nothing is kept.

A brain publishes once a second while something happens, and when it ends. One that has a name says it in the label
`brain`; brains without one add up. Generated from the table in `actors/src/metrics.rs`; a test keeps it current.

| name | kind | unit | labels | what it is |
|---|---|---|---|---|
";

/// The text of `docs/metrics.md`.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    for Metric { name, kind, unit, labels, description } in METRICS {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (unit, labels, description) = (unit.as_str(), labels.join(", "), description.trim_ascii());
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {description} |");
    }
    text
}
