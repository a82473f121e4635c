//! What is told of requests, by whoever records the caller's span, and by nobody else.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex},
};

use motorbrain_actors::{
    message::{BrainError, ErrorCode},
    rerank::{Relevance, Rerank},
};
use motorbrain_testing::Fault;
use tracing::{
    Dispatch, Event, Instrument as _, Subscriber,
    field::{Field, Visit},
    instrument::WithSubscriber as _,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use super::{Bench, config, start, step, within};

/// A subscriber that is there all the while. Where there is but one, `tracing-core` (0.1.36, `callsite.rs`) asks the thread that
/// first comes to a span for its own subscriber, and takes the answer for everybody's; other tests' threads have none.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

/// A subscriber that remembers what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Seen>>>);

/// A span as it was told.
#[derive(Clone, Debug)]
struct Seen {
    id: Id,
    parent: Option<Id>,
    name: &'static str,
    fields: Fields,
    events: Vec<Fields>,
    is_over: bool,
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Told {
    fn with(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut all = self.0.lock().unwrap();
        change(all.iter_mut().rfind(|seen| seen.id == *id).unwrap());
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Told {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = context.span(id).unwrap().parent().map(|parent| parent.id());
        let (id, name) = (id.clone(), attributes.metadata().name());
        self.0.lock().unwrap().push(Seen { id, parent, name, fields, events: Vec::new(), is_over: false });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.with(id, |seen| values.record(&mut seen.fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.with(&span.id(), |seen| seen.events.push(fields));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(&id, |seen| seen.is_over = true);
    }
}

impl Told {
    /// What is told of what is done here, in a span of its own, once all of it is over.
    async fn of<T>(work: impl Future<Output = T>) -> (T, Vec<Seen>) {
        let told = Self::default();
        LazyLock::force(&ANOTHER);
        let subscriber = Dispatch::new(tracing_subscriber::registry().with(told.clone()));
        tracing::callsite::rebuild_interest_cache();
        let traced = async { work.instrument(tracing::debug_span!("caller")).await };
        let done = within(traced.with_subscriber(subscriber)).await;
        let all = within(async {
            loop {
                let all = told.0.lock().unwrap().clone();
                if all.iter().all(|seen| seen.is_over) {
                    return all;
                }
                tokio::task::yield_now().await;
            }
        });
        (done, all.await)
    }
}

/// Those of this name; each lies in the first of the other.
fn inside<'a>(all: &'a [Seen], name: &str, outer: &str) -> Vec<&'a Seen> {
    let outer = all.iter().find(|seen| seen.name == outer).unwrap();
    let found: Vec<&Seen> = all.iter().filter(|seen| seen.name == name).collect();
    assert!(found.iter().all(|seen| seen.parent.as_ref() == Some(&outer.id)), "{name}: {all:#?}");
    found
}

fn check(seen: &Seen, expected: &[(&str, &str)]) {
    for (field, value) in expected {
        assert_eq!(seen.fields.0.get(field).map(String::as_str), Some(*value), "{field} of {seen:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_told_inside_its_callers_span_and_so_is_what_its_actor_does() {
    let Bench { brain, .. } = start(config(1)).await;
    let (stepped, all) = Told::of(brain.step(step("A", "HELLO", 3))).await;
    let [request] = inside(&all, "request", "caller")[..] else { panic!("{all:#?}") };
    let context_len = stepped.unwrap().context.context_len.to_string();
    check(request, &[("op", "step"), ("conversation", "A"), ("actor", "0"), ("incarnation", "0")]);
    check(request, &[("tokens", "5"), ("reused", "0"), ("sampled", "3"), ("context_len", &context_len)]);
    assert_eq!(inside(&all, "queue", "request").len(), 1);
    let [work] = inside(&all, "work", "request")[..] else { panic!("{all:#?}") };
    check(work, &[("actor", "0"), ("incarnation", "0"), ("read", "5"), ("sampled", "3")]);
    let first = work.events.iter().filter(|event| event.0["message"] == "first token").count();
    assert_eq!((first, all.len()), (1, 4), "{all:#?}");
    assert!(!format!("{all:?}").contains("HELLO"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_behind_a_death_waits_and_works_again() {
    let bench = start(config(2)).await;
    bench.all_are_ready().await;
    bench.control.fault_in_run(1, Fault::Panic);
    let (stepped, all) = Told::of(bench.brain.step(step("A", "HELLO", 3))).await;
    assert!(stepped.is_ok());
    assert_eq!(inside(&all, "queue", "request").len(), 2);
    let [first, second] = inside(&all, "work", "request")[..] else { panic!("{all:#?}") };
    check(second, &[("read", "5"), ("sampled", "3")]);
    let by = |work: &Seen| (work.fields.0["actor"].clone(), work.fields.0["incarnation"].clone());
    assert_ne!(by(first), by(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_or_is_taken_back_says_so() {
    let bench = start(config(1)).await;
    let (failed, all) = Told::of(bench.brain.step(step("A", "", 0))).await;
    assert_eq!(failed.map_err(|error| error.code()), Err(ErrorCode::EmptyInput));
    check(inside(&all, "request", "caller")[0], &[("error.type", "empty_input"), ("otel.status_code", "ERROR")]);
    bench.control.fault_in_run(1, Fault::HANG);
    let given_up = async {
        tokio::select! {
            _ = bench.brain.step(step("A", "HELLO", 3)) => panic!("it hangs"),
            () = async { while bench.control.tally().hanging == 0 { tokio::task::yield_now().await } } => {}
        }
        // What is asked behind its leave is answered behind it: the brain knows of it then.
        bench.brain.stats().await.unwrap();
        bench.control.release_hangs();
    };
    let ((), all) = Told::of(given_up).await;
    check(inside(&all, "request", "caller")[0], &[("error.type", "cancelled")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_rerank_is_told_inside_its_callers_span() {
    let Bench { brain, .. } = start(config(1)).await;
    let relevance = Relevance::Likelihood { before: "<".into(), between: "> ".into() };
    let rerank = Rerank { relevance, ..Rerank::new("WHO?", ["A", "B"].map(str::to_owned).to_vec()) };
    let (reranked, all) = Told::of(brain.rerank(rerank)).await;
    assert_eq!(reranked.map(|it| it.order.len()).map_err(|error: BrainError| error.to_string()), Ok(2));
    assert!(inside(&all, "request", "caller").len() > 2);
}
