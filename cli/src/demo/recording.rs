//! The telling with a kill as JSON lines, for `tools/docs/demo_picture.py`: an event a line, in the order in which
//! they were seen.
//!
//! Every line has `event`: `begins` (`conversation`, `actor`, `text`), then with `ms` since the telling began `words`
//! and `token` (`conversation`, `text`), `died` and `ready` (`actor`), `goes_on` (`conversation`), and last of all
//! `equal`, where every token was the one of the telling without a kill.

use std::{fmt::Write as _, fs, io, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::scene::{Event, Scene, What};
use crate::{exit::Exit, failure::Failure};

/// Events, and the file that they are written to in the end: a run that fails leaves what is there.
pub(super) struct Recording {
    path: PathBuf,
    lines: String,
}

impl Recording {
    /// Finds out now whether the file can be written.
    pub(super) fn create(path: PathBuf) -> Result<Self, Failure> {
        let recording = Self { path, lines: String::new() };
        let opened = fs::OpenOptions::new().append(true).create(true).open(&recording.path);
        opened.map_err(|error| recording.failed(Exit::Settings, &error))?;
        Ok(recording)
    }

    fn failed(&self, exit: Exit, error: &io::Error) -> Failure {
        let message = format!("cannot write the recording {}: {error}", self.path.display());
        let hint = "`--record` names a file in a folder that is there and can be written".to_owned();
        Failure::new(exit, io::Error::new(error.kind(), message), Some(hint))
    }

    /// How each story begins, and where it lives.
    pub(super) fn beginnings(&mut self, scene: &Scene) {
        for story in &scene.stories {
            let line = json!({
                "event": "begins", "conversation": story.name, "actor": story.actor, "text": story.text,
            });
            self.add(&line);
        }
    }

    /// An event.
    pub(super) fn event(&mut self, event: &Event, scene: &Scene) {
        self.add(&line(event, scene));
    }

    /// The tokens were found to be those of the telling without a kill: the last line, after which all is written.
    pub(super) fn equal(mut self) -> Result<(), Failure> {
        self.add(&json!({ "event": "equal" }));
        fs::write(&self.path, &self.lines).map_err(|error| self.failed(Exit::Unexpected, &error))
    }

    fn add(&mut self, line: &Value) {
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "{line}");
    }
}

fn line(Event { at, what }: &Event, scene: &Scene) -> Value {
    let name = |story: &usize| scene.stories[*story].name;
    let ms = milliseconds(*at);
    match what {
        What::Words { story, text } => json!({ "ms": ms, "event": "words", "conversation": name(story), "text": text }),
        What::Token { story, text } => json!({ "ms": ms, "event": "token", "conversation": name(story), "text": text }),
        What::Died { actor } => json!({ "ms": ms, "event": "died", "actor": actor }),
        What::Ready { actor } => json!({ "ms": ms, "event": "ready", "actor": actor }),
        What::GoesOn { story } => json!({ "ms": ms, "event": "goes_on", "conversation": name(story) }),
    }
}

/// To a tenth, which is finer than anybody sees.
fn milliseconds(at: Duration) -> f64 {
    (at.as_secs_f64() * 1e4).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::demo::scene::Story;

    #[test]
    fn a_recording_replaces_a_file_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kill.jsonl");
        fs::write(&path, "old").unwrap();
        drop(Recording::create(path.clone()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Recording::create(path.clone()).unwrap().equal().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"event\":\"equal\"}\n");
        assert!(Recording::create(dir.path().join("no/such")).is_err());
    }

    #[test]
    fn an_event_is_a_line_that_names_conversation_or_actor() {
        let story = Story { name: "fox", actor: 1, text: String::new(), tokens: Vec::new() };
        let scene = Scene::new(vec![story], None, 0);
        let check = |what, expected| {
            let event = Event { at: Duration::from_micros(12_345), what };
            assert_eq!(line(&event, &scene), expected);
        };
        let token = What::Token { story: 0, text: " a\n\"b\"".into() };
        check(token, json!({ "ms": 12.3, "event": "token", "conversation": "fox", "text": " a\n\"b\"" }));
        check(What::Died { actor: 1 }, json!({ "ms": 12.3, "event": "died", "actor": 1 }));
        check(What::GoesOn { story: 0 }, json!({ "ms": 12.3, "event": "goes_on", "conversation": "fox" }));
    }
}
