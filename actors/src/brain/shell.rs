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
    notices,
    stream::Pieces,
    tokenizing::Tokenizing,
};
use crate::{
    job::{Cancel, Job, Report, RequestId},
    message::{BrainError, ConversationId, Embed, Input, Request, Score, Step},
    policy::{
        ActorIndex, Arrival, Ask, Assignment, Chaos, Effect, Event, Given, Incarnation, Policy,
        StepAsk, Time,
    },
    tokens::{TokenId, Tokenizer},
};

/// How often open requests are looked at for callers that went away: ports cannot be awaited.
const LOOK_FOR_ABANDONED_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Shell {
    myself: ActorRef<BrainMessage>,
    config: BrainConfig,
    policy: Policy,
    clock: Clock,
    alarm: Alarm,
    crew: Crew,
    tokenizer: Arc<dyn Tokenizer>,
    tokenizing: Tokenizing,
    open: HashMap<RequestId, Open>,
    next_request: u64,
    next_look: Time,
    /// Draws seeds for steps that name none.
    random: RandomState,
    end_tokens: Vec<TokenId>,
    started: Option<oneshot::Sender<Result<(), StartError>>>,
    shutdown: Vec<RpcReplyPort<()>>,
    /// Kept between messages for their memory; empty then.
    effects: Vec<Effect>,
    events: VecDeque<Event>,
}

impl Shell {
    pub(super) fn new(
        myself: ActorRef<BrainMessage>,
        arguments: BrainArguments,
    ) -> Result<Self, StartupError> {
        let BrainArguments {
            config,
            loader,
            tokenizer,
            started,
        } = arguments;
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

    pub(super) fn start(&mut self) {
        self.tell(Event::Start);
    }

    pub(super) fn handle(&mut self, message: BrainMessage) {
        match message {
            BrainMessage::Request(envelope, port) => self.request(envelope, Caller::Reply(port)),
            BrainMessage::Tell(envelope) => self.request(envelope, Caller::Nobody),
            BrainMessage::Stream(
                Envelope {
                    request,
                    deadline,
                    permit,
                },
                port,
            ) => {
                let envelope = Envelope {
                    request: Request::Step(request),
                    deadline,
                    permit,
                };
                self.request(envelope, Caller::Stream(port, Pieces::default()));
            }
            // As everywhere: who went away wants no answer.
            BrainMessage::Stats(port) => drop(port.send(self.policy.stats())),
            BrainMessage::Crash(actor, port) => self.chaos(actor, Chaos::Crash, port),
            BrainMessage::Hang(actor, duration, port) => {
                self.chaos(actor, Chaos::Hang(duration), port)
            }
            BrainMessage::Shutdown(port) => {
                self.shutdown.push(port);
                self.tell(Event::Shutdown);
            }
            BrainMessage::Internal(Internal(note)) => self.note(note),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Reported(actor, incarnation, report) => self.tell(Event::Reported {
                actor,
                incarnation,
                report,
            }),
            Note::Died(dead) => {
                if let Some((actor, incarnation, running)) = self.crew.bury(dead) {
                    self.tell(Event::Died {
                        actor,
                        incarnation,
                        running,
                    });
                }
            }
            Note::Tokenised(request, result) => {
                let result = result.map_err(|error| BrainError::BadRequest {
                    what: "text",
                    found: format!("refused by the tokenizer ({})", error.reason),
                    expected: "a text it takes".to_owned(),
                });
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
        let Envelope {
            request,
            deadline,
            permit,
        } = envelope;
        let stream = matches!(caller, Caller::Stream(..));
        let (conversation, ask, input) = self.take_apart(request, stream);
        let (input, text) = match input {
            Some(Input::Text(text)) => (Some(Given::Text { bytes: text.len() }), Some(text)),
            Some(Input::Tokens(tokens)) => (Some(Given::Tokens(tokens)), None),
            None => (None, None),
        };
        let request = self.open(caller, conversation.as_ref(), text, permit);
        self.tell(Event::Arrived(Arrival {
            request,
            conversation,
            ask,
            input,
            deadline,
        }));
    }

    fn take_apart(
        &self,
        request: Request,
        stream: bool,
    ) -> (Option<ConversationId>, Ask, Option<Input>) {
        match request {
            Request::Embed(Embed {
                conversation,
                input,
            }) => (conversation, Ask::Embed, Some(input)),
            Request::Score(Score {
                conversation,
                input,
            }) => (Some(conversation), Ask::Score, Some(input)),
            Request::Reset(conversation) => (Some(conversation), Ask::Reset, None),
            Request::Close(conversation) => (Some(conversation), Ask::Close, None),
            Request::Step(Step {
                conversation,
                input,
                count,
                sampling,
                seed,
                top,
            }) => {
                let seed = seed.unwrap_or_else(|| self.random.hash_one(self.next_request));
                (
                    Some(conversation),
                    Ask::Step(StepAsk {
                        count,
                        sampling,
                        seed,
                        top,
                        stream,
                    }),
                    input,
                )
            }
        }
    }

    fn chaos(&mut self, actor: usize, chaos: Chaos, port: RpcReplyPort<Result<(), BrainError>>) {
        let request = self.open(Caller::Done(port), None, None, None);
        self.tell(Event::Chaos {
            request,
            actor: ActorIndex(actor),
            chaos,
        });
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
        let open = Open {
            caller,
            cancel: Cancel::default(),
            span,
            text,
            _permit: permit,
        };
        self.open.insert(request, open);
        request
    }

    fn look_for_abandoned(&mut self) {
        let abandoned = self.open.iter().filter(|(_, open)| open.is_abandoned());
        self.events
            .extend(abandoned.map(|(&request, _)| Event::Gone(request)));
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

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { actor, incarnation } => {
                if let Err(error) = self.crew.spawn(actor, incarnation, &self.config) {
                    let report = Report::LoadFailed(error);
                    self.events.push_back(Event::Reported {
                        actor,
                        incarnation,
                        report,
                    });
                }
            }
            Effect::Tokenise(request) => {
                if let Some(text) = self
                    .open
                    .get_mut(&request)
                    .and_then(|open| open.text.take())
                {
                    self.tokenizing.tokenise(request, text);
                }
            }
            Effect::Send {
                actor,
                incarnation,
                job,
            } => self.send(actor, incarnation, job),
            Effect::Show { request, sampled } => {
                if let Some(open) = self.open.get_mut(&request)
                    && !open.show(sampled, &self.end_tokens, &*self.tokenizer)
                {
                    self.events.push_back(Event::Gone(request));
                }
            }
            Effect::Answer { request, answer } => {
                if let Some(open) = self.open.remove(&request) {
                    open.answer(answer, &*self.tokenizer);
                }
            }
            Effect::Fail {
                request,
                error,
                committed,
            } => {
                if let Some(open) = self.open.remove(&request) {
                    let code = error.code().as_str();
                    tracing::debug!(parent: &open.span, code, committed, "a request failed");
                    open.fail(error, committed);
                }
            }
            Effect::Drop(request) => drop(self.open.remove(&request)),
            Effect::Cancel(request) => {
                if let Some(open) = self.open.get(&request) {
                    open.cancel.cancel();
                }
            }
            Effect::Observe { actor, incarnation } => {
                let run = self.crew.observe(actor, incarnation, &self.clock);
                self.events.push_back(Event::Observed {
                    actor,
                    incarnation,
                    run,
                });
            }
            Effect::Abandon { actor, incarnation } => self.crew.abandon(actor, incarnation),
            Effect::Stop { actor, incarnation } => self.crew.stop(actor, incarnation),
            Effect::Inflict {
                actor,
                incarnation,
                chaos,
            } => self.crew.inflict(actor, incarnation, chaos),
            Effect::Started(model) => {
                self.end_tokens = model.end_tokens;
                self.say_started(Ok(()));
            }
            Effect::StartFailed(error) => {
                self.say_started(Err(StartError::Load(error)));
                self.stop();
            }
            Effect::ShutdownComplete => self.stop(),
            Effect::Notice(notice) => notices::log(notice),
        }
    }

    fn send(&mut self, actor: ActorIndex, incarnation: Incarnation, job: Assignment) {
        let Assignment {
            request,
            conversation,
            epoch,
            restore,
            work,
            alone,
        } = job;
        // A slot that is given back serves no request and has none of this.
        let (cancel, span) = match self.open.get(&request) {
            Some(open) => {
                if open.is_abandoned() {
                    open.cancel.cancel();
                }
                open.span
                    .record("actor", actor.0)
                    .record("incarnation", incarnation.0)
                    .record("epoch", epoch.0);
                (open.cancel.clone(), open.span.clone())
            }
            None => (Cancel::default(), tracing::Span::none()),
        };
        self.crew.send(
            actor,
            incarnation,
            Job {
                request,
                conversation,
                restore,
                work,
                alone,
                cancel,
                span,
            },
        );
    }

    /// Whoever started the brain and went away has left it without an owner: then it shuts down.
    fn say_started(&mut self, result: Result<(), StartError>) {
        if let Some(Err(_)) = self.started.take().map(|started| started.send(result)) {
            self.events.push_back(Event::Shutdown);
        }
    }

    fn stop(&mut self) {
        for port in self.shutdown.drain(..) {
            drop(port.send(()));
        }
        self.myself.stop(None);
    }
}

/// Why the shell could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartupError {
    #[error(transparent)]
    Config(#[from] StartError),
    #[error("the system gave no thread for the tokenizer")]
    Thread(#[from] std::io::Error),
}
