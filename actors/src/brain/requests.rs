//! Requests at the shell's door: let in, taken apart into what the policy is told and what only the shell knows, and
//! opened. Those that ask for tokens or text and nothing else stay with the shell.

use std::time::Duration;

use ractor::RpcReplyPort;

use super::{
    desk::{Caller, Open, Until},
    gate::{Lane, Permit, price},
    message::{Envelope, Ticket},
    meters::{Came, Op},
    recipes::Label,
    shell::Shell,
    tokenizing::{Made, Work},
};
use crate::{
    job::RequestId,
    message::{
        BrainError, ClientId, ConversationId, Embed, ErrorCode, Fork, Import, Input, PARTS_MAX, Party, Pieces, Request,
        Rewind, Score, Step, Terms, check_vocabulary,
    },
    policy::{Arrival, Ask, Event, Given, NAME_BYTES_MAX, StepAsk, Time},
    spans::{self, JobSpans, Recorded},
    text::StopTexts,
    tokens::TokenId,
};

impl Shell {
    /// Any request about a conversation.
    pub(super) fn request(&mut self, envelope: Envelope, caller: Caller) {
        let Envelope { request, deadline, party, ticket, permit, span } = envelope;
        let stream = matches!(caller, Caller::Stream(_) | Caller::QueuedStream(_));
        let (lane, count) = price(&request);
        let op = Op::from(&request);
        let checked = self.check_vector(&request);
        let Asked { conversation, ask, input, stop, made, each, terms } = self.take_apart(request, stream);
        // What the policy, which knows no text, cannot judge.
        let checked =
            checked.and_then(|()| input.as_ref().map_or(Ok(()), check_parts)).and_then(|()| StopTexts::new(&stop));
        let checked = checked.and_then(|stops| Ok((stops, self.let_in(permit, lane, &party, count)?)));
        let (stops, permit) = match checked {
            Ok(checked) => checked,
            Err(error) => return self.refuse(op, caller, error),
        };
        let (input, text) = match input {
            Some(Input::Tokens(tokens)) => (Some(Given::Tokens(tokens)), None),
            Some(text) => (Some(Given::Text { bytes: text.bytes() }), Some(text)),
            None => (None, None),
        };
        let came = if stream { self.clock.now() } else { Time::default() };
        let span = spans::request(&span, op.as_str(), conversation.as_ref(), &party);
        let waits = Some(JobSpans::of(&span));
        let op = Some(op);
        let open =
            Open { input: text, stops, op, came, made, each, waits, ..opened(caller, span, &party, ticket, permit) };
        let request = self.enter(open);
        self.tell(Event::Arrived(Arrival { request, conversation, ask, input, terms, party, deadline }));
    }

    /// Somebody asks for the tokens of an input and nothing else.
    pub(super) fn tokenize(&mut self, envelope: Envelope<Input>, port: RpcReplyPort<Result<Vec<TokenId>, BrainError>>) {
        let checked = check_parts(&envelope.request);
        self.ask(envelope, Caller::Tokens(port), checked, |input| Work::Encode { input, behind: None });
    }

    /// Somebody asks for the text of tokens and nothing else.
    pub(super) fn detokenize(
        &mut self,
        envelope: Envelope<Vec<TokenId>>,
        port: RpcReplyPort<Result<String, BrainError>>,
    ) {
        let checked = check_vocabulary(&envelope.request, self.vocab);
        self.ask(envelope, Caller::Text(port), checked, Work::Decode);
    }

    fn ask<T>(
        &mut self,
        envelope: Envelope<T>,
        caller: Caller,
        checked: Result<(), BrainError>,
        work: impl FnOnce(T) -> Work,
    ) {
        let Envelope { request, deadline, party, ticket, permit, span } = envelope;
        let work = work(request);
        let op = match &work {
            Work::Encode { .. } | Work::Cut { .. } => Op::Tokenize,
            Work::Decode(_) => Op::Detokenize,
        };
        let (found, limit) = (work.bytes(), self.config.limits.text_bytes);
        let checked = match found > limit {
            true => Err(BrainError::InputTooLong { found, limit }),
            false => checked,
        };
        let permit = match checked.and_then(|()| self.let_in(permit, Lane::Work, &party, 1)) {
            Ok(permit) => permit,
            Err(error) => return self.refuse(op, caller, error),
        };
        let now = self.clock.now();
        let until = deadline.or(self.config.limits.deadline).map(|allowed| Until { at: now + allowed, allowed });
        let span = spans::request(&span, op.as_str(), None, &party);
        let open = Open { until, makes: true, op: Some(op), ..opened(caller, span, &party, ticket, permit) };
        let request = self.enter(open);
        self.asks_until.extend(until.map(|until| (until.at, request)));
        match self.tokenizing.make(request, &party, None, work) {
            Some(made) => self.give(request, made),
            None => self.set_alarm(now),
        }
    }

    /// Answers one who asked for tokens or text.
    pub(super) fn give(&mut self, request: RequestId, made: Result<Made, BrainError>) {
        if let Some(open) = self.close(request, false) {
            let came = made.as_ref().map_or_else(|error| Came::Failed(error.code()), |_| Came::Ok);
            self.meters.came(self.clock.now(), open.op, came, 0);
            open.give(made, self.vocab);
        }
    }

    /// Answers those who asked for tokens or text and have waited as long as they would.
    pub(super) fn expire_asks(&mut self) {
        let now = self.clock.now();
        while let Some(&(at, request)) = self.asks_until.first()
            && at <= now
        {
            self.asks_until.pop_first();
            if let Some(open) = self.close(request, false) {
                self.meters.came(now, open.op, Came::Failed(ErrorCode::Timeout), 0);
                let deadline = open.until.map_or(Duration::ZERO, |until| until.allowed);
                open.fail(BrainError::Timeout { deadline }, 0);
            }
        }
    }

    /// The permit that a request brought along, or one that it is given here.
    fn let_in(&self, permit: Option<Permit>, lane: Lane, party: &Party, count: usize) -> Result<Permit, BrainError> {
        check_client(&party.client)?;
        permit.map_or_else(|| self.gate.enter(lane, &party.client, count), Ok)
    }

    /// Tells a caller that its request does not come in.
    fn refuse(&mut self, op: Op, caller: Caller, error: BrainError) {
        let code = error.code();
        tracing::debug!(code = code.as_str(), "a request was refused");
        self.now = self.clock.now();
        self.meters.came(self.now, Some(op), Came::Failed(code), 0);
        self.refused(code, 1);
        caller.fail(error, 0);
    }

    /// Requests have ended before an actor had them.
    pub(super) fn refused(&mut self, code: ErrorCode, count: u64) {
        if !matches!(code, ErrorCode::Cancelled | ErrorCode::Timeout) {
            self.telling.refused(code, count);
            self.meters.refused(self.now, code, count);
        }
    }

    fn enter(&mut self, open: Open) -> RequestId {
        let request = self.number();
        open.span.record("request", request.0 as i64);
        self.tickets.extend(open.ticket.map(|ticket| (ticket, request)));
        self.open.insert(request, Box::new(open));
        request
    }

    /// Whether a vector can be as it is asked for.
    fn check_vector(&self, request: &Request) -> Result<(), BrainError> {
        match request {
            Request::Embed(embed) => self.recipes.check(embed),
            _ => Ok(()),
        }
    }

    fn take_apart(&self, request: Request, stream: bool) -> Asked {
        let plain = |conversation, ask| Asked::new(Some(conversation), ask);
        match request {
            Request::Embed(Embed { conversation, input, vector, terms }) => {
                let (embed, made) = self.recipes.ask(&vector, conversation.is_some());
                let each = match vector.pieces {
                    Pieces::Whole => None,
                    Pieces::Each { tokens } => Some(tokens),
                };
                let asked = Asked::new(conversation, Ask::Embed(embed));
                Asked { input: Some(input), made: Some(made), each, terms, ..asked }
            }
            Request::Score(Score { conversation, input, top, terms }) => {
                Asked { input: Some(input), terms, ..plain(conversation, Ask::Score { top }) }
            }
            Request::Reset(conversation) => plain(conversation, Ask::Reset),
            Request::Close(conversation) => plain(conversation, Ask::Close),
            Request::Fork(Fork { from, to, at, choice }) => {
                let terms = Terms { choice, ..Terms::default() };
                Asked { terms, ..plain(from, Ask::Fork { to, at }) }
            }
            Request::Rewind(Rewind { conversation, context_len }) => plain(conversation, Ask::Rewind { context_len }),
            Request::Export(conversation) => plain(conversation, Ask::Export),
            Request::Import(Import { conversation, states }) => plain(conversation, Ask::Import { states }),
            Request::Step(Step { conversation, input, count, sampling, seed, top, stop, grammar, n, terms }) => {
                let seed = seed.unwrap_or_else(|| self.draw_seed());
                let ask = Ask::Step(StepAsk { count, sampling, seed, top, stream, n, grammar });
                Asked { input, stop, terms, ..plain(conversation, ask) }
            }
        }
    }
}

fn opened(caller: Caller, span: Recorded, party: &Party, ticket: Ticket, permit: Permit) -> Open {
    Open { party: party.clone(), ticket: Some(ticket), permit: Some(permit), ..Open::new(caller, span) }
}

/// A request as the policy is told of it, and what only the shell knows.
struct Asked {
    conversation: Option<ConversationId>,
    ask: Ask,
    input: Option<Input>,
    stop: Vec<String>,
    /// What is said of a vector.
    made: Option<Label>,
    /// Each piece of so many tokens is to have one.
    each: Option<usize>,
    terms: Terms,
}

impl Asked {
    fn new(conversation: Option<ConversationId>, ask: Ask) -> Self {
        Self { conversation, ask, input: None, stop: Vec::new(), made: None, each: None, terms: Terms::default() }
    }
}

fn check_client(client: &ClientId) -> Result<(), BrainError> {
    match client.as_str().len() {
        0..=NAME_BYTES_MAX => Ok(()),
        bytes => Err(BrainError::BadRequest {
            what: "client",
            found: format!("a name of {bytes} bytes"),
            expected: format!("at most {NAME_BYTES_MAX}"),
        }),
    }
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
