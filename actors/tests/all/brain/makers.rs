//! Tokenizers that take long, or panic: what waits for them, and what they break.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::available_parallelism,
    time::Duration,
};

use motorbrain_actors::{
    brain::{Brain, BrainConfig, BrainMessage, Delivery, Envelope, ReplyQueue, StepItem, Ticket},
    message::{ErrorCode, Request, Score, Step},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::fake_info;
use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    watch,
};

use super::{Bench, Letters, config, embed, loader, step, within};

/// [`Letters`] that holds long texts up and panics on a token, as told; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Slow(Arc<Script>);

#[derive(Default)]
struct Script {
    held: Mutex<bool>,
    changed: Condvar,
    poison: Mutex<Option<TokenId>>,
    /// The first letters of the long texts that were begun.
    begun: watch::Sender<String>,
}

impl Slow {
    pub(super) fn hold(&self) {
        *self.held() = true;
    }

    pub(super) fn release(&self) {
        *self.held() = false;
        self.0.changed.notify_all();
    }

    /// From now on no text can be made of this token.
    fn poison(&self, token: TokenId) {
        *self.0.poison.lock().unwrap() = Some(token);
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.0.held.lock().unwrap()
    }

    fn begun(&self) -> String {
        self.0.begun.borrow().clone()
    }

    /// Holds long texts up until no thread is left for another: how many that takes, and where their replies come.
    async fn fill(&self, brain: &Brain) -> (usize, UnboundedReceiver<(u64, Delivery)>) {
        let threads = available_parallelism().unwrap().get().min(4);
        self.hold();
        let (replies, done) = unbounded_channel();
        for tag in 0..threads {
            brain.request_to(&replies, tag as u64, long("X")).unwrap();
        }
        within(self.0.begun.subscribe().wait_for(|begun| begun.len() == threads)).await.unwrap();
        (threads, done)
    }
}

impl Tokenizer for Slow {
    fn encode_behind(&self, text: Spelled<'_>, behind: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        let (Spelled::Marked(letters) | Spelled::Literal(letters)) = text;
        if letters.len() > 64 {
            self.0.begun.send_modify(|begun| begun.push_str(&letters[..1]));
            drop(self.0.changed.wait_while(self.held(), |held| *held).unwrap());
        }
        Letters.encode_behind(text, behind)
    }

    fn append(&self, before: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
        let poison = *self.0.poison.lock().unwrap();
        assert!(!poison.is_some_and(|poison| tokens.contains(&poison)), "no text of the token, as told");
        Letters.append(before, tokens, bytes);
    }

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Model
    }
}

pub(super) async fn start(config: BrainConfig) -> (Bench, Slow) {
    let ((loader, control), tokenizer) = (loader(fake_info()), Slow::default());
    let brain = within(Brain::start(config, loader, Arc::new(tokenizer.clone()))).await.unwrap();
    (Bench { brain, control }, tokenizer)
}

/// An embed of a text that is tokenised on another thread.
pub(super) fn long(letter: &str) -> Request {
    Request::Embed(embed(None, &letter.repeat(100)))
}

fn send(brain: &Brain, replies: &ReplyQueue, letter: &str) -> Ticket {
    brain.request_to(replies, 0, long(letter)).unwrap()
}

#[tokio::test]
async fn a_text_leaves_the_tokenizers_queue_with_its_request() {
    let (bench, tokenizer) = start(config(1)).await;
    let (threads, _waits) = tokenizer.fill(&bench.brain).await;
    let (replies, mut done) = unbounded_channel();
    for _ in 0..20 {
        for _ in 0..8 {
            send(&bench.brain.within(Duration::from_millis(1)), &replies, "A");
        }
        let ticket = send(&bench.brain, &replies, "B");
        assert!(bench.brain.cancel(ticket).await.unwrap());
        for _ in 0..9 {
            let (_, Delivery::End(Err(error))) = within(done.recv()).await.unwrap() else { panic!("served") };
            assert!([ErrorCode::Timeout, ErrorCode::Cancelled].contains(&error.code()), "{error}");
        }
        let asks = bench.brain.within(Duration::from_millis(1));
        assert_eq!(asks.tokenize("C".repeat(100)).await.unwrap_err().code(), ErrorCode::Timeout);
        let tokens = vec![TokenId(1); 100];
        assert_eq!(asks.detokenize(tokens).await.unwrap_err().code(), ErrorCode::Timeout);
        drop(tokio::time::timeout(Duration::from_millis(1), bench.brain.tokenize("D".repeat(100))).await);
        drop(tokio::time::timeout(Duration::from_millis(1), bench.brain.request(long("E"))).await);
    }
    // What went away has said so before this is asked.
    bench.brain.stats().await.unwrap();
    tokenizer.release();
    assert_eq!(within(bench.brain.tokenize("F".repeat(100))).await.unwrap().len(), 100);
    assert_eq!(tokenizer.begun(), "X".repeat(threads) + "F", "nothing else was tokenised");
}

#[tokio::test]
async fn clients_take_turns_at_the_tokenizer_by_the_bytes_that_are_read() {
    let (bench, tokenizer) = start(config(1)).await;
    let (threads, _waits) = tokenizer.fill(&bench.brain).await;
    let mut answers = Vec::new();
    for (client, letter, bytes) in [("long", "L", 10_000), ("short", "S", 100)] {
        for _ in 0..20 {
            let (port, answer) = tokio::sync::oneshot::channel();
            let ask = Envelope::new(letter.repeat(bytes).into()).of(client);
            bench.brain.actor_ref().cast(BrainMessage::Tokenize(ask, port.into())).unwrap();
            answers.push(answer);
        }
    }
    // Behind all of them.
    bench.brain.stats().await.unwrap();
    tokenizer.release();
    for answer in answers {
        within(answer).await.unwrap().unwrap();
    }
    let begun = tokenizer.begun();
    let before = begun[..begun.rfind('S').unwrap()].matches('L').count();
    assert!(before <= threads + 1, "{before} long ones before the last short one: {begun}");
}

#[tokio::test]
async fn a_step_without_a_text_fails_and_nothing_else_does() {
    let (bench, tokenizer) = start(config(1)).await;
    let whole = bench.brain.step(step("whole", "HELLO", 4)).await.unwrap();
    let poison = whole.token_ids[2];
    assert!(!whole.token_ids[..2].contains(&poison), "else the third would not be the first");
    tokenizer.poison(poison);
    let bad = |name: &str| step(name, "HELLO", 4);
    assert_eq!(bench.brain.step(bad("plain")).await.unwrap_err().code(), ErrorCode::Engine);
    // Here the actor makes text as well, to find the stop text in it.
    let stopping = Step { stop: vec!["never".to_owned()], ..bad("stopping") };
    assert_eq!(bench.brain.step(stopping).await.unwrap_err().code(), ErrorCode::Engine);
    const COUNT: usize = 50_000;
    let mut stream = bench.brain.step_stream(step("streamed", "HELLO", COUNT)).await.unwrap();
    let last = loop {
        match within(stream.next()).await.unwrap() {
            StepItem::Token { sampled, .. } => assert_ne!(sampled.token, poison),
            last => break last,
        }
    };
    assert!(matches!(&last, StepItem::Failed { error, .. } if error.code() == ErrorCode::Engine), "{last:?}");
    assert!(bench.control.tally().runs < COUNT as u64, "it is taken back");
    // A text that goes on behind what has none: nothing is done of it.
    let behind = Step { input: None, ..step("whole", "", 1) };
    assert_eq!(within(bench.brain.step(behind)).await.unwrap_err().code(), ErrorCode::Engine);
    let context = within(bench.brain.score(Score::of("whole", "A"))).await.unwrap().context;
    assert_eq!(context.context_len, whole.context.context_len + 1);
    assert_eq!(bench.brain.detokenize(vec![poison]).await.unwrap_err().code(), ErrorCode::BadRequest);
    assert_eq!(bench.brain.detokenize(vec![poison; 100]).await.unwrap_err().code(), ErrorCode::BadRequest);
    assert_eq!(bench.brain.step(step("new", "HELLO", 2)).await.unwrap().token_ids, whole.token_ids[..2]);
    assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 0);
}

#[tokio::test]
async fn a_tokenizer_that_panics_goes_on() {
    let (bench, _) = start(config(1)).await;
    for round in 0..10 {
        let short = bench.brain.step(step("a", "PANIC", 1)).await.unwrap_err();
        assert_eq!(short.code(), ErrorCode::BadRequest, "round {round}");
    }
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
}
