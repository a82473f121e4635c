//! Calls in an answer, as its text comes.
//!
//! Text is handed on as soon as it cannot begin a call. White space around calls belongs to them. What begins as a call
//! and is none, or names a tool that there is not, is text.

use super::{
    CLOSING, Dialect,
    scan::{Head, ValueScan, head},
};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::chat) enum Event {
    /// Text that belongs to no call; never empty.
    Text {
        /// What is added.
        text: String,
        /// Bytes of the answer up to its end.
        end: usize,
    },
    /// A tool is called.
    CallBegins {
        /// Which of the calls, from 0.
        index: usize,
        /// The tool's name.
        name: String,
    },
    /// A call's arguments go on; never empty.
    Arguments {
        /// Which of the calls.
        index: usize,
        /// What is added to the JSON text.
        text: String,
    },
}

/// Reads an answer.
#[derive(Clone, Debug)]
pub(in crate::chat) struct Parser {
    /// `None`: there are no calls in it.
    dialect: Option<Dialect>,
    /// The names of the tools.
    offered: Vec<String>,
    state: State,
    /// What came and is not decided yet.
    held: String,
    /// How many bytes are.
    decided: usize,
    calls: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space has come.
    Begin,
    /// In text, in which a call may begin.
    Text,
    /// In text to the end.
    Plain,
    /// In what may be a call: its marker, and the beginning of a list, has so many bytes.
    Opened { marker: usize, listed: bool },
    /// In the arguments of a call.
    Arguments(ValueScan),
    /// Behind them, in the call's object.
    Tail(ValueScan),
    /// Behind that object.
    After,
    /// Behind a call.
    Between,
}

impl Parser {
    /// Of an answer that may call tools of these names. `dialect`: `None` where it may call none.
    pub(in crate::chat) fn new(dialect: Option<Dialect>, offered: Vec<String>) -> Self {
        let state = if dialect.is_some() { State::Begin } else { State::Plain };
        Self { dialect, offered, state, held: String::new(), decided: 0, calls: 0 }
    }

    /// How many bytes of the answer are decided: told, or part of a call's form.
    pub(in crate::chat) fn decided(&self) -> usize {
        self.decided
    }

    /// How many calls have begun.
    pub(in crate::chat) fn calls(&self) -> usize {
        self.calls
    }

    /// Reads on.
    pub(in crate::chat) fn push(&mut self, text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        self.held.push_str(text);
        if let Some(dialect) = self.dialect {
            while self.advance(dialect, &mut events) {}
        } else {
            self.give(self.held.len(), &mut events);
        }
        events
    }

    /// The answer is over.
    pub(in crate::chat) fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        match self.state {
            State::Begin | State::Text | State::Plain | State::Opened { .. } => {
                self.give(self.held.len(), &mut events);
            }
            State::Between if !self.held.trim_start().is_empty() => self.give(self.held.len(), &mut events),
            State::Between | State::Arguments(_) | State::Tail(_) | State::After => drop(self.take(self.held.len())),
        }
        self.state = State::Plain;
        events
    }

    /// Decides what can be decided; false where more must come first.
    fn advance(&mut self, dialect: Dialect, events: &mut Vec<Event>) -> bool {
        match self.state {
            State::Plain => self.give(self.held.len(), events),
            State::Begin | State::Between => return self.between(dialect),
            State::Text => return self.text(dialect, events),
            State::Opened { marker, listed } => return self.opened(dialect, marker, listed, events),
            State::Arguments(mut scan) => {
                let end = scan.read(&self.held);
                let text = self.take(end.unwrap_or(self.held.len()));
                if !text.is_empty() {
                    events.push(Event::Arguments { index: self.calls - 1, text });
                }
                self.state = if end.is_some() { State::Tail(ValueScan::IN_OBJECT) } else { State::Arguments(scan) };
                return end.is_some();
            }
            State::Tail(mut scan) => {
                let end = scan.read(&self.held);
                self.take(end.unwrap_or(self.held.len()));
                self.state = if end.is_some() { State::After } else { State::Tail(scan) };
                return end.is_some();
            }
            State::After => return self.after(dialect),
        }
        false
    }

    /// The first bytes of what is held, which are decided now.
    fn take(&mut self, bytes: usize) -> String {
        self.decided += bytes;
        self.held.drain(..bytes).collect()
    }

    /// Hands on the first bytes as text.
    fn give(&mut self, bytes: usize, events: &mut Vec<Event>) {
        if bytes > 0 {
            let (more, now) = (self.take(bytes), self.decided);
            match events.last_mut() {
                Some(Event::Text { text, end }) => {
                    text.push_str(&more);
                    *end = now;
                }
                _ => events.push(Event::Text { text: more, end: now }),
            }
        }
    }

    /// At the beginning, or behind a call.
    fn between(&mut self, dialect: Dialect) -> bool {
        let trimmed = self.held.trim_start();
        let (space, marker) = (self.held.len() - trimmed.len(), dialect.opening());
        let is_call = match dialect {
            Dialect::Llama => self.state == State::Begin,
            Dialect::Hermes | Dialect::Mistral => true,
        };
        if trimmed.is_empty() || is_call && marker.starts_with(trimmed) && trimmed.len() < marker.len() {
            return false;
        }
        self.state = match dialect {
            _ if is_call && trimmed.starts_with(marker) => {
                State::Opened { marker: space + marker.len(), listed: dialect == Dialect::Mistral }
            }
            Dialect::Llama if is_call && trimmed.starts_with('{') => State::Opened { marker: space, listed: false },
            Dialect::Llama => State::Plain,
            Dialect::Hermes | Dialect::Mistral => State::Text,
        };
        true
    }

    fn text(&mut self, dialect: Dialect, events: &mut Vec<Event>) -> bool {
        let marker = dialect.opening();
        let found = self.held.find(marker);
        let at = found.unwrap_or_else(|| {
            let may_begin = |at: &usize| marker.as_bytes().starts_with(&self.held.as_bytes()[*at..]);
            let from = self.held.len().saturating_sub(marker.len() - 1);
            (from..self.held.len()).find(may_begin).unwrap_or(self.held.len())
        });
        // White space in front of a call belongs to it.
        let end = self.held[..at].trim_end().len();
        self.give(end, events);
        if found.is_some() {
            self.state = State::Opened { marker: at - end + marker.len(), listed: dialect == Dialect::Mistral };
        }
        found.is_some()
    }

    fn opened(&mut self, dialect: Dialect, marker: usize, listed: bool, events: &mut Vec<Event>) -> bool {
        match head(&self.held[marker..], listed) {
            Head::Incomplete => return false,
            Head::Call { name, len } if self.offered.contains(&name) => {
                self.take(marker + len);
                events.push(Event::CallBegins { index: self.calls, name });
                self.calls += 1;
                self.state = State::Arguments(ValueScan::default());
            }
            Head::Call { .. } | Head::No => {
                self.give(marker, events);
                self.state = if dialect == Dialect::Llama { State::Plain } else { State::Text };
            }
        }
        true
    }

    /// Behind a call's object: what ends the call, or goes on with a list.
    fn after(&mut self, dialect: Dialect) -> bool {
        let trimmed = self.held.trim_start();
        let space = self.held.len() - trimmed.len();
        match dialect {
            Dialect::Llama => self.state = State::Between,
            Dialect::Hermes => {
                if CLOSING.starts_with(trimmed) && trimmed.len() < CLOSING.len() {
                    return false;
                }
                if trimmed.starts_with(CLOSING) {
                    self.take(space + CLOSING.len());
                }
                self.state = State::Between;
            }
            Dialect::Mistral => {
                self.state = match trimmed.chars().next() {
                    None => return false,
                    Some(',') => State::Opened { marker: space + 1, listed: false },
                    Some(']') => {
                        self.take(space + 1);
                        State::Between
                    }
                    Some(_) => State::Between,
                };
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that is no call, and the calls with their arguments, where the answer comes in these pieces.
    fn read(dialect: Option<Dialect>, pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let mut parser = Parser::new(dialect, vec!["f".into(), "get_weather".into()]);
        let (mut text, mut calls): (String, Vec<(String, String)>) = (String::new(), Vec::new());
        let whole = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut events: Vec<Event> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        events.extend(parser.finish());
        for event in events {
            match event {
                Event::Text { text: more, end } => {
                    assert!(!more.is_empty() && end <= whole && pieces.concat()[..end].ends_with(&more));
                    text += &more;
                }
                Event::CallBegins { index, name } => {
                    assert_eq!(index, calls.len());
                    calls.push((name, String::new()));
                }
                Event::Arguments { index, text } => {
                    assert!(!text.is_empty());
                    calls[index].1 += &text;
                }
            }
        }
        assert_eq!(parser.decided(), whole);
        assert_eq!(parser.calls(), calls.len());
        (text, calls)
    }

    /// What is read of an answer, whole and character by character.
    fn check(dialect: Dialect, answer: &str, text: &str, calls: &[(&str, &str)]) {
        let owned = |(name, arguments): &(&str, &str)| ((*name).to_owned(), (*arguments).to_owned());
        let expected = (text.to_owned(), calls.iter().map(owned).collect::<Vec<_>>());
        assert_eq!(read(Some(dialect), &[answer]), expected, "{answer}");
        let characters: Vec<String> = answer.chars().map(String::from).collect();
        let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
        assert_eq!(read(Some(dialect), &characters), expected, "{answer} by characters");
    }

    #[test]
    fn calls_of_hermes_are_found_between_texts() {
        let check = |answer: &str, text: &str, calls: &[(&str, &str)]| check(Dialect::Hermes, answer, text, calls);
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>\"}}\n</tool_call>";
        let found = ("f", "{\"a\": \"</tool_call>\"}");
        check(call, "", &[found]);
        check(&format!("\n\n{call}\n{call}\n"), "", &[found, found]);
        check(&format!("I look.\n{call}\nDone."), "I look.\nDone.", &[found]);
        check("no call <tool_cal", "no call <tool_cal", &[]);
        check("<tool_call>\nnone</tool_call>", "<tool_call>\nnone</tool_call>", &[]);
        check("", "", &[]);
        check(" \n", " \n", &[]);
    }

    #[test]
    fn what_was_cut_off_is_told_as_far_as_it_came() {
        let check = |answer: &str, text: &str, calls: &[(&str, &str)]| check(Dialect::Hermes, answer, text, calls);
        check("<tool_call>\n{\"name\": \"f\", \"argum", "<tool_call>\n{\"name\": \"f\", \"argum", &[]);
        check("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a", "", &[("f", "{\"a")]);
        check("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool", "", &[("f", "{}")]);
        check("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool", "\n<tool", &[("f", "{}")]);
    }

    #[test]
    fn a_tool_that_was_not_offered_is_text() {
        let answer = "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
        check(Dialect::Hermes, answer, answer, &[]);
        check(Dialect::Llama, "{\"name\": \"g\", \"parameters\": {}}", "{\"name\": \"g\", \"parameters\": {}}", &[]);
    }

    #[test]
    fn calls_of_llama_are_whole_answers() {
        let check = |answer: &str, text: &str, calls: &[(&str, &str)]| check(Dialect::Llama, answer, text, calls);
        let call = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Köln\"}}";
        let found = ("get_weather", "{\"city\": \"Köln\"}");
        check(call, "", &[found]);
        check(&format!("<|python_tag|>{call}"), "", &[found]);
        check(&format!("As follows: {call}"), &format!("As follows: {call}"), &[]);
        check("{\"a\": 1}", "{\"a\": 1}", &[]);
        check("<|python_tag|>print(1)", "<|python_tag|>print(1)", &[]);
        check("<b>", "<b>", &[]);
    }

    #[test]
    fn calls_of_mistral_are_a_list() {
        let check = |answer: &str, text: &str, calls: &[(&str, &str)]| check(Dialect::Mistral, answer, text, calls);
        let one = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}]";
        check(one, "", &[("f", "{}")]);
        check(
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": [1]}, \"id\": \"}]\"}, {\"name\": \"get_weather\", \"arguments\": {}}]",
            "",
            &[("f", "{\"a\": [1]}"), ("get_weather", "{}")],
        );
        check(&format!("Yes.{one}"), "Yes.", &[("f", "{}")]);
        check("[TOOL_CALLS] nothing", "[TOOL_CALLS] nothing", &[]);
        check("[1]", "[1]", &[]);
    }

    #[test]
    fn an_answer_without_tools_is_text() {
        let answer = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
        assert_eq!(read(None, &[answer, "é"]), (format!("{answer}é"), Vec::new()));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing_and_no_text_is_lost(
            pieces in prop::collection::vec(prop_oneof![
                Just("<tool_call>"), Just("</tool_call>"), Just("\n"), Just("{\"name\": \"f\", \"arguments\": "),
                Just("{\"a\": \"é\"}"), Just("}"), Just("<tool"), Just("_call>"), Just("[TOOL_CALLS]"), Just(" ["),
                Just("]"), Just(", "), Just("a"), Just("{"), Just("<|python_tag|>"), Just("parameters"),
            ], 0..16),
            dialect in prop_oneof![Just(Dialect::Hermes), Just(Dialect::Llama), Just(Dialect::Mistral)],
        ) {
            let whole = pieces.concat();
            let found = read(Some(dialect), &pieces);
            prop_assert_eq!(&found, &read(Some(dialect), &[&whole]));
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
            prop_assert_eq!(&found, &read(Some(dialect), &characters));
            if found.1.is_empty() {
                prop_assert_eq!(found.0, whole);
            }
        }
    }
}
