//! The account of what was asked and answered, and whether it was answered rightly.

use std::{collections::BTreeMap, time::Duration};

use motorbrain_actors::{
    engine::Sampled,
    job::{Commit, History, Outcome, RequestId, Work},
    message::{BrainError, ConversationId},
    policy::{Answer, Arrival, Ask, Event, StepAsk},
    tokens::TokenId,
};

use super::super::model;
use super::{World, ensure, time};

/// One request's account.
pub(super) struct Asked {
    pub(super) arrival: Arrival,
    /// Its tokens, where it came as text.
    pub(super) tokens: Vec<TokenId>,
    pub(super) at: u64,
    pub(super) shown: Vec<Sampled>,
    pub(super) end: Option<End>,
    /// Actors that died or hung in a run with it.
    pub(super) deaths: u32,
}

pub(super) enum End {
    Answered(Answer),
    Failed,
    Dropped,
}

impl Asked {
    /// Whether a streamed step has come to its end.
    pub(super) fn has_shown_all(&self) -> bool {
        let count = match &self.arrival.ask {
            Ask::Step(step) => step.count,
            _ => 0,
        };
        self.shown.len() == count || model::has_ended(&self.shown)
    }
}

impl World {
    /// Whose run ended in a death that counts.
    pub(super) fn account_deaths(&mut self, event: &Event) {
        let run_max = Duration::from_millis(self.run_max);
        let (key, running) = match event {
            Event::Died { actor, incarnation, running } => ((*actor, *incarnation), running),
            Event::Observed { actor, incarnation, run: Some(run) } if time(self.now).since(run.since) >= run_max => {
                ((*actor, *incarnation), &run.requests)
            }
            _ => return,
        };
        if self.lives.get(&key).is_none_or(|life| life.abandoned) {
            return;
        }
        for request in running {
            if let Some(asked) = self.asked.get_mut(request) {
                asked.deaths += 1;
            }
        }
    }

    pub(super) fn open(&mut self, request: RequestId) -> Result<&mut Asked, String> {
        let asked = self.asked.get_mut(&request).ok_or_else(|| format!("{request:?} was never asked"))?;
        match asked.end {
            None => Ok(asked),
            Some(_) => Err(format!("{request:?} is named again after its end")),
        }
    }

    pub(super) fn answered(&mut self, request: RequestId, answer: Answer) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.answered += 1;
        self.tally.rebuilt += u64::from(answer.rebuilt);
        let rebuilt = answer.rebuilt;
        let asked = self.open(request)?;
        asked.end = Some(End::Answered(answer));
        let Some(name) = asked.arrival.conversation.clone() else {
            return Ok(());
        };
        if matches!(asked.arrival.ask, Ask::Reset | Ask::Close) {
            self.cursed.remove(&name);
        }
        if rebuilt {
            ensure(self.rebuilding.remove(&name), || format!("`{name}` says it was rebuilt, and was not"))?;
        }
        let before = self.last_answered.insert(name.clone(), request);
        ensure(before < Some(request), || format!("`{name}` answers {request:?} after {before:?}"))
    }

    pub(super) fn failed(&mut self, request: RequestId, error: BrainError, committed: usize) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.failed += 1;
        let (now, unavailable) = (self.now, self.down == self.actors || self.start_failed);
        let asked = self.open(request)?;
        let shown = asked.shown.len();
        ensure(shown == committed, || format!("{request:?} committed {committed}, {shown} were shown"))?;
        let deserved = match &error {
            BrainError::Timeout { deadline } => asked.at + deadline.as_millis() as u64 == now,
            BrainError::Restarted => asked.deaths >= 2,
            BrainError::Unavailable { .. } => unavailable,
            BrainError::Quarantined { .. } => true,
            _ => asked.deaths < 2,
        };
        let deaths = asked.deaths;
        asked.end = Some(End::Failed);
        self.tally.quarantined += u64::from(matches!(error, BrainError::Quarantined { .. }));
        ensure(deserved, || format!("{request:?} with {deaths} deaths is answered {error:?} at {now}"))
    }

    /// Does what was answered, in the order of arrival and without any actor, and compares.
    pub(super) fn check_answers(&self) -> Result<(), String> {
        let mut truth: BTreeMap<ConversationId, History> = BTreeMap::new();
        for (request, asked) in &self.asked {
            let mut single = History::default();
            let history = match &asked.arrival.conversation {
                Some(name) => truth.entry(name.clone()).or_default(),
                None => &mut single,
            };
            let expected = match &asked.end {
                Some(End::Answered(answer)) => {
                    let expected = model::perform(history, &mut Commit::default(), &work(asked, usize::MAX));
                    ensure(answer.outcome == expected, || {
                        format!("{request:?} is answered {:?}, expected {expected:?}", answer.outcome)
                    })?;
                    let context_len = if expected == Outcome::Forgotten { 0 } else { history.tokens.len() };
                    let stateless = asked.arrival.conversation.is_none();
                    ensure(stateless || answer.context_len == context_len, || {
                        format!("{request:?} says context_len {}, expected {context_len}", answer.context_len)
                    })?;
                    expected
                }
                Some(End::Failed | End::Dropped) if !asked.shown.is_empty() => {
                    model::perform(history, &mut Commit::default(), &work(asked, asked.shown.len()))
                }
                _ => continue,
            };
            match (&expected, &asked.arrival.ask) {
                (Outcome::Forgotten, _) => *history = History::default(),
                (Outcome::Stepped { sampled, .. }, Ask::Step(step)) if step.stream => {
                    ensure(*sampled == asked.shown, || {
                        format!("{request:?} showed {:?}, expected {sampled:?}", asked.shown)
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The work of a request, sampling at most `count_max` tokens.
fn work(asked: &Asked, count_max: usize) -> Work {
    let tokens = asked.tokens.clone().into();
    match asked.arrival.ask.clone() {
        Ask::Embed => Work::Embed { tokens },
        Ask::Score => Work::Score { tokens },
        Ask::Step(StepAsk { count, sampling, seed, top, stream }) => {
            Work::Step { tokens, count: count.min(count_max), sampling, seed, top, stream }
        }
        Ask::Reset | Ask::Close => Work::Forget,
    }
}
