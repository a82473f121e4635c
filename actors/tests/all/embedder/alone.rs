//! `Embedder`: the actor alone under somebody else's supervisor, with requests and replies.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    embedder::{Embedder, EmbedderOptions, StartError, TokenItem, TokenStep},
    engine::{EngineInfo, LoadError, Window},
    job::{JobError, Work},
    message::{BrainError, ConversationId},
    tokens::TokenId,
    vectors::Shape,
};
use motorbrain_testing::{FakeControl, FakeLoader, Fault, LoadFault, fake_info, fake_info_without_pages};
use ractor::ActorRef;

use super::harness::{Ended, Reference, assert_equal, soon, supervisor, tokens};
use motorbrain_actors::{engine::Sampling, job::Outcome};

async fn start(control: &FakeControl) -> Result<(Embedder, tokio::sync::mpsc::UnboundedReceiver<Ended>), StartError> {
    let (supervisor, ended) = supervisor().await;
    Ok((start_on(fake_info(), control, &supervisor).await?, ended))
}

const JOBS_MAX: usize = 3;

async fn start_on(info: EngineInfo, control: &FakeControl, supervisor: &ActorRef<()>) -> Result<Embedder, StartError> {
    let loader = Arc::new(FakeLoader { info, control: control.clone() });
    let options = EmbedderOptions { chunk: 4, jobs_max: JOBS_MAX, ..EmbedderOptions::default() };
    soon(Embedder::start(None, supervisor.get_cell(), loader, options)).await
}

fn unavailable(error: &JobError) -> bool {
    matches!(error, JobError::Failed(BrainError::Unavailable { .. }))
}

#[tokio::test]
async fn requests_get_their_replies() {
    let (embedder, _ended) = start(&FakeControl::default()).await.unwrap();
    let a = ConversationId::from("a");
    let mut reference = Reference::new(fake_info());

    let (text, work) = (tokens(1, 5), Work::Embed { tokens: Arc::new(tokens(1, 5)), shape: Shape::default() });
    let stateless = embedder.embed(None, text.clone()).await.unwrap();
    let kept = embedder.embed(Some(a.clone()), text).await.unwrap();
    assert_eq!(stateless, kept, "a conversation's first text stands alone");
    assert_equal(&Outcome::Embedded(kept.value), &reference.answer(&work));

    let (tokens, sampling) = (tokens(9, 2), Sampling::GREEDY);
    let stepped = embedder.step(a.clone(), TokenStep::greedy(tokens.clone(), 3)).await.unwrap();
    let work = Work::Step {
        tokens: Arc::new(tokens),
        count: 3,
        sampling,
        seed: 0,
        top: 0,
        stream: false,
        grammar: None,
        said: Vec::new(),
    };
    let (sampled, stopped) = stepped.value;
    assert_eq!(Outcome::Stepped { sampled, stopped }, reference.answer(&work));
    assert_eq!(stepped.context_len, 10);

    let scored = embedder.score(a.clone(), vec![TokenId(3)]).await.unwrap();
    let work = Work::Score { tokens: Arc::new(vec![TokenId(3)]), top: 0 };
    assert_eq!(Outcome::Scored { logprobs: scored.value, top: Vec::new() }, reference.answer(&work));

    embedder.forget(a.clone()).await.unwrap();
    assert_eq!(embedder.score(a, vec![TokenId(3)]).await.unwrap().value, [None]);
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn what_a_handle_pins_stays_over_slides_and_lives() {
    for info in [fake_info(), fake_info_without_pages()] {
        let (supervisor, mut ended) = supervisor().await;
        let control = FakeControl::default();
        let embedder = start_on(info.clone(), &control, &supervisor).await.unwrap();
        let pinning = embedder.pinning();
        let refused = |error: JobError| matches!(error, JobError::Failed(BrainError::BadRequest { what: "pin", .. }));
        assert!(refused(pinning.embed(None, tokens(1, 3)).await.unwrap_err()));
        assert!(refused(pinning.step("a", TokenStep::greedy(vec![], 1)).await.unwrap_err()));
        assert!(refused(pinning.step("a", TokenStep::greedy(tokens(1, 9), 1)).await.unwrap_err()));
        pinning.embed(Some("a".into()), tokens(1, 3)).await.unwrap();
        pinning.step("a", TokenStep::greedy(tokens(4, 5), 0)).await.unwrap();
        assert!(refused(pinning.score("a", tokens(1, 1)).await.unwrap_err()));
        for seed in 0..9 {
            embedder.step("a", TokenStep::greedy(tokens(seed, 6), 1)).await.unwrap();
        }
        control.fault_in_run(1, Fault::Panic);
        embedder.step("a", TokenStep::greedy(tokens(1, 1), 1)).await.unwrap_err();
        soon(ended.recv()).await.unwrap();
        soon(embedder.restart(None, supervisor.get_cell())).await.unwrap();
        // What the window holds then, read by another: what was pinned, and the newest.
        let last = tokens(50, 7);
        let stepped = embedder.step("a", TokenStep::greedy(last.clone(), 0)).await.unwrap();
        let behind = stepped.context_len - 8;
        assert!(behind <= last.len(), "{behind} tokens stand behind what is pinned");
        let window = [tokens(1, 3), tokens(4, 5), last[last.len() - behind..].to_vec()].concat();
        embedder.step("b", TokenStep::greedy(window, 0)).await.unwrap();
        let next = |name: &'static str| embedder.score(name, tokens(1, 1));
        assert_eq!(next("a").await.unwrap().value, next("b").await.unwrap().value);
        embedder.actor_ref().stop(None);
    }
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
        soon(async { tokio::join!(embedder.step("a", step.clone()), embedder.step("b", step.clone())) }).await;
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
        async move { embedder.step("a", TokenStep::greedy(tokens(1, 3), 1_000_000)).await }
    });
    soon(control.until(|tally| tally.hanging > 0)).await;
    leaving.abort();
    leaving.await.unwrap_err();
    control.release_hangs();
    let scored = soon(embedder.score("a", vec![TokenId(3)])).await.unwrap();
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

/// A window that nothing here slides.
fn wide(info: EngineInfo) -> EngineInfo {
    EngineInfo { window: Window { size: 256, ..info.window }, ..info }
}

/// Tokens that were read since the control began to record.
fn read(control: &FakeControl) -> usize {
    control.recorded().iter().flatten().map(|row| row.tokens.len()).sum()
}

fn timeout(error: &JobError) -> bool {
    matches!(error, JobError::Failed(BrainError::Timeout { .. }))
}

/// The tokens of a stream and its last item.
async fn all(stream: &mut motorbrain_actors::embedder::TokenStream) -> (Vec<TokenId>, TokenItem) {
    let mut shown = Vec::new();
    loop {
        match soon(stream.next()).await.unwrap() {
            TokenItem::Token { sampled, .. } => shown.push(sampled.token),
            last => return (shown, last),
        }
    }
}

#[tokio::test]
async fn a_stream_shows_each_token_and_then_the_step() {
    let (embedder, _ended) = start(&FakeControl::default()).await.unwrap();
    let step = TokenStep::greedy(tokens(1, 3), 5);
    let mut stream = embedder.step_stream("a", step.clone()).await.unwrap();
    let (shown, last) = all(&mut stream).await;
    assert_eq!(stream.next().await, None);
    let at_once = embedder.step("b", step).await.unwrap();
    let sampled: Vec<_> = at_once.value.0.iter().map(|sampled| sampled.token).collect();
    assert_eq!((shown, last), (sampled, TokenItem::Stepped(at_once)));
    let next = TokenStep::greedy(vec![], 2);
    let (one, other) = (embedder.step("a", next.clone()).await, embedder.step("b", next).await);
    assert_eq!(one.unwrap(), other.unwrap(), "it was committed");
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn a_stream_that_is_dropped_keeps_what_it_has_shown() {
    let control = FakeControl::default();
    let (embedder, _ended) = start(&control).await.unwrap();
    control.fault_in_run(3, Fault::HANG);
    let mut stream = embedder.step_stream("a", TokenStep::greedy(tokens(1, 3), 1000)).await.unwrap();
    for expected in [4, 5] {
        let item = soon(stream.next()).await.unwrap();
        assert!(matches!(item, TokenItem::Token { context_len, .. } if context_len == expected), "{item:?}");
    }
    soon(control.until(|tally| tally.hanging > 0)).await;
    drop(stream);
    control.release_hangs();
    // The run that hung shows one more.
    let answer = soon(embedder.step("a", TokenStep::greedy(vec![], 1))).await.unwrap();
    assert_eq!(answer.context_len, 7);
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn a_deadline_is_answered_while_a_run_hangs_and_leaves_the_conversation_as_it_was() {
    let control = FakeControl::default();
    let (embedder, _ended) = start(&control).await.unwrap();
    embedder.step("a", TokenStep::greedy(tokens(1, 3), 1)).await.unwrap();
    control.fault_in_run(1, Fault::HANG);
    let hurried = embedder.within(Duration::from_millis(20));
    let step = TokenStep::greedy(tokens(9, 2), 3);
    // One hangs, another waits for its turn in the same conversation, and a stream in another.
    let mut stream = hurried.step_stream("b", step.clone()).await.unwrap();
    let (one, other, (shown, last)) = soon(async {
        tokio::join!(hurried.step("a", step.clone()), hurried.score("a", tokens(1, 1)), all(&mut stream))
    })
    .await;
    assert!(timeout(&one.unwrap_err()) && timeout(&other.unwrap_err()));
    assert!(matches!(last, TokenItem::Failed { ref error, committed: 0 } if timeout(error)), "{last:?}");
    assert!(shown.is_empty());
    control.release_hangs();
    let expected = embedder.step("c", TokenStep::greedy(tokens(1, 3), 1)).await.unwrap();
    assert_eq!(expected.context_len, 4);
    let (found, expected) = (embedder.step("a", step.clone()).await, embedder.step("c", step).await);
    assert_eq!(found.unwrap(), expected.unwrap());
    embedder.actor_ref().stop(None);
}

#[tokio::test]
async fn an_actor_that_follows_a_dead_one_goes_on_with_its_conversations() {
    for info in [wide(fake_info()), wide(fake_info_without_pages())] {
        let (control, (supervisor, mut ended)) = (FakeControl::default(), supervisor().await);
        let embedder = start_on(info.clone(), &control, &supervisor).await.unwrap();
        let other_handle = embedder.of("somebody").clone();
        let begun = TokenStep::greedy(tokens(1, 30), 5);
        embedder.step("a", begun.clone()).await.unwrap();
        embedder.step("undisturbed", begun).await.unwrap();
        control.fault_in_run(2, Fault::Panic);
        // What was shown before the death is kept as well.
        let mut stream = embedder.step_stream("a", TokenStep::greedy(vec![], 9)).await.unwrap();
        let (shown, last) = all(&mut stream).await;
        assert!(matches!(last, TokenItem::Failed { ref error, committed: 1 } if unavailable(error)), "{last:?}");
        assert!(matches!(soon(ended.recv()).await, Some(Ended::Failed(_))));
        assert!(unavailable(&soon(embedder.score("a", tokens(1, 1))).await.unwrap_err()), "until it is restarted");
        soon(embedder.restart(None, supervisor.get_cell())).await.unwrap();
        control.record();
        let next = other_handle.step("a", TokenStep::greedy(vec![], 8)).await.unwrap();
        assert_eq!(read(&control), if info.pages.is_some() { 0 } else { 36 }, "with pages nothing is read again");
        let expected = embedder.step("undisturbed", TokenStep::greedy(vec![], 9)).await.unwrap();
        let sampled: Vec<_> = shown.into_iter().chain(next.value.0.iter().map(|sampled| sampled.token)).collect();
        assert_eq!(sampled, expected.value.0.iter().map(|sampled| sampled.token).collect::<Vec<_>>());
        assert_eq!(next.context_len, expected.context_len);
        supervisor.stop(None);
    }
}

#[tokio::test]
async fn whoever_waits_at_an_actor_that_hangs_is_told_when_another_takes_its_place() {
    let (control, (supervisor, _ended)) = (FakeControl::default(), supervisor().await);
    let embedder = start_on(wide(fake_info()), &control, &supervisor).await.unwrap();
    embedder.step("a", TokenStep::greedy(tokens(1, 8), 2)).await.unwrap();
    control.fault_in_run(1, Fault::Hang { limit: None, deaf: true });
    let waiting = tokio::spawn({
        let embedder = embedder.clone();
        async move { embedder.step("a", TokenStep::greedy(vec![], 5)).await }
    });
    soon(control.until(|tally| tally.hanging > 0)).await;
    soon(embedder.restart(None, supervisor.get_cell())).await.unwrap();
    assert!(unavailable(&soon(waiting).await.unwrap().unwrap_err()));
    let before = soon(embedder.step("a", TokenStep::greedy(vec![], 5))).await.unwrap();
    assert_eq!(before.context_len, 15);
    // What the old one does after all is no matter.
    control.release_hangs();
    let expected = embedder.step("b", TokenStep::greedy(tokens(1, 8), 2)).await.unwrap();
    assert_eq!(expected.context_len, 10);
    assert_eq!(embedder.step("b", TokenStep::greedy(vec![], 5)).await.unwrap().value, before.value);
    supervisor.stop(None);
}

#[tokio::test]
async fn a_restart_that_fails_can_be_tried_again() {
    let (control, (supervisor, mut ended)) = (FakeControl::default(), supervisor().await);
    let embedder = start_on(wide(fake_info()), &control, &supervisor).await.unwrap();
    embedder.step("a", TokenStep::greedy(tokens(1, 8), 2)).await.unwrap();
    control.fault_in_run(1, Fault::Panic);
    embedder.embed(None, tokens(1, 2)).await.unwrap_err();
    soon(ended.recv()).await.unwrap();
    control.fault_in_loads(1, LoadFault::Panic);
    let restarted = soon(embedder.restart(None, supervisor.get_cell())).await;
    assert!(matches!(restarted, Err(StartError::Died)));
    assert!(unavailable(&soon(embedder.score("a", tokens(1, 1))).await.unwrap_err()));
    soon(embedder.restart(None, supervisor.get_cell())).await.unwrap();
    assert_eq!(embedder.score("a", tokens(1, 1)).await.unwrap().context_len, 11);
    supervisor.stop(None);
}

#[tokio::test]
async fn what_a_step_had_read_when_its_caller_left_is_not_read_again() {
    let (control, (supervisor, _ended)) = (FakeControl::default(), supervisor().await);
    let embedder = start_on(wide(fake_info()), &control, &supervisor).await.unwrap();
    control.fault_in_run(6, Fault::HANG);
    let step = TokenStep::greedy(tokens(1, 40), 3);
    let leaving = tokio::spawn({
        let (embedder, step) = (embedder.clone(), step.clone());
        async move { embedder.step("a", step).await }
    });
    soon(control.until(|tally| tally.hanging > 0)).await;
    leaving.abort();
    leaving.await.unwrap_err();
    control.record();
    control.release_hangs();
    let answer = soon(embedder.step("a", step.clone())).await.unwrap();
    assert_eq!(read(&control), 40 - 6 * 4, "six chunks of four were read");
    assert_eq!(embedder.step("b", step.clone()).await.unwrap(), answer);
    let onwards = soon(embedder.step("a", step.clone())).await.unwrap();
    assert_eq!(embedder.step("b", step).await.unwrap(), onwards, "on the pages that both steps have filled");
    supervisor.stop(None);
}

#[tokio::test]
async fn more_jobs_than_there_may_be_are_refused_and_a_forget_is_none() {
    let control = FakeControl::default();
    let (embedder, _ended) = start(&control).await.unwrap();
    control.fault_in_run(1, Fault::HANG);
    let waiting: Vec<_> = (0..JOBS_MAX)
        .map(|index| {
            let embedder = embedder.clone();
            // Those that wait for their conversation count as well.
            let name = if index == 0 { "a" } else { "b" };
            tokio::spawn(async move { embedder.step(name, TokenStep::greedy(tokens(1, 3), 1)).await })
        })
        .collect();
    soon(control.until(|tally| tally.hanging > 0)).await;
    tokio::task::yield_now().await;
    let error = embedder.embed(None, tokens(1, 1)).await.unwrap_err();
    let JobError::Failed(BrainError::Overloaded { limit, retry_after, .. }) = error else { panic!("{error:?}") };
    assert_eq!((limit, retry_after.is_some()), (JOBS_MAX, true));
    let forgets = tokio::spawn({
        let embedder = embedder.clone();
        async move { embedder.forget("c").await }
    });
    control.release_hangs();
    soon(forgets).await.unwrap().unwrap();
    for job in waiting {
        soon(job).await.unwrap().unwrap();
    }
    soon(embedder.embed(None, tokens(1, 1))).await.unwrap();
    embedder.actor_ref().stop(None);
}
