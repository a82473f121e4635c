//! Weights that somebody shortens while they are served: what is loaded goes on and answers as before, what is to be
//! loaded anew is an error, and the process lives. In a process of its own, since it is that which would end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::Path};

use crate::common::{copy, graph_cache, in_own_process, loader, scores, text_tokens, window};
use motorbrain::{ActorState, Brain, Embed, ErrorCode, Input, Score, Settings, Step};
use motorbrain_actors::engine::{Engine, EngineLoader};

const FORMS: [&str; 4] = ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"];

/// Cuts every file with weights.
fn shorten(dir: &Path, bytes: impl Fn(u64) -> u64) {
    for file in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model.onnx") {
            let file = fs::File::options().write(true).open(&file).unwrap();
            file.set_len(bytes(file.metadata().unwrap().len())).unwrap();
        }
    }
}

/// Bytes of the folder's files that lie in this process's memory as pages of the files.
#[cfg(target_os = "linux")]
fn resident(dir: &Path) -> u64 {
    let (mut ours, mut kilobytes) = (false, 0);
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Rss:", size, "kB"] if ours => kilobytes += size.parse::<u64>().unwrap(),
            [range, ..] if range.contains('-') => ours = line.contains(dir.to_str().unwrap()),
            _ => {}
        }
    }
    kilobytes << 10
}

#[test]
fn a_loaded_engine_answers_as_before_and_a_further_one_is_an_error() {
    in_own_process("shrunk::a_loaded_engine_answers_as_before_and_a_further_one_is_an_error", || {
        for name in FORMS {
            let dir = copy(name);
            let text = text_tokens(dir.path(), 60);
            let loader = loader(dir.path(), window(64, 4, 16));
            let mut engines: [Box<dyn Engine>; 3] =
                [loader.load().unwrap(), loader.load().unwrap(), loader.load_plain().unwrap()];
            let mut answers = || {
                engines.each_mut().map(|engine| {
                    let slot = engine.open().unwrap();
                    let found = scores(&mut **engine, slot, &text, &[50, 1]);
                    engine.close(slot);
                    found
                })
            };
            let before = answers();
            shorten(dir.path(), |_| 0);
            assert_eq!(answers(), before, "{name}");
            #[cfg(target_os = "linux")]
            assert_eq!(resident(dir.path()), 0, "{name}: pages of a file that can be shortened are in use");
            drop(engines);
            let error = loader.load_plain().err().unwrap_or_else(|| panic!("{name}: loaded from what is gone"));
            assert!(!error.transient && error.message.contains("shorter"), "{name}: {}", error.message);
            if let Err(error) = loader.load() {
                assert!(error.message.contains("shorter"), "{name}: {}", error.message);
            }
        }
    });
}

async fn brain(dir: &Path) -> Brain {
    let mut settings = Settings::default();
    settings.model.dir = Some(dir.to_owned());
    settings.runtime.cache = Some(graph_cache());
    settings.runtime.threads = Some(1);
    settings.brain.chaos = true;
    settings.brain.actors = 2;
    let brain = motorbrain::start(&settings).await.unwrap();
    // One that still loads would find the files shortened.
    while brain.stats().await.unwrap().actors.iter().any(|actor| actor.state != ActorState::Ready) {
        tokio::task::yield_now().await;
    }
    brain
}

#[test]
fn every_request_ends_with_an_answer_or_an_error() {
    in_own_process("shrunk::every_request_ends_with_an_answer_or_an_error", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for name in FORMS {
                let dir = copy(name);
                let tokens = Input::Tokens(text_tokens(dir.path(), 20));
                let brain = brain(dir.path()).await;
                let first = brain.step(Step::greedy("a", tokens.clone(), 4)).await.unwrap();
                shorten(dir.path(), |all| all / 3);
                // Nothing is loaded anew yet.
                let again = brain.step(Step::greedy("b", tokens.clone(), 4)).await.unwrap();
                assert_eq!(again.token_ids, first.token_ids, "{name}");
                brain.embed(Embed::of(tokens.clone())).await.unwrap();
                brain.score(Score::of("c", tokens.clone())).await.unwrap();
                // An actor that comes back has nothing to load, or what it needs is in memory.
                for actor in 0..2 {
                    brain.crash(actor).await.unwrap();
                }
                for conversation in ["a", "b", "e"] {
                    if let Err(error) = brain.step(Step::greedy(conversation, tokens.clone(), 2)).await {
                        assert!(
                            matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Engine),
                            "{name}: {error:?}"
                        );
                    }
                }
                brain.shutdown().await;
            }
        });
    });
}
