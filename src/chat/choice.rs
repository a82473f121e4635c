//! One answer as its tokens come: text and calls out of the tokens' text, and the tokens that the text consists of.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use motorbrain_actors::{
    engine::Sampled,
    message::Finished,
    tokens::{BEFORE_LEN, TokenId, Tokenizer},
};

use super::{
    ChatItem, ChatToken, Choice, Finish, Likely, ToolCall,
    dialect::{Dialect, Event, Parser},
    prompt::nine,
};

/// An answer that comes.
pub(super) struct Coming {
    index: usize,
    dialect: Option<Dialect>,
    parser: Parser,
    /// Bytes of text that have come.
    came: usize,
    /// `None`: nobody wants to know the tokens.
    tokens: Option<Tokens>,
    choice: Choice,
}

impl Coming {
    /// The answer of this number. `dialect`: in which it may call tools of the names `offered`. `tokens`: what tells them.
    pub(super) fn new(index: usize, dialect: Option<Dialect>, offered: Vec<String>, tokens: Option<Tokens>) -> Self {
        let choice = Choice {
            text: String::new(),
            tool_calls: Vec::new(),
            tokens: Vec::new(),
            finish: Finish::Length,
            completion_tokens: 0,
        };
        Self { index, dialect, parser: Parser::new(dialect, offered), came: 0, tokens, choice }
    }

    /// A token with the text that it completes; an end token has none.
    pub(super) fn token(&mut self, sampled: &Sampled, text: &str, is_end: bool, items: &mut VecDeque<ChatItem>) {
        if let Some(tokens) = self.tokens.as_mut().filter(|_| !is_end) {
            tokens.push(sampled, self.came);
        }
        self.came += text.len();
        let events = self.parser.push(text);
        self.take(events, items);
    }

    /// The answer is over.
    pub(super) fn over(mut self, finished: Finished, count: usize, items: &mut VecDeque<ChatItem>) -> Choice {
        let events = self.parser.finish();
        self.take(events, items);
        self.choice.completion_tokens = count;
        self.choice.finish = match finished {
            Finished::Count => Finish::Length,
            Finished::Stop if self.parser.calls() > 0 => Finish::ToolCalls,
            Finished::Stop => Finish::Stop,
        };
        items.push_back(ChatItem::Ended { choice: self.index, finish: self.choice.finish });
        self.choice
    }

    fn take(&mut self, events: Vec<Event>, items: &mut VecDeque<ChatItem>) {
        let choice = self.index;
        for event in events {
            items.push_back(match event {
                Event::Text { text, end } => {
                    let tokens = self.tokens.as_mut().map(|tokens| tokens.until(end)).unwrap_or_default();
                    self.choice.text.push_str(&text);
                    self.choice.tokens.extend_from_slice(&tokens);
                    ChatItem::Text { choice, text, tokens }
                }
                Event::CallBegins { index, name } => {
                    let id = new_id(self.dialect);
                    let call = ToolCall { id: id.clone(), name: name.clone(), arguments: String::new() };
                    self.choice.tool_calls.push(call);
                    ChatItem::CallBegins { choice, index, id, name }
                }
                Event::Arguments { index, text } => {
                    if let Some(call) = self.choice.tool_calls.get_mut(index) {
                        call.arguments.push_str(&text);
                    }
                    ChatItem::Arguments { choice, index, text }
                }
            });
        }
        if let Some(tokens) = &mut self.tokens {
            // Those of calls.
            tokens.until(self.parser.decided());
        }
    }
}

/// An id that nobody has, of the form that the dialect's templates want.
fn new_id(dialect: Option<Dialect>) -> String {
    let drawn = RandomState::new().hash_one(0);
    match dialect {
        Some(Dialect::Mistral) => nine(drawn),
        _ => format!("call_{drawn:016x}"),
    }
}

/// Tokens that wait for their text to be told.
pub(super) struct Tokens {
    tokenizer: Arc<dyn Tokenizer>,
    /// The last tokens before the next one.
    before: Vec<TokenId>,
    /// Each with where its text begins, in bytes of the answer: where that of earlier ones ends, as far as it has come.
    waiting: VecDeque<(usize, ChatToken)>,
}

impl Tokens {
    /// Those of an answer behind a prompt.
    pub(super) fn behind(prompt: &[TokenId], tokenizer: Arc<dyn Tokenizer>) -> Self {
        let before = prompt[prompt.len().saturating_sub(BEFORE_LEN)..].to_vec();
        Self { tokenizer, before, waiting: VecDeque::new() }
    }

    fn push(&mut self, sampled: &Sampled, begin: usize) {
        let likely = |&(id, logprob): &(TokenId, f32)| {
            let mut bytes = Vec::new();
            self.tokenizer.append(&self.before, &[id], &mut bytes);
            Likely { id, bytes, logprob }
        };
        let token = likely(&(sampled.token, sampled.logprob));
        let top = sampled.top.iter().map(likely).collect();
        self.waiting.push_back((begin, ChatToken { token, top }));
        if self.tokenizer.knows(sampled.token) {
            self.before.push(sampled.token);
            self.before.drain(..self.before.len().saturating_sub(BEFORE_LEN));
        }
    }

    /// Those that begin before this place.
    fn until(&mut self, end: usize) -> Vec<ChatToken> {
        let count = self.waiting.iter().take_while(|(begin, _)| *begin < end).count();
        self.waiting.drain(..count).map(|(_, token)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::tokens::{EncodeError, Spelled, TokenizerKind};

    use super::*;

    /// A token a byte.
    struct Bytes;

    impl Tokenizer for Bytes {
        fn encode_behind(&self, text: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
            Ok(text.as_str().bytes().map(|byte| TokenId(byte.into())).collect())
        }

        fn append(&self, _: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
            bytes.extend(tokens.iter().filter_map(|token| u8::try_from(token.0).ok()));
        }

        fn kind(&self) -> TokenizerKind {
            TokenizerKind::Bytes
        }
    }

    /// An answer whose tokens are its bytes, of which the last so many are never shown, since they end it.
    fn answered(answer: &str, shown: usize, finished: Finished) -> (Choice, Vec<ChatItem>) {
        let tokens = Tokens::behind(&[TokenId(65)], Arc::new(Bytes));
        let mut coming = Coming::new(0, Some(Dialect::Hermes), vec!["f".into()], Some(tokens));
        let mut items = VecDeque::new();
        for (at, byte) in answer.bytes().enumerate() {
            let sampled = Sampled { token: TokenId(byte.into()), logprob: -1.0, top: vec![(TokenId(66), -2.0)] };
            // A character is complete with its last byte.
            let from = (0..=at).rev().find(|from| answer.is_char_boundary(*from)).unwrap_or(0);
            let text = answer.get(from..=at).filter(|_| at < shown).unwrap_or_default();
            coming.token(&sampled, text, false, &mut items);
        }
        let end = Sampled { token: TokenId(0), logprob: 0.0, top: Vec::new() };
        coming.token(&end, "", true, &mut items);
        let choice = coming.over(finished, answer.len() + 1, &mut items);
        (choice, items.into())
    }

    fn bytes(tokens: &[ChatToken]) -> Vec<u8> {
        tokens.iter().flat_map(|token| token.token.bytes.clone()).collect()
    }

    #[test]
    fn the_tokens_of_a_text_are_told_with_it_and_those_of_calls_are_not() {
        let answer = "é <tool\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        let (choice, items) = answered(answer, answer.len(), Finished::Stop);
        assert_eq!((choice.text.as_str(), choice.finish), ("é <tool", Finish::ToolCalls));
        assert_eq!(choice.tool_calls.len(), 1);
        assert_eq!(choice.tool_calls[0].arguments, "{\"a\": 1}");
        assert_eq!(choice.completion_tokens, answer.len() + 1);
        assert_eq!(bytes(&choice.tokens), choice.text.as_bytes());
        assert_eq!(choice.tokens[0].top, [Likely { id: TokenId(66), bytes: vec![66], logprob: -2.0 }]);
        let mut texts = String::new();
        for item in &items {
            if let ChatItem::Text { text, tokens, .. } = item {
                assert_eq!(bytes(tokens), text.as_bytes());
                texts += text;
            }
        }
        assert_eq!(texts, choice.text);
        assert!(matches!(items.last(), Some(ChatItem::Ended { finish: Finish::ToolCalls, .. })));
    }

    #[test]
    fn what_ends_an_answer_is_none_of_its_tokens() {
        let (choice, _) = answered("Yes.STOP", 4, Finished::Stop);
        assert_eq!((choice.text.as_str(), choice.finish), ("Yes.", Finish::Stop));
        assert_eq!(bytes(&choice.tokens), b"Yes.");
        let (choice, _) = answered("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a", 99, Finished::Count);
        assert_eq!((choice.text.as_str(), choice.finish), ("", Finish::Length));
        assert_eq!(choice.tool_calls[0].arguments, "{\"a");
    }

    #[test]
    fn ids_are_such_as_templates_take() {
        let id = new_id(Some(Dialect::Mistral));
        assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert!(new_id(Some(Dialect::Hermes)).starts_with("call_"));
        assert_ne!(new_id(None), new_id(None));
    }
}
