//! What the answers should have been: what was answered is done again, one request after the other, by a model that knows
//! of no actor and no page and copies everything.

use std::collections::BTreeMap;

use motorbrain_actors::{
    engine::{Slides, Window},
    job::{Choice, Outcome, RequestId, Work},
    message::{BrainError, ConversationId, ErrorCode, Scope, Sharing},
    policy::{Answer, Ask, StepAsk},
    tokens::TokenId,
    vectors::{Pooling, Shape},
};

use super::super::model::{Context, WINDOW, are_same};
use super::{
    World,
    account::{Asked, End},
    ensure,
};

/// A conversation.
#[derive(Clone, Default)]
struct Talk {
    context: Context,
    /// Answers that wait.
    choices: Vec<Context>,
    known: bool,
    sharing: Sharing,
    /// It began to share otherwise when it held tokens already: it gives nothing of them to anybody.
    withheld: bool,
}

impl Talk {
    /// It shares so from here on; `had`: it held tokens before.
    fn share(&mut self, sharing: Option<&Sharing>, had: bool) {
        if let Some(sharing) = sharing.filter(|sharing| **sharing != self.sharing) {
            self.sharing = sharing.clone();
            self.withheld |= had;
        }
    }

    fn base(&self, choice: Option<usize>) -> Option<&Context> {
        choice.map_or(Some(&self.context), |choice| self.choices.get(choice))
    }
}

/// An answer that needed less to be read: what it was an answer to, how much of it, and in which scope.
struct Reuse {
    request: RequestId,
    tokens: Vec<TokenId>,
    len: usize,
    scope: Option<Scope>,
}

/// All conversations, and what each scope has ever held.
struct Truth {
    window: Window,
    talks: BTreeMap<ConversationId, Talk>,
    said: Vec<(Option<Scope>, Vec<TokenId>)>,
    reuses: Vec<Reuse>,
    refusals: u64,
    /// Answers in a window that has slid and pins more than its sinks.
    pinned: u64,
    /// Answers behind tokens that were read again.
    reread: u64,
}

impl World {
    /// Does what was answered, in the order of arrival and without any actor, and compares.
    pub(super) fn check_answers(&mut self) -> Result<(), String> {
        let mut truth = Truth {
            window: self.cradle.loader.info.window,
            talks: BTreeMap::new(),
            said: Vec::new(),
            reuses: Vec::new(),
            refusals: 0,
            pinned: 0,
            reread: 0,
        };
        let mut forgotten = self.forgotten.iter().peekable();
        for (&request, asked) in &self.asked {
            while let Some((_, name)) = forgotten.next_if(|(next, _)| *next <= request) {
                truth.talks.remove(name);
            }
            truth.check(request, asked).map_err(|broken| format!("{request:?}: {broken}"))?;
        }
        truth.check_reuses()?;
        self.tally.refusals += truth.refusals;
        self.tally.pinned += truth.pinned;
        self.tally.reread += truth.reread;
        Ok(())
    }
}

impl Truth {
    fn talk(&mut self, name: &ConversationId) -> &mut Talk {
        self.talks.entry(name.clone()).or_default()
    }

    fn check(&mut self, request: RequestId, asked: &Asked) -> Result<(), String> {
        let refusal = self.refusal(asked);
        // Of a step that failed, what was shown stays.
        let (answer, shown) = match &asked.end {
            Some(End::Answered(answer)) => (Some(answer), usize::MAX),
            Some(End::Failed(error)) if is_refusal(error) => {
                self.refusals += 1;
                return ensure(refusal == Some(error.code()), || {
                    format!("is refused with {error:?}, expected {refusal:?}")
                });
            }
            _ if !asked.shown.is_empty() => (None, asked.shown.len()),
            _ => {
                self.note_unfinished(asked);
                return Ok(());
            }
        };
        ensure(refusal.is_none(), || format!("is answered, expected {refusal:?}"))?;
        let expected = match (&asked.arrival.conversation, &asked.arrival.ask) {
            (Some(name), Ask::Reset) => {
                let known = self.talk(name).known;
                *self.talk(name) = Talk { known, ..Talk::default() };
                None
            }
            (Some(name), Ask::Close) => {
                self.talks.remove(name);
                None
            }
            (Some(name), Ask::Fork { to, at }) => Some(self.fork(name, to, *at, asked.arrival.terms.choice)),
            (Some(name), Ask::Rewind { context_len }) => {
                let talk = self.talk(name);
                talk.choices.clear();
                talk.context.truncate(*context_len);
                Some((Outcome::Moved, talk.context.len()))
            }
            (_, Ask::Step(step)) if step.n > 1 => Some(self.several(request, asked, step)),
            (_, Ask::Embed(_)) if asked.pieces().is_some() => {
                self.note_unfinished(asked);
                asked.pieces().map(|pieces| each(asked, &pieces))
            }
            (conversation, Ask::Embed(embed)) if embed.frame.is_some() => {
                self.note_unfinished(asked);
                Some(match conversation {
                    Some(_) => self.probed(request, asked),
                    None => self.framed(request, asked),
                })
            }
            _ => {
                // Amid its tokens an actor may have died, and what it had shown was there for others.
                self.note_unfinished(asked);
                Some(self.work(request, asked, shown))
            }
        };
        let (outcome, context_len) = expected.unwrap_or((Outcome::Forgotten, 0));
        if let Some(answer) = answer {
            let tokens = if asked.arrival.input.is_some() { asked.tokens.len() } else { 0 };
            ensure(answer.tokens == tokens, || format!("says {} tokens, expected {tokens}", answer.tokens))?;
            ensure(are_same(&answer.outcome, &outcome), || {
                format!("is answered {:?}, expected {outcome:?}", answer.outcome)
            })?;
            ensure(answer.context_len == context_len, || {
                format!("says context_len {}, expected {context_len}", answer.context_len)
            })?;
        }
        match (&outcome, &asked.arrival.ask) {
            (Outcome::Stepped { sampled, .. }, Ask::Step(step)) if step.stream => {
                ensure(*sampled == asked.shown, || format!("showed {:?}, expected {sampled:?}", asked.shown))
            }
            _ => Ok(()),
        }
    }

    /// The code with which a request cannot but be refused, by where its conversation stands.
    fn refusal(&mut self, asked: &Asked) -> Option<ErrorCode> {
        let name = asked.arrival.conversation.as_ref()?;
        let has_input = asked.arrival.input.is_some();
        let pins = asked.arrival.terms.pin;
        if pins && !has_input {
            return Some(ErrorCode::BadRequest);
        }
        if matches!(&asked.arrival.ask, Ask::Step(step) if step.count == 0 && !has_input) {
            return Some(ErrorCode::EmptyInput);
        }
        let talk = self.talk(name).clone();
        let choice = asked.arrival.terms.choice;
        let Some(base) = talk.base(choice) else {
            let unknown = matches!(asked.arrival.ask, Ask::Fork { .. }) && !talk.known;
            return Some(if unknown { ErrorCode::UnknownConversation } else { ErrorCode::BadRequest });
        };
        match &asked.arrival.ask {
            // One that is unknown may be quarantined, and then it is closed.
            Ask::Close if !matches!(asked.end, Some(End::Answered(_))) => {
                (!talk.known).then_some(ErrorCode::UnknownConversation)
            }
            Ask::Fork { .. } | Ask::Rewind { .. } if !talk.known => Some(ErrorCode::UnknownConversation),
            Ask::Fork { to, at } => {
                let len = at.unwrap_or(base.len());
                let slid = base.history.has_slid();
                match len {
                    _ if len > base.len() => Some(ErrorCode::BadRequest),
                    _ if slid && len != base.len() => Some(ErrorCode::BehindSlide),
                    _ => (self.talk(to).context.history.total > 0).then_some(ErrorCode::ConversationExists),
                }
            }
            Ask::Rewind { context_len } if *context_len > base.len() => Some(ErrorCode::BadRequest),
            Ask::Rewind { context_len } if *context_len < base.floor => Some(ErrorCode::BehindSlide),
            // What would be pinned stands behind something that leaves, or is more than half the window.
            _ if pins && base.history.total != base.history.pinned as u64 => Some(ErrorCode::BadRequest),
            _ if pins && base.len() + asked.tokens.len() > WINDOW.size / 2 => Some(ErrorCode::BadRequest),
            Ask::Step(_) if !has_input && base.history.total == 0 => Some(ErrorCode::EmptyInput),
            _ => None,
        }
    }

    fn fork(
        &mut self,
        from: &ConversationId,
        to: &ConversationId,
        at: Option<usize>,
        choice: Option<usize>,
    ) -> (Outcome, usize) {
        let parent = self.talk(from);
        let mut context = parent.base(choice).cloned().unwrap_or_default();
        if choice.is_none() {
            parent.choices.clear();
        }
        let (theirs, withheld) = (parent.sharing.clone(), parent.withheld);
        context.truncate(at.unwrap_or(context.len()));
        let len = context.len();
        // One that was told how to share keeps to that.
        let own = self.talk(to).sharing.clone();
        let keeps = own != Sharing::default();
        let withheld = withheld || keeps && own != theirs;
        let sharing = if keeps { own } else { theirs };
        let child = Talk { context, choices: Vec::new(), known: true, sharing, withheld };
        self.note(&child);
        self.talks.insert(to.clone(), child);
        (Outcome::Moved, len)
    }

    fn several(&mut self, request: RequestId, asked: &Asked, step: &StepAsk) -> (Outcome, usize) {
        let Some(name) = &asked.arrival.conversation else { return (Outcome::Forgotten, 0) };
        let terms = &asked.arrival.terms;
        let mut talk = self.talk(name).clone();
        let mut start = talk.base(terms.choice).cloned().unwrap_or_default();
        let before = start.history.tokens.to_vec();
        start.history.pinned += pinned(asked);
        asked.tokens.iter().for_each(|&token| start.append(token));
        talk.choices = vec![start.clone(); step.n];
        let answer = |(index, context): (usize, &mut Context)| {
            let step = StepAsk { seed: seed_of(step.seed, index), ..step.clone() };
            match context.perform(&step_work(&step, Vec::new(), usize::MAX)) {
                Outcome::Stepped { sampled, stopped } => Choice { sampled, stopped, context_len: context.len() },
                outcome => panic!("{outcome:?} of a step"),
            }
        };
        let choices = talk.choices.iter_mut().enumerate().map(answer).collect();
        talk.known = true;
        talk.share(terms.sharing.as_ref(), !before.is_empty());
        talk.context = start;
        let len = talk.context.len();
        self.note_reuse(request, asked, before, &talk.sharing.clone());
        self.note(&talk);
        self.talks.insert(name.clone(), talk);
        (Outcome::Several(choices), len)
    }

    /// A vector by a probe behind a conversation, which the probe leaves as it is.
    fn probed(&mut self, request: RequestId, asked: &Asked) -> (Outcome, usize) {
        let Some(frame) = asked.frame() else { return (Outcome::Forgotten, 0) };
        let Some(name) = &asked.arrival.conversation else { return (Outcome::Forgotten, 0) };
        let terms = &asked.arrival.terms;
        let mut talk = self.talk(name).clone();
        let mut context = talk.base(terms.choice).cloned().unwrap_or_default();
        let before = context.history.tokens.to_vec();
        context.history.pinned += pinned(asked);
        asked.tokens.iter().for_each(|&token| context.append(token));
        let outcome = context.clone().perform(&vector(&frame.probe));
        let len = context.len();
        (talk.context, talk.known) = (context, true);
        talk.choices.clear();
        talk.share(terms.sharing.as_ref(), !before.is_empty());
        self.note_reuse(request, asked, before, &talk.sharing.clone());
        self.note(&talk);
        self.talks.insert(name.clone(), talk);
        (outcome, len)
    }

    /// A vector by a probe, the text behind a prefix; a long text in pieces.
    fn framed(&mut self, request: RequestId, asked: &Asked) -> (Outcome, usize) {
        let Some(frame) = asked.frame() else { return (Outcome::Forgotten, 0) };
        let room = WINDOW.size - frame.prefix.len() - frame.probe.len();
        let run = |text: &[TokenId]| {
            let tokens = [&frame.prefix[..], text, &frame.probe].concat();
            (Context::default().perform(&vector(&tokens)), tokens.len())
        };
        if asked.tokens.len() <= room {
            self.note_reuse(request, asked, Vec::new(), &asked.arrival.terms.sharing.clone().unwrap_or_default());
            return run(&asked.tokens);
        }
        // None of a window of 12 overlaps; each begins as far behind the one before it as the others.
        let over = asked.tokens.len() - room;
        let gaps = over.div_ceil(room);
        let pieces = (0..=gaps).map(|index| index * over / gaps).map(|at| match run(&asked.tokens[at..at + room]) {
            (Outcome::Embedded(vector), _) => vector,
            (outcome, _) => panic!("{outcome:?} of an embed"),
        });
        (Outcome::Pieces(pieces.collect()), WINDOW.size)
    }

    /// What runs, and a step of which only the first tokens were `shown`.
    fn work(&mut self, request: RequestId, asked: &Asked, shown: usize) -> (Outcome, usize) {
        let terms = &asked.arrival.terms;
        let mut talk = match &asked.arrival.conversation {
            Some(name) => self.talk(name).clone(),
            None => Talk::default(),
        };
        let mut context = talk.base(terms.choice).cloned().unwrap_or_default();
        let before = context.history.tokens.to_vec();
        context.history.pinned += pinned(asked);
        let outcome = context.perform(&work(asked, shown));
        let slid = context.history.has_slid();
        self.pinned += u64::from(slid && context.history.pinned > WINDOW.sinks);
        self.reread += u64::from(slid && self.window.slides == Slides::Recompute);
        let len = context.len();
        (talk.context, talk.known) = (context, true);
        talk.choices.clear();
        talk.share(terms.sharing.as_ref(), !before.is_empty());
        self.note_reuse(request, asked, before, &talk.sharing.clone());
        if let Some(name) = &asked.arrival.conversation {
            self.note(&talk);
            self.talks.insert(name.clone(), talk);
        }
        (outcome, len)
    }

    /// What a conversation holds may be taken over by others of its scope.
    fn note(&mut self, talk: &Talk) {
        let Sharing::With(scope) = talk.sharing.clone() else { return };
        if talk.withheld || !talk.context.history.is_plain(&self.window) {
            return;
        }
        // Amid its tokens an actor may have died, and what it had shown was there for others.
        let held = talk.context.before.iter().chain([&*talk.context.history.tokens]);
        self.said.extend(held.map(|tokens| (scope.clone(), tokens.clone())));
    }

    /// What was read for a request that came to nothing may be taken over as well.
    fn note_unfinished(&mut self, asked: &Asked) {
        let mut talk = asked.arrival.conversation.as_ref().map(|name| self.talk(name).clone()).unwrap_or_default();
        let Some(mut context) = talk.base(asked.arrival.terms.choice).cloned() else { return };
        talk.share(asked.arrival.terms.sharing.as_ref(), context.len() > 0);
        if context.history.is_plain(&self.window) {
            let whole: Vec<TokenId> = context.history.tokens.iter().copied().chain(asked.runs()).collect();
            // A step may have sampled, too: as much as there is room for, since behind a slide nothing is shared.
            let shift = self.window.slides == Slides::Shift;
            let may_pin = context.history.check_pin(pinned(asked), &self.window).is_ok();
            context.history.pinned += if may_pin { pinned(asked) } else { 0 };
            let most = if shift { WINDOW.size.saturating_sub(whole.len()) } else { usize::MAX };
            context.perform(&work(asked, most));
            if let (Sharing::With(scope), false) = (&talk.sharing, talk.withheld) {
                // A probe is run behind each piece, which may be left half done.
                let behind = |end: &usize| {
                    asked.frame().map(|frame| [&frame.prefix, &asked.tokens[..*end], &frame.probe].concat())
                };
                self.said.extend(asked.ends.iter().filter_map(behind).map(|said| (scope.clone(), said)));
                self.said.push((scope.clone(), whole));
            }
            talk.context = context;
            self.note(&talk);
        }
    }

    fn note_reuse(&mut self, request: RequestId, asked: &Asked, before: Vec<TokenId>, sharing: &Sharing) {
        if let Some(End::Answered(Answer { reused: reused @ 1.., .. })) = asked.end {
            let len = match sharing {
                Sharing::Nobody => usize::MAX,
                // The last token of the context may not have been read either.
                Sharing::With(_) => before.len().saturating_sub(1) + reused,
            };
            let scope = match sharing {
                Sharing::With(scope) => scope.clone(),
                Sharing::Nobody => None,
            };
            let tokens = before.into_iter().chain(asked.runs()).collect();
            self.reuses.push(Reuse { request, tokens, len, scope });
        }
    }

    /// Nothing was taken over but what others of the same scope have said.
    fn check_reuses(&self) -> Result<(), String> {
        for Reuse { request, tokens, len, scope } in &self.reuses {
            let others = self.said.iter().filter(|(its, _)| its == scope);
            let common = |said: &[TokenId]| said.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            let most = others.map(|(_, said)| common(said)).max().unwrap_or(0);
            ensure(*len <= most, || format!("{request:?} takes over {len} tokens, {scope:?} has {most}"))?;
        }
        Ok(())
    }
}

/// Whether an error is a matter of where the conversation stands, so that it can be told beforehand.
fn is_refusal(error: &BrainError) -> bool {
    match error {
        BrainError::BadRequest { what, .. } => *what != "text",
        BrainError::EmptyInput { .. }
        | BrainError::UnknownConversation { .. }
        | BrainError::ConversationExists { .. }
        | BrainError::BehindSlide { .. } => true,
        _ => false,
    }
}

/// How many tokens a request pins.
fn pinned(asked: &Asked) -> usize {
    if asked.arrival.terms.pin { asked.tokens.len() } else { 0 }
}

/// The work of a request, sampling at most `count_max` tokens.
fn work(asked: &Asked, count_max: usize) -> Work {
    let tokens = asked.tokens.clone();
    match &asked.arrival.ask {
        Ask::Embed(embed) => Work::Embed { tokens: tokens.into(), shape: embed.shape },
        Ask::Score { top } => Work::Score { tokens: tokens.into(), top: *top },
        Ask::Step(step) => step_work(step, tokens, count_max),
        Ask::Reset | Ask::Close | Ask::Fork { .. } | Ask::Rewind { .. } | Ask::Export | Ask::Import { .. } => {
            Work::Forget
        }
    }
}

/// The vectors of pieces, each behind those before it, as a conversation would give them.
fn each(asked: &Asked, pieces: &[&[TokenId]]) -> (Outcome, usize) {
    let mut context = Context::default();
    asked.frame().into_iter().flat_map(|frame| &frame.prefix).for_each(|&token| context.append(token));
    let mut len = 0;
    let vectors = pieces.iter().map(|piece| {
        let outcome = match asked.frame() {
            Some(frame) => {
                piece.iter().for_each(|&token| context.append(token));
                let mut probed = context.clone();
                let outcome = probed.perform(&vector(&frame.probe));
                len = probed.len();
                outcome
            }
            None => {
                let outcome = context.perform(&Work::Embed { tokens: piece.to_vec().into(), shape: mean() });
                len = context.len();
                outcome
            }
        };
        match outcome {
            Outcome::Embedded(vector) => vector,
            outcome => panic!("{outcome:?} of an embed"),
        }
    });
    (Outcome::Pieces(vectors.collect()), len)
}

/// That of an embed without a probe.
fn mean() -> Shape {
    Shape { normalize: false, ..Shape::default() }
}

/// The vector of these tokens' last state.
fn vector(tokens: &[TokenId]) -> Work {
    let shape = Shape { pooling: Pooling::Last, normalize: false, ..Shape::default() };
    Work::Embed { tokens: tokens.to_vec().into(), shape }
}

fn step_work(step: &StepAsk, tokens: Vec<TokenId>, count_max: usize) -> Work {
    let StepAsk { count, sampling, seed, top, stream, grammar, .. } = step.clone();
    let (tokens, count) = (tokens.into(), count.min(count_max));
    Work::Step { tokens, count, sampling, seed, top, stream, grammar, said: Vec::new() }
}

/// The seed of one of several answers, as `docs/pipe.md` says: that of the first is the request's.
fn seed_of(seed: u64, index: usize) -> u64 {
    match index as u64 {
        0 => seed,
        index => super::super::rng::mix(seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
    }
}
