//! Metrics as a recorder gets them: what the table says, nothing else, and the right numbers.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use metrics_util::{
    CompositeKey, MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};
use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    engine::EngineInfo,
    message::{Embed, Fork, Input, Score, Step},
    metrics::{Kind, METRICS, reference},
    policy::Supervision,
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::{FakeControl, FakeLoader, Fault, fake_info};
use tokio::runtime::Builder;

/// What was emitted: by name and labels, as `name{key=value}`.
type Emitted = BTreeMap<String, (MetricKind, bool, Vec<f64>)>;

/// A token a letter.
struct Letters;

impl Tokenizer for Letters {
    fn encode_behind(&self, text: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        let (Spelled::Marked(text) | Spelled::Literal(text)) = text;
        Ok(text.bytes().map(|byte| TokenId(u32::from(byte) % 64)).collect())
    }

    fn append(&self, _: &[TokenId], _: &[TokenId], _: &mut Vec<u8>) {}

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Model
    }
}

/// What a brain emits while `drive` uses it, until it has shut down. All of it is on this thread.
fn emitted<F: Future<Output = ()>>(config: BrainConfig, drive: impl FnOnce(Brain, FakeControl) -> F) -> Emitted {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let control = FakeControl::default();
            let window = motorbrain_actors::engine::Window {
                size: 64,
                sinks: 2,
                slide: 16,
                slides: motorbrain_actors::engine::Slides::Shift,
            };
            let info = EngineInfo { window, ..fake_info() };
            let loader = Arc::new(FakeLoader { info, control: control.clone() });
            let brain = Brain::start(config, loader, Arc::new(Letters)).await.unwrap();
            within(drive(brain.clone(), control)).await;
            within(brain.shutdown()).await;
        });
    });
    let of = |(key, _, description, value): (CompositeKey, _, Option<_>, DebugValue)| {
        let (kind, key) = key.into_parts();
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let values = match value {
            DebugValue::Counter(count) => vec![count as f64],
            DebugValue::Gauge(value) => vec![value.into_inner()],
            DebugValue::Histogram(values) => values.into_iter().map(|value| value.into_inner()).collect(),
        };
        (format!("{}{{{}}}", key.name(), labels.join(",")), (kind, description.is_some(), values))
    };
    snapshotter.snapshot().into_vec().into_iter().map(of).collect()
}

/// What never ends would be a test that never ends.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("done within a minute")
}

fn config() -> BrainConfig {
    let supervision = Supervision {
        run_max: Duration::from_millis(50),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        ..Supervision::default()
    };
    BrainConfig { supervision, chaos: true, ..BrainConfig::default() }
}

fn step(conversation: &str, text: &str, count: usize) -> Step {
    Step::greedy(conversation, text, count)
}

/// The values of one metric with one choice of labels; none where it was not emitted.
fn values<'e>(emitted: &'e Emitted, key: &str) -> &'e [f64] {
    emitted.get(key).map_or(&[], |(_, _, values)| values)
}

fn sum(emitted: &Emitted, key: &str) -> f64 {
    values(emitted, key).iter().sum()
}

#[test]
fn a_brain_emits_what_the_table_says_and_counts_rightly() {
    let text = "A TEXT OF 20 TOKENS.";
    let found = emitted(config(), async |brain, control| {
        let mut stream = brain.step_stream(step("a", text, 5)).await.unwrap();
        while stream.next().await.is_some() {}
        let again = brain.step(step("b", text, 1)).await.unwrap();
        assert_eq!(again.context.reused, 19);
        brain.embed(Embed::of("AB")).await.unwrap();
        brain.score(Score::of("c", "AB")).await.unwrap();
        brain.fork(Fork { from: "a".into(), to: "f".into(), at: None, choice: None }).await.unwrap();
        brain.rewind("f", 20).await.unwrap();
        brain.reset("c").await.unwrap();
        brain.close("c").await.unwrap();
        brain.close("nobody").await.unwrap_err();
        assert_eq!(brain.tokenize("AB").await.unwrap().len(), 2);
        brain.detokenize(vec![TokenId(1)]).await.unwrap();
        brain.step(step("a", "A", usize::MAX)).await.unwrap_err();
        brain.crash(0).await.unwrap();
        // A run that takes too long, of a step that nobody waits for then.
        control.fault_in_run(1, Fault::HANG);
        tokio::select! {
            answer = brain.step(step("h", "HELLO", 1)) => panic!("{answer:?}"),
            _ = within(control.until(|tally| tally.hanging == 1)) => {}
        }
        within(async {
            while brain.stats().await.unwrap().actors[0].restarts < 2 {
                tokio::task::yield_now().await
            }
        })
        .await;
        control.release_hangs();
    });
    let requests =
        |op: &str, outcome: &str| sum(&found, &format!("motorbrain_requests_total{{op={op},outcome={outcome}}}"));
    for (op, outcome, expected) in [
        ("step", "ok", 2.0),
        ("step", "bad_request", 1.0),
        ("step", "dropped", 1.0),
        ("embed", "ok", 1.0),
        ("score", "ok", 1.0),
        ("fork", "ok", 1.0),
        ("rewind", "ok", 1.0),
        ("reset", "ok", 1.0),
        ("close", "ok", 1.0),
        ("close", "unknown_conversation", 1.0),
        ("tokenize", "ok", 1.0),
        ("detokenize", "ok", 1.0),
    ] {
        assert_eq!(requests(op, outcome), expected, "{op} {outcome}");
    }
    let all = found.keys().filter(|key| key.starts_with("motorbrain_requests_total")).count();
    assert_eq!(all, 12, "nothing else was asked");
    assert_eq!(sum(&found, "motorbrain_refusals_total{code=bad_request}"), 1.0);
    assert_eq!(sum(&found, "motorbrain_refusals_total{code=unknown_conversation}"), 1.0);
    assert_eq!(values(&found, "motorbrain_first_token_seconds{}").len(), 1);
    assert_eq!(values(&found, "motorbrain_token_gap_seconds{}").len(), 4);
    assert_eq!(sum(&found, "motorbrain_tokens_decoded_total{}"), 6.0);
    assert_eq!(sum(&found, "motorbrain_tokens_reused_total{}"), 19.0);
    // The step's 20, the last one of its repetition, an embed's 2 and a score's.
    let read = sum(&found, "motorbrain_tokens_read_total{}");
    assert_eq!(read, 25.0);
    let rows = values(&found, "motorbrain_run_rows{}");
    assert!(rows.len() >= 8 && rows.iter().all(|rows| *rows == 1.0), "{rows:?}");
    assert_eq!(sum(&found, "motorbrain_restarts_total{}"), 2.0);
    assert_eq!(sum(&found, "motorbrain_hangs_total{}"), 1.0);
    assert_eq!(sum(&found, "motorbrain_queue_length{}"), 0.0);
    assert_eq!(sum(&found, "motorbrain_conversations{}"), 3.0);
    // `a`, `b` and `f` have the text's five pages of four in common.
    assert_eq!(sum(&found, "motorbrain_shared_bytes{}"), 5.0 * 64.0);
    assert!(sum(&found, "motorbrain_kv_bytes{}") >= sum(&found, "motorbrain_shared_bytes{}"));
    // Room for six pages of four tokens, which is one such conversation: the other leaves, to its tokens alone.
    let mut narrow = config();
    narrow.memory.kv_bytes = 6 * 64;
    let of_narrow = emitted(narrow, async |brain, _| {
        for (name, text) in [("a", text), ("b", "ANOTHER OF TWENTY...")] {
            brain.step(step(name, text, 1)).await.unwrap();
        }
    });
    assert_eq!(sum(&of_narrow, "motorbrain_conversations_left_total{to=tokens}"), 1.0);
    assert_eq!(sum(&of_narrow, "motorbrain_left_bytes_total{to=tokens}"), 5.0 * 64.0);
    assert!(sum(&of_narrow, "motorbrain_kv_bytes{}") <= 6.0 * 64.0);
    // Each is described, of its kind, and of the table.
    let found: Emitted = found.into_iter().chain(of_narrow).collect();
    let by_name: BTreeMap<&str, Kind> = METRICS.iter().map(|metric| (metric.name, metric.kind)).collect();
    for (key, (kind, described, _)) in &found {
        let name = key.split('{').next().unwrap();
        let expected = match by_name.get(name) {
            Some(Kind::Counter) => MetricKind::Counter,
            Some(Kind::Gauge) => MetricKind::Gauge,
            Some(Kind::Histogram) => MetricKind::Histogram,
            None => panic!("`{name}` is not in the table"),
        };
        assert_eq!((*kind, *described), (expected, true), "{name}");
    }
    let emitted: BTreeSet<&str> = found.keys().map(|key| key.split('{').next().unwrap()).collect();
    let missing: Vec<&str> = by_name.keys().filter(|name| !emitted.contains(*name)).copied().collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn a_brain_with_a_name_says_it_in_every_label() {
    let config = BrainConfig { name: Some("measured".to_owned()), ..config() };
    let found = emitted(config, async |brain, _| {
        brain.step(Step { input: Some(Input::Tokens(vec![TokenId(1)])), ..step("a", "", 1) }).await.unwrap();
    });
    assert_eq!(sum(&found, "motorbrain_requests_total{brain=measured,op=step,outcome=ok}"), 1.0);
    assert!(found.keys().all(|key| key.contains("{brain=measured")), "{:?}", found.keys());
}

#[test]
fn what_was_counted_is_published_a_second_later_though_nothing_more_happens() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let seen = || snapshotter.snapshot().into_vec().iter().any(|(key, ..)| key.key().name() == METRICS[0].name);
    metrics::with_local_recorder(&recorder, || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let loader = Arc::new(FakeLoader { info: fake_info(), control: FakeControl::default() });
            let brain = Brain::start(config(), loader, Arc::new(Letters)).await.unwrap();
            brain.step(step("a", "HELLO", 1)).await.unwrap();
            let published = async {
                while !seen() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), published).await.expect("it is published by itself");
            brain.shutdown().await;
        });
    });
}

/// `MOTORBRAIN_UPDATE_CONFIG=1 cargo test the_reference_of_the_metrics` writes the file.
#[test]
fn the_reference_of_the_metrics_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("MOTORBRAIN_UPDATE_CONFIG").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), reference());
}
