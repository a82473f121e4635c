//! Prompts that are pinned, on real exports and through the whole stack: after many windows their keys and values are to
//! the bit those that were read, whoever died or left meanwhile, and answers are those of a rebuilt cache.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use crate::common::{fixture, graph_cache, text_tokens};
use motorbrain::{
    Brain, Input, Parts, Settings, Step, Terms, TokenId,
    engine::{Activations, OnnxLoader, WindowPolicy},
    spill,
};
use motorbrain_actors::engine::EngineLoader as _;

/// Tokens that are pinned, and those of a page and of the window.
const PINNED: usize = 100;
const PAGE: usize = 32;
const SIZE: usize = 256;

/// What happens to the conversation between two turns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Calm,
    /// Its actor dies.
    Dies,
    /// It leaves memory for another, to a file or to its tokens.
    Leaves {
        file: bool,
    },
}

struct Bench {
    brain: Brain,
    loader: Arc<OnnxLoader>,
    text: Vec<TokenId>,
    _files: tempfile::TempDir,
}

impl Bench {
    async fn start(form: &str, policy: WindowPolicy, fate: Fate) -> Self {
        let mut settings = Settings::default();
        settings.model.dir = Some(fixture(form));
        settings.runtime.cache = Some(graph_cache());
        settings.runtime.activations = Activations::F32;
        settings.runtime.threads = Some(1);
        settings.memory.cached_bytes = Some(0);
        (settings.window.size, settings.window.sinks, settings.window.slide) = (Some(SIZE), Some(4), Some(64));
        settings.window.policy = policy;
        settings.brain.chaos = true;
        settings.brain.actors = 2;
        settings.brain.restarts_max = usize::MAX;
        settings.brain.backoff_ms_max = settings.brain.backoff_ms_min;
        let (parts, files) = (Parts::find(&settings).await.unwrap(), tempfile::tempdir().unwrap());
        let mut config = settings.brain_config(None);
        let loader = Arc::clone(&parts.loader);
        if let Fate::Leaves { file } = fate {
            config.memory.kv_bytes = parts.model.contract.kv_bytes_per_token() * SIZE;
            config.keep = file.then(|| spill::open(files.path(), None, Arc::clone(&loader) as _).unwrap());
        }
        let brain = Brain::start(config, Arc::clone(&loader) as _, parts.model.tokenizer.clone()).await.unwrap();
        Self { brain, loader, text: text_tokens(&fixture(form), 800), _files: files }
    }

    fn reading(&self, name: &str, from: usize, len: usize) -> Step {
        let tokens = self.text.iter().cycle().skip(from).take(len).copied().collect();
        Step::greedy(name, Input::Tokens(tokens), 0)
    }

    /// The bytes of what is pinned: keys and values of all layers.
    async fn pinned(&self) -> Vec<Vec<u8>> {
        let kept = self.brain.export("a").await.unwrap().remove(0);
        assert_eq!((kept.history.pinned, &kept.history.tokens[..PINNED]), (PINNED, &self.text[..PINNED]));
        let rows = (0..PINNED).step_by(PAGE).map(|first| (PINNED - first).min(PAGE));
        let pages = kept.resident.pages.iter().zip(rows);
        let saved = pages.map(|(page, rows)| {
            let mut bytes = Vec::new();
            self.loader.save(page, rows, &mut bytes).unwrap();
            bytes
        });
        saved.collect()
    }

    async fn befall(&self, fate: Fate) {
        match fate {
            Fate::Calm => {}
            Fate::Dies => {
                let actor = self.brain.inspect("a").await.unwrap().actor.unwrap_or(0);
                while self.brain.crash(actor).await.is_err() {
                    tokio::task::yield_now().await;
                }
            }
            Fate::Leaves { .. } => {
                self.brain.step(self.reading("other", 300, SIZE - 1)).await.unwrap();
                self.brain.close("other").await.unwrap();
                while self.brain.inspect("a").await.unwrap().kv_bytes > 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Reads so many turns of half a window behind a pinned prompt; the bits of what comes next.
    async fn play(&self, turns: usize, fate: Fate) -> Vec<u32> {
        let terms = Terms { pin: true, ..Terms::default() };
        self.brain.step(Step { terms, ..self.reading("a", 0, PINNED) }).await.unwrap();
        let before = self.pinned().await;
        assert_eq!(before.len(), PINNED.div_ceil(PAGE));
        for turn in 0..turns {
            self.befall(fate).await;
            let stepped = self.brain.step(self.reading("a", PINNED + turn * SIZE / 2, SIZE / 2)).await.unwrap();
            assert!(!stepped.context.rebuilt, "{fate:?}");
        }
        assert!(self.pinned().await == before, "what is pinned is whole, {fate:?}");
        let stepped = self.brain.step(Step { count: 4, top: 3, ..self.reading("a", 0, 9) }).await.unwrap();
        let top = stepped.top.into_iter().flatten().map(|(_, logprob)| logprob);
        stepped.logprobs.into_iter().chain(top).map(f32::to_bits).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_prompt_is_whole_to_the_bit_after_twenty_windows() {
    for form in ["tiny-plain", "tiny-plain-f16", "tiny-gqa-int4"] {
        Bench::start(form, WindowPolicy::Shift, Fate::Calm).await.play(40, Fate::Calm).await;
    }
    Bench::start("tiny-plain", WindowPolicy::Recompute, Fate::Calm).await.play(40, Fate::Calm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_or_leaves_answers_to_the_bit_behind_what_is_pinned() {
    for (form, policy) in [
        ("tiny-plain", WindowPolicy::Shift),
        ("tiny-plain-f16", WindowPolicy::Shift),
        ("tiny-plain", WindowPolicy::Recompute),
    ] {
        let expected = Bench::start(form, policy, Fate::Calm).await.play(5, Fate::Calm).await;
        for fate in [Fate::Dies, Fate::Leaves { file: true }, Fate::Leaves { file: false }] {
            let found = Bench::start(form, policy, fate).await.play(5, fate).await;
            assert_eq!(found, expected, "{form}, {fate:?}");
        }
    }
}
