//! Conversations that want a token each time they have one, as single steps or as a stream, and how long each waited.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pipe::{Event, Pipe, Reply, broken};
use crate::error::Error;

/// How many they are.
pub(super) const CROWD: usize = 8;

/// Where they begin, as a text of some 20 tokens.
const BEGINNING: &str = "Once upon a time there was a lamp that never went out. Whoever looked at it saw number";

/// More tokens than a stream makes here.
const ENDLESS: usize = 4096;

/// How long somebody who gets nothing is waited for; the gap is then as long as that at least.
const SETTLE: Duration = Duration::from_secs(5);

/// Ids below this are theirs.
pub(super) const FIRST_OTHER_ID: u64 = 1 << 32;

/// How they get their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A request for one token, and with its answer the next request.
    Steps,
    /// One request that shows its tokens as they come.
    Streams,
}

/// Eight conversations under way in a pipe.
pub(super) struct Crowd<'a> {
    pipe: &'a Pipe,
    way: Way,
    /// Of each, when its tokens came.
    came: Vec<Vec<Instant>>,
    /// How many of them were refused something; they ask for nothing more, and their last gap is as long as they wait.
    pub(super) refused: usize,
    /// What they were sent; ids are unique.
    sent: u64,
    /// Whether each is a client of its own.
    clients: bool,
}

impl<'a> Crowd<'a> {
    /// Has them read where they begin, and asks each for its first token.
    pub(super) fn start(pipe: &'a Pipe, way: Way, clients: bool) -> Result<Self, Error> {
        let mut crowd = Self { pipe, way, came: vec![Vec::new(); CROWD], refused: 0, sent: 0, clients };
        for row in 0..CROWD {
            let begin = json!({ "op": "step", "conversation": name(row), "text": format!("{BEGINNING} {row}"),
                "count": 0, "share": false });
            pipe.ask(begin)?;
        }
        for row in 0..CROWD {
            crowd.send(row);
        }
        // Under way when each has something.
        while crowd.came.iter().any(Vec::is_empty) {
            let Some(Event::Came(reply, at)) = pipe.next(Instant::now() + Duration::from_secs(60))? else {
                return Err(broken("eight conversations got no token for a minute"));
            };
            crowd.heard(&reply, at);
        }
        Ok(crowd)
    }

    fn send(&mut self, row: usize) {
        self.sent += 1;
        let id = self.sent * CROWD as u64 + row as u64;
        let mut step = json!({ "id": id, "op": "step", "conversation": name(row) });
        if self.way == Way::Streams {
            step["stream"] = json!(true);
            step["count"] = json!(ENDLESS);
        }
        if self.clients {
            step["client"] = json!(name(row));
        }
        self.pipe.send(&step);
    }

    /// Takes note of a line, if it is for one of them, and asks for the next token.
    pub(super) fn heard(&mut self, reply: &Reply, at: Instant) {
        let Some(id) = reply.id.filter(|id| (CROWD as u64..FIRST_OTHER_ID).contains(id)) else { return };
        let row = (id % CROWD as u64) as usize;
        match reply.shown() {
            // Several tokens came together: those behind the first waited for nothing.
            Some(tokens) => self.came[row].extend(std::iter::repeat_n(at, tokens)),
            None if !reply.is_ok() => self.refused += 1,
            None if self.way == Way::Steps => {
                self.came[row].push(at);
                self.send(row);
            }
            None => {} // what the stream came to was shown
        }
    }

    /// Listens until something is so, or for so long.
    pub(super) fn go_on(
        &mut self,
        until: Instant,
        mut is_over: impl FnMut(&Self, &Event) -> bool,
    ) -> Result<(), Error> {
        while let Some(event) = self.pipe.next(until)? {
            if let Event::Came(reply, at) = &event {
                self.heard(reply, *at);
            }
            if is_over(self, &event) {
                break;
            }
        }
        Ok(())
    }

    /// Answers that each has had, the fewest of them.
    pub(super) fn answers(&self) -> usize {
        self.came.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// The seconds between answers that overlap with a span of time. Whoever waits at its end is waited for a while.
    pub(super) fn gaps(&mut self, from: Instant, to: Instant) -> Result<Vec<f64>, Error> {
        let waits = |crowd: &Self| crowd.came.iter().any(|came| came.last().is_none_or(|last| *last < to));
        if waits(self) {
            self.go_on(Instant::now() + SETTLE, |crowd, _| !waits(crowd))?;
        }
        let now = Instant::now();
        let pairs = self.came.iter().flat_map(|came| {
            let last = came.last().map(|last| (*last, now)).filter(|(last, _)| *last < to);
            came.windows(2).map(|pair| (pair[0], pair[1])).chain(last)
        });
        let within = pairs.filter(|&(before, after)| after > from && before < to);
        Ok(within.map(|(before, after)| (after - before).as_secs_f64()).collect())
    }
}

/// Requests of a flood, all of one client: embeds of no conversation, and steps of a word in some conversations.
pub(super) fn flood(count: usize) -> impl Iterator<Item = (u64, Value)> {
    (0..count).map(|number| {
        let id = FIRST_OTHER_ID + number as u64;
        let request = if number % 2 == 0 {
            let text = format!("The {number}th of many who came at once asks what the weather will be.");
            json!({ "id": id, "op": "embed", "text": text, "client": "flood" })
        } else {
            let conversation = format!("flood {}", number / 2 % FLOOD_CONVERSATIONS);
            json!({ "id": id, "op": "step", "conversation": conversation, "text": " on", "client": "flood" })
        };
        (id, request)
    })
}

/// Few, since what they hold is no more than they may.
const FLOOD_CONVERSATIONS: usize = 32;

fn name(row: usize) -> String {
    format!("single {row}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_ids_of_its_own_and_is_of_one_client() {
        let flood: Vec<_> = flood(600).collect();
        assert!(flood.iter().zip(FIRST_OTHER_ID..).all(|((id, request), expected)| {
            *id == expected && request["id"] == expected && request["client"] == "flood"
        }));
        let conversations: std::collections::BTreeSet<_> =
            flood.iter().filter_map(|(_, request)| request["conversation"].as_str()).collect();
        assert_eq!(conversations.len(), FLOOD_CONVERSATIONS);
    }
}
