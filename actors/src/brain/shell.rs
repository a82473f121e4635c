//! The shell: messages in, events to the policy, effects performed.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    clock::{Alarm, Clock},
    config::{BrainArguments, BrainConfig, StartError},
    crew::Crew,
    desk::{Caller, Open},
    message::{BrainMessage, Envelope, Internal, Note},
    tokenizing::{self, Task, Tokenizing},
};
use crate::{
    job::{Cancel, RequestId},
    message::{BrainError, ConversationId, Embed, Fork, Input, PARTS_MAX, Request, Rewind, Score, Step, Terms},
    policy::{ActorIndex, Arrival, Ask, Chaos, Effect, Event, Given, Limits, Policy, Stats, StepAsk, Time},
    text::StopTexts,
    tokens::{TokenId, Tokenizer},
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
    /// For those who ask for tokens or text and nothing else: the policy, which counts requests, does not know of them.
    asks: Arc<Semaphore>,
    /// The model's, once it is known: they are shown as no text.
    pub(super) end_tokens: Vec<TokenId>,
    /// Rows of its vocabulary; until it is known any id may be of it.
    pub(super) vocab: usize,
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
            asks: Arc::new(Semaphore::new(config.limits.requests.min(Semaphore::MAX_PERMITS))),
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
            vocab: usize::MAX,
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
            BrainMessage::Stream(envelope, port) => self.request(as_step(envelope), Caller::Stream(port)),
            BrainMessage::StreamQueue(envelope, port) => self.request(as_step(envelope), Caller::QueuedStream(port)),
            BrainMessage::Tokenize(Envelope { request: input, permit, .. }, port) => {
                self.ask(check_parts(&input).map(|()| input.bytes()), permit, port, |asked| Task::Tokenize {
                    input,
                    asked,
                });
            }
            BrainMessage::Detokenize(Envelope { request: tokens, permit, .. }, port) => {
                let bytes = tokens.len().saturating_mul(size_of::<TokenId>());
                self.ask(Ok(bytes), permit, port, |asked| Task::Detokenize { tokens, asked });
            }
            // As everywhere: who went away wants no answer.
            BrainMessage::Stats(port) => {
                let pages = self.crew.kv_bytes();
                drop(port.send(self.policy.stats().map(|stats| Stats { kv_bytes: stats.kv_bytes + pages, ..stats })));
            }
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
                self.tell(Event::Tokenised { request, result });
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
        let stream = matches!(caller, Caller::Stream(_) | Caller::QueuedStream(_));
        let Asked { conversation, ask, input, stop, terms } = self.take_apart(request, stream);
        // What the policy, which knows no text, cannot judge.
        let checked = input.as_ref().map_or(Ok(()), check_parts).and_then(|()| StopTexts::new(&stop));
        let stops = match checked {
            Ok(stops) => stops,
            Err(error) => return caller.fail(error, 0),
        };
        let (input, text) = match input {
            Some(Input::Tokens(tokens)) => (Some(Given::Tokens(tokens)), None),
            Some(text) => (Some(Given::Text { bytes: text.bytes() }), Some(text)),
            None => (None, None),
        };
        let request = self.open(caller, conversation.as_ref(), permit);
        if let Some(open) = self.open.get_mut(&request) {
            open.input = text;
            open.stops = stops;
        }
        self.tell(Event::Arrived(Arrival { request, conversation, ask, input, terms, deadline }));
    }

    fn take_apart(&self, request: Request, stream: bool) -> Asked {
        let plain = |conversation, ask| Asked::new(Some(conversation), ask);
        match request {
            Request::Embed(Embed { conversation, input, terms }) => {
                Asked { input: Some(input), terms, ..Asked::new(conversation, Ask::Embed) }
            }
            Request::Score(Score { conversation, input, terms }) => {
                Asked { input: Some(input), terms, ..plain(conversation, Ask::Score) }
            }
            Request::Reset(conversation) => plain(conversation, Ask::Reset),
            Request::Close(conversation) => plain(conversation, Ask::Close),
            Request::Fork(Fork { from, to, at, choice }) => {
                let terms = Terms { choice, sharing: None };
                Asked { terms, ..plain(from, Ask::Fork { to, at }) }
            }
            Request::Rewind(Rewind { conversation, context_len }) => plain(conversation, Ask::Rewind { context_len }),
            Request::Step(Step { conversation, input, count, sampling, seed, top, stop, n, terms }) => {
                let seed = seed.unwrap_or_else(|| self.random.hash_one(self.next_request));
                let ask = Ask::Step(StepAsk { count, sampling, seed, top, stream, n });
                Asked { input, stop, terms, ..plain(conversation, ask) }
            }
        }
    }

    /// Has tokens or text made for somebody who asks for nothing else, on another thread. `bytes`: of what is given.
    fn ask<T>(
        &mut self,
        bytes: Result<usize, BrainError>,
        permit: Option<OwnedSemaphorePermit>,
        port: RpcReplyPort<Result<T, BrainError>>,
        task: impl FnOnce(tokenizing::Asked<T>) -> Task,
    ) {
        let Limits { text_bytes: limit, requests, .. } = self.config.limits;
        let granted = bytes.and_then(|found| match Arc::clone(&self.asks).try_acquire_owned() {
            _ if found > limit => Err(BrainError::InputTooLong { found, limit }),
            Ok(own) => Ok(own),
            Err(_) => Err(BrainError::Overloaded { what: "requests", limit: requests }),
        });
        match granted {
            Ok(own) => {
                self.tokenizing.hand_over(task(tokenizing::Asked { port, vocab: self.vocab, permits: (own, permit) }));
            }
            // As everywhere: who went away wants no answer.
            Err(error) => drop(port.send(Err(error))),
        }
    }

    fn chaos(&mut self, actor: usize, chaos: Chaos, port: RpcReplyPort<Result<(), BrainError>>) {
        let request = self.open(Caller::Done(port), None, None);
        self.tell(Event::Chaos { request, actor: ActorIndex(actor), chaos });
    }

    fn open(
        &mut self,
        caller: Caller,
        conversation: Option<&ConversationId>,
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
        let (cancel, stops) = (Cancel::default(), StopTexts::default());
        let open = Open { caller, cancel, span, input: None, stops, text: None, _permit: permit };
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

/// A request as the policy is told of it, and what only the shell knows.
struct Asked {
    conversation: Option<ConversationId>,
    ask: Ask,
    input: Option<Input>,
    stop: Vec<String>,
    terms: Terms,
}

impl Asked {
    fn new(conversation: Option<ConversationId>, ask: Ask) -> Self {
        Self { conversation, ask, input: None, stop: Vec::new(), terms: Terms::default() }
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

fn as_step(Envelope { request, deadline, permit }: Envelope<Step>) -> Envelope {
    Envelope { request: Request::Step(request), deadline, permit }
}

fn check_parts(input: &Input) -> Result<(), BrainError> {
    match input {
        Input::Parts(parts) if parts.len() > PARTS_MAX => Err(BrainError::BadRequest {
            what: "parts",
            found: format!("{} of them", parts.len()),
            expected: format!("at most {PARTS_MAX}"),
        }),
        _ => Ok(()),
    }
}
