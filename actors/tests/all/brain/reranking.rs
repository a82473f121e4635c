//! Documents in the order of how likely a query is behind them.

use std::time::Duration;

use motorbrain_actors::{
    brain::BrainConfig,
    message::{BrainError, ErrorCode, Score},
    policy::Limits,
    rerank::{DOCUMENTS_MAX, Relevance, Rerank, Reranked},
};
use motorbrain_testing::Fault;
use tokio::task::yield_now;

use super::{
    Bench, config, embed,
    sharing::{roomy, text, tokens_read},
    start_with, step, within,
};

const COUNT: usize = 20;

fn documents() -> Vec<String> {
    (0..COUNT).map(|index| text(40 + index).chars().rev().collect()).collect()
}

fn rerank(relevance: Relevance) -> Rerank {
    Rerank { relevance, ..Rerank::new("WHO?", documents()) }
}

fn likelihood() -> Relevance {
    Relevance::Likelihood { before: "<".into(), between: "> ".into() }
}

async fn bench() -> Bench {
    start_with(config(2), roomy(128)).await
}

/// The sum of a text's log-probabilities behind another text, and how many there are.
async fn behind(bench: &Bench, context: &str, scored: &str) -> (f32, usize) {
    bench.brain.step(super::Step { count: 0, ..step("by hand", context, 0) }).await.unwrap();
    let logprobs: Vec<_> = bench.brain.score(Score::of("by hand", scored)).await.unwrap().logprobs;
    bench.brain.close("by hand").await.unwrap();
    (logprobs.iter().flatten().sum(), logprobs.len())
}

/// That no conversation is left over.
async fn until_empty(bench: &Bench) {
    within(async {
        while bench.brain.stats().await.unwrap().conversations > 0 {
            yield_now().await;
        }
    })
    .await;
}

fn check_order(reranked: &Reranked) {
    let mut places = reranked.order.clone();
    assert!(places.is_sorted_by(|a, b| reranked.scores[*a] >= reranked.scores[*b]));
    places.sort_unstable();
    assert!(places.into_iter().eq(0..reranked.scores.len()));
}

#[tokio::test]
async fn a_score_is_the_querys_likelihood_behind_the_document_less_that_alone() {
    let bench = bench().await;
    let reranked = bench.brain.rerank(rerank(likelihood())).await.unwrap();
    check_order(&reranked);
    let (alone, count) = behind(&bench, "> ", "WHO?").await;
    for (document, found) in documents().iter().zip(&reranked.scores) {
        let (there, _) = behind(&bench, &format!("<{document}> "), "WHO?").await;
        assert!((found - (there - alone) / count as f32).abs() < 1e-6, "{document}: {found}");
    }
    until_empty(&bench).await;
}

#[tokio::test]
async fn of_documents_that_were_seen_before_nothing_is_read_again() {
    let bench = bench().await;
    let first = bench.brain.rerank(rerank(likelihood())).await.unwrap();
    assert_eq!(first.tokens, 2 + (0..COUNT).map(|index| 40 + index + 3).sum::<usize>());
    bench.control.record();
    let other = Rerank { query: "HOW?".into(), ..rerank(likelihood()) };
    let second = bench.brain.rerank(other).await.unwrap();
    assert_ne!(second.scores, first.scores);
    // Each document's last token runs again for its logits, and of two tokens alone neither is worth to be kept.
    assert_eq!(second.reused, second.tokens - (COUNT + 2));
    assert!(tokens_read(&bench.control) <= (COUNT + 2) * (1 + "HOW?".len()));
}

#[tokio::test]
async fn by_answers_a_score_is_by_how_much_one_is_likelier() {
    let bench = bench().await;
    let prompt = "{query} IN {document}: ".to_owned();
    let by_answers = Relevance::Answer { prompt, yes: "YES".into(), no: "NO".into() };
    let reranked = bench.brain.rerank(rerank(by_answers)).await.unwrap();
    check_order(&reranked);
    for (document, found) in documents().iter().zip(&reranked.scores) {
        let context = format!("WHO? IN {document}: ");
        let ((yes, _), (no, _)) = (behind(&bench, &context, "YES").await, behind(&bench, &context, "NO").await);
        assert!((found - (yes - no)).abs() < 1e-5, "{document}: {found}");
    }
    until_empty(&bench).await;
}

#[tokio::test]
async fn a_document_that_fills_the_window_is_judged_by_its_end() {
    let bench = start_with(config(1), roomy(32)).await;
    let documents: Vec<_> = (20..40).map(text).collect();
    let by_answers = Relevance::Answer { prompt: "{query}{document}".into(), yes: "YES".into(), no: "NO".into() };
    for relevance in [by_answers, likelihood()] {
        let asked = Rerank { documents: documents.clone(), ..rerank(relevance) };
        check_order(&bench.brain.rerank(asked).await.unwrap());
    }
    until_empty(&bench).await;
}

#[tokio::test]
async fn more_documents_than_there_may_be_conversations_wait_for_each_other() {
    let limits = Limits { conversations: 1, ..Limits::default() };
    let bench = start_with(BrainConfig { limits, ..config(1) }, roomy(128)).await;
    let by_answers = Relevance::Answer { prompt: "{query}{document}".into(), yes: "YES".into(), no: "NO".into() };
    for relevance in [by_answers, likelihood()] {
        let expected = self::bench().await.brain.rerank(rerank(relevance.clone())).await.unwrap();
        assert_eq!(bench.brain.rerank(rerank(relevance)).await.unwrap().scores, expected.scores);
    }
}

#[tokio::test]
async fn the_cosine_of_the_vectors_is_mixed_in() {
    let bench = bench().await;
    let plain = bench.brain.rerank(rerank(likelihood())).await.unwrap();
    let mixed = bench.brain.rerank(Rerank { mix: Some(0.25), ..rerank(likelihood()) }).await.unwrap();
    let query = bench.brain.embed(embed(None, "WHO?")).await.unwrap().embedding;
    for (index, document) in documents().iter().enumerate() {
        let vector = bench.brain.embed(embed(None, document)).await.unwrap().embedding;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(&query, &vector) / (dot(&query, &query) * dot(&vector, &vector)).sqrt();
        let expected = cosine + 0.25 * plain.scores[index];
        assert!((mixed.scores[index] - expected).abs() < 1e-5, "{document}: {} {expected}", mixed.scores[index]);
    }
}

#[tokio::test]
async fn a_document_without_a_word_is_like_nothing_and_has_a_score() {
    let bench = bench().await;
    let documents = vec![String::new(), "A".into()];
    let plain = bench.brain.rerank(Rerank { documents, ..rerank(likelihood()) }).await.unwrap();
    let documents = vec![String::new(), "A".into()];
    let mixed = bench.brain.rerank(Rerank { mix: Some(0.25), documents, ..rerank(likelihood()) }).await.unwrap();
    assert!((mixed.scores[0] - 0.25 * plain.scores[0]).abs() < 1e-6, "{mixed:?} {plain:?}");
}

#[tokio::test]
async fn nothing_is_left_of_what_fails_or_is_given_up() {
    let bench = bench().await;
    let bad = Rerank { documents: vec!["FINE".into(), "\u{e9}".into()], ..rerank(likelihood()) };
    bench.brain.rerank(bad).await.unwrap_err();
    until_empty(&bench).await;
    for runs in 1..6 {
        bench.control.record();
        tokio::select! {
            biased;
            _ = bench.brain.rerank(rerank(likelihood())) => {}
            () = async {
                while bench.control.recorded().len() < runs {
                    yield_now().await;
                }
            } => {}
        }
        until_empty(&bench).await;
    }
}

#[tokio::test]
async fn what_may_not_be_is_refused_before_anything_is_read() {
    let limits = Limits { text_bytes: 100, ..Limits::default() };
    let bench = start_with(BrainConfig { limits, ..config(1) }, roomy(128)).await;
    let plain = || Rerank { relevance: likelihood(), ..Rerank::new("WHO?", vec!["A".into()]) };
    let answer = |prompt: &str, yes: &str| {
        let relevance = Relevance::Answer { prompt: prompt.into(), yes: yes.into(), no: "N".into() };
        Rerank { relevance, ..plain() }
    };
    let between = Relevance::Likelihood { before: String::new(), between: String::new() };
    for (rerank, code) in [
        (Rerank { query: String::new(), ..plain() }, ErrorCode::EmptyInput),
        (Rerank { documents: Vec::new(), ..plain() }, ErrorCode::BadRequest),
        (Rerank { documents: vec![String::new(); DOCUMENTS_MAX + 1], ..plain() }, ErrorCode::BadRequest),
        (Rerank { mix: Some(f32::NAN), ..plain() }, ErrorCode::BadRequest),
        (Rerank { relevance: between, ..plain() }, ErrorCode::BadRequest),
        (answer("{query}", "Y"), ErrorCode::BadRequest),
        (answer("{document}", "Y"), ErrorCode::BadRequest),
        (answer("{query}{document}", ""), ErrorCode::BadRequest),
        (Rerank { documents: vec!["A".repeat(32); 4], ..plain() }, ErrorCode::InputTooLong),
    ] {
        assert_eq!(bench.brain.rerank(rerank.clone()).await.unwrap_err().code(), code, "{rerank:?}");
    }
    assert!(bench.control.recorded().is_empty());
    assert_eq!(bench.brain.rerank(plain()).await.unwrap().order, [0]);
    // As long as it may be.
    bench.brain.rerank(Rerank { documents: vec!["A".repeat(32); 3], ..plain() }).await.unwrap();
}

#[tokio::test]
async fn a_deadline_is_that_of_all_documents_together() {
    let bench = bench().await;
    for run in [1, 4, 12] {
        bench.control.fault_in_run(run, Fault::HANG);
        let deadline = Duration::from_millis(200);
        let failed = within(bench.brain.within(deadline).rerank(rerank(likelihood()))).await;
        assert_eq!(failed.unwrap_err(), BrainError::Timeout { deadline }, "run {run}");
        bench.control.release_hangs();
        until_empty(&bench).await;
    }
    let limits = Limits { deadline: Some(Duration::from_millis(200)), ..Limits::default() };
    let bench = start_with(BrainConfig { limits, ..config(1) }, roomy(128)).await;
    bench.control.fault_in_run(3, Fault::HANG);
    let failed = within(bench.brain.rerank(rerank(likelihood()))).await;
    assert_eq!(failed.unwrap_err(), BrainError::Timeout { deadline: Duration::from_millis(200) });
    bench.control.release_hangs();
    until_empty(&bench).await;
}

#[tokio::test]
async fn a_sixteenth_as_many_as_requests_are_done_at_once_and_their_documents_wait_for_permits() {
    let limits = Limits { requests: 4, ..Limits::default() };
    let bench = start_with(BrainConfig { limits, ..config(1) }, roomy(128)).await;
    let expected = bench.brain.rerank(rerank(likelihood())).await.unwrap();
    bench.control.fault_in_run(2, Fault::HANG);
    let first = tokio::spawn({
        let brain = bench.brain.clone();
        async move { brain.rerank(rerank(likelihood())).await }
    });
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    let refused = bench.brain.rerank(rerank(likelihood())).await.unwrap_err();
    assert!(matches!(refused, BrainError::Overloaded { what: "reranks", limit: 1, .. }), "{refused}");
    let patient = bench.brain.waiting(Duration::from_secs(60));
    let second = tokio::spawn(async move { patient.rerank(rerank(likelihood())).await });
    bench.control.release_hangs();
    for reranked in [first, second] {
        assert_eq!(within(reranked).await.unwrap().unwrap().scores, expected.scores);
    }
    until_empty(&bench).await;
}
