//! What conversations have in common is read once: who takes what over, who does not, and what it costs.

use motorbrain_actors::{
    engine::{EngineInfo, Slides, Window},
    message::{Fork, Score, Sharing, Step, Stepped, Terms},
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, fake_info, fake_info_without_pages};
use tokio::task::JoinSet;

use super::{Bench, config, embed, start_with, step, unshared, within};

/// Bytes of one of the fake's pages, which hold 4 tokens.
const PAGE_BYTES: usize = 64;

/// The fake with a window of so many tokens.
pub(super) fn roomy(size: usize) -> EngineInfo {
    EngineInfo { window: Window { size, sinks: 2, slide: size / 4, slides: Slides::Shift }, ..fake_info() }
}

/// A text of `len` tokens of which no two pages are alike.
pub(super) fn text(len: usize) -> String {
    (0..len).map(|place| char::from(b' ' + ((place * place / 3 + 7 * place) % 64) as u8)).collect()
}

fn sharing(sharing: Sharing, step: Step) -> Step {
    Step { terms: Terms { sharing: Some(sharing), ..Terms::default() }, ..step }
}

fn scope(name: &str) -> Sharing {
    Sharing::With(Some(name.into()))
}

/// What a step gives where nothing is shared.
async fn alone(info: EngineInfo, step: Step) -> Stepped {
    start_with(config(1), info).await.brain.step(step).await.unwrap()
}

/// Tokens that runs were given since [`FakeControl::record`].
pub(super) fn tokens_read(control: &FakeControl) -> usize {
    control.recorded().iter().flatten().map(|row| row.tokens.len()).sum()
}

/// Waits until there are so many pages; actors let go of theirs when they have told what became of them.
pub(super) async fn until_pages(control: &FakeControl, condition: impl Fn(usize) -> bool) {
    within(async {
        while !condition(control.pages()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_history_under_another_name_is_taken_over_but_for_its_last_token() {
    for len in 1..40 {
        let bench = start_with(config(1), roomy(64)).await;
        let first = bench.brain.step(step("a", &text(len), 3)).await.unwrap();
        bench.control.record();
        let second = bench.brain.step(step("b", &text(len), 3)).await.unwrap();
        // Of two tokens the first is run beside the second at no cost.
        let reused = if len < 3 { 0 } else { len - 1 };
        assert_eq!((second.context.reused, tokens_read(&bench.control)), (reused, len - reused), "{len}");
        assert_eq!(unshared(second), first, "{len}");
    }
}

#[tokio::test]
async fn what_others_have_read_is_there_without_a_run_where_nothing_is_sampled() {
    let bench = start_with(config(1), roomy(64)).await;
    bench.brain.step(step("a", &text(20), 0)).await.unwrap();
    bench.control.record();
    for (name, begun) in [("b", 0), ("c", 7)] {
        let asked = |from: usize, to: usize, count| step(name, &text(20)[from..to], count);
        bench.brain.step(asked(0, begun.max(1), 0)).await.unwrap();
        let read = tokens_read(&bench.control);
        let stepped = bench.brain.step(asked(begun.max(1), 20, 0)).await.unwrap();
        assert_eq!((stepped.context.context_len, tokens_read(&bench.control)), (20, read), "{name}");
        let scored = bench.brain.score(Score::of(name, "MORE")).await.unwrap();
        let expected = start_with(config(1), roomy(64)).await;
        expected.brain.step(asked(0, 20, 0)).await.unwrap();
        assert_eq!(scored.logprobs, expected.brain.score(Score::of(name, "MORE")).await.unwrap().logprobs, "{name}");
    }
    // Others' words, and a text that ends otherwise, are read.
    let stepped = bench.brain.step(step("d", &format!("{}_", text(19)), 0)).await.unwrap();
    assert_eq!(stepped.context.reused, 19);
}

#[tokio::test]
async fn what_another_has_sampled_is_taken_over_as_well() {
    let bench = start_with(config(2), roomy(64)).await;
    let first = bench.brain.step(step("a", &text(10), 9)).await.unwrap();
    let history = format!("{}{}", text(10), first.text);
    let second = bench.brain.step(step("b", &format!("{history}MORE"), 3)).await.unwrap();
    // The token that was sampled last has no keys and values yet.
    assert_eq!(second.context.reused, 18);
    assert_eq!(unshared(second), alone(roomy(64), step("b", &format!("{history}MORE"), 3)).await);
}

#[tokio::test]
async fn histories_share_all_up_to_where_they_part() {
    let bench = start_with(config(1), roomy(64)).await;
    bench.brain.step(step("a", &text(17), 2)).await.unwrap();
    // In the middle of a page as between two, and with the whole of a shorter one.
    for common in 0..=17 {
        let other = format!("{}_-_-_", &text(17)[..common]);
        let asked = step(&format!("parts at {common}"), &other, 3);
        let stepped = bench.brain.step(asked.clone()).await.unwrap();
        assert_eq!(stepped.context.reused, common, "{common}");
        assert_eq!(unshared(stepped), alone(roomy(64), asked).await, "{common}");
    }
    let first = bench.brain.step(Step { input: None, ..step("a", "", 5) }).await.unwrap();
    let whole = alone(roomy(64), step("a", &text(17), 7)).await;
    assert_eq!(first.token_ids, whole.token_ids[2..], "the first goes on as if it were alone");
}

#[tokio::test]
async fn a_conversation_under_way_takes_over_what_others_have_read_of_its_input() {
    let bench = start_with(config(2), roomy(64)).await;
    bench.brain.step(step("a", &text(30), 1)).await.unwrap();
    bench.brain.step(Step { count: 0, ..step("b", &text(30)[..9], 0) }).await.unwrap();
    let stepped = bench.brain.step(step("b", &text(30)[9..], 3)).await.unwrap();
    // All but the last one, and the last one of before, which nothing was asked of yet.
    assert_eq!(stepped.context.reused, 21);
    let expected = alone(roomy(64), step("b", &text(30), 3)).await;
    assert_eq!(unshared(stepped), expected);
}

#[tokio::test]
async fn a_score_and_a_vector_are_of_every_token_however_many_others_have_read_them() {
    let bench = start_with(config(1), roomy(64)).await;
    let scored = bench.brain.score(Score::of("a", text(20))).await.unwrap();
    assert_eq!(bench.brain.score(Score::of("b", text(20))).await.unwrap(), scored);
    let vector = bench.brain.embed(embed(Some("c"), &text(20))).await.unwrap();
    assert_eq!(bench.brain.embed(embed(Some("d"), &text(20))).await.unwrap(), vector);
    // What they have read is there for a step.
    let stepped = bench.brain.step(step("e", &text(20), 2)).await.unwrap();
    assert_eq!(stepped.context.reused, 19);
}

#[tokio::test]
async fn what_is_not_shared_is_neither_given_nor_taken() {
    let bench = start_with(config(1), roomy(64)).await;
    let (brain, nobody) = (&bench.brain, Sharing::Nobody);
    let hot = |name: &str| {
        let mut step = step(name, &text(20), 2);
        step.sampling.temperature = 1.0;
        Step { seed: Some(1), ..step }
    };
    brain.step(sharing(nobody.clone(), step("private", &text(20), 2))).await.unwrap();
    assert_eq!(brain.step(step("public", &text(20), 2)).await.unwrap().context.reused, 0, "nothing is given");
    assert_eq!(brain.step(step("other", &text(20), 2)).await.unwrap().context.reused, 19);
    let taken = brain.step(sharing(nobody.clone(), step("private, too", &text(20), 2))).await.unwrap();
    assert_eq!(taken.context.reused, 0, "nothing is taken");
    let several = Step { n: 3, ..sharing(nobody.clone(), hot("several")) };
    assert_eq!(brain.several(several).await.unwrap().context.reused, 0, "nor by several answers");
    // It stays so until it is said otherwise, or emptied.
    brain.step(step("private", "PRIVATE AS BEFORE", 2)).await.unwrap();
    let history = format!("{}{}", text(20), "PRIVATE AS BEFORE");
    assert!(brain.step(step("third", &history, 2)).await.unwrap().context.reused <= 22);
    brain.reset("private").await.unwrap();
    assert_eq!(brain.step(step("private", &text(20), 2)).await.unwrap().context.reused, 19);
}

#[tokio::test]
async fn what_was_said_on_other_terms_is_given_to_nobody() {
    for (before, after) in [(Sharing::Nobody, scope("x")), (scope("y"), scope("x")), (scope("y"), Sharing::With(None))]
    {
        let bench = start_with(config(1), roomy(64)).await;
        let brain = &bench.brain;
        brain.step(sharing(before.clone(), step("a", &text(20), 2))).await.unwrap();
        brain.step(sharing(after.clone(), step("a", "PUBLIC NOW", 2))).await.unwrap();
        brain.fork(Fork { from: "a".into(), to: "fork".into(), at: None, choice: None }).await.unwrap();
        let other = brain.step(sharing(after.clone(), step("b", &text(20), 2))).await.unwrap();
        assert_eq!(other.context.reused, 0, "{before:?} {after:?}");
        brain.reset("a").await.unwrap();
        let own = brain.step(sharing(after, step("a", &text(20), 2))).await.unwrap();
        assert_eq!(own.context.reused, 19, "emptied, it gives and takes again");
    }
}

#[tokio::test]
async fn a_fork_onto_a_private_conversation_stays_private() {
    let bench = start_with(config(1), roomy(64)).await;
    let brain = &bench.brain;
    brain.step(sharing(Sharing::Nobody, step("b", "A", 1))).await.unwrap();
    brain.rewind("b", 0).await.unwrap();
    brain.step(step("template", "B", 1)).await.unwrap();
    brain.fork(Fork { from: "template".into(), to: "b".into(), at: Some(1), choice: None }).await.unwrap();
    brain.step(step("b", &text(20), 1)).await.unwrap();
    let asked = brain.step(step("c", &format!("B{}", text(20)), 1)).await.unwrap();
    assert!(asked.context.reused <= 1, "only the template's own: {}", asked.context.reused);
}

#[tokio::test]
async fn scopes_do_not_see_each_other() {
    let bench = start_with(config(1), roomy(64)).await;
    let brain = &bench.brain;
    let asked =
        |name: &str, scope: Option<&str>| sharing(Sharing::With(scope.map(Into::into)), step(name, &text(20), 2));
    for (name, of, reused) in [
        ("a", Some("x"), 0),
        ("b", Some("y"), 0),
        ("c", None, 0),
        ("d", Some("x"), 19),
        ("e", Some("y"), 19),
        ("f", None, 19),
        ("g", Some(""), 0),
    ] {
        assert_eq!(brain.step(asked(name, of)).await.unwrap().context.reused, reused, "{name}");
    }
    // A fork is of its parent's scope.
    brain.fork(Fork { from: "a".into(), to: "child".into(), at: Some(10), choice: None }).await.unwrap();
    brain.step(step("child", "ONLY FOR X", 2)).await.unwrap();
    let history = format!("{}ONLY FOR X", &text(20)[..10]);
    let reused = async |of: &str, name: &str| {
        brain.step(sharing(scope(of), step(name, &history, 2))).await.unwrap().context.reused
    };
    assert_eq!(reused("x", "h").await, 19);
    assert_eq!(reused("y", "i").await, 10);
}

#[tokio::test]
async fn several_answers_share_in_the_scope_of_their_conversation() {
    let bench = start_with(config(1), roomy(64)).await;
    let several = |name: &str, of: &str| {
        let mut asked = sharing(scope(of), step(name, &text(20), 2));
        asked.sampling.temperature = 1.0;
        Step { n: 3, seed: Some(1), ..asked }
    };
    bench.brain.step(step("everybody's", &text(20), 2)).await.unwrap();
    assert_eq!(bench.brain.several(several("a", "x")).await.unwrap().context.reused, 0);
    assert_eq!(bench.brain.several(several("b", "x")).await.unwrap().context.reused, 19);
    assert_eq!(bench.brain.several(several("c", "y")).await.unwrap().context.reused, 0);
}

#[tokio::test]
async fn rows_behind_a_slide_are_never_shared() {
    let bench = start_with(config(1), fake_info()).await;
    // 20 tokens in a window of 16: the first 16 were read before the slide.
    let first = bench.brain.step(step("a", &text(20), 2)).await.unwrap();
    let second = bench.brain.step(step("b", &text(20), 2)).await.unwrap();
    assert!(second.context.reused <= 16, "{:?}", second.context);
    assert_eq!(unshared(second), first);
    let third = bench.brain.step(step("c", &text(12), 2)).await.unwrap();
    assert_eq!(unshared(third), alone(fake_info(), step("c", &text(12), 2)).await);
}

#[tokio::test]
async fn engines_without_pages_share_nothing() {
    let bench = start_with(config(1), fake_info_without_pages()).await;
    let first = bench.brain.step(step("a", &text(10), 2)).await.unwrap();
    assert_eq!(bench.brain.step(step("b", &text(10), 2)).await.unwrap(), first);
    assert_eq!(first.context.reused, 0);
}

#[tokio::test]
async fn pages_that_nobody_uses_stay_within_their_bound() {
    for pages in [0, 1, 7, 30] {
        let bench = start_with(
            motorbrain_actors::brain::BrainConfig { cached_bytes: pages * PAGE_BYTES, ..config(1) },
            roomy(64),
        )
        .await;
        for turn in 0..6 {
            let name = format!("{turn}");
            let begin = format!("{turn}{}", text(37));
            bench.brain.step(step(&name, &begin, 4)).await.unwrap();
            if turn % 2 == 0 {
                bench.brain.reset(name.as_str()).await.unwrap();
            } else {
                bench.brain.close(name.as_str()).await.unwrap();
            }
            until_pages(&bench.control, |found| found <= pages).await;
            let stats = bench.brain.stats().await.unwrap();
            assert!(stats.cached_bytes <= pages * PAGE_BYTES, "{stats:?}");
            assert_eq!(stats.kv_bytes, stats.cached_bytes);
        }
        assert_eq!(bench.control.pages() == 0, pages == 0, "what may stay stays: {pages}");
        // The last one is found again as far as it is still there.
        let again = bench.brain.step(step("again", &format!("5{}", text(37)), 4)).await.unwrap();
        assert!(again.context.reused >= 37_usize.min(4 * pages) - 4.min(4 * pages), "{pages}: {:?}", again.context);
    }
}

#[tokio::test]
async fn what_a_conversation_leaves_by_going_back_is_within_the_bound() {
    let bench = start_with(motorbrain_actors::brain::BrainConfig { cached_bytes: 0, ..config(1) }, roomy(64)).await;
    bench.brain.step(step("a", &text(40), 4)).await.unwrap();
    for len in [33, 32, 7, 1, 0] {
        bench.brain.rewind("a", len).await.unwrap();
        until_pages(&bench.control, |found| found == len.div_ceil(4)).await;
    }
}

/// 64 conversations of one prompt, each with words of its own behind it.
async fn with_one_prompt(bench: &Bench, at_once: bool) {
    let prompt = text(1000);
    let asked = |number: usize| step(&format!("{number}"), &format!("{prompt}N{:02}", number), 2);
    let mut all = JoinSet::new();
    for number in 0..64 {
        let (brain, asked) = (bench.brain.clone(), asked(number));
        all.spawn(async move { brain.step(asked).await.unwrap() });
        if !at_once {
            within(all.join_next()).await.unwrap().unwrap();
        }
    }
    for stepped in within(all.join_all()).await {
        assert_eq!(stepped.token_ids.len(), 2);
    }
}

#[tokio::test]
async fn conversations_with_one_prompt_hold_it_once() {
    for (actors, at_once) in [(1, false), (1, true), (2, true)] {
        let config = motorbrain_actors::brain::BrainConfig { chunk: 256, cached_bytes: 0, ..config(actors) };
        let bench = start_with(config, roomy(1200)).await;
        bench.until(|stats| stats.actors.iter().all(|actor| actor.state.as_str() == "ready")).await;
        with_one_prompt(&bench, at_once).await;
        // 250 pages of the prompt; each adds 5 tokens, which lie in two.
        let most = 250 * 12 / 10 + 64 * 2;
        until_pages(&bench.control, |pages| pages <= most).await;
    }
}

/// Tokens of a text as the tests' tokenizer makes them.
pub(super) fn tokens(text: &str) -> Vec<TokenId> {
    text.bytes().map(|byte| TokenId(u32::from(byte - b' '))).collect()
}
