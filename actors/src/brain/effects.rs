//! The policy's effects, performed. What follows from one (an actor that could not be spawned, a pulse
//! that was read) is put in line as the policy's next event.

use super::{config::StartError, notices, shell::Shell};
use crate::{
    job::{Cancel, Job, Report, RequestId, Work},
    policy::{ActorIndex, Assignment, Effect, Event, Incarnation},
    text::StepText,
    tokens::TokenId,
};

impl Shell {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { actor, incarnation } => {
                if let Err(error) = self.crew.spawn(actor, incarnation, &self.config) {
                    let report = Report::LoadFailed(error);
                    self.events.push_back(Event::Reported { actor, incarnation, report });
                }
            }
            Effect::Tokenise { request, behind } => {
                let open = self.open.get_mut(&request);
                let input = open.and_then(|open| open.input.take());
                if let Some(result) = input.and_then(|input| self.tokenizing.tokenise(request, input, behind)) {
                    self.events.push_back(Event::Tokenised { request, result });
                }
            }
            Effect::Send { actor, incarnation, job } => self.send(actor, incarnation, job),
            Effect::Show { request, sampled, last } => {
                if let Some(open) = self.open.get_mut(&request)
                    && !open.show(sampled, last, &self.end_tokens)
                {
                    self.events.push_back(Event::Gone(request));
                }
            }
            Effect::Answer { request, answer } => {
                debug_assert!(self.open.contains_key(&request), "{request:?} is answered a second time");
                if let Some(open) = self.open.remove(&request) {
                    open.answer(answer, &self.end_tokens, self.tokenizer.kind());
                }
            }
            Effect::Fail { request, error, committed } => {
                debug_assert!(self.open.contains_key(&request), "{request:?} fails behind its answer");
                if let Some(open) = self.open.remove(&request) {
                    let code = error.code().as_str();
                    tracing::debug!(parent: &open.span, code, committed, "a request failed");
                    open.caller.fail(error, committed);
                }
            }
            Effect::Drop(request) => drop(self.open.remove(&request)),
            Effect::Cancel(request) => {
                if let Some(open) = self.open.get(&request) {
                    open.cancel.cancel();
                }
            }
            Effect::Recall { actor, incarnation, requests } => self.crew.recall(actor, incarnation, requests),
            Effect::Observe { actor, incarnation } => {
                let run = self.crew.observe(actor, incarnation, &self.clock);
                self.events.push_back(Event::Observed { actor, incarnation, run });
            }
            Effect::Abandon { actor, incarnation } => self.crew.abandon(actor, incarnation),
            Effect::Stop { actor, incarnation } => self.crew.stop(actor, incarnation),
            Effect::Inflict { actor, incarnation, chaos } => self.crew.inflict(actor, incarnation, chaos),
            Effect::Started(model) => {
                self.end_tokens = model.end_tokens;
                self.vocab = model.vocab;
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
        let Assignment { request, serves, conversation, epoch, context, held, carried, work, alone } = job;
        let text = self.step_text(serves, &context.tokens, &work);
        // A slot that is given back serves no request and has none of this.
        let (cancel, span) = match self.open.get(&serves) {
            Some(open) => {
                if open.is_abandoned() {
                    open.cancel.cancel();
                }
                open.span.record("actor", actor.0).record("incarnation", incarnation.0).record("epoch", epoch.0);
                (open.cancel.clone(), open.span.clone())
            }
            None => (Cancel::default(), tracing::Span::none()),
        };
        let job = Job { request, conversation, context, held, carried, work, text, alone, cancel, span };
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
        (!open.stops.is_empty()).then(|| text.clone())
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
