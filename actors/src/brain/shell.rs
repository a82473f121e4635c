//! The shell: messages in, events to the policy, effects performed.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    clock::{Alarm, Clock},
    config::{BrainArguments, BrainConfig, StartError},
    crew::Crew,
    desk::{Caller, Open},
    message::{BrainMessage, Envelope, Internal, Note},
    stream::Pieces,
    tokenizing::Tokenizing,
};
use crate::{
    job::{Cancel, RequestId},
    message::{BrainError, ConversationId, Embed, Input, Request, Score, Step},
    policy::{ActorIndex, Arrival, Ask, Chaos, Effect, Event, Given, Policy, StepAsk, Time},
    tokens::{EncodeError, TokenId, Tokenizer},
};

/// How often open requests are looked at for callers that went away: ports cannot be awaited.
const LOOK_FOR_ABANDONED_EVERY: Duration = Duration::from_millis(100);

/// The brain around its policy: messages become events, effects become answers, jobs and timers.
pub(super) struct Shell {
    /// For whoever reports to the brain.
    pub(super) myself: ActorRef<BrainMessage>,
    /// As it was started with, checked.
    pub(super) config: BrainConfig,
    policy: Policy,
    /// The one clock that the policy's times are read from.
    pub(super) clock: Clock,
    alarm: Alarm,
    /// The embedder actors that live.
    pub(super) crew: Crew,
    /// Turns tokens into text on the brain's own thread, which is quick.
    pub(super) tokenizer: Arc<dyn Tokenizer>,
    /// Turns text into tokens on threads of its own, which may not be.
    pub(super) tokenizing: Tokenizing,
    /// Requests that are not answered yet, with who waits for each.
    pub(super) open: HashMap<RequestId, Open>,
    next_request: u64,
    next_look: Time,
    /// Draws seeds for steps that name none.
    random: RandomState,
    /// The model's, once it is known: they are shown as no text.
    pub(super) end_tokens: Vec<TokenId>,
    /// Who waits for the start, until it is known how that went.
    pub(super) started: Option<oneshot::Sender<Result<(), StartError>>>,
    /// Who waits for the end.
    pub(super) shutdown: Vec<RpcReplyPort<()>>,
    /// Kept between messages for their memory; empty then.
    effects: Vec<Effect>,
    /// Events that effects have led to, handled before the next message.
    pub(super) events: VecDeque<Event>,
}

impl Shell {
    /// A brain that has started nothing but its tokenizer's threads.
    ///
    /// # Errors
    /// Settings out of their range, or no thread.
    pub(super) fn new(myself: ActorRef<BrainMessage>, arguments: BrainArguments) -> Result<Self, StartupError> {
        let BrainArguments { config, loader, tokenizer, started } = arguments;
        config.check()?;
        Ok(Self {
            policy: Policy::new(config.policy()),
            clock: Clock::start(),
            alarm: Alarm::default(),
            crew: Crew::new(myself.clone(), loader, config.actors),
            tokenizing: Tokenizing::start(&tokenizer, &myself)?,
            tokenizer,
            myself,
            config,
            open: HashMap::new(),
            next_request: 0,
            next_look: Time::default(),
            random: RandomState::new(),
            end_tokens: Vec::new(),
            started,
            shutdown: Vec::new(),
            effects: Vec::new(),
            events: VecDeque::new(),
        })
    }

    /// Has the policy start its actors.
    pub(super) fn start(&mut self) {
        self.tell(Event::Start);
    }

    /// Does what a message asks for.
    pub(super) fn handle(&mut self, message: BrainMessage) {
        match message {
            BrainMessage::Request(envelope, port) => self.request(envelope, Caller::Reply(port)),
            BrainMessage::Queue(envelope, port) => self.request(envelope, Caller::Queue(port)),
            BrainMessage::Tell(envelope) => self.request(envelope, Caller::Nobody),
            BrainMessage::Stream(Envelope { request, deadline, permit }, port) => {
                let envelope = Envelope { request: Request::Step(request), deadline, permit };
                self.request(envelope, Caller::Stream(port, Pieces::default()));
            }
            // As everywhere: who went away wants no answer.
            BrainMessage::Stats(port) => drop(port.send(self.policy.stats())),
            BrainMessage::Crash(actor, port) => self.chaos(actor, Chaos::Crash, port),
            BrainMessage::Hang(actor, duration, port) => self.chaos(actor, Chaos::Hang(duration), port),
            BrainMessage::Shutdown(port) => {
                self.shutdown.push(port);
                self.tell(Event::Shutdown);
            }
            BrainMessage::Internal(Internal(note)) => self.note(note),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Reported(actor, incarnation, report) => self.tell(Event::Reported { actor, incarnation, report }),
            Note::Died(dead) => {
                if let Some((actor, incarnation, running)) = self.crew.bury(dead) {
                    self.tell(Event::Died { actor, incarnation, running });
                }
            }
            Note::Tokenised(request, result) => {
                self.tell(Event::Tokenised { request, result: result.map_err(refused_text) });
            }
            Note::Alarm => {
                self.alarm.has_rung();
                self.look_for_abandoned();
                self.tell(Event::Timer);
            }
        }
    }

    fn request(&mut self, envelope: Envelope, caller: Caller) {
        let Envelope { request, deadline, permit } = envelope;
        let stream = matches!(caller, Caller::Stream(..));
        let (conversation, ask, input) = self.take_apart(request, stream);
        let (input, text) = match input {
            Some(Input::Text(text)) => (Some(Given::Text { bytes: text.len() }), Some(text)),
            Some(Input::Tokens(tokens)) => (Some(Given::Tokens(tokens)), None),
            None => (None, None),
        };
        let request = self.open(caller, conversation.as_ref(), text, permit);
        self.tell(Event::Arrived(Arrival { request, conversation, ask, input, deadline }));
    }

    fn take_apart(&self, request: Request, stream: bool) -> (Option<ConversationId>, Ask, Option<Input>) {
        match request {
            Request::Embed(Embed { conversation, input }) => (conversation, Ask::Embed, Some(input)),
            Request::Score(Score { conversation, input }) => (Some(conversation), Ask::Score, Some(input)),
            Request::Reset(conversation) => (Some(conversation), Ask::Reset, None),
            Request::Close(conversation) => (Some(conversation), Ask::Close, None),
            Request::Step(Step { conversation, input, count, sampling, seed, top }) => {
                let seed = seed.unwrap_or_else(|| self.random.hash_one(self.next_request));
                (Some(conversation), Ask::Step(StepAsk { count, sampling, seed, top, stream }), input)
            }
        }
    }

    fn chaos(&mut self, actor: usize, chaos: Chaos, port: RpcReplyPort<Result<(), BrainError>>) {
        let request = self.open(Caller::Done(port), None, None, None);
        self.tell(Event::Chaos { request, actor: ActorIndex(actor), chaos });
    }

    fn open(
        &mut self,
        caller: Caller,
        conversation: Option<&ConversationId>,
        text: Option<String>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let span = tracing::debug_span!(
            "request",
            request = request.0,
            conversation = conversation.map(ConversationId::as_str),
            actor = tracing::field::Empty,
            incarnation = tracing::field::Empty,
            epoch = tracing::field::Empty,
        );
        debug_assert!(!self.open.contains_key(&request), "{request:?} is open already");
        let open = Open { caller, cancel: Cancel::default(), span, text, _permit: permit };
        self.open.insert(request, open);
        request
    }

    fn look_for_abandoned(&mut self) {
        let abandoned = self.open.iter().filter(|(_, open)| open.is_abandoned());
        self.events.extend(abandoned.map(|(&request, _)| Event::Gone(request)));
        self.next_look = self.clock.now() + LOOK_FOR_ABANDONED_EVERY;
    }

    /// Tells the policy, does what it says, and what follows from that.
    fn tell(&mut self, event: Event) {
        let now = self.clock.now();
        self.events.push_back(event);
        let mut effects = std::mem::take(&mut self.effects);
        while let Some(event) = self.events.pop_front() {
            self.policy.handle(now, event, &mut effects);
            for effect in effects.drain(..) {
                self.perform(effect);
            }
        }
        self.effects = effects;
        let look = (!self.open.is_empty()).then(|| self.next_look.max(now));
        if let Some(due) = self.policy.next_deadline().into_iter().chain(look).min() {
            self.alarm.set(now, due, &self.myself);
        }
    }
}

/// Why the shell could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartupError {
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] StartError),
    /// The system has no thread left.
    #[error("the system gave no thread for the tokenizer")]
    Thread(#[from] std::io::Error),
}

/// What a caller is told whose text the tokenizer does not take.
pub(super) fn refused_text(error: EncodeError) -> BrainError {
    BrainError::BadRequest {
        what: "text",
        found: format!("refused by the tokenizer ({})", error.reason),
        expected: "a text it takes".to_owned(),
    }
}
