//! What is counted of a brain, in plain fields, until it is published: once a second at most, so that a token costs an
//! addition, whoever looks.

use std::time::Duration;

use metrics::Label;

use super::desk::Open;
use crate::{
    clock::Time,
    job::Runs,
    message::{ErrorCode, Request},
    metrics::{
        BACK, BACK_BYTES, BRAIN, CACHED_BYTES, CONVERSATIONS, FIRST_TOKEN, FORGOTTEN, HANGS, KV_BYTES, LEFT,
        LEFT_BYTES, QUEUE, REFUSALS, REQUESTS, RESTARTS, RUN_ROWS, SHARED_BYTES, TOKEN_GAP, TOKENS_DECODED,
        TOKENS_READ, TOKENS_REUSED,
    },
    policy::{Notice, Stats},
};

/// How often is published while something happens.
const EVERY: Duration = Duration::from_secs(1);

/// So many times are kept at most before they are published.
const TIMES_MAX: usize = 4096;

/// What is asked, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Embed,
    Step,
    Score,
    Reset,
    Close,
    Fork,
    Rewind,
    Export,
    Import,
    Tokenize,
    Detokenize,
}

impl Op {
    const ALL: [Self; 11] = [
        Self::Embed,
        Self::Step,
        Self::Score,
        Self::Reset,
        Self::Close,
        Self::Fork,
        Self::Rewind,
        Self::Export,
        Self::Import,
        Self::Tokenize,
        Self::Detokenize,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Step => "step",
            Self::Score => "score",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Fork => "fork",
            Self::Rewind => "rewind",
            Self::Export => "export",
            Self::Import => "import",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
        }
    }
}

impl From<&Request> for Op {
    fn from(request: &Request) -> Self {
        match request {
            Request::Embed(_) => Self::Embed,
            Request::Step(_) => Self::Step,
            Request::Score(_) => Self::Score,
            Request::Reset(_) => Self::Reset,
            Request::Close(_) => Self::Close,
            Request::Fork(_) => Self::Fork,
            Request::Rewind(_) => Self::Rewind,
            Request::Export(_) => Self::Export,
            Request::Import(_) => Self::Import,
        }
    }
}

/// What a request came to, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Ok,
    /// Nobody waited any more.
    Dropped,
    Failed(ErrorCode),
}

impl Came {
    /// Of `Came`s.
    const COUNT: usize = 2 + ErrorCode::ALL.len();

    fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Dropped => 1,
            Self::Failed(code) => 2 + code as usize,
        }
    }

    fn as_str(index: usize) -> &'static str {
        match index {
            0 => "ok",
            1 => "dropped",
            code => ErrorCode::ALL[code - 2].as_str(),
        }
    }
}

/// What has been counted since it was published last.
#[derive(Debug, Default)]
pub(super) struct Meters {
    /// The brain's, if it has one.
    name: Option<String>,
    /// When the next time is; `None`: nothing has been counted.
    due: Option<Time>,
    requests: [[u64; Came::COUNT]; Op::ALL.len()],
    refusals: [u64; ErrorCode::ALL.len()],
    reused: u64,
    /// In seconds.
    first_tokens: Vec<f64>,
    gaps: Vec<f64>,
    /// To tokens, to files: conversations and bytes.
    left: [(u64, u64); 2],
    back: (u64, u64),
    forgotten: u64,
    restarts: u64,
    hangs: u64,
}

impl Meters {
    pub(super) fn new(name: Option<String>) -> Self {
        Self { name, ..Self::default() }
    }

    /// When to publish; `None`: not before something is counted.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    fn touch(&mut self, now: Time) {
        self.due.get_or_insert(now + EVERY);
    }

    /// A request is over.
    pub(super) fn came(&mut self, now: Time, op: Option<Op>, came: Came, reused: usize) {
        let Some(op) = op else { return };
        self.requests[op as usize][came.index()] += 1;
        self.reused += reused as u64;
        self.touch(now);
    }

    pub(super) fn refused(&mut self, now: Time, code: ErrorCode, count: u64) {
        self.refusals[code as usize] += count;
        self.touch(now);
    }

    /// A streamed step shows a token.
    pub(super) fn showed(&mut self, now: Time, open: &mut Open) {
        let since = open.shown_last.replace(now);
        let (times, since) = match since {
            Some(since) => (&mut self.gaps, since),
            None => (&mut self.first_tokens, open.came),
        };
        times.push(now.since(since).as_secs_f64());
        let full = times.len() >= TIMES_MAX;
        self.touch(now);
        if full {
            self.due = Some(now);
        }
    }

    pub(super) fn notice(&mut self, now: Time, notice: &Notice) {
        match notice {
            Notice::Restarting { .. } | Notice::Down { .. } => self.restarts += 1,
            Notice::Hung { .. } => self.hangs += 1,
            Notice::Left { to_file, bytes, .. } => {
                let (count, sum) = &mut self.left[usize::from(*to_file)];
                (*count, *sum) = (*count + 1, *sum + *bytes as u64);
            }
            Notice::Back { bytes, .. } => self.back = (self.back.0 + 1, self.back.1 + *bytes as u64),
            Notice::Forgotten { .. } => self.forgotten += 1,
            Notice::Ready { .. } => {} // its engine takes memory
            Notice::LoadFailed { .. }
            | Notice::KeepFailed { .. }
            | Notice::Quarantined(_)
            | Notice::Rebuilt(_)
            | Notice::Adopted { .. }
            | Notice::Freed { .. }
            | Notice::Impossible(_) => return,
        }
        self.touch(now);
    }

    /// Hands all of it to the recorder, if one is installed. `runs` are emptied. `stats`: `None` before a model is loaded.
    pub(super) fn publish(&mut self, runs: &mut Runs, stats: Option<&Stats>) {
        self.due = None;
        let Self { name, requests, refusals, first_tokens, gaps, left, back, .. } = self;
        let labels = |own: &[(&'static str, &'static str)]| -> Vec<Label> {
            let brain = name.as_ref().map(|name| Label::new(BRAIN, name.clone()));
            brain.into_iter().chain(own.iter().map(|&(key, value)| Label::from_static_parts(key, value))).collect()
        };
        for (op, row) in Op::ALL.iter().zip(requests) {
            for (index, count) in row.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                let own = [("op", op.as_str()), ("outcome", Came::as_str(index))];
                REQUESTS.counter(labels(&own)).increment(std::mem::take(count));
            }
        }
        for (code, count) in ErrorCode::ALL.iter().zip(refusals).filter(|(_, count)| **count > 0) {
            REFUSALS.counter(labels(&[("code", code.as_str())])).increment(std::mem::take(count));
        }
        for (to, (count, bytes)) in ["tokens", "file"].into_iter().zip(left).filter(|(_, (count, _))| *count > 0) {
            LEFT.counter(labels(&[("to", to)])).increment(std::mem::take(count));
            LEFT_BYTES.counter(labels(&[("to", to)])).increment(std::mem::take(bytes));
        }
        // Those without labels are there from the first time on, be they 0.
        for (metric, count) in [
            (TOKENS_READ, &mut runs.read),
            (TOKENS_REUSED, &mut self.reused),
            (TOKENS_DECODED, &mut runs.decoded),
            (BACK, &mut back.0),
            (BACK_BYTES, &mut back.1),
            (FORGOTTEN, &mut self.forgotten),
            (RESTARTS, &mut self.restarts),
            (HANGS, &mut self.hangs),
        ] {
            metric.counter(labels(&[])).increment(std::mem::take(count));
        }
        for (metric, times) in [(FIRST_TOKEN, first_tokens), (TOKEN_GAP, gaps)] {
            let histogram = metric.histogram(labels(&[]));
            times.drain(..).for_each(|time| histogram.record(time));
        }
        let rows = RUN_ROWS.histogram(labels(&[]));
        for (index, count) in runs.by_rows.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            rows.record_many(index as f64, std::mem::take(count));
        }
        if let Some(stats) = stats {
            for (metric, value) in [
                (QUEUE, stats.waiting),
                (CONVERSATIONS, stats.conversations),
                (KV_BYTES, stats.kv_bytes),
                (CACHED_BYTES, stats.cached_bytes),
                (SHARED_BYTES, stats.shared_bytes),
            ] {
                metric.gauge(labels(&[])).set(value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::{message::ConversationId, policy::ActorIndex};

    /// What these notices lead to, by name and the values of the labels; what is 0 aside.
    fn counted(notices: &[Notice]) -> BTreeMap<String, u64> {
        let (mut meters, recorder) = (Meters::new(None), DebuggingRecorder::new());
        for notice in notices {
            meters.notice(Time::default(), notice);
        }
        assert!(meters.due().is_some());
        metrics::with_local_recorder(&recorder, || meters.publish(&mut Runs::default(), None));
        assert_eq!(meters.due(), None);
        let found = recorder.snapshotter().snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| {
            let labels: Vec<&str> = key.key().labels().map(Label::value).collect();
            match value {
                DebugValue::Counter(count) if count > 0 => {
                    Some(([&[key.key().name()], &*labels].concat().join(" "), count))
                }
                _ => None,
            }
        });
        found.collect()
    }

    #[test]
    fn what_leaves_and_comes_back_is_counted_with_its_bytes() {
        let conversation = || ConversationId::from("a");
        let left = |to_file, bytes| Notice::Left { conversation: conversation(), to_file, bytes };
        let found = counted(&[
            left(true, 10),
            left(true, 20),
            left(false, 5),
            Notice::Back { conversation: conversation(), bytes: 7 },
            Notice::Forgotten { conversation: conversation() },
        ]);
        let expected = [
            ("motorbrain_back_bytes_total", 7),
            ("motorbrain_conversations_back_total", 1),
            ("motorbrain_conversations_forgotten_total", 1),
            ("motorbrain_conversations_left_total file", 2),
            ("motorbrain_conversations_left_total tokens", 1),
            ("motorbrain_left_bytes_total file", 30),
            ("motorbrain_left_bytes_total tokens", 5),
        ];
        assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)).into());
    }

    #[test]
    fn a_hang_is_a_restart_as_well_and_a_load_that_fails_is_told_once() {
        let actor = ActorIndex(0);
        let restarting =
            Notice::Restarting { actor, incarnation: Default::default(), pause: Duration::ZERO, charged: 0 };
        let hung = Notice::Hung { actor, incarnation: Default::default(), ran: Duration::ZERO };
        let expected = [("motorbrain_hangs_total", 1), ("motorbrain_restarts_total", 1)];
        assert_eq!(counted(&[hung, restarting]), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }

    #[test]
    fn codes_stand_where_they_are_counted() {
        for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index);
            assert_eq!(Came::as_str(Came::Failed(code).index()), code.as_str());
        }
        assert_eq!((Came::as_str(Came::Ok.index()), Came::as_str(Came::Dropped.index())), ("ok", "dropped"));
        for (index, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, index);
        }
    }

    #[test]
    fn many_times_are_published_before_they_fill_memory() {
        let (mut meters, span) = (Meters::new(None), tracing::Span::none().into());
        let mut open = Open::new(super::super::desk::Caller::Nobody, span);
        for _ in 0..TIMES_MAX {
            assert_ne!(meters.due(), Some(Time::default()));
            meters.showed(Time::default(), &mut open);
        }
        meters.showed(Time::default(), &mut open);
        assert_eq!(meters.due(), Some(Time::default()));
    }
}
