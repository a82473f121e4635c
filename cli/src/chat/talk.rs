//! What was said in each conversation of a chat, and in which of them it goes on. Pure.

use std::collections::BTreeMap;

use motorbrain::chat::{Message, Role};

/// Conversations by their names, which are those that the brain knows them by.
#[derive(Clone, Debug)]
pub(super) struct Talk {
    current: String,
    /// The current one is among them.
    said: BTreeMap<String, Vec<Message>>,
}

/// Why no other conversation is gone on with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TalkError {
    #[error("there is a conversation `{name}` already")]
    Exists { name: String },
    #[error("there is no conversation `{name}`, expected one of {}", expected.join(", "))]
    Unknown { name: String, expected: Vec<String> },
}

impl TalkError {
    /// What to do about it, one sentence.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Exists { name } => format!("`/switch {name}` goes there"),
            Self::Unknown { name, .. } => format!("`/fork {name}` makes it of this one"),
        }
    }
}

impl Talk {
    pub(super) fn new(name: String, said: Vec<Message>) -> Self {
        Self { said: BTreeMap::from([(name.clone(), said)]), current: name }
    }

    /// The conversation that is gone on with.
    pub(super) fn name(&self) -> &str {
        &self.current
    }

    /// What was said there.
    pub(super) fn messages(&self) -> &[Message] {
        self.said.get(&self.current).map_or(&[], Vec::as_slice)
    }

    /// The conversations that there are, the current one marked.
    pub(super) fn list(&self) -> String {
        let line = |(name, said): (&String, &Vec<Message>)| {
            let mark = if *name == self.current { '*' } else { ' ' };
            format!("{mark} {name}: {} messages", said.len())
        };
        self.said.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What was said where a message is added to it.
    pub(super) fn with(&self, message: &str) -> Vec<Message> {
        self.messages().iter().cloned().chain([Message::user(message)]).collect()
    }

    /// A message was answered, by this much at least.
    pub(super) fn answered(&mut self, message: String, answer: String) {
        self.current_mut().extend([Message::user(message), Message::assistant(answer)]);
    }

    /// Forgets all but what the system said first.
    pub(super) fn reset(&mut self) {
        let said = self.current_mut();
        let kept = said.iter().take_while(|message| message.role == Role::System).count();
        said.truncate(kept);
    }

    /// Goes on from other messages.
    pub(super) fn load(&mut self, messages: Vec<Message>) {
        *self.current_mut() = messages;
    }

    /// Goes on under a new name.
    pub(super) fn fork(&mut self, name: String) -> Result<(), TalkError> {
        if self.said.contains_key(&name) {
            return Err(TalkError::Exists { name });
        }
        self.said.insert(name.clone(), self.messages().to_vec());
        self.current = name;
        Ok(())
    }

    /// Goes on in another conversation.
    pub(super) fn switch(&mut self, name: String) -> Result<(), TalkError> {
        if !self.said.contains_key(&name) {
            return Err(TalkError::Unknown { name, expected: self.said.keys().cloned().collect() });
        }
        self.current = name;
        Ok(())
    }

    fn current_mut(&mut self) -> &mut Vec<Message> {
        self.said.entry(self.current.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn talk() -> Talk {
        let mut talk = Talk::new("chat".into(), vec![Message::system("Be brief.")]);
        talk.answered("Hi".into(), "Hello".into());
        talk
    }

    fn texts(messages: &[Message]) -> Vec<&str> {
        messages.iter().filter_map(|message| message.content.as_deref()).collect()
    }

    #[test]
    fn a_fork_and_what_it_was_made_of_go_their_own_ways() {
        let mut talk = talk();
        assert_eq!(talk.fork("end".into()), Ok(()));
        talk.answered("Bye".into(), "See you".into());
        assert_eq!((talk.name(), texts(talk.messages()).len()), ("end", 5));
        assert_eq!(talk.list(), "  chat: 3 messages\n* end: 5 messages");
        assert_eq!(talk.switch("chat".into()), Ok(()));
        assert_eq!(texts(talk.messages()), ["Be brief.", "Hi", "Hello"]);
        assert_eq!(talk.fork("end".into()), Err(TalkError::Exists { name: "end".into() }));
        let unknown = talk.switch("ende".into()).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no conversation `ende`, expected one of chat, end");
        assert_eq!(talk.name(), "chat", "what is refused changes nothing");
    }

    #[test]
    fn a_reset_leaves_what_the_system_said() {
        let mut talk = talk();
        talk.reset();
        assert_eq!(texts(talk.messages()), ["Be brief."]);
        talk.load(vec![Message::user("Hi")]);
        talk.reset();
        assert!(talk.messages().is_empty());
    }

    #[test]
    fn a_message_is_said_once_it_is_answered() {
        let talk = talk();
        assert_eq!(texts(&talk.with("Why?")), ["Be brief.", "Hi", "Hello", "Why?"]);
        assert_eq!(texts(talk.messages()), ["Be brief.", "Hi", "Hello"]);
    }
}
