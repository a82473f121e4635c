//! The shell: messages in, events to the policy, effects performed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

use super::{
    alarm::Alarm,
    config::{BrainArguments, BrainConfig, StartError},
    crew::Crew,
    desk::{Caller, Open},
    events::Telling,
    gate::{Gate, Permit},
    keeper::Keeper,
    message::{BrainMessage, Envelope, Inner, Internal, Ticket},
    meters::Meters,
    notes::{self, Note, Notes, Post},
    recipes::Recipes,
    tokenizing::{Made, Tokenizing},
};
use crate::{
    clock::Clock,
    job::RequestId,
    message::{BrainError, ErrorCode, Request, Step},
    metrics,
    policy::{ActorIndex, Chaos, Effect, Event, Policy, Stats, Time},
    tokens::{TokenId, Tokenizer},
};

/// The brain around its policy: messages become events, effects become answers, jobs and timers.
pub(super) struct Shell {
    /// To stop it.
    pub(super) myself: ActorRef<BrainMessage>,
    /// As it was started with, checked.
    pub(super) config: BrainConfig,
    policy: Policy,
    /// The one clock that the policy's times are read from.
    pub(super) clock: Clock,
    alarm: Alarm,
    /// For whoever reports to the brain.
    post: Post,
    /// What they have said.
    notes: Notes,
    /// Permits for those who came without.
    pub(super) gate: Arc<Gate>,
    /// The embedder actors that live.
    pub(super) crew: Crew,
    /// Turns tokens into text on the brain's own thread, which is quick.
    pub(super) tokenizer: Arc<dyn Tokenizer>,
    /// How its vectors are made.
    pub(super) recipes: Recipes,
    /// Turns text into tokens on threads of its own, which may not be.
    pub(super) tokenizing: Tokenizing,
    /// Keeps conversations outside of memory, where there is something to keep them in.
    pub(super) keeper: Option<Keeper>,
    /// Requests that are not answered yet, with who waits for each.
    pub(super) open: BTreeMap<RequestId, Box<Open>>,
    /// Those of them that can be taken back.
    pub(super) tickets: HashMap<Ticket, RequestId>,
    /// When those are to be answered that the policy does not know of.
    pub(super) asks_until: BTreeSet<(Time, RequestId)>,
    /// Of requests that were answered and are still worked on.
    pub(super) lingering: BTreeMap<RequestId, Permit>,
    /// How many requests were answered with [`BrainError::Cancelled`] so far.
    pub(super) cancelled: usize,
    next_request: u64,
    /// When open requests are looked at again, and behind which one.
    pub(super) next_look: Time,
    pub(super) looked_to: Option<RequestId>,
    /// Draws seeds for steps that name none.
    random: RandomState,
    /// The model's, once it is known: they are shown as no text.
    pub(super) end_tokens: Vec<TokenId>,
    /// Rows of its vocabulary; until it is known any id may be of it.
    pub(super) vocab: usize,
    /// Who waits for the start, until it is known how that went.
    pub(super) started: Option<oneshot::Sender<Result<(), StartError>>>,
    /// Who waits for the end.
    pub(super) shutdown: Vec<RpcReplyPort<()>>,
    /// The policy is done, and for what reason, where that was none of its callers'.
    pub(super) over: Option<Result<(), GaveUp>>,
    /// When the events under way are handled.
    pub(super) now: Time,
    pub(super) meters: Meters,
    /// For those who want to know what happens.
    pub(super) telling: Telling,
    /// Kept between messages for their memory; empty then.
    effects: Vec<Effect>,
    /// Events that effects have led to, handled before the next message.
    pub(super) events: VecDeque<Event>,
}

/// Why a brain ends that nobody has told to. Its supervisor hears it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the brain gives up: {0}")]
pub(super) struct GaveUp(pub(super) String);

impl Shell {
    /// A brain that has started nothing but its tokenizer's threads.
    ///
    /// # Errors
    /// Settings out of their range, or no thread.
    pub(super) fn new(myself: ActorRef<BrainMessage>, arguments: BrainArguments) -> Result<Self, StartupError> {
        let BrainArguments { config, loader, tokenizer, gate, started } = arguments;
        config.check()?;
        let (post, notes) = notes::post(myself.clone());
        metrics::describe();
        let meters = Meters::new(config.name.clone());
        Ok(Self {
            policy: Policy::new(config.policy(RandomState::new().hash_one(0))),
            clock: gate.clock().clone(),
            alarm: Alarm::default(),
            crew: Crew::new(myself.clone(), post.clone(), loader, config.actors),
            recipes: Recipes::new(config.embedding.clone(), &*tokenizer)?,
            tokenizing: Tokenizing::start(&tokenizer, &post)?,
            keeper: config.keep.clone().map(|keep| Keeper::start(keep, post.clone())).transpose()?,
            tokenizer,
            myself,
            config,
            post,
            notes,
            gate,
            open: BTreeMap::new(),
            tickets: HashMap::new(),
            asks_until: BTreeSet::new(),
            lingering: BTreeMap::new(),
            cancelled: 0,
            next_request: 0,
            next_look: Time::default(),
            looked_to: None,
            random: RandomState::new(),
            end_tokens: Vec::new(),
            vocab: usize::MAX,
            started,
            shutdown: Vec::new(),
            over: None,
            now: Time::default(),
            meters,
            telling: Telling::default(),
            effects: Vec::new(),
            events: VecDeque::new(),
        })
    }

    /// Has the policy start its actors.
    ///
    /// # Errors
    /// It gives up.
    pub(super) fn start(&mut self) -> Result<(), GaveUp> {
        self.tell(Event::Start);
        self.verdict()
    }

    /// Does what a message asks for, behind what the brain's own parts have said before.
    ///
    /// # Errors
    /// It gives up.
    pub(super) fn handle(&mut self, message: BrainMessage) -> Result<(), GaveUp> {
        for _ in 0..self.notes.waiting() {
            let Some(note) = self.notes.next() else { break };
            self.note(note);
        }
        self.read(message);
        self.say_what_happened();
        self.verdict()
    }

    /// Finishes or answers everything, for a brain that is to stop and reads no message any more. What is left in the
    /// mailbox of one that was not drained is answered by being dropped behind that.
    ///
    /// # Errors
    /// It gives up.
    pub(super) async fn finish(&mut self) -> Result<(), GaveUp> {
        if self.over.is_none() {
            self.tell(Event::Shutdown { within: self.config.shutdown_max });
        }
        while self.over.is_none() {
            let Some(note) = self.notes.wait().await else { break };
            self.note(note);
            self.say_what_happened();
        }
        self.verdict()
    }

    /// Those who subscribed are told what a message has led to; what was counted is published before long.
    fn say_what_happened(&mut self) {
        match self.gate.take_refused() {
            0 => {}
            count => self.refused(ErrorCode::Overloaded, count),
        }
        self.telling.tell();
        if self.over.is_none() && self.meters.due().is_some_and(|due| !self.alarm.is_set_by(due)) {
            self.set_alarm(self.clock.now());
        }
    }

    fn verdict(&self) -> Result<(), GaveUp> {
        self.over.clone().unwrap_or(Ok(()))
    }

    fn read(&mut self, message: BrainMessage) {
        match message {
            BrainMessage::Request(envelope, port) => self.request(envelope, Caller::Reply(port)),
            BrainMessage::Queue(envelope, port) => self.request(envelope, Caller::Queue(port)),
            BrainMessage::Tell(envelope) => self.request(envelope, Caller::Nobody),
            BrainMessage::Stream(envelope, port) => self.request(as_step(envelope), Caller::Stream(port)),
            BrainMessage::StreamQueue(envelope, port) => self.request(as_step(envelope), Caller::QueuedStream(port)),
            BrainMessage::Tokenize(envelope, port) => self.tokenize(envelope, port),
            BrainMessage::Detokenize(envelope, port) => self.detokenize(envelope, port),
            // As everywhere below: who went away wants no answer.
            BrainMessage::Cancel(ticket, port) => drop(port.send(self.cancel(ticket))),
            BrainMessage::CancelConversation(name, port) => drop(port.send(self.count_cancelled(|shell| {
                shell.tell(Event::CancelledAll(name));
            }))),
            BrainMessage::Stats(port) => drop(port.send(self.stats())),
            BrainMessage::List(ask, port) => drop(port.send(self.policy.list(self.clock.now(), &ask))),
            BrainMessage::Inspect(name, port) => drop(port.send(self.policy.inspect(self.clock.now(), &name))),
            BrainMessage::Subscribe(subscribe, port) => drop(port.send(self.telling.subscribe(subscribe))),
            BrainMessage::Health(port) => drop(port.send(self.policy.health())),
            BrainMessage::Crash(actor, port) => self.chaos(actor, Chaos::Crash, port),
            BrainMessage::Hang(actor, duration, port) => self.chaos(actor, Chaos::Hang(duration), port),
            BrainMessage::Shutdown(within, port) => {
                self.shutdown.push(port);
                self.tell(Event::Shutdown { within: within.unwrap_or(self.config.shutdown_max) });
            }
            BrainMessage::Internal(Internal(inner)) => match inner {
                Inner::Wake => {}
                Inner::Gone(ticket) => self.gone(ticket),
                Inner::LetIn(message, permit) => {
                    self.read(*message);
                    drop(permit);
                }
            },
        }
    }

    fn stats(&self) -> Result<Stats, BrainError> {
        let pages = self.crew.kv_bytes();
        self.policy.stats().map(|stats| Stats { kv_bytes: stats.kv_bytes + pages, ..stats })
    }

    /// Publishes what was counted.
    pub(super) fn publish(&mut self) {
        let stats = self.stats().ok();
        self.meters.publish(self.crew.runs(), stats.as_ref());
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Reported(actor, incarnation, report) => self.tell(Event::Reported { actor, incarnation, report }),
            Note::Died(actor, incarnation) => {
                let running = self.crew.bury(actor, incarnation);
                self.tell(Event::Died { actor, incarnation, running });
            }
            Note::Made(request, made) => self.made(request, made),
            Note::Kept(event) => self.tell(event),
            Note::Alarm => {
                self.alarm.has_rung();
                self.expire_asks();
                self.look_for_abandoned();
                self.tell(Event::Timer);
            }
        }
    }

    /// Tokens or text from a thread, for a request that may be over.
    fn made(&mut self, request: RequestId, made: Result<Made, BrainError>) {
        let Some(open) = self.open.get_mut(&request) else { return };
        open.makes = false;
        if open.is_ask() {
            return self.give(request, made);
        }
        if let Some(event) = tokenised(request, open, made) {
            self.tell(event);
        }
    }

    fn chaos(&mut self, actor: usize, chaos: Chaos, port: RpcReplyPort<Result<(), BrainError>>) {
        if !self.config.chaos {
            let expected = "`brain.chaos` to be true where actors are told to crash and to hang".to_owned();
            let error = BrainError::BadRequest { what: "`brain.chaos`", found: "false".to_owned(), expected };
            return Caller::Done(port).fail(error, 0);
        }
        let request = self.number();
        let span = tracing::debug_span!("chaos", request = request.0, actor);
        self.open.insert(request, Box::new(Open::new(Caller::Done(port), span.into())));
        self.tell(Event::Chaos { request, actor: ActorIndex(actor), chaos });
    }

    /// The next request's.
    pub(super) fn number(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        request
    }

    /// A seed for a step that names none.
    pub(super) fn draw_seed(&self) -> u64 {
        self.random.hash_one(self.next_request)
    }

    /// Takes a request out that is about to be answered. What it takes up where it `lingers` is freed later.
    pub(super) fn close(&mut self, request: RequestId, lingers: bool) -> Option<Box<Open>> {
        let mut open = self.open.remove(&request)?;
        if let Some(ticket) = open.ticket
            && self.tickets.get(&ticket) == Some(&request)
        {
            self.tickets.remove(&ticket);
        }
        if let Some(until) = open.until {
            self.asks_until.remove(&(until.at, request));
        }
        if open.makes {
            self.tokenizing.forget(request);
        }
        if lingers && let Some(permit) = open.permit.take() {
            self.lingering.insert(request, permit);
        }
        Some(open)
    }

    /// Tells the policy, does what it says, and what follows from that.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        self.catch_up();
    }

    /// The same with the events that are in line.
    pub(super) fn catch_up(&mut self) {
        let now = self.clock.now();
        self.now = now;
        if self.meters.due().is_some_and(|due| due <= now) {
            self.publish();
        }
        let mut effects = std::mem::take(&mut self.effects);
        while let Some(event) = self.events.pop_front() {
            self.policy.handle(now, event, &mut effects);
            self.perform_all(&mut effects);
            // What is free is known once nobody names it any more.
            while self.bounds_memory() && self.policy.let_go(self.crew.kv_bytes(), &mut effects) {
                self.perform_all(&mut effects);
            }
        }
        self.effects = effects;
        self.set_alarm(now);
    }

    fn perform_all(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            self.perform(effect);
        }
    }

    fn bounds_memory(&self) -> bool {
        self.config.memory.kv_bytes != usize::MAX
    }

    /// Sees to it that the brain wakes up when there is something to do.
    pub(super) fn set_alarm(&mut self, now: Time) {
        let look = (!self.open.is_empty()).then(|| self.next_look.max(now));
        let ask = self.asks_until.first().map(|&(at, _)| at);
        if let Some(due) = [self.policy.next_deadline(), look, ask, self.meters.due()].into_iter().flatten().min() {
            self.alarm.set(now, due, &self.post);
        }
    }
}

/// What the policy is told of a text that has become tokens.
pub(super) fn tokenised(request: RequestId, open: &mut Open, made: Result<Made, BrainError>) -> Option<Event> {
    let mut ends = Vec::new();
    let result = match made {
        Ok(Made::Tokens(tokens)) => Ok(tokens),
        Ok(Made::Cut(tokens, cuts)) => {
            ends.extend(cuts.iter().map(|cut| cut.end));
            open.cuts = cuts;
            Ok(tokens)
        }
        Ok(Made::Text(_)) => return None, // nobody asked for that
        Err(error) => Err(error),
    };
    Some(Event::Tokenised { request, result, ends })
}

/// Why the shell could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartupError {
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] StartError),
    /// The system has no thread left.
    #[error("the system gave no thread for the tokenizer or for what leaves memory")]
    Thread(#[from] std::io::Error),
}

fn as_step(envelope: Envelope<Step>) -> Envelope {
    let Envelope { request, deadline, party, ticket, permit, span } = envelope;
    Envelope { request: Request::Step(request), deadline, party, ticket, permit, span }
}
