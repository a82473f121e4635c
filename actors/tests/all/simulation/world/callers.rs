//! Callers: what they ask, when they leave, which faults they rehearse.

use std::time::Duration;

use motorbrain_actors::{
    engine::Sampling,
    job::RequestId,
    message::{ConversationId, Party, Priority, Sharing, Terms},
    policy::{ActorIndex, Arrival, Ask, Chaos, Event, Given, StepAsk},
    tokens::TokenId,
};

use super::super::model::{GREEDY, VOCAB, embed, grammar, poison};
use super::{Asked, CONVERSATIONS, World};

/// The last two are seldom spoken to, so that there is somebody to fork to.
const NAMES: [&str; CONVERSATIONS as usize + 2] = ["a", "b", "c", "d", "e", "f", "g"];

/// Whether several answers are asked for.
fn several_of(ask: &Ask) -> bool {
    matches!(ask, Ask::Step(step) if step.n > 1)
}

impl World {
    /// Something that somebody does.
    pub(super) fn act(&mut self) -> Result<(), String> {
        match self.rng.below(100) {
            0..77 => self.somebody_asks(),
            77 => self.somebody_floods(),
            78..83 => self.somebody_leaves(),
            83..86 => self.somebody_cancels(),
            86..93 => self.somebody_rehearses(),
            _ => self.pass(self.now + 100),
        }
    }

    fn somebody_asks(&mut self) -> Result<(), String> {
        let spoken_to = if self.rng.chance(20) { NAMES.len() as u64 } else { CONVERSATIONS };
        let name = ConversationId::from(NAMES[self.rng.below(spoken_to) as usize]);
        let several = self.rng.chance(15);
        let only_reads = !several && self.rng.chance(15);
        let step = StepAsk {
            count: if only_reads { 0 } else { self.rng.below(5) as usize + usize::from(several) },
            sampling: Sampling { temperature: f32::from(u8::from(several)), ..GREEDY },
            seed: self.rng.below(3),
            top: 0,
            stream: !several && self.rng.chance(40),
            n: if several { 2 + self.rng.below(3) as usize } else { 1 },
            grammar: self.rng.chance(20).then(|| grammar(self.rng.below(20))),
        };
        let (conversation, ask) = match self.rng.below(100) {
            0..52 => (Some(name), Ask::Step(step)),
            52..64 => (Some(name), self.some_embed()),
            64..70 => (None, self.some_embed()),
            70..76 => (Some(name), Ask::Score { top: 2 * (step.seed % 2) as usize }),
            76..82 => (Some(name), Ask::Reset),
            82..85 => (Some(name), Ask::Close),
            85..94 => {
                let at = self.rng.chance(50).then(|| self.rng.below(13) as usize);
                let to = self.somebody_but(&name);
                (Some(name), Ask::Fork { to, at })
            }
            _ => (Some(name), Ask::Rewind { context_len: self.rng.below(13) as usize }),
        };
        let runs = matches!(ask, Ask::Step(_) | Ask::Embed(_) | Ask::Score { .. });
        let keeps = conversation.iter().any(|name| self.offered.contains(name));
        let chooses = match &ask {
            Ask::Fork { .. } => self.rng.chance(if keeps { 50 } else { 5 }),
            _ => runs && conversation.is_some() && self.rng.chance(if keeps { 50 } else { 2 }),
        };
        if let Some(name) = conversation.as_ref().filter(|_| !matches!(ask, Ask::Fork { .. })) {
            self.offered.remove(name);
            self.offered.extend(several_of(&ask).then(|| name.clone()));
        }
        let terms = Terms {
            choice: chooses.then(|| self.rng.below(4) as usize),
            sharing: (runs && self.rng.chance(20)).then(|| self.some_sharing()),
            pin: runs && conversation.is_some() && self.rng.chance(8),
        };
        let goes_on = matches!(ask, Ask::Step(_)) && self.rng.chance(30);
        let input = (runs && !goes_on).then(|| self.some_tokens());
        let deadline = self.rng.chance(15).then(|| self.rng.below(120));
        self.ask(conversation, ask, terms, input, deadline)
    }

    /// Many requests at once, of one conversation or of none.
    fn somebody_floods(&mut self) -> Result<(), String> {
        let name = NAMES[self.rng.below(CONVERSATIONS) as usize];
        let conversation = self.rng.chance(60).then(|| ConversationId::from(name));
        let ask = self.some_embed();
        for _ in 0..5 + self.rng.below(15) {
            let input = self.some_tokens();
            self.ask(conversation.clone(), ask.clone(), Terms::default(), Some(input), None)?;
        }
        Ok(())
    }

    fn some_embed(&mut self) -> Ask {
        embed(self.rng.chance(50))
    }

    fn somebody_but(&mut self, name: &ConversationId) -> ConversationId {
        let others: Vec<&str> = NAMES.into_iter().filter(|other| *other != name.as_str()).collect();
        others[self.rng.below(others.len() as u64) as usize].into()
    }

    fn some_sharing(&mut self) -> Sharing {
        match self.rng.below(4) {
            0 => Sharing::With(None),
            1 => Sharing::With(Some("x".into())),
            2 => Sharing::With(Some("y".into())),
            _ => Sharing::Nobody,
        }
    }

    /// What many say as well, or what nobody does.
    fn some_tokens(&mut self) -> Vec<TokenId> {
        let common = self.rng.chance(60).then(|| self.rng.below(2) as u32);
        let count = 1 + self.rng.below(if common.is_some() { 11 } else { 9 });
        let differs = self.rng.below(12) as u32;
        // One id in a thousand is outside the vocabulary.
        let token = |place| {
            let id = 1 + self.rng.below(u64::from(poison::FIRST) - 1) as u32;
            let outside = VOCAB * u32::from(self.rng.below(1000) == 0);
            TokenId(common.filter(|_| place != differs).map_or(id + outside, |which| 1 + 10 * which + place))
        };
        let mut tokens: Vec<TokenId> = (0..count as u32).map(token).collect();
        if self.faults && self.rng.chance(4) {
            let place = self.rng.below(count) as usize;
            tokens[place] = TokenId(poison::FIRST + self.rng.below(u64::from(VOCAB - poison::FIRST)) as u32);
        }
        tokens
    }

    /// Whether something that a request asks, or what it follows, kills whoever does it.
    pub(super) fn is_poison(&self, request: RequestId) -> bool {
        let Some(asked) = self.asked.get(&request) else { return false };
        poison::is_in(&asked.tokens) || asked.names().any(|name| self.tainted.contains(name))
    }

    pub(super) fn ask(
        &mut self,
        conversation: Option<ConversationId>,
        ask: Ask,
        terms: Terms,
        input: Option<Vec<TokenId>>,
        deadline: Option<u64>,
    ) -> Result<(), String> {
        if self.over {
            return Ok(());
        }
        let request = RequestId(self.asked.len() as u64);
        let as_text = input.is_some() && self.rng.chance(40);
        let given = input.as_ref().map(|tokens| match as_text {
            true => Given::Text { bytes: tokens.len() * 4 },
            false => Given::Tokens(tokens.clone()),
        });
        let deadline = deadline.map(Duration::from_millis);
        let client = ["", "x", "y"][self.rng.below(3) as usize].into();
        let priority = if self.rng.chance(20) { Priority::Background } else { Priority::Interactive };
        let party = Party { client, priority };
        let arrival = Arrival { request, conversation, ask, input: given, terms, party, deadline };
        let tokens = input.unwrap_or_default();
        let mut ends = Vec::new();
        if as_text && arrival.conversation.is_none() && matches!(arrival.ask, Ask::Embed(_)) && self.rng.chance(50) {
            ends.extend((1..tokens.len()).filter(|_| self.rng.chance(30)));
            ends.extend((!tokens.is_empty()).then_some(tokens.len()));
        }
        let asked = Asked {
            arrival: arrival.clone(),
            tokens,
            ends,
            at: self.now,
            shown: Vec::new(),
            end: None,
            rebuilds: false,
            found: 0,
            probe_found: 0,
        };
        self.asked.insert(request, asked);
        self.unanswered.insert(request);
        let names = || self.asked.get(&request).into_iter().flat_map(Asked::names).cloned();
        if self.is_poison(request) {
            self.tainted.extend(names().collect::<Vec<_>>());
        }
        self.tell(Event::Arrived(arrival))
    }

    fn somebody_leaves(&mut self) -> Result<(), String> {
        if self.unanswered.is_empty() {
            return Ok(());
        }
        let who = self.rng.below(self.unanswered.len() as u64) as usize;
        self.unanswered.iter().nth(who).copied().map_or(Ok(()), |who| self.tell(Event::Gone(who)))
    }

    fn somebody_cancels(&mut self) -> Result<(), String> {
        if self.rng.chance(50) {
            let name = ConversationId::from(NAMES[self.rng.below(NAMES.len() as u64) as usize]);
            let is_there = |asked: &Asked| asked.names().any(|its| *its == name);
            self.cancels.extend(self.asked.iter().filter(|(_, asked)| is_there(asked)).map(|(request, _)| *request));
            return self.tell(Event::CancelledAll(name));
        }
        if self.unanswered.is_empty() {
            return Ok(());
        }
        let which = self.rng.below(self.unanswered.len() as u64) as usize;
        let Some(which) = self.unanswered.iter().nth(which).copied() else { return Ok(()) };
        self.cancels.insert(which);
        self.tell(Event::Cancelled(which))
    }

    fn somebody_rehearses(&mut self) -> Result<(), String> {
        let chaos = match self.rng.chance(50) {
            true => Chaos::Crash,
            false => Chaos::Hang(Duration::from_millis(self.rng.below(3 * self.run_max))),
        };
        let request = RequestId(1_000_000 + self.sequence);
        let actor = ActorIndex(self.rng.below(4) as usize);
        self.tell(Event::Chaos { request, actor, chaos })
    }

    /// Asks every conversation where it stands.
    pub(super) fn probe(&mut self) -> Result<(), String> {
        for name in NAMES {
            let step = StepAsk { count: 1, sampling: GREEDY, seed: 1, top: 0, stream: false, n: 1, grammar: None };
            self.ask(Some(name.into()), Ask::Step(step), Terms::default(), None, None)?;
        }
        self.settle()
    }

    /// Closes every conversation, of which nothing is left then.
    pub(super) fn close_all(&mut self) -> Result<(), String> {
        for name in NAMES {
            self.ask(Some(name.into()), Ask::Close, Terms::default(), None, None)?;
        }
        self.settle()?;
        self.pass(self.now + 100)?;
        self.check_closed()
    }
}
