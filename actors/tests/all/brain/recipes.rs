//! Vectors by a probe: what they are the states of, what is read for them, and that nothing of a probe stays.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{Brain, BrainConfig, StartError},
    engine::EngineInfo,
    message::{BrainError, Embed, Embedded, ErrorCode, Fork, Input, Sharing, Step, Terms, VectorTerms},
    tokens::TokenId,
    vectors::{Codes, EmbeddingConfig, Format, Frame, Kind, MadeBy, Pooling, Recipe, Straighten},
};
use motorbrain_testing::{Fault, fake_info, fake_info_without_pages};
use tokio::task::JoinSet;

use super::{
    Bench, Letters, config, embed, loader,
    sharing::{roomy, text, tokens_read, until_pages},
    start_with, step, within,
};

pub(super) const PREFIX: &str = "TEXT:";
pub(super) const PROBE: &str = "=NAME:";
const ASKING: &str = "ASKED:";

fn framed(prefix: &str) -> Frame {
    Frame { prefix: prefix.into(), probe: PROBE.into() }
}

pub(super) fn made(embedding: EmbeddingConfig) -> BrainConfig {
    BrainConfig { embedding, ..config(1) }
}

pub(super) fn probe() -> EmbeddingConfig {
    let recipe = Recipe::Probe { document: framed(PREFIX), query: framed(ASKING) };
    EmbeddingConfig { recipe, ..EmbeddingConfig::default() }
}

/// A brain whose vectors are a probe's.
pub(super) async fn probing(info: EngineInfo) -> Bench {
    start_with(made(probe()), info).await
}

/// The last state of all these texts, which one job has read.
pub(super) async fn last_of(info: EngineInfo, texts: &[&str]) -> Vec<f32> {
    let recipe = Recipe::Pooled(Pooling::Last);
    let bench = start_with(made(EmbeddingConfig { recipe, ..EmbeddingConfig::default() }), info).await;
    bench.brain.embed(embed(None, &texts.concat())).await.unwrap().embedding
}

fn about(vector: VectorTerms, text: &str) -> Embed {
    Embed { vector, ..Embed::of(text) }
}

pub(super) fn code<T: std::fmt::Debug>(result: Result<T, BrainError>) -> ErrorCode {
    result.unwrap_err().code()
}

/// With hidden states that can be cut.
pub(super) fn wide() -> EngineInfo {
    EngineInfo { hidden: 100, ..roomy(64) }
}

#[tokio::test]
async fn a_probes_vector_is_the_last_state_of_prefix_text_and_probe() {
    for info in [roomy(64), EngineInfo { pages: None, ..roomy(64) }] {
        let bench = probing(info.clone()).await;
        for words in ["A", "WORDS", &text(40)] {
            for input in [Input::from(words), Input::Tokens(super::sharing::tokens(words))] {
                let found = bench.brain.embed(Embed::of(input)).await.unwrap();
                assert_eq!(found.embedding, last_of(info.clone(), &[PREFIX, words, PROBE]).await, "{words}");
                let said = (found.tokens, found.context.context_len, found.recipe, found.calibrated, found.pieces);
                assert_eq!(said, (words.len(), words.len() + 11, MadeBy::Probe, false, 1));
            }
        }
    }
}

#[tokio::test]
async fn a_prefix_is_read_once_and_a_text_that_others_have_read_not_again() {
    let bench = probing(roomy(64)).await;
    bench.brain.embed(embed(None, "FIRST")).await.unwrap();
    bench.control.record();
    for words in ["OTHER WORDS", "AGAIN"] {
        let found = bench.brain.embed(embed(None, words)).await.unwrap();
        assert_eq!(found.context.reused, 5);
        assert_eq!(tokens_read(&bench.control), words.len() + 6, "the text and the probe");
        bench.control.record();
    }
    // A conversation that happens to begin with all of it.
    let all = [PREFIX, "A LONG STORY", PROBE].concat();
    bench.brain.step(step("a", &all, 0)).await.unwrap();
    bench.control.record();
    let found = bench.brain.embed(embed(None, "A LONG STORY")).await.unwrap();
    assert_eq!((found.context.reused, tokens_read(&bench.control)), (22, 1), "the last token gives the vector");
    assert_eq!(found.embedding, last_of(roomy(64), &[&all]).await);
}

#[tokio::test]
async fn a_prefix_is_shared_with_those_that_share_and_no_others() {
    let bench = probing(roomy(64)).await;
    let on = |sharing, words: &str| Embed {
        terms: Terms { sharing: Some(sharing), ..Terms::default() },
        ..embed(None, words)
    };
    let scope = |name: &str| Sharing::With(Some(name.into()));
    bench.brain.embed(on(Sharing::Nobody, "FIRST")).await.unwrap();
    for (sharing, reused) in [
        (scope("x"), 0),
        (scope("y"), 0),
        (scope("x"), 5),
        (Sharing::Nobody, 0),
        (Sharing::With(None), 0),
        (Sharing::With(None), 5),
    ] {
        let found = bench.brain.embed(on(sharing.clone(), "SECOND")).await.unwrap();
        assert_eq!(found.context.reused, reused, "{sharing:?}");
    }
}

#[tokio::test]
async fn nothing_but_the_prefix_is_kept_of_a_text() {
    let bench = probing(roomy(64)).await;
    for words in [&text(40), "SHORT", &text(33)] {
        bench.brain.embed(embed(None, words)).await.unwrap();
        until_pages(&bench.control, |pages| pages == 2).await;
    }
    let bench = start_with(BrainConfig { cached_bytes: 0, ..made(probe()) }, roomy(64)).await;
    bench.brain.embed(embed(None, &text(40))).await.unwrap();
    until_pages(&bench.control, |pages| pages == 0).await;
}

#[tokio::test]
async fn texts_that_wait_together_ride_together() {
    // How long the run hangs is what its tokens are taken to cost.
    let beside_max = Duration::from_secs(600);
    let bench = start_with(BrainConfig { chunk: 256, beside_max, ..made(probe()) }, roomy(64)).await;
    bench.brain.embed(embed(None, "FIRST")).await.unwrap();
    bench.control.record();
    bench.control.fault_in_run(1, Fault::HANG);
    let mut all = JoinSet::new();
    for index in 0..21 {
        let brain = bench.brain.clone();
        all.spawn(async move { (index, brain.embed(embed(None, &format!("NO {index}"))).await.unwrap().embedding) });
    }
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    bench.until(|stats| stats.actors[0].queued == 21).await;
    bench.control.release_hangs();
    while let Some(Ok((index, found))) = all.join_next().await {
        assert_eq!(found, last_of(roomy(64), &[PREFIX, &format!("NO {index}"), PROBE]).await);
    }
    assert!(bench.control.recorded().iter().any(|run| run.len() >= 15), "{:?}", bench.control.recorded());
}

/// What a conversation says token by token, to the bit.
async fn says(brain: &Brain, name: &str, words: &str) -> (Vec<TokenId>, Vec<u32>, usize) {
    let said = brain.step(step(name, words, 3)).await.unwrap();
    (said.token_ids, said.logprobs.iter().map(|logprob| logprob.to_bits()).collect(), said.context.context_len)
}

#[tokio::test]
async fn a_conversation_says_the_same_with_and_without_a_probe_in_between() {
    // In a window of 16, which is full soon and slides by 4, and in one of 64, which slides once.
    for info in [fake_info(), fake_info_without_pages(), roomy(64), EngineInfo { pages: None, ..roomy(64) }] {
        let bench = probing(info.clone()).await;
        for turn in 0..14 {
            let words = &text(40)[turn..turn + 5];
            let embed = Embed {
                terms: Terms { sharing: Some(Sharing::Nobody), ..Terms::default() },
                ..embed(Some("a"), words)
            };
            let found = bench.brain.embed(embed).await.unwrap();
            let read = Step { input: Some(words.into()), ..step("b", "", 0) };
            let stands = bench.brain.step(read).await.unwrap();
            assert_eq!((found.tokens, found.context.context_len), (5, stands.context.context_len), "turn {turn}");
            // A fork of the one that was not probed would say what the probe's vector is.
            bench.brain.fork(Fork { from: "b".into(), to: "probed".into(), at: None, choice: None }).await.unwrap();
            let twin = start_last(&bench, &info, "probed").await;
            assert_eq!(found.embedding, twin, "turn {turn}");
            assert_eq!((found.recipe, found.calibrated), (MadeBy::ProbeInConversation, false));
            assert_eq!(says(&bench.brain, "a", "!").await, says(&bench.brain, "b", "!").await, "turn {turn}");
        }
    }
}

/// The last state of the probe behind a conversation, which is gone then, by another brain that pools.
async fn start_last(bench: &Bench, info: &EngineInfo, name: &str) -> Vec<f32> {
    let states = bench.brain.export(name).await.unwrap();
    bench.brain.close(name).await.unwrap();
    let recipe = Recipe::Pooled(Pooling::Last);
    let pools = start_with(made(EmbeddingConfig { recipe, ..EmbeddingConfig::default() }), info.clone()).await;
    let history = states[0].history.clone();
    // Of what has slid the last tokens decide, as the fake's states are made anew then.
    let tokens = history.all(&info.window).expect("all tokens since the beginning are known");
    pools.brain.step(Step { input: Some(Input::Tokens(tokens)), ..step("a", "", 0) }).await.unwrap();
    pools.brain.embed(embed(Some("a"), PROBE)).await.unwrap().embedding
}

#[tokio::test]
async fn forks_and_their_parent_are_not_changed_by_each_others_probes() {
    let bench = probing(roomy(64)).await;
    bench.brain.step(step("a", &text(18), 2)).await.unwrap();
    for (from, to) in [("a", "b"), ("a", "untouched"), ("a", "c")] {
        bench.brain.fork(Fork { from: from.into(), to: to.into(), at: None, choice: None }).await.unwrap();
    }
    for _ in 0..3 {
        for name in ["a", "b", "c"] {
            bench.brain.embed(embed(Some(name), "MORE")).await.unwrap();
        }
        bench.brain.step(step("untouched", "MORE", 0)).await.unwrap();
        let expected = says(&bench.brain, "untouched", "?").await;
        for name in ["a", "b", "c"] {
            assert_eq!(says(&bench.brain, name, "?").await, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_death_while_a_text_or_its_probe_is_run_changes_nothing() {
    for info in [fake_info(), fake_info_without_pages(), roomy(64)] {
        let undisturbed = probing(info.clone()).await;
        let asked = |bench: &Bench| {
            let brain = bench.brain.clone();
            async move {
                brain.step(step("a", &text(14), 1)).await.unwrap();
                let found = within(brain.embed(embed(Some("a"), "A TEXT OF 17 LONG"))).await.unwrap();
                (found.embedding, found.context.context_len, says(&brain, "a", "!").await)
            }
        };
        let expected = asked(&undisturbed).await;
        for run in 1..12 {
            let bench = probing(info.clone()).await;
            bench.control.fault_in_run(run, Fault::Panic);
            assert_eq!(asked(&bench).await, expected, "run {run}");
        }
    }
}

#[tokio::test]
async fn a_deadline_or_a_cancel_in_either_part_leaves_the_conversation_as_it_was() {
    let bench = start_with(BrainConfig { cached_bytes: 0, ..made(probe()) }, roomy(64)).await;
    let brain = &bench.brain;
    brain.step(step("a", &text(10), 1)).await.unwrap();
    until_pages(&bench.control, |pages| pages == 3).await;
    // The text is read in three runs, and the probe in the fourth.
    for run in 1..=4 {
        bench.control.fault_in_run(run, Fault::HANG);
        let late = brain.within(Duration::from_millis(100));
        assert_eq!(code(within(late.embed(embed(Some("a"), &text(20)))).await), ErrorCode::Timeout, "run {run}");
        bench.control.release_hangs();
        within(bench.control.until(|tally| tally.hanging == 0)).await;
        until_pages(&bench.control, |pages| pages == 3).await;

        bench.control.fault_in_run(run, Fault::HANG);
        let (asking, words) = (brain.clone(), text(20));
        let asked = tokio::spawn(async move { asking.embed(embed(Some("a"), &words)).await });
        within(bench.control.until(|tally| tally.hanging == 1)).await;
        assert_eq!(brain.cancel_conversation("a").await.unwrap(), 1);
        assert_eq!(code(asked.await.unwrap()), ErrorCode::Cancelled, "run {run}");
        bench.control.release_hangs();
        within(bench.control.until(|tally| tally.hanging == 0)).await;
        until_pages(&bench.control, |pages| pages == 3).await;
    }
    let found = within(brain.step(Step { input: None, ..step("a", "", 1) })).await.unwrap();
    assert_eq!(found.context.context_len, 12);
}

#[tokio::test]
async fn queries_and_documents_stand_behind_prefixes_of_their_own() {
    let bench = probing(roomy(64)).await;
    for (kind, prefix) in [(Kind::Document, PREFIX), (Kind::Query, ASKING)] {
        let found = bench.brain.embed(about(VectorTerms { kind, ..VectorTerms::default() }, "WORDS")).await.unwrap();
        assert_eq!(found.embedding, last_of(roomy(64), &[prefix, "WORDS", PROBE]).await, "{kind:?}");
    }
}

/// The numbers from behind, less the last two.
pub(super) struct Reversed;

impl Straighten for Reversed {
    fn dim(&self) -> usize {
        98
    }

    fn straighten(&self, hidden: &[f32]) -> Vec<f32> {
        hidden.iter().rev().skip(2).copied().collect()
    }
}

pub(super) fn scaled(values: impl IntoIterator<Item = f32>) -> Vec<f32> {
    let values: Vec<f32> = values.into_iter().collect();
    let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    values.iter().map(|value| (f64::from(*value) / length) as f32).collect()
}

#[tokio::test]
async fn stateless_vectors_are_calibrated_cut_scaled_and_rounded_in_that_order() {
    let embedding = EmbeddingConfig { straighten: Some(Arc::new(Reversed)), ..probe() };
    let bench = start_with(made(embedding), wide()).await;
    let asked = async |vector| bench.brain.embed(about(vector, "WORDS")).await;
    let raw = asked(VectorTerms { raw: true, ..VectorTerms::default() }).await.unwrap();
    assert_eq!((raw.embedding.len(), raw.calibrated, &raw.codes), (100, false, &None));
    let straight: Vec<f32> = raw.embedding.iter().rev().skip(2).copied().collect();
    let whole = asked(VectorTerms::default()).await.unwrap();
    assert_eq!((&whole.embedding, whole.calibrated), (&scaled(straight.clone()), true));
    for dim in [64, 70, 98] {
        let cut = scaled(straight[..dim].iter().copied());
        let found = asked(VectorTerms { dim: Some(dim), ..VectorTerms::default() }).await.unwrap();
        assert_eq!(found.embedding, cut);
        let terms = VectorTerms { dim: Some(dim), format: Some(Format::I8), ..VectorTerms::default() };
        let found = asked(terms).await.unwrap();
        let codes = Codes::of(&cut);
        assert_eq!((found.embedding, found.codes), (codes.values(), Some(codes)));
    }
    for dim in [0, 63, 99, usize::MAX] {
        assert_eq!(code(asked(VectorTerms { dim: Some(dim), ..VectorTerms::default() }).await), ErrorCode::BadRequest);
    }
    let raw_and = VectorTerms { raw: true, ..VectorTerms::default() };
    assert_eq!(code(asked(VectorTerms { dim: Some(70), ..raw_and }).await), ErrorCode::BadRequest);
    assert_eq!(code(asked(VectorTerms { format: Some(Format::I8), ..raw_and }).await), ErrorCode::BadRequest);
    // What stands behind a conversation is of another space.
    let inside = Embed {
        conversation: Some("a".into()),
        ..about(VectorTerms { dim: Some(100), ..VectorTerms::default() }, "WORDS")
    };
    let inside = bench.brain.embed(inside).await.unwrap();
    assert_eq!((inside.embedding, inside.calibrated), (last_of(wide(), &["WORDS", PROBE]).await, false));
}

#[tokio::test]
async fn settings_say_how_many_numbers_there_are_and_which_where_a_request_does_not() {
    let embedding = EmbeddingConfig { dim: Some(80), format: Format::I8, normalize: false, ..probe() };
    let bench = start_with(made(embedding), wide()).await;
    let found = bench.brain.embed(Embed::of("WORDS")).await.unwrap();
    assert_eq!((found.embedding.len(), found.codes.map(|codes| codes.codes.len())), (80, Some(80)));
    let terms = VectorTerms { dim: Some(90), format: Some(Format::F32), ..VectorTerms::default() };
    let found = bench.brain.embed(about(terms, "WORDS")).await.unwrap();
    assert_eq!((found.embedding.len(), found.codes), (90, None));
}

#[tokio::test]
async fn a_text_beyond_the_window_is_the_mean_of_pieces_that_overlap() {
    for info in [roomy(64), EngineInfo { pages: None, ..roomy(64) }] {
        let bench = probing(info.clone()).await;
        // 53 tokens fit beside prefix and probe; pieces overlap by 6 at least.
        for (len, starts) in
            [(53, vec![0]), (54, vec![0, 1]), (100, vec![0, 47]), (101, vec![0, 24, 48]), (148, vec![0, 31, 63, 95])]
        {
            let words = text(len);
            let found = bench.brain.embed(embed(None, &words)).await.unwrap();
            let mut sum = [0.0_f64; 8];
            for start in &starts {
                let piece = last_of(info.clone(), &[PREFIX, &words[*start..*start + 53.min(len)], PROBE]).await;
                sum.iter_mut().zip(piece).for_each(|(sum, value)| *sum += f64::from(value));
            }
            let expected = scaled(sum.iter().map(|sum| (sum / starts.len() as f64) as f32));
            let expected =
                if starts.len() == 1 { last_of(info.clone(), &[PREFIX, &words, PROBE]).await } else { expected };
            assert_eq!((found.embedding, found.pieces, found.tokens), (expected, starts.len(), len), "{len}");
        }
    }
}

#[tokio::test]
async fn a_long_text_survives_a_death_and_ends_with_its_deadline() {
    let bench = probing(roomy(64)).await;
    let expected = bench.brain.embed(embed(None, &text(148))).await.unwrap().embedding;
    for run in [1, 9, 20] {
        let bench = probing(roomy(64)).await;
        bench.control.fault_in_run(run, Fault::Panic);
        let found: Embedded = within(bench.brain.embed(embed(None, &text(148)))).await.unwrap();
        assert_eq!(found.embedding, expected, "run {run}");
        bench.control.fault_in_run(run, Fault::HANG);
        let late = bench.brain.within(Duration::from_millis(100));
        assert_eq!(code(within(late.embed(embed(None, &text(148)))).await), ErrorCode::Timeout);
        bench.control.release_hangs();
        within(bench.control.until(|tally| tally.hanging == 0)).await;
        assert_eq!(within(bench.brain.embed(embed(None, &text(148)))).await.unwrap().embedding, expected);
    }
}

#[tokio::test]
async fn a_text_without_tokens_is_an_empty_input_with_a_probe_too() {
    let bench = probing(roomy(64)).await;
    for conversation in [None, Some("a")] {
        for input in [Input::Text(String::new()), Input::Tokens(Vec::new())] {
            let asked = Embed { conversation: conversation.map(Into::into), ..Embed::of(input) };
            assert_eq!(code(within(bench.brain.embed(asked)).await), ErrorCode::EmptyInput);
        }
    }
    assert_eq!(code(bench.brain.close("a").await), ErrorCode::UnknownConversation);
}

#[tokio::test]
async fn a_brain_does_not_start_with_a_recipe_that_gives_no_vector() {
    let probe_of = |prefix: &str, probe: &str| {
        let frame = Frame { prefix: prefix.into(), probe: probe.into() };
        let recipe = Recipe::Probe { document: frame.clone(), query: frame };
        EmbeddingConfig { recipe, ..EmbeddingConfig::default() }
    };
    for embedding in [
        probe_of(PREFIX, ""),
        probe_of("lower case", PROBE),
        probe_of(PREFIX, "lower case"),
        EmbeddingConfig { dim: Some(63), ..probe() },
    ] {
        let started = within(Brain::start(made(embedding.clone()), loader(roomy(64)).0, Arc::new(Letters))).await;
        let error = started.expect_err("no brain");
        assert!(matches!(error, StartError::Setting { .. } | StartError::Spawn(_)), "{embedding:?}: {error}");
    }
    let bench = start_with(made(probe_of("", PROBE)), roomy(64)).await;
    let found = bench.brain.embed(embed(None, "WORDS")).await.unwrap();
    assert_eq!(found.embedding, last_of(roomy(64), &["WORDS", PROBE]).await);
}
