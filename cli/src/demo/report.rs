//! What the demo says in the end, and whether it may say so. Pure.

use std::{error::Error, fmt, time::Duration};

use comfy_table::Table;
use motorbrain::Stats;
use motorbrain_actors::embedder::CRASH;

use super::{
    ACTORS,
    scene::{Scene, Story},
};
use crate::output;

/// How long the first word took, and how much of that was loading.
pub(super) fn first_word(first_word: Duration, loaded: Duration) -> String {
    format!("The first word came after {}, of which loading took {}.", seconds(first_word), seconds(loaded))
}

/// One telling in a few lines.
pub(super) fn telling(scene: &Scene, elapsed: Duration) -> String {
    let (tokens, elapsed) = (scene.tokens(), seconds(elapsed));
    let stories = scene.stories.len();
    let Some(kill) = scene.kill else {
        return format!("{stories} conversations on {ACTORS} actors, undisturbed: {tokens} tokens in {elapsed}");
    };
    let mut text = format!("The same with actor {} killed in the middle: {tokens} tokens in {elapsed}", kill.actor);
    let death = &scene.death;
    if let (Some(asked), Some(died), Some(back), Some(last)) =
        (death.asked, death.died, death.back, death.went_on.values().max())
    {
        text += &format!(
            "\n  killed after {asked} tokens (its thread panicked: {CRASH}), serving again {} later\n  \
             its {} conversations all went on within {}, wherever there was room; the others got {} tokens meanwhile",
            seconds(back.saturating_sub(died)),
            death.went_on.len(),
            seconds(last.saturating_sub(died)),
            death.meanwhile,
        );
    }
    text
}

/// The actors, with their restarts.
pub(super) fn actors(stats: &Stats) -> Table {
    let mut table = output::table(["actor", "state", "restarts"]);
    for actor in &stats.actors {
        table.add_row([&actor.actor.to_string(), actor.state.as_str(), &actor.restarts.to_string()]);
    }
    table
}

/// How the brain is behind it.
pub(super) fn health(stats: &Stats) -> String {
    match stats.health.reason() {
        Some(reason) => format!("health: {} ({reason})", stats.health.as_str()),
        None => format!("health: {}", stats.health.as_str()),
    }
}

/// What was told.
pub(super) fn stories(scene: &Scene) -> Table {
    let mut table = output::table(["begun by", "conversation", "told, with the death in between"]);
    for Story { name, actor, text, .. } in &scene.stories {
        table.add_row([&actor.to_string(), *name, &one_line(text)]);
    }
    table
}

/// Why the demo has not shown what it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unlike {
    /// The actor did not die in the middle of all its conversations.
    NotInTheMiddle {
        /// Conversations that went on after it.
        met: usize,
        /// Conversations of the actor.
        expected: usize,
    },
    /// Tokens differ.
    Differing {
        /// The conversations.
        names: Vec<&'static str>,
    },
}

impl fmt::Display for Unlike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTheMiddle { met, expected } => {
                write!(f, "the kill met {met} conversations in the middle, expected {expected}: nothing was shown")
            }
            Self::Differing { names } => {
                write!(f, "after the kill these conversations went on otherwise than without it: {}", names.join(", "))
            }
        }
    }
}

impl Error for Unlike {}

impl Unlike {
    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NotInTheMiddle { .. } => None,
            Self::Differing { .. } => Some(
                "a model that rounds activations as exported may differ: try `--set runtime.activations=f32`; \
                 otherwise please report it"
                    .to_owned(),
            ),
        }
    }
}

/// Whether the kill met the actor's conversations in the middle and changed no token.
///
/// # Errors
/// It did not, or it did.
pub(super) fn verdict(undisturbed: &Scene, disturbed: &Scene) -> Result<(), Unlike> {
    let expected = disturbed.victims();
    let met = disturbed.death.went_on.len();
    if met < expected || met == 0 {
        return Err(Unlike::NotInTheMiddle { met, expected });
    }
    let pairs = undisturbed.stories.iter().zip(&disturbed.stories);
    let names: Vec<_> = pairs.filter(|(one, other)| one.tokens != other.tokens).map(|(one, _)| one.name).collect();
    if names.is_empty() { Ok(()) } else { Err(Unlike::Differing { names }) }
}

/// Text without line feeds, its spaces single.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use motorbrain::TokenId;

    use super::*;
    use crate::demo::scene::Kill;

    fn scene(tokens: [u32; 2], met: usize) -> Scene {
        let story = |actor: usize, token| Story {
            name: ["fox", "bell"][actor],
            actor,
            text: String::new(),
            tokens: vec![TokenId(token)],
        };
        let mut scene =
            Scene::new(vec![story(0, tokens[0]), story(1, tokens[1])], Some(Kill { actor: 0, after: 1 }), 0);
        scene.death.went_on = (0..met).map(|story| (story, Duration::ZERO)).collect();
        scene
    }

    #[test]
    fn only_equal_tokens_after_a_kill_in_the_middle_are_a_success() {
        let undisturbed = scene([1, 2], 0);
        assert_eq!(verdict(&undisturbed, &scene([1, 2], 1)), Ok(()));
        assert_eq!(verdict(&undisturbed, &scene([1, 3], 1)), Err(Unlike::Differing { names: vec!["bell"] }));
        assert_eq!(verdict(&undisturbed, &scene([1, 2], 0)), Err(Unlike::NotInTheMiddle { met: 0, expected: 1 }));
    }
}
