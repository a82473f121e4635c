//! Chats over a running brain.
//!
//! A request is rendered and tokenised, its conversation brought to those tokens, and what is new of them read: then
//! answers are sampled. Each of these is a request of the brain's own, with its permits and its errors; nothing is
//! decided here that the brain decides.

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc, time::SystemTime};

use motorbrain_actors::{
    brain::Brain,
    message::{BrainError, Part},
    tokens::TokenId,
};
use tokio::task::{JoinError, spawn_blocking};

use super::{
    Answered, ChatError, ChatItem, ChatRequest, ChatStream, asked, render::Renderer, rendered::Rendered, rules::Rules,
    turn::Turns,
};
use crate::model::Model;

/// How chats are had.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// A file with the template, instead of the model's own.
    pub template: Option<PathBuf>,
}

/// Chats over a running brain; cheap to clone.
#[derive(Clone)]
pub struct Chats {
    pub(super) brain: Brain,
    pub(super) shared: Arc<Shared>,
}

/// What all handles have in common.
pub(super) struct Shared {
    pub(super) model: Arc<Model>,
    pub(super) renderer: Renderer,
    pub(super) rules: Rules,
    pub(super) turns: Arc<Turns>,
    /// Tokens that only the template makes.
    pub(super) guarded: BTreeSet<TokenId>,
    /// The most tokens of a context.
    pub(super) window: usize,
    /// The most tokens of an answer.
    pub(super) count_max: usize,
    /// Whether keys and values lie in pages.
    pub(super) has_pages: bool,
    pub(super) end_tokens: Vec<TokenId>,
}

/// How a tokenizer says that it cannot spell something: no marker.
const UNKNOWN: [&str; 3] = ["<unk>", "<UNK>", "[UNK]"];

impl Chats {
    /// Reads the model's template and finds out how the model calls tools. `model` is the one that the brain runs.
    ///
    /// # Errors
    /// There is no template, or none that can be used; the brain has stopped.
    pub async fn open(brain: Brain, model: Arc<Model>, options: ChatOptions) -> Result<Self, ChatError> {
        let info = brain.info().await?;
        let opened = Arc::clone(&model);
        let renderer = spawn_blocking(move || Renderer::open(&opened, options.template.as_deref()));
        let renderer = renderer.await.map_err(interrupted)??;
        let added = model.tokenizer.added_tokens().into_iter();
        let is_guarded = |text: &str| renderer.guarded().has(text) && !UNKNOWN.contains(&text);
        let shared = Shared {
            guarded: added.filter(|token| is_guarded(&token.text)).map(|token| token.id).collect(),
            rules: Rules::new(Arc::clone(&model)),
            model,
            renderer,
            turns: Arc::default(),
            window: info.window.size,
            count_max: brain.limits().map_or(usize::MAX, |limits| limits.count),
            has_pages: info.pages.is_some(),
            end_tokens: info.end_tokens,
        };
        Ok(Self { brain, shared: Arc::new(shared) })
    }

    /// The same chats through another handle on the same brain: a client's, say, or one that waits for room.
    #[must_use]
    pub fn through(&self, brain: Brain) -> Self {
        Self { brain, shared: Arc::clone(&self.shared) }
    }

    /// The handle that requests go through.
    pub fn brain(&self) -> &Brain {
        &self.brain
    }

    /// The text of the template for requests without tools, as it stands in its file.
    pub fn template(&self) -> &str {
        self.shared.renderer.text(false)
    }

    /// The input that the messages become; it is not looked at whether it fits the window.
    ///
    /// # Errors
    /// [`ChatError::BadRequest`], [`ChatError::Template`].
    pub async fn render(&self, request: &ChatRequest) -> Result<Vec<Part>, ChatError> {
        Ok(self.rendered(&Arc::new(request.clone())).await?.parts())
    }

    /// The same, in which it is known what is whose.
    pub(super) async fn rendered(&self, request: &Arc<ChatRequest>) -> Result<Rendered, ChatError> {
        asked::check(request)?;
        if let Some(limits) = self.brain.limits() {
            let (found, limit) = (asked::bytes(request), limits.text_bytes);
            if found > limit {
                return Err(BrainError::InputTooLong { found, limit }.into());
            }
        }
        let (shared, request) = (Arc::clone(&self.shared), Arc::clone(request));
        let rendered = spawn_blocking(move || shared.renderer.render(&request, SystemTime::now()));
        Ok(rendered.await.map_err(interrupted)??)
    }

    /// Answers. Where it fails, or nobody waits for it any more, a named conversation stands where that has left it; it
    /// is brought to the next request's messages all the same.
    ///
    /// # Errors
    /// See [`ChatError`].
    pub async fn answer(&self, request: ChatRequest) -> Result<Answered, ChatError> {
        let mut stream = self.stream(request).await?;
        loop {
            match stream.next().await {
                Some(ChatItem::Done(answered)) => {
                    stream.close().await;
                    return Ok(answered);
                }
                Some(ChatItem::Failed(error)) => return Err(error),
                Some(_) => {}
                None => return Err(ChatError::Interrupted { reason: "the answer has no end".to_owned() }),
            }
        }
    }

    /// Answers as tokens come. It returns when the messages' tokens are known; what goes wrong later is the last item.
    ///
    /// # Errors
    /// See [`ChatError`].
    pub async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ChatError> {
        self.begun(request).await
    }
}

impl fmt::Debug for Chats {
    /// Without what users have said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chats").field("model", &self.shared.model.dir).finish_non_exhaustive()
    }
}

/// What is told where a thread of the runtime did not do its work.
pub(super) fn interrupted(error: JoinError) -> ChatError {
    ChatError::Interrupted { reason: error.to_string() }
}
