//! The library in this process: what a server can be no faster than.

use std::sync::Arc;

use motorbrain::{
    Brain, BrainError, Embed, Part, Parts, Sampling,
    chat::{ChatError, ChatItem, ChatOptions, ChatRequest, Chats, Message},
};
use tokio::time::Instant;

use super::{
    Answer,
    mix::{Caller, SYSTEM, TEMPERATURE, TOP_P},
};
use crate::{Outcome, request::Load};

#[derive(Clone)]
pub(super) struct Library {
    brain: Brain,
    chats: Chats,
}

impl Library {
    pub(super) async fn start(load: &Load) -> Outcome<Self> {
        let settings = load.settings();
        let parts = Parts::find(&settings).await?;
        let model = Arc::clone(&parts.model);
        let brain = parts.start(&settings, None).await?;
        let chats = Chats::open(brain.clone(), model, ChatOptions::default()).await?;
        Ok(Self { brain, chats })
    }

    pub(super) async fn stop(self) {
        self.brain.shutdown().await;
    }

    pub(super) async fn answer(&self, caller: &Caller) -> Outcome<Answer> {
        let asked = Instant::now();
        let answered = match caller.embeds {
            true => self.vector(caller, asked).await,
            false => self.chat(caller, asked).await,
        };
        match answered {
            Err(ChatError::Brain(BrainError::Overloaded { retry_after: Some(pause), .. })) => Ok(Answer::Busy(pause)),
            answered => Ok(answered?),
        }
    }

    async fn vector(&self, caller: &Caller, asked: Instant) -> Result<Answer, ChatError> {
        self.brain.embed(Embed::of(vec![Part::Literal(caller.text())])).await?;
        Ok(Answer::Vector { asked })
    }

    async fn chat(&self, caller: &Caller, asked: Instant) -> Result<Answer, ChatError> {
        let request = ChatRequest {
            count: Some(caller.tokens),
            sampling: Sampling { temperature: TEMPERATURE, top_p: TOP_P, ..Sampling::GREEDY },
            seed: Some(caller.seed()),
            ..ChatRequest::new(vec![Message::system(SYSTEM), Message::user(caller.message())])
        };
        let mut stream = self.chats.stream(request).await?;
        let mut came = Vec::new();
        while let Some(item) = stream.next().await {
            match item {
                ChatItem::Text { .. } => came.push(Instant::now()),
                ChatItem::Done(answered) => {
                    return Ok(Answer::Chat { asked, came, tokens: answered.completion_tokens });
                }
                ChatItem::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Ok(Answer::Chat { asked, tokens: came.len(), came })
    }
}
