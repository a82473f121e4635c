//! Several conversations told at once, and an actor killed while they are.
//!
//! Nothing here waits for a time: the kill comes once the victim's conversations are in the middle, and the
//! telling ends when all have ended.

use std::time::{Duration, Instant};

use motorbrain::{ActorState, ActorStats, Brain, BrainError, Sampling, Step, StepItem, Terms, TokenId};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    broken,
    scene::{Event, Kill, Scene, Story},
};
use crate::failure::Failure;

/// Name and beginning of each conversation.
const BEGINNINGS: [(&str, &str); 4] = [
    ("fox", "Once upon a time, a young fox"),
    ("bell", "Far away in the mountains, an old bell"),
    ("cat", "In the quiet library, a grey cat"),
    ("robot", "Late one evening, a tired robot"),
];

/// What each is told to go on from in its second turn.
const SECOND_TURN: &str = " In the end,";

/// How often the actors' states are looked at while a kill is under way.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long the stories are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The most tokens of the first turn.
    pub(super) first: usize,
    /// The most tokens of the second.
    pub(super) second: usize,
}

impl Plan {
    /// The demo's: the kill comes in the first turn, the second shows that the history is whole.
    pub(super) const DEMO: Self = Self { first: 28, second: 12 };
}

/// Hears of each event, with what there is then.
pub(super) type Audience<'a> = dyn FnMut(&Event, &Scene) -> Result<(), Failure> + 'a;

/// Has every beginning read, one after the other, and sees which actor took it.
pub(super) async fn begin(brain: &Brain, kill: Option<Kill>) -> Result<Scene, BrainError> {
    until_all_are_there(brain).await?;
    let mut stories = Vec::new();
    for (name, text) in BEGINNINGS {
        let before = conversations(brain).await?;
        brain.step(Step::greedy(name, text, 0)).await?;
        let after = conversations(brain).await?;
        let actor = before.iter().zip(&after).position(|(before, after)| after > before).unwrap_or_default();
        stories.push(Story { name, actor, text: text.to_owned(), tokens: Vec::new() });
    }
    let stats = brain.stats().await?;
    let restarts = kill.and_then(|kill| stats.actors.get(kill.actor)).map_or(0, |victim| victim.restarts);
    Ok(Scene::new(stories, kill, restarts))
}

/// Has all stories told at once, and kills where and when the scene says.
pub(super) async fn tell(
    brain: &Brain,
    mut scene: Scene,
    plan: Plan,
    audience: &mut Audience<'_>,
) -> Result<Scene, Failure> {
    let began = Instant::now();
    let (said, mut heard) = mpsc::unbounded_channel();
    let mut tellers = JoinSet::new();
    for (index, story) in scene.stories.iter().enumerate() {
        tellers.spawn(tell_one(brain.clone(), index, story.name, plan, said.clone()));
    }
    drop(said);
    let mut pulse = interval(LOOK_EVERY);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            said = heard.recv() => match said {
                None => break,
                Some(Said::Failed(error)) => return Err(broken(error)),
                Some(Said::Words(story, text)) => audience(&scene.words(began.elapsed(), story, text), &scene)?,
                Some(Said::Token(story, token, text)) => {
                    // Who speaks has met with the death, or is about to.
                    let awaited = scene.death.asked.is_some() && scene.death.back.is_none();
                    if awaited && scene.is_victim(&scene.stories[story]) {
                        look(brain, &mut scene, began, audience).await?;
                    }
                    for event in scene.token(began.elapsed(), story, token, text) {
                        audience(&event, &scene)?;
                    }
                }
            },
            _ = pulse.tick(), if scene.death.asked.is_some() => look(brain, &mut scene, began, audience).await?,
        }
        if let Some(actor) = scene.due() {
            brain.crash(actor).await.map_err(broken)?;
            scene.asked();
        }
    }
    Ok(scene)
}

/// Forgets the conversations.
pub(super) async fn close(brain: &Brain, scene: &Scene) -> Result<(), BrainError> {
    for story in &scene.stories {
        brain.close(story.name).await?;
    }
    Ok(())
}

/// What comes from a story's task.
enum Said {
    Words(usize, &'static str),
    Token(usize, TokenId, String),
    Failed(BrainError),
}

/// Two turns of one story. Nobody listens any more where the telling has ended with an error.
async fn tell_one(brain: Brain, story: usize, name: &'static str, plan: Plan, said: mpsc::UnboundedSender<Said>) {
    for (words, count) in [(None, plan.first), (Some(SECOND_TURN), plan.second)] {
        if let Some(words) = words {
            let _ = said.send(Said::Words(story, words));
        }
        if let Err(error) = take_turn(&brain, story, name, words, count, &said).await {
            let _ = said.send(Said::Failed(error));
            return;
        }
    }
}

async fn take_turn(
    brain: &Brain,
    story: usize,
    name: &'static str,
    words: Option<&'static str>,
    count: usize,
    said: &mpsc::UnboundedSender<Said>,
) -> Result<(), BrainError> {
    let step = Step {
        conversation: name.into(),
        input: words.map(Into::into),
        count,
        sampling: Sampling::GREEDY,
        seed: None,
        top: 0,
        stop: Vec::new(),
        grammar: None,
        n: 1,
        terms: Terms::default(),
    };
    let mut items = brain.step_stream(step).await?;
    while let Some(item) = items.next().await {
        match item {
            StepItem::Token { sampled, text } => drop(said.send(Said::Token(story, sampled.token, text))),
            StepItem::Stepped(_) => break,
            StepItem::Failed { error, .. } => return Err(error),
        }
    }
    Ok(())
}

async fn look(brain: &Brain, scene: &mut Scene, began: Instant, audience: &mut Audience<'_>) -> Result<(), Failure> {
    let stats = brain.stats().await.map_err(broken)?;
    match scene.look(began.elapsed(), &stats) {
        Some(event) => audience(&event, scene),
        None => Ok(()),
    }
}

/// Actors that come later would have nothing to do with the beginnings.
async fn until_all_are_there(brain: &Brain) -> Result<(), BrainError> {
    let is_coming = |actor: &ActorStats| matches!(actor.state, ActorState::Starting | ActorState::Restarting);
    while brain.stats().await?.actors.iter().any(is_coming) {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// How many conversations each actor has.
async fn conversations(brain: &Brain) -> Result<Vec<usize>, BrainError> {
    Ok(brain.stats().await?.actors.iter().map(|actor| actor.conversations).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use motorbrain::{EngineInfo, TokenizerKind, Window};
    use motorbrain_actors::{
        brain::BrainConfig,
        tokens::{EncodeError, Spelled, Tokenizer},
    };
    use motorbrain_testing::{FakeControl, FakeLoader, fake_info};

    use super::*;
    use crate::{crash, demo::report};

    /// The fake's vocabulary is small: a byte becomes what is left of it.
    struct SmallBytes;

    impl Tokenizer for SmallBytes {
        fn encode_behind(&self, text: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
            let (Spelled::Marked(text) | Spelled::Literal(text)) = text;
            Ok(text.bytes().map(|byte| TokenId(u32::from(byte % 64))).collect())
        }

        fn append(&self, _: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
            bytes.extend(tokens.iter().map(|_| b'x'));
        }

        fn kind(&self) -> TokenizerKind {
            TokenizerKind::Bytes
        }
    }

    /// A brain of two actors whose model is a hash of the tokens.
    async fn brain() -> Brain {
        let window = Window { size: 1 << 20, ..fake_info().window };
        let info = EngineInfo { window, ..fake_info() };
        let loader = FakeLoader { info, control: FakeControl::default() };
        let config = BrainConfig { actors: 2, chaos: true, ..BrainConfig::default() };
        Brain::start(config, Arc::new(loader), Arc::new(SmallBytes)).await.expect("the fake loads")
    }

    /// Long, since the fake is fast: the kill must find its conversations in the middle.
    const PLAN: Plan = Plan { first: 2_000, second: 10 };

    async fn told(brain: &Brain, kill: Option<Kill>) -> Scene {
        let scene = begin(brain, kill).await.expect("the beginnings are read");
        let told = tell(brain, scene, PLAN, &mut |_, _| Ok(())).await.expect("the stories are told");
        close(brain, &told).await.expect("they are there");
        told
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_kill_in_the_middle_changes_no_token() {
        crash::expect();
        let brain = brain().await;
        let undisturbed = told(&brain, None).await;
        let disturbed = told(&brain, Some(Kill { actor: 0, after: 5 })).await;
        assert_eq!(disturbed.stories.iter().map(|story| story.actor).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!(undisturbed.tokens(), 4 * (PLAN.first + PLAN.second));
        assert_eq!(brain.stats().await.expect("it runs").actors[0].restarts, 1);
        report::verdict(&undisturbed, &disturbed).expect("the tokens are the same");
        brain.shutdown().await;
    }
}
