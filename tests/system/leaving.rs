//! Many conversations in the memory of few: whoever left answers as if it had stayed, token for token and to the last bit
//! of each log-probability, be it from a file or read again, slid or not, alone or as a fork.
//!
//! `MOTORBRAIN_VISITS=300` visits the conversations so often, those of the default model, too, with contexts of up to 600
//! tokens; opens 20,000 conversations in the place of a few hundred; and compares files with reading again at 1,024 tokens.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{env, path::Path, sync::Arc, time::Instant};

use crate::{
    choices::Choices,
    common::{fixture, graph_cache, in_own_process, root, text_tokens},
    crashes::{Deed, Turn, play},
    memory::resident,
};
use motorbrain::{
    Brain, Parts, Settings, Step,
    engine::{Activations, OnnxLoader},
};
use motorbrain_actors::{brain::BrainConfig, engine::EngineLoader as _};
use tokio::task::JoinSet;

/// Conversations, and for how many of them there is memory.
const CONVERSATIONS: usize = 40;
const ROOM: usize = 4;
/// How many are visited at once: their jobs have memory to spare.
const AT_ONCE: usize = 2;

/// Who is visited when, and for what.
fn visits(dir: &Path, count: usize, size: usize) -> Vec<(usize, Turn)> {
    use Deed::{Drawn, Fork, Greedy, Score, Several, Streamed};
    let text = text_tokens(dir, 800);
    let mut choices = Choices(7);
    let visit = |_| {
        let index = choices.below(CONVERSATIONS);
        // Some never slide, some often.
        let longest = if index.is_multiple_of(3) { size / 12 } else { size / 2 };
        let begin = choices.below(text.len() - longest - 1);
        let turn = Turn {
            deed: [Greedy, Drawn, Streamed, Score, Several, Fork][choices.below(6)],
            tokens: text[begin..=begin + choices.below(longest)].to_vec(),
            count: 1 + choices.below(6),
            seed: choices.below(1 << 30) as u64,
        };
        (index, turn)
    };
    (0..count).map(visit).collect()
}

/// A model's form, and what is known of it.
struct Form {
    name: &'static str,
    settings: Settings,
    visits: Vec<(usize, Turn)>,
}

impl Form {
    fn new(name: &'static str, dir: &Path, count: usize, [size, slide]: [usize; 2]) -> Self {
        let mut settings = Settings::default();
        settings.model.dir = Some(dir.to_owned());
        settings.runtime.cache = Some(graph_cache());
        settings.runtime.activations = Activations::F32;
        settings.memory.cached_bytes = Some(0);
        (settings.window.size, settings.window.sinks, settings.window.slide) = (Some(size), Some(4), Some(slide));
        let visits = visits(dir, count, size);
        Self { name, settings, visits }
    }

    /// A brain, of its own parts.
    async fn start(&self, change: impl FnOnce(&mut BrainConfig, &Parts)) -> (Brain, Arc<OnnxLoader>) {
        let parts = Parts::find(&self.settings).await.unwrap();
        let mut config = self.settings.brain_config(None);
        change(&mut config, &parts);
        let loader = Arc::clone(&parts.loader);
        let brain = Brain::start(config, Arc::clone(&loader) as _, parts.model.tokenizer.clone()).await.unwrap();
        (brain, loader)
    }

    /// Visits one after the other, a few at once; the answers in their order, and the most bytes of keys and values.
    async fn played(&self, change: impl FnOnce(&mut BrainConfig, &Parts)) -> (Vec<String>, usize) {
        let (brain, loader) = self.start(change).await;
        let (mut answers, mut most) = (Vec::new(), 0);
        for visits in self.visits.chunks(AT_ONCE) {
            let mut players = JoinSet::new();
            for (place, (index, turn)) in visits.iter().cloned().enumerate() {
                // No conversation is visited twice at once, or the order would not be told.
                if visits[..place].iter().all(|(other, _)| *other != index) {
                    let brain = brain.clone();
                    players.spawn(async move { (place, play(&brain, &format!("{index}"), turn).await) });
                }
            }
            let mut found = players.join_all().await;
            found.sort_by_key(|(place, _)| *place);
            answers.extend(found.into_iter().map(|(_, answers)| format!("{answers:?}")));
            most = most.max(loader.kv_bytes());
        }
        brain.shutdown().await;
        (answers, most)
    }

    async fn check(&self) {
        let mut full = 0;
        let (expected, all) = self.played(|_, _| ()).await;
        for files in [false, true] {
            let (folder, since) = (tempfile::tempdir().unwrap(), Instant::now());
            let (found, most) = self
                .played(|config, parts| {
                    full = parts.model.contract.kv_bytes_per_token() * self.settings.window.size.unwrap();
                    config.memory.kv_bytes = ROOM * full;
                    if files {
                        let keep = motorbrain::spill::open(folder.path(), None, Arc::clone(&parts.loader) as _);
                        config.keep = Some(keep.unwrap());
                    }
                })
                .await;
            let seconds = since.elapsed().as_secs_f64();
            println!(
                "{}, files: {files}: {} visits in {seconds:.1} s, at most {:.2} conversations in memory, {:.1} without bounds",
                self.name,
                self.visits.len(),
                most as f64 / full as f64,
                all as f64 / full as f64
            );
            for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found, expected, "{}, files: {files}, visit {place}", self.name);
            }
            // What leaves is free when it is written, and those who are visited go on meanwhile; keys in f32 beside
            // values in f16 take half as much more.
            assert!(most <= ROOM * full + AT_ONCE * full * 3 / 2, "{most} bytes, a conversation has {full}");
            assert!(all > 2 * ROOM * full, "{all} bytes without bounds");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_for_others_answers_as_if_it_had_stayed() {
    let visits = visits_of_settings();
    let count = visits.unwrap_or(80);
    Form::new("tiny-plain", &fixture("tiny-plain"), count, [96, 24]).check().await;
    // Keys turn so often that they are kept in f32.
    Form::new("tiny-plain-f16", &fixture("tiny-plain-f16"), count, [96, 8]).check().await;
    Form::new("tiny-gqa-int4", &fixture("tiny-gqa-int4"), count, [96, 24]).check().await;
    if visits.is_some() {
        Form::new("smollm2-135m", &default_model(), count, [600, 150]).check().await;
    }
}

fn visits_of_settings() -> Option<usize> {
    env::var("MOTORBRAIN_VISITS").ok().map(|visits| visits.parse().unwrap())
}

fn default_model() -> std::path::PathBuf {
    root().join(".motorbrain/models/smollm2-135m")
}

/// Bounds on memory, with files or without.
fn bounded(rooms: usize, folder: Option<&Path>) -> impl FnOnce(&mut BrainConfig, &Parts) {
    move |config, parts| {
        let full = parts.model.contract.kv_bytes_per_token() * parts.loader.window().size;
        config.memory.kv_bytes = rooms * full;
        config.keep =
            folder.map(|folder| motorbrain::spill::open(folder, None, Arc::clone(&parts.loader) as _).unwrap());
    }
}

/// What the process may hold beside the bound and a conversation: what a run works on, and what an allocator keeps.
const BESIDE_MAX: f64 = 32.0 * 1024.0 * 1024.0;

/// Visits one after the other in a process of its own; prints and checks how large it was.
async fn stays_small(files: bool) {
    let form = Form::new("smollm2-135m", &default_model(), visits_of_settings().unwrap_or(24), [600, 150]);
    let folder = tempfile::tempdir().unwrap();
    let (brain, _loader) = form.start(bounded(ROOM, files.then(|| folder.path()))).await;
    let model = brain.stats().await.unwrap().model;
    let full = (model.kv_bytes_per_token * model.window.size) as f64;
    // As large runs as there will be, and their conversation gone again: a score has logits of each of its tokens.
    let tokens = text_tokens(&default_model(), 300);
    for deed in [Deed::Greedy, Deed::Score, Deed::Several] {
        play(&brain, "warm", Turn { deed, tokens: tokens.clone(), count: 4, seed: 1 }).await;
    }
    brain.close("warm").await.unwrap();
    let (before, mut most) = (resident(), [0.0_f64; 2]);
    let half = form.visits.len().div_ceil(2);
    for (place, (index, turn)) in form.visits.iter().cloned().enumerate() {
        play(&brain, &format!("{index}"), turn).await;
        most[place / half] = most[place / half].max(resident() - before);
    }
    let bound = ROOM as f64 * full;
    println!(
        "files: {files}: {:.1} MiB beside what was there in the first half of {} visits, {:.1} in the second; bound {:.1}, a \
         conversation {:.1}",
        most[0] / 1048576.0,
        form.visits.len(),
        most[1] / 1048576.0,
        bound / 1048576.0,
        full / 1048576.0
    );
    assert!(most[0].max(most[1]) <= bound + full + BESIDE_MAX, "{most:?}");
    if form.visits.len() >= 100 {
        assert!(most[1] <= most[0] + full, "it grows: {most:?}");
    }
}

#[test]
fn the_process_stays_within_its_bound() {
    in_own_process("leaving::the_process_stays_within_its_bound", || {
        tokio::runtime::Runtime::new().unwrap().block_on(stays_small(false));
    });
}

#[test]
fn the_process_stays_within_its_bound_with_files() {
    in_own_process("leaving::the_process_stays_within_its_bound_with_files", || {
        tokio::runtime::Runtime::new().unwrap().block_on(stays_small(true));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_conversations_as_come_are_served_and_the_first_is_known_still() {
    let form = Form::new("tiny-plain", &fixture("tiny-plain"), 0, [96, 24]);
    let (brain, loader) = form.start(bounded(ROOM, None)).await;
    let text = text_tokens(&fixture("tiny-plain"), 800);
    let count = if visits_of_settings().is_some() { 20_000 } else { 300 };
    let first = brain.step(Step::greedy("first", text[..20].to_vec(), 1)).await.unwrap();
    let mut halves = [0; 2];
    for index in 0..count {
        let begin = index * 7 % 700;
        brain.step(Step::greedy(format!("{index}"), text[begin..begin + 12].to_vec(), 1)).await.unwrap();
        let half = &mut halves[2 * index / count];
        *half = loader.kv_bytes().max(*half);
    }
    println!("{count} conversations; the most bytes of keys and values in each half: {halves:?}");
    assert!(halves[1] <= halves[0], "memory grows: {halves:?}");
    let next = brain.step(Step { input: None, ..Step::greedy("first", "", 3) }).await.unwrap();
    assert_eq!(next.context.context_len, first.context.context_len + 3);
    let (whole, _) = form.start(|_, _| ()).await;
    let expected = whole.step(Step::greedy("first", text[..20].to_vec(), 4)).await.unwrap();
    assert_eq!([first.token_ids, next.token_ids].concat(), expected.token_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gives_back_sooner_what_took_long_to_read() {
    let len = if visits_of_settings().is_some() { 1024 } else { 256 };
    let form = Form::new("smollm2-135m", &default_model(), 0, [2 * len, len / 2]);
    let text = text_tokens(&default_model(), 800).into_iter().cycle().take(len).collect::<Vec<_>>();
    let mut took = [f64::MAX; 2];
    for (which, files) in [true, false].into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        // For the one that is here, and not for another.
        let (brain, _loader) = form.start(bounded(1, files.then(|| folder.path()))).await;
        brain.step(Step::greedy("a", text.clone(), 1)).await.unwrap();
        for _ in 0..3 {
            let mut other = text.clone();
            other.rotate_left(99);
            other.extend_from_within(..len / 2);
            brain.step(Step::greedy("b", other, 1)).await.unwrap();
            while brain.inspect("a").await.unwrap().kv_bytes > 0 {
                tokio::task::yield_now().await;
            }
            brain.close("b").await.unwrap();
            let since = Instant::now();
            let stepped = brain.step(Step { input: None, ..Step::greedy("a", "", 1) }).await.unwrap();
            took[which] = took[which].min(since.elapsed().as_secs_f64());
            assert!(!stepped.context.rebuilt && stepped.context.context_len > len);
        }
    }
    let [file, again] = took;
    println!(
        "{len} tokens: {:.1} ms from a file, {:.1} ms read again, {:.1} times",
        file * 1e3,
        again * 1e3,
        again / file
    );
    // Of a few tokens it is less.
    assert!(again / file >= if len >= 1024 { 5.0 } else { 1.2 }, "{file} {again}");
}
