//! Callers: what they ask, when they leave, which faults they rehearse.

use std::{collections::BTreeSet, time::Duration};

use motorbrain_actors::{
    engine::Sampling,
    job::RequestId,
    message::ConversationId,
    policy::{ActorIndex, Arrival, Ask, Chaos, Event, Given, StepAsk},
    tokens::TokenId,
};

use super::{Asked, CONVERSATIONS, World};

impl World {
    /// Something that somebody does.
    pub(super) fn act(&mut self) -> Result<(), String> {
        match self.rng.below(100) {
            0..78 => self.somebody_asks(),
            78..86 => self.somebody_leaves(),
            86..93 => self.somebody_rehearses(),
            _ => self.pass(self.now + 100),
        }
    }

    fn somebody_asks(&mut self) -> Result<(), String> {
        let name = ConversationId::from(["a", "b", "c", "d", "e"][self.rng.below(CONVERSATIONS) as usize]);
        let step = StepAsk {
            count: self.rng.below(5) as usize,
            sampling: Sampling::GREEDY,
            seed: self.rng.below(3),
            top: 0,
            stream: self.rng.chance(40),
        };
        let (conversation, ask) = match self.rng.below(100) {
            0..60 => (Some(name), Ask::Step(step)),
            60..72 => (Some(name), Ask::Embed),
            72..80 => (None, Ask::Embed),
            80..88 => (Some(name), Ask::Score),
            88..96 => (Some(name), Ask::Reset),
            _ => (Some(name), Ask::Close),
        };
        let tokens = (1 + self.rng.below(9)).min(1 + self.rng.below(30));
        // One id in a thousand is outside the vocabulary.
        let tokens =
            (0..tokens).map(|_| TokenId(1 + self.rng.below(99) as u32 + 100 * u32::from(self.rng.below(1000) == 0)));
        let tokens: Vec<TokenId> = tokens.collect();
        let takes_input = !matches!(ask, Ask::Reset | Ask::Close);
        let goes_on = matches!(ask, Ask::Step(_)) && self.rng.chance(30);
        let input = (takes_input && !goes_on).then_some(tokens);
        let deadline = self.rng.chance(15).then(|| self.rng.below(120));
        self.ask(conversation, ask, input, deadline)
    }

    pub(super) fn ask(
        &mut self,
        conversation: Option<ConversationId>,
        ask: Ask,
        input: Option<Vec<TokenId>>,
        deadline: Option<u64>,
    ) -> Result<(), String> {
        let request = RequestId(self.asked.len() as u64);
        let as_text = input.is_some() && self.rng.chance(40);
        let given = input.as_ref().map(|tokens| match as_text {
            true => Given::Text { bytes: tokens.len() * 4 },
            false => Given::Tokens(tokens.clone()),
        });
        let deadline = deadline.map(Duration::from_millis);
        let arrival = Arrival { request, conversation, ask, input: given, deadline };
        let tokens = input.unwrap_or_default();
        let asked = Asked { arrival: arrival.clone(), tokens, at: self.now, shown: Vec::new(), end: None, deaths: 0 };
        self.asked.insert(request, asked);
        if self.faults && self.rng.chance(2) {
            self.poison.insert(request);
        }
        if self.faults && self.rng.chance(1) {
            self.cursed.extend(arrival.conversation.clone());
        }
        self.tell(Event::Arrived(arrival))
    }

    fn somebody_leaves(&mut self) -> Result<(), String> {
        let open: Vec<_> = self.asked.iter().filter(|(_, asked)| asked.end.is_none()).map(|(&id, _)| id).collect();
        if open.is_empty() {
            return Ok(());
        }
        let who = self.rng.below(open.len() as u64) as usize;
        self.tell(Event::Gone(open[who]))
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
        let names: BTreeSet<_> = self.asked.values().filter_map(|asked| asked.arrival.conversation.clone()).collect();
        for name in names {
            let step = StepAsk { count: 1, sampling: Sampling::GREEDY, seed: 1, top: 0, stream: false };
            self.ask(Some(name), Ask::Step(step), None, None)?;
        }
        self.settle()
    }
}
