//! What is seen while stories are told: who said what, when an actor died and when it was back. Pure.
//!
//! Times are since the telling began.

use std::{collections::BTreeMap, time::Duration};

use motorbrain::{ActorState, Stats, TokenId};

/// A conversation that is told.
#[derive(Clone, Debug)]
pub(super) struct Story {
    /// The conversation's name.
    pub(super) name: &'static str,
    /// Where it was begun.
    pub(super) actor: usize,
    /// What was asked and answered, in order.
    pub(super) text: String,
    /// What was sampled.
    pub(super) tokens: Vec<TokenId>,
}

/// When to kill whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// The victim.
    pub(super) actor: usize,
    /// Once each of its conversations has said so many tokens.
    pub(super) after: usize,
}

/// What came of a kill.
#[derive(Clone, Debug, Default)]
pub(super) struct Death {
    /// Tokens that all had said when it was asked for; `None` before.
    pub(super) asked: Option<usize>,
    /// When the actor was seen to be gone.
    pub(super) died: Option<Duration>,
    /// When it was seen to serve again.
    pub(super) back: Option<Duration>,
    /// When each of its conversations, by index, went on.
    pub(super) went_on: BTreeMap<usize, Duration>,
    /// Tokens that the others said between the death and the last of these.
    pub(super) meanwhile: usize,
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// When.
    pub(super) at: Duration,
    /// What.
    pub(super) what: What,
}

/// Stories and actors by index.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// The teller gave a story more words to go on from.
    Words { story: usize, text: &'static str },
    /// The model said a token; its text may be empty.
    Token { story: usize, text: String },
    /// The actor is gone.
    Died { actor: usize },
    /// The actor serves again.
    Ready { actor: usize },
    /// A story whose actor had died is about to say its next token.
    GoesOn { story: usize },
}

/// Everything so far.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// All stories.
    pub(super) stories: Vec<Story>,
    /// The kill, where one is planned.
    pub(super) kill: Option<Kill>,
    /// How often the victim had been started again before: a restart may be over sooner than anybody looks.
    pub(super) restarts: u64,
    /// What came of it.
    pub(super) death: Death,
}

impl Scene {
    /// Nothing has been said.
    pub(super) fn new(stories: Vec<Story>, kill: Option<Kill>, restarts: u64) -> Self {
        Self { stories, kill, restarts, death: Death::default() }
    }

    /// Tokens of all stories.
    pub(super) fn tokens(&self) -> usize {
        self.stories.iter().map(|story| story.tokens.len()).sum()
    }

    /// Whether a story was begun with the victim.
    pub(super) fn is_victim(&self, story: &Story) -> bool {
        self.kill.is_some_and(|kill| kill.actor == story.actor)
    }

    /// How many stories do.
    pub(super) fn victims(&self) -> usize {
        self.stories.iter().filter(|story| self.is_victim(story)).count()
    }

    /// Whether the victim is gone now.
    pub(super) fn is_away(&self) -> bool {
        self.death.died.is_some() && self.death.back.is_none()
    }

    /// The actor to kill now.
    pub(super) fn due(&self) -> Option<usize> {
        let kill = self.kill.filter(|_| self.death.asked.is_none())?;
        let mut victims = self.stories.iter().filter(|story| story.actor == kill.actor);
        victims.all(|story| story.tokens.len() >= kill.after).then_some(kill.actor)
    }

    /// The kill has been asked for.
    pub(super) fn asked(&mut self) {
        self.death.asked = Some(self.tokens());
    }

    /// Adds a teller's words.
    pub(super) fn words(&mut self, at: Duration, story: usize, text: &'static str) -> Event {
        self.stories[story].text += text;
        Event { at, what: What::Words { story, text } }
    }

    /// Adds a token, and tells of a story that goes on with it.
    pub(super) fn token(&mut self, at: Duration, story: usize, token: TokenId, text: String) -> Vec<Event> {
        let victim = self.is_victim(&self.stories[story]);
        if self.death.died.is_some() && !victim && self.death.went_on.len() < self.victims() {
            self.death.meanwhile += 1;
        }
        let mut events = Vec::with_capacity(2);
        if victim && self.death.died.is_some() && !self.death.went_on.contains_key(&story) {
            self.death.went_on.insert(story, at);
            events.push(Event { at, what: What::GoesOn { story } });
        }
        self.stories[story].tokens.push(token);
        self.stories[story].text += &text;
        events.push(Event { at, what: What::Token { story, text } });
        events
    }

    /// Looks at the brain's figures: is the victim gone, or back?
    pub(super) fn look(&mut self, at: Duration, stats: &Stats) -> Option<Event> {
        let actor = self.kill?.actor;
        let stats = stats.actors.get(actor)?;
        let ready = stats.state == ActorState::Ready;
        self.death.asked?;
        let what = match (ready, self.death.died, self.death.back) {
            (true, None, _) if stats.restarts == self.restarts => return None,
            (_, None, _) => {
                self.death.died = Some(at);
                What::Died { actor }
            }
            (true, Some(_), None) => {
                self.death.back = Some(at);
                What::Ready { actor }
            }
            _ => return None,
        };
        Some(Event { at, what })
    }
}

#[cfg(test)]
mod tests {
    use motorbrain::{ActorStats, EngineInfo, Health, Slides, Window};

    use super::*;

    fn scene() -> Scene {
        let story = |actor| Story { name: "a", actor, text: String::new(), tokens: Vec::new() };
        Scene::new(vec![story(0), story(1)], Some(Kill { actor: 0, after: 2 }), 3)
    }

    fn stats(state: ActorState, restarts: u64) -> Stats {
        let actor = ActorStats { actor: 0, state, conversations: 1, restarts, queued: 0 };
        let model = EngineInfo {
            layers: 1,
            hidden: 1,
            vocab: 1,
            inputs: 1,
            embeds: true,
            window: Window { size: 8, sinks: 1, slide: 2, slides: Slides::Shift },
            end_tokens: Vec::new(),
            kv_bytes_per_token: 1,
            pages: None,
        };
        Stats {
            health: Health::Ready,
            abandoned: 0,
            waiting: 0,
            actors: vec![actor],
            kv_bytes: 0,
            kv_bytes_max: None,
            cached_bytes: 0,
            shared_bytes: 0,
            conversations: 1,
            model,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn say(scene: &mut Scene, at: u64, story: usize) -> Vec<What> {
        scene.token(ms(at), story, TokenId(7), "x".into()).into_iter().map(|event| event.what).collect()
    }

    #[test]
    fn a_kill_is_due_once_its_conversations_are_in_the_middle() {
        let mut scene = scene();
        for at in 0..9 {
            say(&mut scene, at, 1);
        }
        assert_eq!(scene.due(), None, "those of others do not count");
        say(&mut scene, 9, 0);
        assert_eq!(scene.due(), None);
        say(&mut scene, 9, 0);
        assert_eq!(scene.due(), Some(0));
        scene.asked();
        assert_eq!((scene.due(), scene.death.asked), (None, Some(11)));
    }

    #[test]
    fn what_others_say_meanwhile_is_counted_and_who_goes_on_is_told_once() {
        let mut scene = scene();
        scene.asked();
        assert_eq!(scene.look(ms(1), &stats(ActorState::Ready, 3)), None, "not dead yet");
        let died = Event { at: ms(2), what: What::Died { actor: 0 } };
        assert_eq!(scene.look(ms(2), &stats(ActorState::Restarting, 3)), Some(died));
        let token = |story| What::Token { story, text: "x".into() };
        assert_eq!(say(&mut scene, 4, 1), [token(1)]);
        assert_eq!(scene.look(ms(5), &stats(ActorState::Restarting, 4)), None);
        assert_eq!(say(&mut scene, 5, 0), [What::GoesOn { story: 0 }, token(0)], "with another actor");
        let ready = Event { at: ms(6), what: What::Ready { actor: 0 } };
        assert_eq!(scene.look(ms(6), &stats(ActorState::Ready, 4)), Some(ready));
        assert_eq!(say(&mut scene, 8, 0), [token(0)]);
        say(&mut scene, 9, 1);
        assert_eq!((scene.death.meanwhile, scene.death.went_on), (1, BTreeMap::from([(0, ms(5))])));
    }

    #[test]
    fn a_restart_that_was_over_before_anybody_looked_was_a_death() {
        let mut scene = scene();
        scene.asked();
        for what in [What::Died { actor: 0 }, What::Ready { actor: 0 }] {
            assert_eq!(scene.look(ms(1), &stats(ActorState::Ready, 4)), Some(Event { at: ms(1), what }));
        }
        assert_eq!(scene.look(ms(2), &stats(ActorState::Ready, 4)), None);
    }
}
