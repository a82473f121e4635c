//! Requests and their replies, by handle and by name.

use std::sync::Arc;

use motorbrain_actors::{
    brain::{BrainConfig, BrainMessage, Delivery, Envelope},
    message::{ErrorCode, Finished, Input, Reply, Request, Score, Step},
    tokens::{TokenId, TokenizerKind},
};
use motorbrain_testing::{Fault, fake_info};
use ractor::{ActorRef, call};

use super::{Letters, config, embed, start, start_with, step, unshared, within};
use motorbrain_actors::tokens::Tokenizer;

#[tokio::test]
async fn a_step_is_the_same_in_one_or_in_pieces() {
    let brain = start(config(1)).await.brain;
    let whole = brain.step(step("whole", "HELLO", 6)).await.unwrap();
    let first = brain.step(step("pieces", "HELLO", 2)).await.unwrap();
    let go_on = Step { input: None, ..step("pieces", "", 4) };
    let second = brain.step(go_on).await.unwrap();

    assert_eq!([first.token_ids, second.token_ids].concat(), whole.token_ids);
    assert_eq!(first.text + &second.text, whole.text);
    assert_eq!(whole.text, Letters.decode(&whole.token_ids));
    assert_eq!(whole.finished, Finished::Count);
    assert_eq!(whole.context.context_len, 11);
    assert_eq!(second.context, whole.context);
    assert_eq!(whole.context.tokenizer, TokenizerKind::Model);
}

#[tokio::test]
async fn text_and_its_tokens_are_the_same() {
    let brain = start(config(1)).await.brain;
    let tokens = Letters.encode("SAME").unwrap();
    let by_text = brain.step(step("a", "SAME", 3)).await.unwrap();
    let by_tokens = brain.step(Step { input: Some(Input::Tokens(tokens)), ..step("b", "", 3) }).await.unwrap();
    assert_eq!(by_text, unshared(by_tokens));
}

#[tokio::test]
async fn the_end_token_ends_a_step_and_is_not_in_its_text() {
    let probe = start(config(1)).await.brain.step(step("a", "HELLO", 3)).await.unwrap();
    let mut info = fake_info();
    info.end_tokens = vec![probe.token_ids[1]];
    let brain = start_with(config(1), info).await.brain;
    let stepped = brain.step(step("a", "HELLO", 3)).await.unwrap();
    assert_eq!(stepped.token_ids, probe.token_ids[..2]);
    assert_eq!(stepped.text, Letters.decode(&probe.token_ids[..1]));
    assert_eq!(stepped.finished, Finished::Stop);
}

#[tokio::test]
async fn scores_are_those_of_the_steps() {
    let brain = start(config(1)).await.brain;
    let stepped = brain.step(Step { top: 2, ..step("stepped", "HELLO", 3) }).await.unwrap();
    let before = brain.score(Score::of("scored", "HELLO")).await.unwrap();
    let scored = brain.score(Score { top: 2, ..Score::of("scored", stepped.text.as_str()) }).await.unwrap();
    let expected: Vec<_> = stepped.logprobs.iter().copied().map(Some).collect();
    assert_eq!((scored.logprobs, scored.top), (expected, stepped.top));
    assert!(before.top.is_empty());
}

#[tokio::test]
async fn a_stateless_embed_is_that_of_a_new_conversation() {
    let brain = start(config(2)).await.brain;
    let alone = brain.embed(embed(None, "TEXT")).await.unwrap();
    let new = brain.embed(embed(Some("a"), "TEXT")).await.unwrap();
    assert_eq!(alone, new);
    assert_eq!(alone.tokens, 4);
    let stats = brain.stats().await.unwrap();
    assert_eq!(stats.actors.iter().map(|actor| actor.conversations).sum::<usize>(), 1);
}

#[tokio::test]
async fn a_reset_empties_a_close_forgets() {
    let brain = start(config(1)).await.brain;
    let first = brain.step(step("a", "HELLO", 3)).await.unwrap();
    brain.reset("a").await.unwrap();
    assert_eq!(unshared(brain.step(step("a", "HELLO", 3)).await.unwrap()), first);
    brain.close("a").await.unwrap();
    brain.reset("never seen").await.unwrap();
    for name in ["a", "never seen"] {
        let error = brain.close(name).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownConversation);
    }
    assert_eq!(brain.stats().await.unwrap().actors[0].conversations, 0);
}

#[tokio::test]
async fn requests_of_a_conversation_are_done_in_the_order_of_their_arrival() {
    let brain = start(config(1)).await.brain;
    // A long text takes longer to tokenise than a short one that arrives behind it.
    let long = "A".repeat(100_000);
    let (first, second, third) =
        tokio::join!(brain.score(Score::of("a", long.as_str())), brain.step(step("a", "B", 1)), brain.reset("a"),);
    assert_eq!(first.unwrap().logprobs.len(), long.len());
    assert!(second.unwrap().context.context_len > 2);
    third.unwrap();
}

#[tokio::test]
async fn another_actor_finds_the_brain_by_its_name() {
    let config = BrainConfig { name: Some("brain-by-name".to_owned()), ..config(1) };
    let bench = start(config).await;
    let cell = ractor::registry::where_is("brain-by-name").unwrap();
    let actor: ActorRef<BrainMessage> = cell.into();

    // Told first, so read first, though nobody waits for the reply.
    actor.cast(BrainMessage::Tell(Envelope::new(Request::Step(step("a", "HELLO", 2))))).unwrap();
    let request = Envelope::new(Request::Step(step("a", "MORE", 1)));
    let reply = call!(actor, BrainMessage::Request, request).unwrap().unwrap();
    let Reply::Stepped(stepped) = reply else { panic!("{reply:?}") };
    assert_eq!(stepped.context.context_len, 12);
    assert!(ractor::registry::where_is("brain-by-name/embedder-0.0").is_some());
    within(bench.brain.shutdown()).await;
}

#[tokio::test]
async fn bad_requests_change_nothing() {
    let brain = start(config(1)).await.brain;
    let before = brain.step(step("a", "HELLO", 1)).await.unwrap();
    let with_tokens = |ids: &[u32]| Step {
        input: Some(Input::Tokens(ids.iter().map(|&id| TokenId(id)).collect())),
        ..step("a", "", 1)
    };
    let bad = [
        (with_tokens(&[64]), ErrorCode::InvalidToken),
        (with_tokens(&[]), ErrorCode::EmptyInput),
        (step("a", "", 1), ErrorCode::EmptyInput),
        (step("a", "lower case is refused", 1), ErrorCode::BadRequest),
        (step("a", "PANIC", 1), ErrorCode::BadRequest),
        (step("a", &"long and refused".repeat(9), 1), ErrorCode::BadRequest),
        (Step { input: None, ..step("a", "", 0) }, ErrorCode::EmptyInput),
        (Step { input: None, ..step("new", "", 1) }, ErrorCode::EmptyInput),
        (step("a", "HELLO", 65_537), ErrorCode::BadRequest),
    ];
    for (request, code) in bad {
        let error = brain.step(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{request:?}");
    }
    let go_on = Step { input: None, ..step("a", "", 1) };
    let after = brain.step(go_on).await.unwrap();
    assert_eq!(after.context.context_len, before.context.context_len + 1);
    assert_eq!(brain.stats().await.unwrap().actors[0].conversations, 1);
}

#[tokio::test]
async fn a_model_without_hidden_states_says_so() {
    let mut info = fake_info();
    info.embeds = false;
    let brain = start_with(config(1), info).await.brain;
    let error = brain.embed(embed(None, "TEXT")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Engine);
    brain.step(step("a", "TEXT", 1)).await.unwrap();
}

#[tokio::test]
async fn seeds_are_drawn_where_none_is_given_and_kept_where_one_is() {
    let brain = Arc::new(start(config(1)).await.brain);
    let hot = |conversation: &str, seed| {
        let mut step = step(conversation, "HELLO", 8);
        step.sampling.temperature = 5.0;
        Step { seed, ..step }
    };
    let a = brain.step(hot("a", Some(7))).await.unwrap();
    let b = brain.step(hot("b", Some(7))).await.unwrap();
    assert_eq!(a.token_ids, b.token_ids);
    let c = brain.step(hot("c", None)).await.unwrap();
    let d = brain.step(hot("d", None)).await.unwrap();
    assert_ne!(c.token_ids, d.token_ids, "64^8 to 1");
}

#[tokio::test]
async fn replies_in_a_queue_come_in_the_order_in_which_they_are_done() {
    let bench = start(config(1)).await;
    let (replies, mut done) = tokio::sync::mpsc::unbounded_channel();
    for turn in 0..50 {
        let requests = [Request::Step(step("a", "HELLO", 2)), Request::Reset("a".into()), Request::Close("b".into())];
        for (place, request) in requests.into_iter().enumerate() {
            bench.brain.request_to(&replies, 10 * turn + place as u64, request).unwrap();
        }
    }
    let mut tags = Vec::new();
    for _ in 0..150 {
        let (tag, reply) = within(done.recv()).await.unwrap();
        assert_eq!(matches!(reply, Delivery::End(Ok(_))), tag % 10 != 2, "{tag}: {reply:?}");
        tags.push(tag);
    }
    for kind in [vec![0, 1], vec![2]] {
        let own: Vec<_> = tags.iter().filter(|tag| kind.contains(&(*tag % 10))).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
}

#[tokio::test]
async fn a_brain_that_has_stopped_answers_to_a_queue_as_well() {
    let bench = start(config(1)).await;
    bench.control.fault_in_run(1, Fault::Hang { limit: None, deaf: true });
    let (replies, mut done) = tokio::sync::mpsc::unbounded_channel();
    bench.brain.request_to(&replies, 1, Request::Step(step("a", "HELLO", 2))).unwrap();
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    bench.brain.actor_ref().kill();
    bench.brain.request_to(&replies, 2, Request::Step(step("a", "HELLO", 2))).unwrap();
    for _ in 0..2 {
        let (_, reply) = within(done.recv()).await.unwrap();
        let Delivery::End(Err(error)) = reply else { panic!("{reply:?}") };
        assert_eq!(error.code(), ErrorCode::Unavailable);
    }
    bench.control.release_hangs();
}
