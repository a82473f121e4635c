//! From a request to the answers that are awaited: the prompt's tokens, what an answer may be, the conversation, the steps.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{Brain, Temporary},
    message::{BrainError, ConversationId, Fork, Input, Step, Terms},
    tokens::TokenId,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    ChatError, ChatRequest, ChatStream, Chats, Constraint, TemplateError,
    chats::interrupted,
    choice::{Coming, Tokens},
    prompt::told,
    stream::{Awaited, Place},
    turn::{Brought, bring},
};

impl Chats {
    /// Does all up to the first token, in the request's time.
    pub(super) async fn begun(&self, request: ChatRequest) -> Result<ChatStream, ChatError> {
        let until = request.deadline.map(|deadline| Until { at: Instant::now() + deadline, deadline });
        let request = Arc::new(request);
        let begun = async {
            let prompt = self.prompt(&request, until).await?;
            let constraint = self.constraint(&request).await?;
            self.begin(&request, prompt, constraint, until).await
        };
        let Some(until) = until else { return begun.await };
        match timeout_at(until.at, begun).await {
            // Of one of its parts, which has what was left of the time.
            Err(_) | Ok(Err(ChatError::Brain(BrainError::Timeout { .. }))) => Err(until.error()),
            Ok(begun) => begun,
        }
    }

    /// The tokens that the messages become.
    async fn prompt(&self, request: &Arc<ChatRequest>, until: Option<Until>) -> Result<Vec<TokenId>, ChatError> {
        let rendered = self.rendered(request).await?;
        let tokens = self.within(until)?.tokenize(rendered.parts()).await?;
        // A tokenizer may find markers where no text spells them, since it changes texts first.
        let guarded = &self.shared.guarded;
        let mut found = tokens.iter().filter(|token| guarded.contains(token));
        if found.clone().count() > rendered.live_count() {
            let last = found.next_back().and_then(|token| self.shared.model.tokenizer.token(*token));
            return Err(TemplateError::Forged { token: last.unwrap_or_default() }.into());
        }
        let (prompt, size) = (tokens.len(), self.shared.window);
        if prompt >= size {
            return Err(ChatError::ContextFull { prompt, size });
        }
        Ok(tokens)
    }

    async fn constraint(&self, request: &Arc<ChatRequest>) -> Result<Option<Constraint>, ChatError> {
        let (shared, request) = (Arc::clone(&self.shared), Arc::clone(request));
        let made = spawn_blocking(move || {
            let way = shared.renderer.way(&request);
            shared.rules.of(&request, way.manner.dialect, way.tokens)
        });
        made.await.map_err(interrupted)?
    }

    /// Brings the conversation to the prompt and asks for the answers.
    async fn begin(
        &self,
        request: &ChatRequest,
        prompt: Vec<TokenId>,
        constraint: Option<Constraint>,
        until: Option<Until>,
    ) -> Result<ChatStream, ChatError> {
        let brain = self.within(until)?;
        let (place, brought) = match &request.conversation {
            Some(name) => {
                let turn = self.shared.turns.turn(name.clone()).await;
                let brought = bring(&brain, name, &prompt, self.shared.has_pages).await?;
                (Place::Named(turn), brought)
            }
            None => (Place::Fresh(self.fresh()), Brought::default()),
        };
        let name = match (&place, &request.conversation) {
            (Place::Fresh(fresh), _) => fresh.name().clone(),
            (Place::Named(_), name) => name.clone().unwrap_or_else(|| "".into()),
        };
        let rest = &prompt[brought.common..];
        let room = self.shared.window - prompt.len();
        let step = Step {
            input: (!rest.is_empty()).then(|| Input::Tokens(rest.to_vec())),
            count: request.count.unwrap_or(self.shared.count_max).min(room),
            sampling: request.sampling.clone(),
            seed: request.seed,
            top: request.top.unwrap_or(0),
            stop: request.stop.clone(),
            grammar: constraint,
            terms: Terms { choice: brought.choice, sharing: request.sharing.clone(), pin: false },
            ..Step::greedy(name.clone(), "", 0)
        };
        let mut awaited = Awaited {
            places: vec![place],
            coming: Vec::new(),
            prompt,
            brought,
            is_named: request.conversation.is_some(),
            end_tokens: self.shared.end_tokens.clone(),
            read: None,
        };
        let mut steps = vec![step];
        if request.n > 1 {
            self.divide(request, &name, &mut steps, &mut awaited, until).await?;
        }
        for (index, step) in steps.into_iter().enumerate() {
            let stream = self.within(until)?.step_stream(step).await?;
            awaited.coming.push((stream, self.coming(request, index, &awaited.prompt)));
        }
        Ok(ChatStream::new(awaited, until.map(|until| until.deadline)))
    }

    /// Reads the prompt once, and makes a conversation for each answer behind the first.
    async fn divide(
        &self,
        request: &ChatRequest,
        name: &ConversationId,
        steps: &mut Vec<Step>,
        awaited: &mut Awaited,
        until: Option<Until>,
    ) -> Result<(), ChatError> {
        let Some(mut first) = steps.pop() else { return Ok(()) };
        if first.input.is_some() {
            let read = Step { count: 0, top: 0, stop: Vec::new(), grammar: None, ..first.clone() };
            awaited.read = Some(self.within(until)?.step(read).await?.context.reused);
            (first.input, first.terms) = (None, Terms::default());
        }
        for index in 0..request.n {
            let mut step = Step { seed: request.seed.map(|seed| seed_of(seed, index)), ..first.clone() };
            if index > 0 {
                let fresh = self.fresh();
                let (from, to) = (name.clone(), fresh.name().clone());
                awaited.places.push(Place::Fresh(fresh));
                self.within(until)?.fork(Fork { from, to: to.clone(), at: None, choice: step.terms.choice }).await?;
                step.conversation = to;
                step.terms = Terms::default();
            }
            steps.push(step);
        }
        Ok(())
    }

    fn fresh(&self) -> Temporary {
        Temporary::new(&self.brain, "chat")
    }

    fn coming(&self, request: &ChatRequest, index: usize, prompt: &[TokenId]) -> Coming {
        let tools = told(request);
        let dialect = (!tools.is_empty()).then(|| self.shared.renderer.way(request).manner.dialect);
        let offered = tools.iter().map(|tool| tool.name.clone()).collect();
        let tokenizer = || Arc::clone(&self.shared.model.tokenizer) as _;
        Coming::new(index, dialect, offered, request.top.map(|_| Tokens::behind(prompt, tokenizer())))
    }

    /// The handle for the next of a request's parts, which has what is left of the time.
    fn within(&self, until: Option<Until>) -> Result<Brain, ChatError> {
        let Some(until) = until else { return Ok(self.brain.clone()) };
        match until.at.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(until.error()),
            left => Ok(self.brain.within(left)),
        }
    }
}

/// When all is to be done, and how long that was.
#[derive(Clone, Copy, Debug)]
struct Until {
    at: Instant,
    deadline: Duration,
}

impl Until {
    fn error(self) -> ChatError {
        BrainError::Timeout { deadline: self.deadline }.into()
    }
}

/// The seed of an answer: that of the request for the first, as [`Step::n`] has it, and for others a step of splitmix64
/// (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators").
fn seed_of(seed: u64, index: usize) -> u64 {
    if index == 0 {
        return seed;
    }
    let number = seed.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
