//! What is asked: messages and texts that everybody who is compared gets alike.

use serde::Deserialize;

/// The committed text that messages are cut from.
const TEXT: &str = include_str!("../../../../tools/texts/english.txt");

/// What all chats begin with.
pub(super) const SYSTEM: &str = "You are a helpful assistant who answers in a few plain sentences.";

/// Bytes of the text that a message quotes, and that is embedded.
const QUOTED: usize = 160;

/// Bytes from one message's place in the text to the next one's.
const APART: usize = 61;

/// How likely tokens are drawn, as a chat usually is.
pub(super) const TEMPERATURE: f32 = 0.8;
pub(super) const TOP_P: f32 = 0.95;

/// How many ask for what.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Mix {
    /// Callers who chat, their answers streamed.
    chats: usize,
    /// Callers who embed.
    embeds: usize,
    /// The most tokens of an answer.
    tokens: usize,
}

/// One who asks again and again.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Which one, from 0.
    pub(super) index: usize,
    /// Whether he embeds; else he chats.
    pub(super) embeds: bool,
    /// How often he was answered.
    pub(super) turn: usize,
    /// The most tokens of an answer.
    pub(super) tokens: usize,
}

impl Mix {
    pub(super) fn callers(&self) -> impl Iterator<Item = Caller> {
        let Self { chats, embeds, tokens } = *self;
        (0..chats + embeds).map(move |index| Caller { index, embeds: index >= chats, turn: 0, tokens })
    }
}

impl Caller {
    /// What he embeds now.
    pub(super) fn text(&self) -> String {
        let place = (self.index * 1009 + self.turn) * APART % (TEXT.len() - QUOTED);
        String::from_utf8_lossy(&TEXT.as_bytes()[place..place + QUOTED]).into_owned()
    }

    /// What he says now.
    pub(super) fn message(&self) -> String {
        format!("What comes after this? {}", self.text())
    }

    /// By which his tokens are drawn.
    pub(super) fn seed(&self) -> u64 {
        (self.index * 100_000 + self.turn) as u64
    }
}
