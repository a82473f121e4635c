//! Many conversations on several actors: interleaved at random, through crashes and hangs, each must
//! answer as if it were alone. Run on real exports through the whole stack.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    choices::Choices,
    common::{fixture, graph_cache, text_tokens},
};
use motorbrain::{ActorState, Brain, Embed, Input, Settings, Step, TokenId};
use tokio::{sync::Barrier, task::JoinSet};

const CONVERSATIONS: usize = 32;
const ACTORS: usize = 3;

/// What one conversation does: each turn some text, then some sampled tokens.
#[derive(Clone)]
struct Script {
    turns: Vec<(Vec<TokenId>, usize)>,
}

fn scripts(dir: &Path, seed: u64) -> Vec<Script> {
    let mut choices = Choices(seed);
    let text = text_tokens(dir, 400);
    let turn = |choices: &mut Choices| {
        let start = choices.below(300);
        let len = 1 + choices.below(24);
        (text[start..start + len].to_vec(), 1 + choices.below(8))
    };
    (0..CONVERSATIONS)
        .map(|_| Script { turns: (0..2 + choices.below(4)).map(|_| turn(&mut choices)).collect() })
        .collect()
}

async fn brain(dir: &Path, actors: usize, change: impl FnOnce(&mut Settings)) -> Brain {
    let mut settings = Settings::default();
    settings.model.dir = Some(dir.to_owned());
    settings.runtime.cache = Some(graph_cache());
    settings.brain.chaos = true;
    settings.brain.actors = actors;
    settings.runtime.threads = Some(1);
    change(&mut settings);
    let brain = motorbrain::start(&settings).await.expect("the brain starts");
    // It has started when one of its actors is ready, and each may be asked for.
    restarted(&brain, 0).await;
    brain
}

fn step(conversation: &str, (tokens, count): &(Vec<TokenId>, usize)) -> Step {
    Step::greedy(conversation, Input::Tokens(tokens.clone()), *count)
}

/// A conversation's sampled tokens, turn by turn, and the longest it waited for one.
async fn play(brain: &Brain, name: &str, script: &Script) -> (Vec<Vec<TokenId>>, Duration) {
    let mut answers = Vec::new();
    let mut longest = Duration::ZERO;
    for turn in &script.turns {
        let asked = Instant::now();
        answers.push(brain.step(step(name, turn)).await.unwrap().token_ids);
        longest = longest.max(asked.elapsed());
    }
    (answers, longest)
}

/// All conversations at once; `disturb` runs when half of their turns are answered.
async fn play_all<F: Future<Output = ()>>(
    brain: &Brain,
    scripts: &[Script],
    disturb: impl FnOnce(Brain) -> F,
) -> (Vec<Vec<Vec<TokenId>>>, Duration) {
    // Every conversation stops once in its middle until all are there, so that the disturbance
    // meets a brain full of half-done conversations.
    let middle = Arc::new(Barrier::new(scripts.len() + 1));
    let mut players = JoinSet::new();
    for (index, script) in scripts.iter().cloned().enumerate() {
        let (brain, middle) = (brain.clone(), middle.clone());
        players.spawn(async move {
            let name = format!("c{index}");
            let half = script.turns.len() / 2;
            let (before, after) = script.turns.split_at(half);
            let (mut answers, first) = play(&brain, &name, &Script { turns: before.to_vec() }).await;
            middle.wait().await;
            let (rest, second) = play(&brain, &name, &Script { turns: after.to_vec() }).await;
            answers.extend(rest);
            (index, answers, first.max(second))
        });
    }
    middle.wait().await;
    disturb(brain.clone()).await;
    let mut answers = vec![Vec::new(); scripts.len()];
    let mut longest = Duration::ZERO;
    for (index, found, waited) in players.join_all().await {
        answers[index] = found;
        longest = longest.max(waited);
    }
    (answers, longest)
}

async fn alone(dir: &Path, scripts: &[Script]) -> Vec<Vec<Vec<TokenId>>> {
    let brain = brain(dir, 1, |_| {}).await;
    let mut answers = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        answers.push(play(&brain, &format!("c{index}"), script).await.0);
    }
    brain.shutdown().await;
    answers
}

/// Until an actor has been restarted so often and all are ready.
async fn restarted(brain: &Brain, restarts: u64) {
    let since = Instant::now();
    loop {
        let stats = brain.stats().await.unwrap();
        let ready = stats.actors.iter().all(|a| a.state == ActorState::Ready);
        if ready && stats.actors.iter().map(|a| a.restarts).sum::<u64>() >= restarts {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "no restart: {stats:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interleaved_conversations_answer_as_alone() {
    for form in ["tiny-plain", "tiny-gqa-fp32", "tiny-plain-f16"] {
        let dir = fixture(form);
        let scripts = scripts(&dir, 1);
        let brain = brain(&dir, ACTORS, |_| {}).await;
        let (answers, _) = play_all(&brain, &scripts, |_| async {}).await;
        brain.shutdown().await;
        assert_eq!(answers, alone(&dir, &scripts).await, "{form}");
    }
}

/// The default model quantises activations: a prompt read in other chunks may choose another token
/// where two are close (ARCHITECTURE.md, "How equal is equal"), so its share is reported.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_model_answers_as_alone() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".motorbrain/models/smollm2-135m");
    let scripts = scripts(&dir, 4);
    let brain = brain(&dir, ACTORS, |_| {}).await;
    let (answers, _) = play_all(&brain, &scripts, |_| async {}).await;
    brain.shutdown().await;
    let expected = alone(&dir, &scripts).await;
    let tokens = |answers: &[Vec<Vec<TokenId>>]| answers.iter().flatten().flatten().copied().collect::<Vec<_>>();
    let pairs: Vec<_> = tokens(&answers).into_iter().zip(tokens(&expected)).collect();
    let differ = pairs.iter().filter(|(found, expected)| found != expected).count();
    println!("smollm2-135m: {differ} of {} tokens differ from those of each conversation alone", pairs.len());
    // Each row is rounded by itself and sums of integers are exact: nothing depends on who else is in a run.
    assert_eq!(differ, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_changes_no_answer() {
    for form in ["tiny-plain", "tiny-gqa-fp32", "tiny-plain-f16"] {
        let dir = fixture(form);
        let scripts = scripts(&dir, 2);
        let expected = alone(&dir, &scripts).await;
        let brain = brain(&dir, ACTORS, |_| {}).await;
        let (answers, longest) = play_all(&brain, &scripts, |brain| async move {
            brain.crash(1).await.unwrap();
            restarted(&brain, 1).await;
        })
        .await;
        println!("{form}: longest wait {longest:?}");
        assert_eq!(answers, expected, "{form}");
        let stats = brain.stats().await.unwrap();
        assert_eq!(stats.actors.iter().map(|a| a.restarts).collect::<Vec<_>>(), [0, 1, 0]);
        brain.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_changes_no_answer() {
    let dir = fixture("tiny-plain");
    let scripts = scripts(&dir, 3);
    let expected = alone(&dir, &scripts).await;
    let run_max = Duration::from_millis(1500);
    let brain = brain(&dir, ACTORS, |s| s.brain.run_ms_max = run_max.as_millis() as u64).await;
    let (answers, longest) = play_all(&brain, &scripts, |brain| async move {
        brain.hang(2, Duration::from_secs(20)).await.unwrap();
        restarted(&brain, 1).await;
    })
    .await;
    println!("longest wait {longest:?} (the watchdog's {run_max:?} included)");
    assert_eq!(answers, expected);
    assert_eq!(brain.stats().await.unwrap().actors[2].restarts, 1);
    assert!(longest < Duration::from_secs(15), "somebody waited for the hung thread: {longest:?}");
    brain.shutdown().await;
}

/// A window of 48 that has slid, then turn by turn what comes of more text: as bits, and one vector.
async fn behind_slides(brain: &Brain, text: &[TokenId], crash: bool) -> (Vec<(Vec<TokenId>, Vec<u32>)>, Vec<f32>) {
    let read = Step { count: 0, ..step("slid", &(text[..100].to_vec(), 0)) };
    assert!(brain.step(read).await.unwrap().context.context_len <= 48);
    let mut answers = Vec::new();
    for turn in 0..8 {
        if crash {
            brain.crash(0).await.unwrap();
        }
        let found = brain.step(step("slid", &(text[100 + 5 * turn..][..5].to_vec(), 7))).await.unwrap();
        assert!(!found.context.rebuilt, "turn {turn}");
        answers.push((found.token_ids, found.logprobs.into_iter().map(f32::to_bits).collect()));
    }
    let input = text[140..].to_vec();
    let vector = Embed { conversation: Some("slid".into()), ..Embed::of(input) };
    if crash {
        brain.crash(0).await.unwrap();
    }
    (answers, brain.embed(vector).await.unwrap().embedding)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_slid_goes_on_after_a_crash_as_if_nothing_had_happened() {
    for form in ["tiny-plain", "tiny-gqa-fp32", "tiny-plain-f16"] {
        let dir = fixture(form);
        let text = text_tokens(&dir, 160);
        let brain = brain(&dir, 1, |s| {
            s.window.size = Some(48);
            s.brain.restarts_max = usize::MAX;
            s.brain.backoff_ms_max = s.brain.backoff_ms_min;
        })
        .await;
        let undisturbed = behind_slides(&brain, &text, false).await;
        brain.close("slid").await.unwrap();
        assert_eq!(behind_slides(&brain, &text, true).await, undisturbed, "{form}");
        assert_eq!(brain.stats().await.unwrap().actors[0].restarts, 9);
        brain.shutdown().await;
    }
}

/// A model that runs as its graph is keeps its own keys and values, which die with their engine.
#[tokio::test(flavor = "multi_thread")]
async fn without_pages_a_conversation_that_slid_is_read_again_from_its_first_token_on() {
    // Its weights of few bits round activations, and nothing says that they may be kept.
    let dir = fixture("tiny-gqa-int4");
    let brain = brain(&dir, 1, |s| s.window.size = Some(48)).await;
    assert!(brain.info().await.unwrap().pages.is_none());
    let (history, text) = (text_tokens(&dir, 100), text_tokens(&dir, 130)[100..].to_vec());
    for name in ["slid", "whole"] {
        let read = brain.step(Step { count: 0, ..step(name, &(history.clone(), 0)) }).await.unwrap();
        assert!(read.context.context_len <= 48 && !read.context.rebuilt);
    }
    // What the one says undisturbed the other says behind a death.
    let whole = brain.step(step("whole", &(text[..10].to_vec(), 8))).await.unwrap();
    brain.crash(0).await.unwrap();
    let slid = brain.step(step("slid", &(text[..10].to_vec(), 8))).await.unwrap();
    assert!(!slid.context.rebuilt);
    assert_eq!((&slid.token_ids, &slid.logprobs), (&whole.token_ids, &whole.logprobs));
    brain.shutdown().await;
}
