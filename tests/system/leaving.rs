//! Many conversations in the memory of few: whoever left answers as if it had stayed, token for token and to the last bit
//! of each log-probability, be it from a file or read again, slid or not, alone or as a fork.
//!
//! `MOTORBRAIN_VISITS=300` visits the conversations so often, those of the default model, too, and with contexts of up to
//! 600 tokens.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{env, path::Path, sync::Arc, time::Instant};

use crate::{
    choices::Choices,
    common::{fixture, graph_cache, root, text_tokens},
    crashes::{Deed, Turn, play},
};
use motorbrain::{Brain, Parts, Settings, engine::Activations};
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

    /// Visits one after the other, a few at once; the answers in their order, and the most bytes of keys and values.
    async fn played(&self, change: impl FnOnce(&mut BrainConfig, &Parts)) -> (Vec<String>, usize) {
        let parts = Parts::find(&self.settings).await.unwrap();
        let mut config = self.settings.brain_config(None);
        change(&mut config, &parts);
        let loader = Arc::clone(&parts.loader);
        let brain = Brain::start(config, Arc::clone(&parts.loader) as _, parts.model.tokenizer.clone()).await.unwrap();
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
    let visits = env::var("MOTORBRAIN_VISITS").ok().map(|visits| visits.parse().unwrap());
    let count = visits.unwrap_or(120);
    Form::new("tiny-plain", &fixture("tiny-plain"), count, [96, 24]).check().await;
    // Keys turn so often that they are kept in f32.
    Form::new("tiny-plain-f16", &fixture("tiny-plain-f16"), count, [96, 8]).check().await;
    Form::new("tiny-gqa-int4", &fixture("tiny-gqa-int4"), count, [96, 24]).check().await;
    if visits.is_some() {
        let dir = root().join(".motorbrain/models/smollm2-135m");
        Form::new("smollm2-135m", &dir, count, [600, 150]).check().await;
    }
}
