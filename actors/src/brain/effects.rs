//! The policy's effects, performed. What follows from one (an actor that could not be spawned, a pulse
//! that was read) is put in line as the policy's next event.

use tracing::Span;

use super::{
    config::StartError,
    desk::Shown,
    message::stopped,
    meters::Came,
    notices,
    shell::{GaveUp, Shell, tokenised},
    tokenizing,
};
use crate::{
    job::{Job, Report, RequestId, Work},
    message::{BrainError, ErrorCode},
    policy::{ActorIndex, Assignment, Effect, Event, Incarnation},
    shares::Flow,
    spans::{self, JobSpans},
    text::{StepText, broken_text},
    tokens::TokenId,
};

impl Shell {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { actor, incarnation } => {
                if let Err(error) = self.crew.spawn(actor, incarnation, &self.config, &self.clock) {
                    let report = Report::LoadFailed(error);
                    self.events.push_back(Event::Reported { actor, incarnation, report });
                }
            }
            Effect::Tokenise { request, conversation, behind } => self.tokenise(request, conversation, behind),
            Effect::Send { actor, incarnation, job } => self.send(actor, incarnation, job),
            Effect::Show { request, sampled, last } => {
                let mut open = self.open.get_mut(&request).filter(|open| !open.broken);
                if let Some(open) = &mut open {
                    self.meters.showed(self.now, open);
                }
                match open.map(|open| open.show(sampled, last, &self.end_tokens)) {
                    Some(Shown::Broken) => self.give_up_text(request),
                    Some(Shown::Gone) => self.events.push_back(Event::Gone(request)),
                    Some(Shown::Done) | None => {}
                }
            }
            Effect::Answer { request, answer } => {
                debug_assert!(self.open.contains_key(&request), "{request:?} is answered a second time");
                if let Some(open) = self.close(request, false) {
                    self.meters.came(self.now, open.op, Came::Ok, answer.reused);
                    open.answer(answer, &self.end_tokens, self.tokenizer.kind());
                }
            }
            Effect::Fail { request, error, committed, lingers } => {
                debug_assert!(self.open.contains_key(&request), "{request:?} fails behind its answer");
                if let Some(open) = self.close(request, lingers) {
                    let (cancelled, broken) = (error == BrainError::Cancelled, open.broken);
                    self.cancelled += usize::from(cancelled && !broken);
                    let error = if cancelled && broken { broken_text() } else { error };
                    self.meters.came(self.now, open.op, Came::Failed(error.code()), 0);
                    if !open.begun {
                        self.refused(error.code(), 1);
                    }
                    open.fail(error, committed);
                }
            }
            Effect::Drop { request, lingers } => {
                if let Some(open) = self.close(request, lingers) {
                    self.meters.came(self.now, open.op, Came::Dropped, 0);
                    spans::failed(&open.span, ErrorCode::Cancelled);
                }
            }
            Effect::Release(request) => drop(self.lingering.remove(&request)),
            Effect::Cancel { actor, incarnation, request } => self.crew.cancel(actor, incarnation, request),
            Effect::Recall { actor, incarnation, requests } => self.crew.recall(actor, incarnation, requests),
            Effect::Put { id, conversation, states } => {
                if let Some(keeper) = &self.keeper {
                    keeper.put(id, conversation, states);
                }
            }
            Effect::Fetch { id, conversation, expected } => {
                if let Some(keeper) = &self.keeper {
                    keeper.fetch(id, conversation, expected);
                }
            }
            Effect::Forget(id) => self.keeper.iter().for_each(|keeper| keeper.forget(id)),
            Effect::Observe { actor, incarnation } => {
                let run = self.crew.observe(actor, incarnation);
                self.events.push_back(Event::Observed { actor, incarnation, run });
            }
            Effect::Abandon { actor, incarnation } => self.crew.abandon(actor, incarnation),
            Effect::Stop { actor, incarnation } => self.crew.stop(actor, incarnation),
            Effect::Inflict { actor, incarnation, chaos } => self.crew.inflict(actor, incarnation, chaos),
            Effect::Started(model) => {
                self.end_tokens = model.end_tokens;
                self.vocab = model.vocab;
                self.recipes.hidden = model.hidden;
                let nobody = self.started.is_some() && !self.say_started(Ok(()));
                if nobody {
                    // Whoever started the brain and went away has left it without an owner.
                    self.events.push_back(Event::Shutdown { within: self.config.shutdown_max });
                }
            }
            Effect::StartFailed(error) => {
                // Who is told needs no other to be.
                let reason = format!("the model could not be loaded: {error}");
                let told = self.say_started(Err(StartError::Load(error)));
                self.end(if told { Ok(()) } else { Err(GaveUp(reason)) });
            }
            Effect::ShutdownComplete => self.end(Ok(())),
            Effect::GaveUp(reason) => self.end(Err(GaveUp(reason))),
            Effect::Notice(notice) => {
                self.telling.notice(&notice);
                self.meters.notice(self.now, &notice);
                notices::log(notice);
            }
        }
    }

    fn tokenise(&mut self, request: RequestId, flow: Flow, behind: Option<TokenId>) {
        let Some(open) = self.open.get_mut(&request) else { return };
        let Some(input) = open.input.take() else { return };
        let work = match open.each {
            None => tokenizing::Work::Encode { input, behind },
            Some(most) => tokenizing::Work::Cut { input, behind, most },
        };
        match self.tokenizing.make(request, &open.party, flow, work) {
            Some(made) => self.events.extend(tokenised(request, open, made)),
            None => open.makes = true,
        }
    }

    fn send(&mut self, actor: ActorIndex, incarnation: Incarnation, job: Assignment) {
        let Assignment { request, serves, conversation, context, held, carried, work, pins, party, alone } = job;
        let text = self.step_text(serves, &context.tokens, &work);
        // A slot that is given back serves no request and has none of this.
        let spans = match self.open.get_mut(&serves) {
            Some(open) => {
                spans::given(&open.span, actor, incarnation);
                open.begun = true;
                open.waits.take().unwrap_or_else(|| JobSpans::of(&open.span)).at(actor, incarnation)
            }
            None => JobSpans::new(Span::none()),
        };
        let job = Job { request, conversation, context, held, carried, work, pins, text, party, alone, spans };
        self.crew.send(actor, incarnation, job);
    }

    /// The text of a step that an actor is given: of one that goes on behind tokens that were shown, as it is then. The
    /// actor needs none of it where no stop text may end the step.
    fn step_text(&mut self, request: RequestId, context: &[TokenId], work: &Work) -> Option<StepText> {
        let Work::Step { tokens: input, count: 1.., .. } = work else {
            return None;
        };
        let open = self.open.get_mut(&request)?;
        let text = open.text.get_or_insert_with(|| {
            let before = input.iter().rev().chain(context.iter().rev()).copied();
            StepText::behind(before, open.stops.clone(), self.tokenizer.clone())
        });
        if text.is_broken() {
            self.give_up_text(request);
            return None;
        }
        (!open.stops.is_empty()).then(|| text.clone())
    }

    /// Takes a step back of whose tokens no text can be made.
    fn give_up_text(&mut self, request: RequestId) {
        if let Some(open) = self.open.get_mut(&request) {
            open.broken = true;
            self.events.push_back(Event::Cancelled(request));
        }
    }

    /// Tells whoever waits for the start how it went; false where nobody is told.
    fn say_started(&mut self, result: Result<(), StartError>) -> bool {
        self.started.take().is_some_and(|started| started.send(result).is_ok())
    }

    /// The policy is done.
    fn end(&mut self, how: Result<(), GaveUp>) {
        self.over = Some(how);
        self.publish();
        // The policy has answered its own; what is left asks for tokens or text.
        for open in std::mem::take(&mut self.open).into_values() {
            open.caller.fail(stopped(), 0);
        }
        for port in self.shutdown.drain(..) {
            drop(port.send(()));
        }
        self.myself.stop(None);
    }
}
