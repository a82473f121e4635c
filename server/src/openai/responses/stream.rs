//! A response as it comes: it is created, its items begin, grow and end, and it is whole. Each event has a number.

use bytes::{Bytes, BytesMut};
use motorbrain::chat::{Answered, ChatItem, ChatStream, ChatToken};
use serde_json::{Map, Value, json};

use super::{
    Keeping,
    answer::{ContentSaid, Item, Response, Status, status},
};
use crate::{
    error::ApiError,
    openai::chat::{
        answer::{TokenSaid, token},
        finished,
    },
    spans,
    sse::{self, Source},
};

/// The events of a response.
pub(super) struct Events {
    chat: ChatStream,
    response: Response,
    /// Taken when it is whole.
    keeping: Option<Keeping>,
    /// The next event's number.
    number: u64,
    begun: bool,
    /// The items that are whole.
    whole: Vec<Item>,
    now: Option<Growing>,
    over: bool,
}

/// An item that grows.
struct Growing {
    item: Item,
    is_call: bool,
    text: String,
    tokens: Vec<ChatToken>,
}

impl Events {
    pub(super) fn new(chat: ChatStream, response: Response, keeping: Keeping) -> Self {
        let keeping = Some(keeping);
        Self { chat, response, keeping, number: 0, begun: false, whole: Vec::new(), now: None, over: false }
    }
}

impl Source for Events {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        while !self.over {
            let Some(item) = self.chat.next().await else { return Ok(None) };
            if let ChatItem::Failed(error) = item {
                return self.failed(error.into()).map(Some);
            }
            let mut out = BytesMut::new();
            if !self.begun {
                self.begun = true;
                self.whole_response(&mut out, "response.created");
                self.whole_response(&mut out, "response.in_progress");
            }
            match item {
                ChatItem::Text { text, tokens, .. } => self.text(&mut out, text, tokens),
                ChatItem::CallBegins { id, name, .. } => {
                    self.end(&mut out, Status::Completed);
                    self.begin(&mut out, Item::call(&id, &name), true);
                }
                ChatItem::Arguments { text, .. } => self.grow(&mut out, text, Vec::new()),
                ChatItem::Ended { finish, .. } => {
                    if self.now.is_none() && self.whole.is_empty() {
                        self.begin(&mut out, Item::message(), false);
                    }
                    self.end(&mut out, status(Some(finish)));
                }
                ChatItem::Done(answered) => {
                    finished(&self.response.id, &answered);
                    self.done(&mut out, &answered);
                }
                ChatItem::Failed(_) => {}
            }
            if !out.is_empty() {
                return Ok(Some(out.freeze()));
            }
        }
        Ok(None)
    }
}

impl Events {
    fn text(&mut self, out: &mut BytesMut, text: String, tokens: Vec<ChatToken>) {
        if self.now.as_ref().is_none_or(|now| now.is_call) {
            self.end(out, Status::Completed);
            self.begin(out, Item::message(), false);
        }
        self.grow(out, text, tokens);
    }

    /// An item begins.
    fn begin(&mut self, out: &mut BytesMut, item: Item, is_call: bool) {
        let index = self.whole.len();
        self.event(out, "response.output_item.added", json!({"output_index": index, "item": &item}));
        if !is_call {
            let part = json!({"part": ContentSaid::new(String::new(), Vec::new())});
            self.item_event(out, "response.content_part.added", item.id(), false, part);
        }
        self.now = Some(Growing { item, is_call, text: String::new(), tokens: Vec::new() });
    }

    /// It goes on.
    fn grow(&mut self, out: &mut BytesMut, text: String, tokens: Vec<ChatToken>) {
        let Some(mut now) = self.now.take() else { return };
        if now.is_call {
            let delta = json!({"delta": text});
            self.item_event(out, "response.function_call_arguments.delta", now.item.id(), true, delta);
        } else {
            let logprobs: Vec<TokenSaid> = tokens.iter().map(token).collect();
            let delta = json!({"delta": text, "logprobs": logprobs});
            self.item_event(out, "response.output_text.delta", now.item.id(), false, delta);
        }
        now.text += &text;
        now.tokens.extend(tokens);
        self.now = Some(now);
    }

    /// It is whole.
    fn end(&mut self, out: &mut BytesMut, ended: Status) {
        let Some(Growing { item, is_call, text, tokens }) = self.now.take() else { return };
        let said = ContentSaid::new(text.clone(), tokens.iter().map(token).collect());
        if is_call {
            let done = match &item {
                Item::FunctionCall { name, .. } => json!({"arguments": text, "name": name}),
                Item::Message { .. } => json!({"arguments": text}),
            };
            self.item_event(out, "response.function_call_arguments.done", item.id(), true, done);
        } else {
            let done = json!({"text": text, "logprobs": &said.logprobs()});
            self.item_event(out, "response.output_text.done", item.id(), false, done);
            self.item_event(out, "response.content_part.done", item.id(), false, json!({"part": &said}));
        }
        let item = item.said(said, ended);
        let index = self.whole.len();
        self.event(out, "response.output_item.done", json!({"output_index": index, "item": &item}));
        self.whole.push(item);
    }

    /// All of it is.
    fn done(&mut self, out: &mut BytesMut, answered: &Answered) {
        self.over = true;
        self.response = self.response.clone().ended(std::mem::take(&mut self.whole), answered);
        if let Some(keeping) = self.keeping.take() {
            keeping.keep(&self.response);
        }
        let name = match self.response.status {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.whole_response(out, name);
    }

    /// It failed: so it has a status of its own where nothing was told, else that is told, and then what every stream ends
    /// with that failed.
    fn failed(&mut self, error: ApiError) -> Result<Bytes, ApiError> {
        self.over = true;
        if !self.begun {
            return Err(error);
        }
        spans::failed(&error);
        let said = json!({"code": "server_error", "message": error.message});
        self.response = Response { status: Status::Failed, error: Some(said), ..self.response.clone() };
        let mut out = BytesMut::new();
        self.whole_response(&mut out, "response.failed");
        out.extend_from_slice(&sse::data(&error.body()));
        Ok(out.freeze())
    }

    fn whole_response(&mut self, out: &mut BytesMut, name: &str) {
        let response = json!({"response": &self.response});
        self.event(out, name, response);
    }

    /// An event of the item that grows.
    fn item_event(&mut self, out: &mut BytesMut, name: &str, id: &str, is_call: bool, said: Value) {
        let mut all = json!({"item_id": id, "output_index": self.whole.len()});
        if !is_call {
            all["content_index"] = json!(0);
        }
        merge(&mut all, said);
        self.event(out, name, all);
    }

    fn event(&mut self, out: &mut BytesMut, name: &str, said: Value) {
        let mut all = json!({"type": name, "sequence_number": self.number});
        self.number += 1;
        merge(&mut all, said);
        out.extend_from_slice(&sse::named(name, &all));
    }
}

/// Both objects' keys in one.
fn merge(all: &mut Value, said: Value) {
    if let (Value::Object(all), Value::Object(said)) = (all, said) {
        all.extend::<Map<String, Value>>(said);
    }
}
