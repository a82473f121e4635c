//! What MotorBrain is for, on a real model: several conversations at once, an actor killed in the
//! middle, and the same answers as if nothing had happened.
//!
//! ```text
//! cargo xtask demo
//! ```
//!
//! First the default model (weights of 4 and 8 bits) answers questions. Then its f32 form, whose arithmetic is
//! the same however tokens are batched and replayed, holds conversations twice: undisturbed, and with
//! an actor killed while it works. Answers that differ end the demo with an error.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::{
    env,
    error::Error,
    io::{self, Write as _},
    panic,
    process::ExitCode,
    time::{Duration, Instant},
};

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use motorbrain::{Brain, BrainError, Settings, Stats, Step, StepItem, TokenId, places};
use tokio::{task::JoinSet, time::sleep};

/// Where set-up puts the f32 form.
const F32_MODEL: &str = "models/smollm2-135m-f32";

const QUESTIONS: [&str; 4] = [
    "What is the capital of France?",
    "Write a Python function that adds two numbers.",
    "Name three colours of the rainbow.",
    "Why is the sky blue?",
];

/// How the conversations begin.
const BEGINNINGS: [&str; 6] = [
    "Once upon a time, a young fox",
    "Far away in the mountains, an old bell",
    "On a small island, a fisherman",
    "In the quiet library, a grey cat",
    "At the edge of the forest, a boy",
    "Late one evening, a tired robot",
];

/// What is added in the turns after the first.
const TURNS: [&str; 2] = [" The next morning,", " In the end,"];

const ACTORS: usize = 2;
const TOKENS: usize = 16;

/// How long the actors work on a turn before one of them is killed.
const WORKING: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\n{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    title("A trained model speaks");
    let brain = start(&Settings::default()).await?;
    answer_questions(&brain).await?;
    brain.shutdown().await;

    title("An actor dies, its conversations do not");
    let settings = f32_settings()?;
    println!("{} conversations of {} turns on {ACTORS} actors, f32 weights.", BEGINNINGS.len(), TURNS.len() + 1);
    // The panic to come is meant; without this a newcomer is shown its backtrace.
    panic::set_hook(Box::new(|panic| println!("(a thread panicked: {})", panic.payload_as_str().unwrap_or("?"))));
    let (undisturbed, _) = hold_conversations(&settings, false).await?;
    let (disturbed, stats) = hold_conversations(&settings, true).await?;
    println!("{}", restarts(&stats));

    let differing = undisturbed.iter().zip(&disturbed).filter(|(one, other)| one.tokens != other.tokens).count();
    let mut stories = table(["", "what they told, the actor's death in between"]);
    for (index, answers) in disturbed.iter().enumerate() {
        stories.add_row([index.to_string(), answers.text.replace('\n', " ")]);
    }
    println!("\n{stories}");
    if stats.actors.iter().all(|actor| actor.restarts == 0) {
        return Err("no actor was restarted, so nothing was shown".into());
    }
    if differing > 0 {
        return Err(format!("{differing} conversations went on otherwise after the kill").into());
    }
    println!("Every conversation has the same tokens with the kill as without it.");
    Ok(())
}

/// Streams the first answer as it is made, while the others are made beside it.
async fn answer_questions(brain: &Brain) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut others = JoinSet::new();
    for (index, question) in QUESTIONS.iter().enumerate().skip(1) {
        let (brain, step) = (brain.clone(), Step::greedy(format!("question {index}"), chat(question), 48));
        others.spawn(async move { (index, brain.step(step).await) });
    }

    println!("{}", QUESTIONS[0]);
    print!("> ");
    let mut stream = brain.step_stream(Step::greedy("question 0", chat(QUESTIONS[0]), 48)).await?;
    let mut tokens = 0;
    while let Some(item) = stream.next().await {
        match item {
            StepItem::Token { text, .. } => {
                print!("{text}");
                io::stdout().flush()?;
            }
            StepItem::Stepped(stepped) => tokens += stepped.token_ids.len(),
            StepItem::Failed { error, .. } => return Err(error.into()),
        }
    }
    println!("\n");

    let mut answers = Vec::new();
    while let Some(done) = others.join_next().await {
        let (index, stepped) = done?;
        answers.push((index, stepped?));
    }
    answers.sort_by_key(|(index, _)| *index);
    let mut table = table(["asked at the same time", "answer"]);
    for (index, stepped) in answers {
        tokens += stepped.token_ids.len();
        table.add_row([QUESTIONS[index], stepped.text.trim()]);
    }
    println!("{table}");
    println!("{tokens} tokens in {:.1} s.", began.elapsed().as_secs_f64());
    Ok(())
}

/// Everything one conversation has come to.
#[derive(Default)]
struct Answers {
    tokens: Vec<TokenId>,
    text: String,
}

/// Holds all conversations at once, turn by turn; with `kill`, the first actor dies in the second turn.
async fn hold_conversations(settings: &Settings, kill: bool) -> Result<(Vec<Answers>, Stats), Box<dyn Error>> {
    let brain = start(settings).await?;
    let began = Instant::now();
    let mut answers: Vec<Answers> = BEGINNINGS.iter().map(|_| Answers::default()).collect();
    for turn in 0..=TURNS.len() {
        let mut steps = JoinSet::new();
        for (index, beginning) in BEGINNINGS.into_iter().enumerate() {
            let words = turn.checked_sub(1).map_or(beginning, |turn| TURNS[turn]);
            answers[index].text += words;
            let (brain, step) = (brain.clone(), Step::greedy(format!("conversation {index}"), words, TOKENS));
            steps.spawn(async move { (index, brain.step(step).await) });
        }
        if kill && turn == 1 {
            sleep(WORKING).await;
            brain.crash(0).await?;
        }
        while let Some(done) = steps.join_next().await {
            let (index, stepped): (usize, Result<_, BrainError>) = done?;
            let stepped = stepped?;
            answers[index].tokens.extend(stepped.token_ids);
            answers[index].text += &stepped.text;
        }
    }
    let how = if kill { "with actor 0 killed in turn 2" } else { "undisturbed" };
    println!("{how}: done in {:.1} s", began.elapsed().as_secs_f64());
    let stats = brain.stats().await?;
    brain.shutdown().await;
    Ok((answers, stats))
}

/// A user's words in the form that the model was trained on, and the start of its answer.
fn chat(words: &str) -> String {
    format!("<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n")
}

fn f32_settings() -> Result<Settings, Box<dyn Error>> {
    let folder = places::setup_dirs(&env::current_dir()?).map(|folder| folder.join(F32_MODEL)).find(|f| f.is_dir());
    let mut settings = Settings::default();
    settings.model.dir = Some(folder.ok_or("the f32 model is not there; run `cargo xtask setup`")?);
    settings.brain.actors = ACTORS;
    Ok(settings)
}

async fn start(settings: &Settings) -> Result<Brain, String> {
    let began = Instant::now();
    let brain = motorbrain::start(settings).await.map_err(|error| match error.hint() {
        Some(hint) => format!("{error}\n{hint}"),
        None => error.to_string(),
    })?;
    println!("(loaded in {:.1} s)", began.elapsed().as_secs_f64());
    Ok(brain)
}

fn restarts(stats: &Stats) -> Table {
    let mut table = table(["actor", "state", "conversations", "restarts"]);
    for actor in &stats.actors {
        let numbers = [actor.conversations.to_string(), actor.restarts.to_string()];
        table.add_row([&actor.actor.to_string(), actor.state.as_str(), &numbers[0], &numbers[1]]);
    }
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(100)
        .set_header(header);
    table
}

fn title(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m\n");
}
