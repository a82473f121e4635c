//! What is pinned never leaves the window, whatever slides, dies, leaves or is copied; and what cannot be pinned is refused.

use std::sync::Arc;

use motorbrain_actors::{
    engine::{EngineInfo, Sampling, Window},
    job::{History, LEFT_MAX},
    keep::Kept,
    message::{BrainError, Embed, Fork, Import, Input, Score, Sharing, Step, Stepped, Terms},
    policy::Memory,
    tokens::TokenId,
};
use motorbrain_testing::{FakeKeep, fake_info, fake_info_without_pages};

use super::{
    Bench, config, embed, loader,
    sharing::{text, tokens, tokens_read},
    start_with, step, within,
};

/// A prompt of 8 tokens, which is half the fake's window of 16.
const PROMPT: &str = "PROMPTED";

fn pin() -> Terms {
    Terms { pin: true, ..Terms::default() }
}

fn pinned(step: Step) -> Step {
    Step { terms: pin(), ..step }
}

fn both() -> [EngineInfo; 2] {
    [fake_info(), fake_info_without_pages()]
}

async fn history(bench: &Bench, name: &str) -> History {
    bench.brain.export(name).await.unwrap().remove(0).history
}

/// What a conversation that holds nothing but these tokens answers.
async fn alone(bench: &Bench, context: &[TokenId], asked: Step) -> Stepped {
    let name = "alone";
    let terms = Terms { sharing: Some(Sharing::Nobody), ..Terms::default() };
    let input = Some(Input::Tokens(context.to_vec()));
    bench.brain.step(Step { input, terms: terms.clone(), ..step(name, "", 0) }).await.unwrap();
    let stepped = bench.brain.step(Step { conversation: name.into(), terms, ..asked }).await.unwrap();
    bench.brain.close(name).await.unwrap();
    stepped
}

fn refusal<T: std::fmt::Debug>(result: Result<T, BrainError>) -> String {
    match result.unwrap_err() {
        BrainError::BadRequest { what: "pin", found, expected } => format!("{found}; expected {expected}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pinned_prompt_is_whole_after_many_windows_and_what_is_sampled_leaves() {
    for info in both() {
        let bench = start_with(config(1), info.clone()).await;
        bench.brain.step(pinned(step("a", PROMPT, 3))).await.unwrap();
        let stands = history(&bench, "a").await;
        assert_eq!((stands.pinned, stands.tokens.len()), (8, 11), "answers are not pinned");
        assert_eq!(bench.brain.inspect("a").await.unwrap().pinned, 8);
        let mut last = stands.tokens[8..].to_vec();
        for turn in 0..60 {
            let words = text(turn % 9 + 1);
            let context = history(&bench, "a").await.tokens;
            assert_eq!(context[..8], tokens(PROMPT), "turn {turn}");
            assert!(last.ends_with(&context[8..]), "behind it stand the newest: {context:?} of {last:?}");
            // As long as nothing slides meanwhile, whoever has read the context answers the same.
            let stays = context.len() + words.len() < 16;
            let expected = if stays { Some(alone(&bench, &context, step("", &words, 1)).await) } else { None };
            let found = bench.brain.step(step("a", &words, 1)).await.unwrap();
            assert!(expected.is_none_or(|it| it.logprobs == found.logprobs), "turn {turn}");
            last.extend(tokens(&words).into_iter().chain(found.token_ids));
        }
        let stands = history(&bench, "a").await;
        assert!(stands.total > 20 * 16 && stands.pinned == 8);
    }
}

#[tokio::test]
async fn prompts_are_pinned_piece_by_piece_by_all_that_appends() {
    for info in both() {
        let bench = start_with(config(1), info).await;
        let brain = &bench.brain;
        brain.embed(Embed { terms: pin(), ..embed(Some("a"), "PRO") }).await.unwrap();
        brain.score(Score { terms: pin(), ..Score::of("a", "MP") }).await.unwrap();
        let mut stream = brain.step_stream(pinned(step("a", "TED", 2))).await.unwrap();
        while within(stream.next()).await.is_some() {}
        brain.step(step("a", &text(30), 1)).await.unwrap();
        let stands = history(&bench, "a").await;
        assert_eq!((&stands.tokens[..8], stands.pinned), (&tokens(PROMPT)[..], 8));
    }
}

#[tokio::test]
async fn what_cannot_be_pinned_is_refused_and_changes_nothing() {
    for info in both() {
        let bench = start_with(config(1), info).await;
        let brain = &bench.brain;
        let long = refusal(brain.step(pinned(step("a", "NINE TOKS", 1))).await);
        assert_eq!(
            long,
            "true where 9 tokens would be pinned; expected at most 8, half a window of 16: pin less, or raise \
             `window.size`"
        );
        brain.step(pinned(step("a", "FOUR", 0))).await.unwrap();
        refusal(brain.step(pinned(step("a", "FIVE.", 1))).await);
        brain.step(step("a", "A", 1)).await.unwrap();
        let behind = refusal(brain.step(pinned(step("a", "B", 1))).await);
        assert_eq!(
            behind,
            "true behind 6 tokens of which 4 are pinned; expected all before to be pinned, or nothing: reset the \
             conversation and pin first"
        );
        refusal(brain.embed(Embed { terms: pin(), ..embed(None, "ALONE") }).await);
        refusal(brain.step(Step { input: None, ..pinned(step("a", "", 1)) }).await);
        let stands = history(&bench, "a").await;
        assert_eq!((stands.tokens.len(), stands.pinned), (6, 4));
        // A rewind leads back to where nothing but what is pinned stands, or into it; a reset to nothing.
        brain.rewind("a", 4).await.unwrap();
        brain.step(pinned(step("a", "B", 0))).await.unwrap();
        brain.rewind("a", 2).await.unwrap();
        assert_eq!(history(&bench, "a").await.pinned, 2);
        brain.step(pinned(step("a", "MORE..", 0))).await.unwrap();
        assert_eq!(history(&bench, "a").await.pinned, 8);
        brain.reset("a").await.unwrap();
        brain.step(step("a", "A", 1)).await.unwrap();
        assert_eq!(history(&bench, "a").await.pinned, 0);
        // Behind a slide nothing is, be the context as short as what was pinned.
        brain.reset("a").await.unwrap();
        brain.step(pinned(step("a", PROMPT, 0))).await.unwrap();
        brain.step(step("a", &text(9), 0)).await.unwrap();
        brain.rewind("a", 12).await.unwrap();
        refusal(brain.step(pinned(step("a", "B", 1))).await);
    }
    // A slide that leaves less than half the window leaves what is pinned.
    let window = Window { slide: 14, ..fake_info().window };
    let bench = start_with(config(1), EngineInfo { window, ..fake_info() }).await;
    assert_eq!(
        refusal(bench.brain.step(pinned(step("a", "BBB", 1))).await),
        "true where 3 tokens would be pinned; expected at most 2, what a slide of 14 leaves in a window of 16: pin less, \
         or lower `window.slide`"
    );
    bench.brain.step(pinned(step("a", "BB", 1))).await.unwrap();
}

#[tokio::test]
async fn forks_and_answers_have_what_was_pinned_before_them() {
    for info in both() {
        let bench = start_with(config(2), info).await;
        let brain = &bench.brain;
        let sampling = Sampling { temperature: 3.0, ..Sampling::GREEDY };
        brain.several(Step { n: 3, sampling, ..pinned(step("a", PROMPT, 20)) }).await.unwrap();
        let fork = |to: &str, at, choice| Fork { from: "a".into(), to: to.into(), at, choice };
        brain.fork(fork("kept", None, Some(1))).await.unwrap();
        brain.fork(fork("short", Some(5), None)).await.unwrap();
        brain.fork(fork("whole", None, None)).await.unwrap();
        for (name, pinned) in [("a", 8), ("kept", 8), ("short", 5), ("whole", 8)] {
            for _ in 0..3 {
                brain.step(step(name, &text(14), 2)).await.unwrap();
            }
            let stands = history(&bench, name).await;
            assert_eq!((stands.pinned, &stands.tokens[..pinned]), (pinned, &tokens(PROMPT)[..pinned]), "{name}");
        }
    }
}

#[tokio::test]
async fn what_others_have_read_is_pinned_and_not_read() {
    let bench = start_with(config(1), fake_info()).await;
    bench.brain.step(step("a", &format!("{PROMPT}!!"), 1)).await.unwrap();
    bench.control.record();
    let stepped = bench.brain.step(pinned(step("b", PROMPT, 1))).await.unwrap();
    assert_eq!((stepped.context.reused, tokens_read(&bench.control)), (7, 1));
    bench.brain.step(step("b", &text(20), 1)).await.unwrap();
    let stands = history(&bench, "b").await;
    assert_eq!((&stands.tokens[..8], stands.pinned), (&tokens(PROMPT)[..], 8));
}

#[tokio::test]
async fn whoever_dies_or_leaves_comes_back_with_what_is_pinned() {
    let turns = || (0..12).map(|turn| step("a", &text(turn % 7 + 1), 3));
    for info in both() {
        let calm = start_with(config(2), info.clone()).await;
        calm.brain.step(pinned(step("a", PROMPT, 1))).await.unwrap();
        let mut expected = Vec::new();
        for turn in turns() {
            expected.push(calm.brain.step(turn).await.unwrap().logprobs);
        }
        let stands = history(&calm, "a").await;
        // To a file, to its tokens, and with a death before each turn.
        for (files, dies) in [(true, false), (false, false), (false, true)] {
            if info.pages.is_none() && !dies {
                continue;
            }
            let mut changed = config(2);
            let (loader, control) = loader(info.clone());
            if !dies {
                changed.memory = Memory { kv_bytes: 5 * 64, ..Memory::default() };
                changed.keep = files.then(|| Arc::new(FakeKeep::new(loader.clone(), 4)) as _);
            }
            let letters = Arc::new(super::Letters);
            let brain = within(motorbrain_actors::brain::Brain::start(changed, loader, letters)).await.unwrap();
            let bench = Bench { brain, control };
            bench.all_are_ready().await;
            bench.brain.step(pinned(step("a", PROMPT, 1))).await.unwrap();
            for (turn, expected) in turns().zip(&expected) {
                if dies {
                    let actor = bench.brain.inspect("a").await.unwrap().actor.unwrap();
                    bench.brain.crash(actor).await.unwrap();
                    bench.all_are_ready().await;
                } else {
                    bench.brain.step(step("other", &text(15), 1)).await.unwrap();
                    bench.brain.close("other").await.unwrap();
                    while bench.brain.inspect("a").await.unwrap().kv_bytes > 0 {
                        tokio::task::yield_now().await;
                    }
                }
                let found = bench.brain.step(turn).await.unwrap();
                assert_eq!((&found.logprobs, found.context.rebuilt), (expected, false), "{files} {dies}");
            }
            assert_eq!(history(&bench, "a").await, stands, "{files} {dies}");
        }
    }
}

#[tokio::test]
async fn an_import_pins_no_more_than_there_may_be() {
    let bench = start_with(config(1), fake_info()).await;
    bench.brain.step(pinned(step("a", PROMPT, 1))).await.unwrap();
    bench.brain.step(step("a", &text(30), 1)).await.unwrap();
    let kept = bench.brain.export("a").await.unwrap().remove(0);
    let import = |conversation: &str, states| Import { conversation: conversation.into(), states };
    bench.brain.import(import("b", vec![kept.clone()])).await.unwrap();
    let answers = ["a", "b"].map(|name| step(name, &text(40), 2));
    let [one, other] = [0, 1].map(|which| bench.brain.step(answers[which].clone()));
    assert_eq!(one.await.unwrap().logprobs, other.await.unwrap().logprobs);
    assert_eq!(history(&bench, "b").await, history(&bench, "a").await);
    assert!(kept.history.left.len() < LEFT_MAX);
    let more = Kept { history: History { pinned: 9, ..kept.history.clone() }, ..kept };
    bench.brain.import(import("c", vec![more])).await.unwrap_err();
}
