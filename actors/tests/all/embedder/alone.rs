//! `Embedder`: the actor alone under somebody else's supervisor, with requests and replies.

use std::sync::Arc;

use motorbrain_actors::{
    embedder::{Embedder, EmbeddingConfig, StartError, TokenStep},
    engine::LoadError,
    job::{JobError, Work},
    message::{BrainError, ConversationId},
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, FakeLoader, Fault, LoadFault, fake_info};

use super::harness::{Ended, Reference, assert_equal, soon, supervisor, tokens};
use motorbrain_actors::{engine::Sampling, job::Outcome};

async fn start(control: &FakeControl) -> Result<(Embedder, tokio::sync::mpsc::UnboundedReceiver<Ended>), StartError> {
    let (supervisor, ended) = supervisor().await;
    let loader = Arc::new(FakeLoader { info: fake_info(), control: control.clone() });
    let started = Embedder::start(None, supervisor.get_cell(), loader, EmbeddingConfig::default(), 4);
    Ok((soon(started).await?, ended))
}

fn unavailable(error: &JobError) -> bool {
    matches!(error, JobError::Failed(BrainError::Unavailable { .. }))
}

#[tokio::test]
async fn requests_get_their_replies() {
    let (embedder, _ended) = start(&FakeControl::default()).await.unwrap();
    let a = ConversationId::from("a");
    let mut reference = Reference::new(fake_info());
    let config = EmbeddingConfig::default();

    let (text, work) = (tokens(1, 5), Work::Embed { tokens: Arc::new(tokens(1, 5)) });
    let stateless = embedder.embed(None, text.clone()).await.unwrap();
    let kept = embedder.embed(Some(a.clone()), text).await.unwrap();
    assert_eq!(stateless, kept, "a conversation's first text stands alone");
    assert_equal(&Outcome::Embedded(kept.value), &reference.answer(&work, config));

    let (tokens, sampling) = (tokens(9, 2), Sampling::GREEDY);
    let stepped = embedder.step(a.clone(), TokenStep::greedy(tokens.clone(), 3)).await.unwrap();
    let work = Work::Step { tokens: Arc::new(tokens), count: 3, sampling, seed: 0, top: 0, stream: false };
    let (sampled, stopped) = stepped.value;
    assert_eq!(Outcome::Stepped { sampled, stopped }, reference.answer(&work, config));
    assert_eq!(stepped.context_len, 10);

    let scored = embedder.score(a.clone(), vec![TokenId(3)]).await.unwrap();
    let work = Work::Score { tokens: Arc::new(vec![TokenId(3)]) };
    assert_eq!(Outcome::Scored(scored.value), reference.answer(&work, config));

    embedder.forget(a.clone()).await.unwrap();
    assert_eq!(embedder.score(a, vec![TokenId(3)]).await.unwrap().value, [None]);
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn a_token_outside_the_vocabulary_never_reaches_the_engine() {
    let control = FakeControl::default();
    let (embedder, _ended) = start(&control).await.unwrap();
    let error = embedder.embed(None, vec![TokenId(64)]).await.unwrap_err();
    assert_eq!(error, JobError::Failed(BrainError::InvalidToken { token: 64, vocab: 64 }));
    assert_eq!(control.tally().runs, 0);
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn whoever_waits_when_the_actor_dies_is_told() {
    let control = FakeControl::default();
    let (embedder, mut ended) = start(&control).await.unwrap();
    control.fault_in_run(2, Fault::Panic);
    let step = TokenStep::greedy(tokens(1, 3), 50);
    let (one, other) =
        soon(async { tokio::join!(embedder.step("a".into(), step.clone()), embedder.step("b".into(), step.clone())) })
            .await;
    assert!(unavailable(&one.unwrap_err()) && unavailable(&other.unwrap_err()));
    assert!(matches!(soon(ended.recv()).await, Some(Ended::Failed(_))));
    let late = soon(embedder.embed(None, tokens(1, 3))).await;
    assert!(unavailable(&late.unwrap_err()));
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_job_back() {
    let control = FakeControl::default();
    let (embedder, _ended) = start(&control).await.unwrap();
    control.fault_in_run(3, Fault::HANG);
    let leaving = tokio::spawn({
        let embedder = embedder.clone();
        async move { embedder.step("a".into(), TokenStep::greedy(tokens(1, 3), 1_000_000)).await }
    });
    soon(control.until(|tally| tally.hanging > 0)).await;
    leaving.abort();
    leaving.await.unwrap_err();
    control.release_hangs();
    let scored = soon(embedder.score("a".into(), vec![TokenId(3)])).await.unwrap();
    assert_eq!(scored.value, [None], "nothing of the million tokens stayed");
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn a_failed_start_says_why() {
    let control = FakeControl::default();
    let error = LoadError { transient: false, message: "no such file".to_owned(), hint: None };
    control.fault_in_loads(1, LoadFault::Error(error));
    control.fault_in_loads(1, LoadFault::Panic);
    let failed = start(&control).await.err();
    assert!(matches!(failed, Some(StartError::Load(error)) if error.message == "no such file"));
    assert!(matches!(start(&control).await.err(), Some(StartError::Died)));
}
