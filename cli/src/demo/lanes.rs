//! The stories as they are told, a line each, rewritten in place. Nothing where no terminal shows it.

use std::io::{self, IsTerminal as _};

use super::{
    report::one_line,
    scene::{Scene, Story},
    terminal,
};
use crate::failure::Failure;

/// What of a story's end is shown: with what stands before it, a line of 80 columns.
const TAIL: usize = 56;

/// The lines on the terminal.
pub(super) struct Lanes {
    terminal: bool,
    /// How many lines stand there.
    drawn: usize,
}

impl Lanes {
    /// Nothing is drawn.
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Draws over what was drawn before. Lines are cut at the terminal's edge while that is done.
    pub(super) fn draw(&mut self, scene: &Scene) -> Result<(), Failure> {
        if !self.terminal {
            return Ok(());
        }
        let mut text = self.back();
        text += "\x1b[?7l";
        for line in lines(scene) {
            text += &line;
            text += "\x1b[K\n";
        }
        text += "\x1b[?7h";
        self.drawn = scene.stories.len();
        terminal::write(&text)
    }

    /// Takes the lines away.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        if self.drawn == 0 {
            return Ok(());
        }
        let text = self.back() + "\x1b[J";
        self.drawn = 0;
        terminal::write(&text)
    }

    /// To the first of the lines.
    fn back(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\r", self.drawn) }
    }
}

/// A line for each story: its actor, in red while that is gone, its name, its last words.
fn lines(scene: &Scene) -> Vec<String> {
    let line = |story: &Story| {
        let (colour, state) = match scene.is_away() && scene.is_victim(story) {
            true => ("\x1b[31m", "gone"),
            false => ("\x1b[2m", "    "),
        };
        format!("{colour}actor {} {state}\x1b[0m {:<6}{}", story.actor, story.name, tail(&one_line(&story.text)))
    };
    scene.stories.iter().map(line).collect()
}

/// The last characters of a text.
fn tail(text: &str) -> String {
    match text.char_indices().rev().nth(TAIL - 1) {
        Some((from, _)) if from > 0 => format!("…{}", &text[from..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::scene::Kill;

    #[test]
    fn a_line_shows_a_story_s_end_and_whether_its_actor_is_gone() {
        let story = |actor| Story { name: "fox", actor, text: "ä ".repeat(60), tokens: Vec::new() };
        let mut scene = Scene::new(vec![story(0), story(1)], Some(Kill { actor: 0, after: 1 }), 0);
        scene.death.died = Some(Duration::ZERO);
        let lines = lines(&scene);
        assert!(lines[0].starts_with("\x1b[31mactor 0 gone\x1b[0m fox   …"), "{}", lines[0]);
        assert!(lines[1].starts_with("\x1b[2mactor 1     \x1b[0m fox   …"), "{}", lines[1]);
        assert_eq!(tail("short"), "short");
        assert_eq!(tail(&"ä".repeat(TAIL)), "ä".repeat(TAIL));
        assert_eq!(tail(&"ä".repeat(TAIL + 1)), format!("…{}", "ä".repeat(TAIL)));
    }
}
