//! Forks, rewinds and several answers: what goes on from one place goes on as if it had read all of it by itself.

use std::time::Duration;

use motorbrain_actors::{
    brain::{BrainConfig, StepItem},
    engine::Sampling,
    message::{BrainError, Embed, ErrorCode, Fork, Input, Request, Score, Several, Sharing, Step, Stepped, Terms},
    tokens::TokenId,
};
use motorbrain_testing::{Fault, fake_info, fake_info_without_pages};

use super::{
    Bench, config,
    sharing::{roomy, text, tokens, tokens_read, until_pages},
    start_with, step, unshared, within,
};

fn fork(from: &str, to: &str, at: Option<usize>) -> Fork {
    Fork { from: from.into(), to: to.into(), at, choice: None }
}

fn fork_of(from: &str, choice: usize, to: &str) -> Fork {
    Fork { choice: Some(choice), ..fork(from, to, None) }
}

/// A step that is drawn.
fn drawn(conversation: &str, text: &str, count: usize) -> Step {
    let sampling = Sampling { temperature: 3.0, frequency_penalty: 0.5, ..Sampling::GREEDY };
    Step { sampling, seed: Some(5), ..step(conversation, text, count) }
}

/// Goes on without an input.
fn on(step: Step) -> Step {
    Step { input: None, ..step }
}

fn choosing(choice: usize, step: Step) -> Step {
    Step { terms: Terms { choice: Some(choice), ..Terms::default() }, ..step }
}

/// What a conversation of these tokens answers that has read them by itself and shares with nobody.
async fn read_alone(bench: &Bench, history: &[TokenId], asked: Step) -> Stepped {
    let name = "alone";
    if !history.is_empty() {
        let input = Some(Input::Tokens(history.to_vec()));
        let terms = Terms { sharing: Some(Sharing::Nobody), ..Terms::default() };
        let read = Step { input, terms, ..step(name, "", 0) };
        bench.brain.step(read).await.unwrap();
    }
    let terms = Terms { sharing: Some(Sharing::Nobody), ..Terms::default() };
    let stepped = bench.brain.step(Step { conversation: name.into(), terms, ..asked }).await.unwrap();
    bench.brain.close(name).await.unwrap();
    stepped
}

fn code<T: std::fmt::Debug>(result: Result<T, BrainError>) -> ErrorCode {
    result.unwrap_err().code()
}

#[tokio::test]
async fn a_fork_of_any_length_answers_as_one_that_read_the_same() {
    for info in [roomy(64), motorbrain_actors::engine::EngineInfo { pages: None, ..roomy(64) }] {
        let bench = start_with(config(2), info).await;
        let brain = &bench.brain;
        let first = brain.step(drawn("parent", &text(18), 3)).await.unwrap();
        let history = [tokens(&text(18)), first.token_ids.clone()].concat();
        for at in 0..=21 {
            let stands = brain.fork(fork("parent", &format!("{at}"), Some(at))).await.unwrap();
            assert_eq!(stands.context_len, at);
        }
        assert_eq!(brain.fork(fork("parent", "all", None)).await.unwrap().context_len, 21);
        // All of them and the parent go on, each in its own way, turn by turn.
        let mut histories: Vec<_> = (0..=21).map(|at| history[..at].to_vec()).collect();
        let mut parent = history.clone();
        for turn in 0..3 {
            for (at, history) in histories.iter_mut().enumerate() {
                let words = format!("{at} AND {turn}");
                let asked = drawn(&format!("{at}"), &words, 2);
                let found = brain.step(asked.clone()).await.unwrap();
                assert_eq!(unshared(found.clone()), read_alone(&bench, history, asked).await, "{at}, turn {turn}");
                history.extend(tokens(&words).into_iter().chain(found.token_ids));
            }
            let asked = on(drawn("parent", "", 2));
            let found = brain.step(asked.clone()).await.unwrap();
            assert_eq!(unshared(found.clone()), read_alone(&bench, &parent, asked).await, "the parent, turn {turn}");
            parent.extend(found.token_ids);
        }
    }
}

#[tokio::test]
async fn a_fork_reads_nothing() {
    let bench = start_with(config(1), roomy(64)).await;
    bench.brain.step(step("a", &text(21), 1)).await.unwrap();
    let pages = bench.control.pages();
    bench.control.record();
    for at in 0..=22 {
        bench.brain.fork(fork("a", &format!("{at}"), Some(at))).await.unwrap();
    }
    assert_eq!((tokens_read(&bench.control), bench.control.pages()), (0, pages));
    bench.brain.step(step("13", "XY", 1)).await.unwrap();
    assert_eq!(tokens_read(&bench.control), 2);
}

#[tokio::test]
async fn behind_a_slide_a_fork_has_all_of_the_context_or_is_refused() {
    for info in [fake_info(), fake_info_without_pages()] {
        let bench = start_with(config(2), info).await;
        let brain = &bench.brain;
        // 20 tokens in a window of 16 that slides by 4.
        let read = Step { count: 0, ..step("slid", &text(20), 0) };
        let len = brain.step(read).await.unwrap().context.context_len;
        for at in 0..len {
            assert_eq!(code(brain.fork(fork("slid", "child", Some(at))).await), ErrorCode::BehindSlide, "{at}");
        }
        brain.fork(fork("slid", "child", None)).await.unwrap();
        brain.fork(fork("slid", "twin", Some(len))).await.unwrap();
        let mut answers = Vec::new();
        for name in ["slid", "child", "twin"] {
            let stepped = brain.step(drawn(name, "GO ON UNTIL IT SLIDES AGAIN", 5)).await.unwrap();
            answers.push((stepped.token_ids, stepped.logprobs, stepped.context.context_len));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
}

#[tokio::test]
async fn forks_that_cannot_be_are_typed_errors_and_change_nothing() {
    let bench = start_with(config(1), roomy(64)).await;
    let brain = &bench.brain;
    brain.step(step("a", &text(9), 1)).await.unwrap();
    brain.step(step("b", "HELLO", 1)).await.unwrap();
    for (asked, expected) in [
        (fork("unknown", "c", None), ErrorCode::UnknownConversation),
        (fork("a", "b", None), ErrorCode::ConversationExists),
        (fork("a", "a", None), ErrorCode::BadRequest),
        (fork("a", "c", Some(11)), ErrorCode::BadRequest),
        (fork("a", &"c".repeat(1025), None), ErrorCode::BadRequest),
        (fork_of("a", 0, "c"), ErrorCode::BadRequest),
    ] {
        assert_eq!(code(brain.fork(asked.clone()).await), expected, "{asked:?}");
    }
    let retryable = brain.fork(fork("a", "b", None)).await.unwrap_err().code().retryable();
    assert!(!retryable);
    assert_eq!(code(brain.close("c").await), ErrorCode::UnknownConversation, "nothing was made");
    assert_eq!(brain.step(on(step("a", "", 1))).await.unwrap().context.context_len, 11);
    assert_eq!(brain.step(on(step("b", "", 1))).await.unwrap().context.context_len, 7);
    // An empty conversation may be forked to, and forked.
    brain.reset("b").await.unwrap();
    brain.fork(fork("a", "b", Some(4))).await.unwrap();
    assert_eq!(brain.step(on(step("b", "", 1))).await.unwrap().context.context_len, 5);
    brain.fork(fork("a", "empty", Some(0))).await.unwrap();
    assert_eq!(code(brain.step(on(step("empty", "", 1))).await), ErrorCode::EmptyInput);
    brain.fork(fork("empty", "as empty", None)).await.unwrap();
    brain.fork(fork("a", "empty", None)).await.unwrap();
}

#[tokio::test]
async fn a_fork_waits_for_its_turn_in_both_conversations() {
    let bench = start_with(config(1), roomy(64)).await;
    let (replies, mut done) = tokio::sync::mpsc::unbounded_channel();
    let requests = [
        Request::Step(step("a", &text(9), 3)),
        Request::Step(step("b", "HELLO", 3)),
        Request::Reset("b".into()),
        Request::Fork(fork("a", "b", None)),
        Request::Step(step("a", "MORE", 1)),
        Request::Step(step("b", "MORE", 1)),
        Request::Close("a".into()),
    ];
    let count = requests.len();
    for (tag, request) in requests.into_iter().enumerate() {
        bench.brain.request_to(&replies, tag as u64, request).unwrap();
    }
    let mut found = vec![None; count];
    for _ in 0..count {
        let (tag, delivery) = within(done.recv()).await.unwrap();
        found[tag as usize] = Some(format!("{delivery:?}"));
    }
    let (a, b) = (found[4].clone().unwrap(), found[5].clone().unwrap());
    assert!(a.contains("context_len: 17") && b.contains("context_len: 17"), "{a}\n{b}");
}

#[tokio::test]
async fn a_conversation_goes_back_as_far_as_its_last_slide() {
    for info in [fake_info(), fake_info_without_pages()] {
        let bench = start_with(config(1), info).await;
        let brain = &bench.brain;
        assert_eq!(code(brain.rewind("unknown", 0).await), ErrorCode::UnknownConversation);
        let read = |name: &str, len: usize| Step { count: 0, ..step(name, &text(20)[..len], 0) };
        brain.step(read("short", 12)).await.unwrap();
        assert_eq!(code(brain.rewind("short", 13).await), ErrorCode::BadRequest);
        // The window of 16 has slid by 4 when the 17th token came.
        assert_eq!(brain.step(read("slid", 20)).await.unwrap().context.context_len, 16);
        assert_eq!(code(brain.rewind("slid", 17).await), ErrorCode::BadRequest);
        for len in 0..12 {
            assert_eq!(code(brain.rewind("slid", len).await), ErrorCode::BehindSlide, "{len}");
        }
        for len in [16, 15, 13] {
            assert_eq!(brain.rewind("slid", len).await.unwrap().context_len, len);
            let asked = drawn("slid", "AB", 1);
            let found = brain.step(asked).await.unwrap();
            let twin = format!("twin {len}");
            brain.step(read(&twin, len + 4)).await.unwrap();
            let expected = brain.step(drawn(&twin, "AB", 1)).await.unwrap();
            assert_eq!((found.token_ids, found.logprobs), (expected.token_ids, expected.logprobs), "{len}");
            // Back to where it was, or as near as the slide that may have come meanwhile allows.
            brain.reset("slid").await.unwrap();
            brain.step(read("slid", 20)).await.unwrap();
        }
        for len in (0..=12).rev() {
            assert_eq!(brain.rewind("short", len).await.unwrap().context_len, len);
        }
        assert_eq!(code(brain.step(on(step("short", "", 1))).await), ErrorCode::EmptyInput);
    }
}

#[tokio::test]
async fn a_step_done_again_after_a_rewind_draws_the_same() {
    for actors in [1, 2] {
        let bench = start_with(config(actors), roomy(64)).await;
        bench.until_ready(0, 0).await;
        let brain = &bench.brain;
        let first = brain.step(drawn("a", &text(10), 6)).await.unwrap();
        for (restarts, len) in (1..).zip([10, 13, 15, 16]) {
            brain.rewind("a", len).await.unwrap();
            let again = brain.step(on(drawn("a", "", 16 - len + 2))).await.unwrap();
            assert_eq!(again.token_ids[..16 - len], first.token_ids[len - 10..], "{len}");
            brain.crash(0).await.unwrap();
            bench.until_ready(0, restarts).await;
        }
    }
}

/// A conversation with 8 answers to 18 tokens.
async fn with_answers(bench: &Bench) -> Several {
    bench.brain.several(Step { n: 8, ..drawn("a", &text(18), 5) }).await.unwrap()
}

#[tokio::test]
async fn several_answers_read_their_prompt_once_and_the_first_is_that_of_one() {
    for info in [roomy(64), motorbrain_actors::engine::EngineInfo { pages: None, ..roomy(64) }] {
        let has_pages = info.pages.is_some();
        let bench = start_with(config(2), info).await;
        let single = bench.brain.step(drawn("single", &text(18), 5)).await.unwrap();
        bench.brain.close("single").await.unwrap();
        let bench = start_with(config(2), bench.brain.info().await.unwrap()).await;
        bench.control.record();
        let several = with_answers(&bench).await;
        let read = tokens_read(&bench.control);
        if has_pages {
            assert_eq!(read, 18, "the prompt is read once");
        }
        assert_eq!(several.context.context_len, 18);
        assert_eq!(unshared(several.choices[0].clone()), single);
        assert_eq!(several.choices.len(), 8);
        for (index, choice) in several.choices.iter().enumerate() {
            assert_eq!((choice.token_ids.len(), choice.context.context_len), (5, 23));
            let alike = several.choices.iter().filter(|other| other.token_ids == choice.token_ids).count();
            assert_eq!(alike, 1, "answer {index} is drawn by itself");
        }
    }
}

#[tokio::test]
async fn each_answer_has_the_log_probabilities_that_its_tokens_have() {
    let bench = start_with(config(1), roomy(64)).await;
    for (index, choice) in with_answers(&bench).await.choices.into_iter().enumerate() {
        let name = format!("{index}");
        bench.brain.step(Step { count: 0, ..step(&name, &text(18), 0) }).await.unwrap();
        let input = Input::Tokens(choice.token_ids.clone());
        let scored = bench.brain.score(Score::of(name.as_str(), input)).await.unwrap();
        assert_eq!(scored.logprobs, choice.logprobs.into_iter().map(Some).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_conversation_goes_on_from_the_answer_that_is_chosen_as_if_it_were_the_only_one() {
    for index in 0..8 {
        let bench = start_with(config(2), roomy(64)).await;
        let several = with_answers(&bench).await;
        let mut history = [tokens(&text(18)), several.choices[index].token_ids.clone()].concat();
        // The last turn slides.
        for (turn, words) in ["AND NOW", "AND THEN", &text(30)].into_iter().enumerate() {
            let asked = drawn("a", words, 4);
            let chosen = if turn == 0 { choosing(index, asked.clone()) } else { asked.clone() };
            let found = bench.brain.step(chosen).await.unwrap();
            let expected = read_alone(&bench, &history, asked).await;
            history.extend(tokens(words).into_iter().chain(found.token_ids.iter().copied()));
            assert_eq!(unshared(found), expected, "{index}, turn {turn}");
        }
        let again = bench.brain.step(choosing(0, on(step("a", "", 1)))).await;
        assert_eq!(code(again), ErrorCode::BadRequest, "none waits any more");
    }
}

#[tokio::test]
async fn an_answer_is_chosen_by_whatever_comes_next() {
    let chosen = |index| Terms { choice: Some(index), ..Terms::default() };
    let words = || Input::Text("WORDS".to_owned());
    for index in [0, 3, 7] {
        let bench = start_with(config(1), roomy(64)).await;
        let brain = &bench.brain;
        let several = with_answers(&bench).await;
        let history = [tokens(&text(18)), several.choices[index].token_ids.clone()].concat();
        let read = Step { input: Some(Input::Tokens(history)), ..step("twin", "", 0) };
        brain.step(read).await.unwrap();
        brain.fork(fork("twin", "other twin", None)).await.unwrap();
        brain.fork(fork_of("a", index, "b")).await.unwrap();
        let scored = |name: &str, terms| Score { terms, ..Score::of(name, words()) };
        let found = brain.score(scored("a", chosen(index))).await.unwrap();
        assert_eq!(found.logprobs, brain.score(scored("twin", Terms::default())).await.unwrap().logprobs);
        assert_eq!(found.context.context_len, 28);
        // Several answers go on from one of several.
        let several = Step { n: 2, ..drawn("b", "MORE", 3) };
        let of_b = brain.several(several.clone()).await.unwrap();
        let of_twin = brain.several(Step { conversation: "other twin".into(), ..several }).await.unwrap();
        let tokens = |several: &Several| several.choices.iter().map(|it| it.token_ids.clone()).collect::<Vec<_>>();
        assert_eq!(tokens(&of_b), tokens(&of_twin));
        let embed = |name: &str| Embed { conversation: Some(name.into()), terms: chosen(1), ..Embed::of(words()) };
        let (b, twin) = (brain.embed(embed("b")).await.unwrap(), brain.embed(embed("other twin")).await.unwrap());
        assert_eq!((b.embedding, b.context.context_len), (twin.embedding, twin.context.context_len));
    }
}

#[tokio::test]
async fn answers_are_kept_under_other_names_while_the_others_still_wait() {
    let bench = start_with(config(2), roomy(64)).await;
    let several = with_answers(&bench).await;
    for (index, choice) in several.choices.iter().enumerate() {
        let stands = bench.brain.fork(fork_of("a", index, &format!("{index}"))).await.unwrap();
        assert_eq!(stands.context_len, 23);
        let part = Fork { at: Some(20), ..fork_of("a", index, &format!("part of {index}")) };
        assert_eq!(bench.brain.fork(part).await.unwrap().context_len, 20);
        let history = [tokens(&text(18)), choice.token_ids.clone()].concat();
        for (name, len) in [(format!("{index}"), 23), (format!("part of {index}"), 20)] {
            let asked = drawn(&name, "WELL", 3);
            let found = bench.brain.step(asked.clone()).await.unwrap();
            assert_eq!(unshared(found), read_alone(&bench, &history[..len], asked).await, "{name}");
        }
    }
    let history = [tokens(&text(18)), several.choices[5].token_ids.clone()].concat();
    let found = bench.brain.step(choosing(5, drawn("a", "STILL", 2))).await.unwrap();
    assert_eq!(unshared(found), read_alone(&bench, &history, drawn("a", "STILL", 2)).await);
}

#[tokio::test]
async fn whatever_does_not_choose_drops_the_answers_and_goes_on_from_the_input() {
    let prompt = tokens(&text(18));
    let asked = drawn("a", "NONE OF THEM", 3);
    let bench = start_with(BrainConfig { cached_bytes: 0, ..config(1) }, roomy(64)).await;
    let brain = &bench.brain;
    with_answers(&bench).await;
    let found = brain.step(asked.clone()).await.unwrap();
    assert_eq!(unshared(found), read_alone(&bench, &prompt, asked.clone()).await);
    assert_eq!(code(brain.step(choosing(0, asked.clone())).await), ErrorCode::BadRequest);
    brain.close("a").await.unwrap();
    // A fork without a choice, a rewind, a reset.
    with_answers(&bench).await;
    assert_eq!(brain.fork(fork("a", "b", None)).await.unwrap().context_len, 18);
    assert_eq!(code(brain.step(choosing(0, asked.clone())).await), ErrorCode::BadRequest);
    for name in ["a", "b"] {
        let found = brain.step(Step { conversation: name.into(), ..asked.clone() }).await.unwrap();
        assert_eq!(unshared(found), read_alone(&bench, &prompt, asked.clone()).await, "{name}");
        brain.close(name).await.unwrap();
    }
    with_answers(&bench).await;
    assert_eq!(brain.rewind("a", 18).await.unwrap().context_len, 18);
    assert_eq!(code(brain.step(choosing(0, asked.clone())).await), ErrorCode::BadRequest);
    brain.close("a").await.unwrap();
    with_answers(&bench).await;
    brain.reset("a").await.unwrap();
    assert_eq!(code(brain.step(choosing(0, asked)).await), ErrorCode::BadRequest);
    brain.close("a").await.unwrap();
    until_pages(&bench.control, |pages| pages == 0).await;
}

#[tokio::test]
async fn an_error_leaves_the_answers_waiting() {
    let mut config = config(1);
    config.limits.text_bytes = 100;
    let bench = start_with(config, roomy(64)).await;
    let brain = &bench.brain;
    let several = with_answers(&bench).await;
    let late = brain.within(Duration::from_millis(20));
    for chooses in [false, true] {
        let asked = |step: Step| if chooses { choosing(2, step) } else { step };
        bench.control.fault_in_run(1, Fault::REJECT);
        assert_eq!(code(brain.step(asked(drawn("a", "REFUSED", 2))).await), ErrorCode::Engine);
        let out = [TokenId(64)];
        let bad = Step { input: Some(Input::Tokens(out.to_vec())), ..drawn("a", "", 2) };
        assert_eq!(code(brain.step(asked(bad)).await), ErrorCode::InvalidToken);
        assert_eq!(code(brain.step(asked(drawn("a", "lower case", 2))).await), ErrorCode::BadRequest);
        assert_eq!(code(brain.step(asked(drawn("a", &"LONG".repeat(90), 2))).await), ErrorCode::InputTooLong);
        bench.control.fault_in_run(1, Fault::HANG);
        assert_eq!(code(late.request(Request::Step(asked(drawn("a", "LATE", 2)))).await), ErrorCode::Timeout);
        bench.control.release_hangs();
    }
    assert_eq!(code(brain.step(choosing(8, drawn("a", "NO NINTH", 2))).await), ErrorCode::BadRequest);
    assert_eq!(code(brain.rewind("a", 19).await), ErrorCode::BadRequest);
    assert_eq!(code(brain.fork(fork_of("a", 8, "b")).await), ErrorCode::BadRequest);
    let history = [tokens(&text(18)), several.choices[2].token_ids.clone()].concat();
    let found = within(brain.step(choosing(2, drawn("a", "WELL", 2)))).await.unwrap();
    assert_eq!(unshared(found), read_alone(&bench, &history, drawn("a", "WELL", 2)).await);
}

#[tokio::test]
async fn counts_and_choices_that_cannot_be_are_bad_requests() {
    let bench = start_with(config(1), roomy(64)).await;
    let brain = &bench.brain;
    let before = brain.step(drawn("a", &text(9), 1)).await.unwrap();
    for step in [
        Step { n: 0, ..drawn("a", "HELLO", 1) },
        Step { n: 17, ..drawn("a", "HELLO", 1) },
        Step { n: usize::MAX, ..drawn("a", "HELLO", 1) },
        Step { n: 2, ..step("a", "HELLO", 1) },
        Step { n: 2, ..drawn("a", "HELLO", 0) },
        choosing(0, drawn("a", "HELLO", 1)),
        choosing(0, drawn("unknown", "HELLO", 1)),
        choosing(usize::MAX, drawn("a", "HELLO", 1)),
    ] {
        let found = brain.request(Request::Step(step.clone())).await;
        assert_eq!(code(found), ErrorCode::BadRequest, "{step:?}");
    }
    let mut stream = brain.step_stream(Step { n: 2, ..drawn("a", "HELLO", 1) }).await.unwrap();
    let Some(StepItem::Failed { error, committed: 0 }) = within(stream.next()).await else {
        panic!("no stream of two")
    };
    assert_eq!(error.code(), ErrorCode::BadRequest);
    let after = brain.step(on(drawn("a", "", 1))).await.unwrap();
    assert_eq!(after.context.context_len, before.context.context_len + 1);
    assert_eq!(code(brain.close("unknown").await), ErrorCode::UnknownConversation);
    let most = brain.several(Step { n: 16, ..drawn("a", "HELLO", 2) }).await.unwrap();
    assert_eq!(most.choices.len(), 16);
}

#[tokio::test]
async fn a_death_while_answers_are_given_changes_none() {
    for info in [roomy(64), fake_info(), fake_info_without_pages()] {
        // In a window of 16, the prompt slides and so do the answers.
        let expected = with_answers(&start_with(config(2), info.clone()).await).await;
        for (actors, run) in [(1, 1), (1, 3), (1, 5), (2, 2), (2, 4), (2, 6)] {
            for fault in [Fault::Panic, Fault::FATAL] {
                let bench = start_with(config(actors), info.clone()).await;
                bench.control.fault_in_run(run, fault);
                let found = within(with_answers(&bench)).await;
                let answers = |several: &Several| {
                    let answer = |it: &Stepped| (it.token_ids.clone(), it.logprobs.clone(), it.context.context_len);
                    several.choices.iter().map(answer).collect::<Vec<_>>()
                };
                assert_eq!(answers(&found), answers(&expected), "{actors} actors, run {run}");
                bench.until(|stats| stats.actors.iter().map(|actor| actor.restarts).sum::<u64>() == 1).await;
                let chosen = choosing(1, on(drawn("a", "", 2)));
                let undisturbed = start_with(config(1), info.clone()).await;
                with_answers(&undisturbed).await;
                let expected = undisturbed.brain.step(chosen.clone()).await.unwrap();
                let found = bench.brain.step(chosen).await.unwrap();
                assert_eq!((found.token_ids, found.logprobs), (expected.token_ids, expected.logprobs));
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_while_answers_are_given_leaves_the_conversation_as_it_was() {
    let bench = start_with(BrainConfig { cached_bytes: 0, ..config(1) }, roomy(64)).await;
    let brain = &bench.brain;
    brain.step(step("a", &text(10), 1)).await.unwrap();
    let pages = 3;
    until_pages(&bench.control, |found| found == pages).await;
    // While the prompt is read, and while the answers decode.
    for run in [1, 2, 3, 4, 6] {
        bench.control.fault_in_run(run, Fault::HANG);
        let asked = Step { n: 8, ..drawn("a", &text(18), 5) };
        let error = within(brain.within(Duration::from_millis(40)).request(Request::Step(asked))).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Timeout, "run {run}");
        bench.control.release_hangs();
        until_pages(&bench.control, |found| found == pages).await;
        assert_eq!(code(brain.fork(fork_of("a", 0, "b")).await), ErrorCode::BadRequest, "none waits");
    }
    let found = within(brain.step(on(drawn("a", "", 2)))).await.unwrap();
    assert_eq!(found.context.context_len, 13);
}

#[tokio::test]
async fn a_caller_that_goes_away_while_answers_are_given_leaves_nothing_behind() {
    let bench = start_with(BrainConfig { cached_bytes: 0, ..config(1) }, roomy(64)).await;
    for run in [1, 3] {
        bench.control.fault_in_run(run, Fault::HANG);
        let brain = bench.brain.clone();
        let asked = Step { n: 8, ..drawn("a", &text(18), 5) };
        let gone = tokio::spawn(async move { brain.several(asked).await });
        within(bench.control.until(|tally| tally.hanging == 1)).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        // Behind what the caller has said as it went.
        bench.brain.stats().await.unwrap();
        bench.control.release_hangs();
        bench.until(|stats| stats.actors[0].queued == 0).await;
        until_pages(&bench.control, |found| found == 0).await;
        assert_eq!(code(bench.brain.close("a").await), ErrorCode::UnknownConversation);
    }
}
