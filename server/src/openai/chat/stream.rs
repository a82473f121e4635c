//! An answer as it comes: the role first, then texts and calls, the reason of the end, and the usage where it was asked for.

use std::collections::BTreeSet;

use bytes::Bytes;
use motorbrain::chat::{ChatItem, ChatStream};
use serde::Serialize;

use super::{
    answer::{ContentLogprobs, logprobs},
    finished,
};
use crate::{
    error::ApiError,
    openai::{head::Head, usage::Usage},
    sse::{self, Source},
};

/// The events of a streamed answer.
pub(super) struct Chunks {
    chat: ChatStream,
    head: Head,
    /// Whether the usage is told.
    usage: bool,
    /// Answers whose role was told.
    begun: BTreeSet<usize>,
}

impl Chunks {
    pub(super) fn new(chat: ChatStream, head: Head, usage: bool) -> Self {
        Self { chat, head, usage, begun: BTreeSet::new() }
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Piece<'a>>,
    /// Of all but the last `null`, where it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Piece<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ContentLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
}

#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl Source for Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(item) = self.chat.next().await else { return Ok(None) };
        // What a delta borrows lives until it is written.
        let (said, called);
        let (choice, delta, logprobs, finish) = match item {
            ChatItem::Text { choice, text, tokens } => {
                said = text;
                (choice, Delta { content: Some(&said), ..Delta::default() }, logprobs(&tokens), None)
            }
            ChatItem::CallBegins { choice, index, id, name } => {
                (said, called) = (name, id);
                let function = FunctionDelta { name: Some(&said), arguments: "" };
                let begun = CallDelta { index, id: Some(&called), r#type: Some("function"), function };
                (choice, Delta { tool_calls: Some([begun]), ..Delta::default() }, None, None)
            }
            ChatItem::Arguments { choice, index, text } => {
                said = text;
                let function = FunctionDelta { name: None, arguments: &said };
                let grown = CallDelta { index, id: None, r#type: None, function };
                (choice, Delta { tool_calls: Some([grown]), ..Delta::default() }, None, None)
            }
            ChatItem::Ended { choice, finish } => (choice, Delta::default(), None, Some(finish.as_str())),
            ChatItem::Done(answered) => {
                finished(&self.head.id, &answered);
                let usage = Usage::of(&answered);
                let told = if self.usage { sse::data(&self.chunk(vec![], Some(usage))) } else { Bytes::new() };
                return Ok(Some([told, sse::DONE].concat().into()));
            }
            ChatItem::Failed(error) => return Err(error.into()),
        };
        let mut told = Vec::new();
        if self.begun.insert(choice) {
            let role = Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
            told.extend_from_slice(&self.piece(choice, role, None, None));
        }
        told.extend_from_slice(&self.piece(choice, delta, logprobs, finish));
        Ok(Some(told.into()))
    }
}

impl Chunks {
    fn piece(
        &self,
        index: usize,
        delta: Delta<'_>,
        logprobs: Option<ContentLogprobs>,
        finish_reason: Option<&'static str>,
    ) -> Bytes {
        sse::data(&self.chunk(vec![Piece { index, delta, logprobs, finish_reason }], None))
    }

    fn chunk<'a>(&'a self, choices: Vec<Piece<'a>>, usage: Option<Usage>) -> Chunk<'a> {
        let Head { id, created, model } = &self.head;
        let usage = self.usage.then_some(usage);
        Chunk { id, object: "chat.completion.chunk", created: *created, model, choices, usage }
    }
}
