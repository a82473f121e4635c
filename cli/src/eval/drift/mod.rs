//! `motorbrain eval drift`: what the place in a conversation does to vectors.
//!
//! A text is read turn by turn in one conversation, each turn embedded where it stands. Beside that one and the same
//! text is embedded behind some of the turns, each time in a fork, so that the conversation never reads it; and alone,
//! where nothing should change it. In the middle every actor is made to die, and the conversation goes on with others.

mod seen;

use std::path::PathBuf;

use motorbrain::{ActorState, ActorStats, Brain, BrainError, ConversationId, Fork, Settings, TokenId};
use serde::Serialize;

use self::seen::{Summary, Turn, summaries};
use super::{
    EvalError, Outputs,
    chart::{Chart, Line, Marks},
    embed,
    sheet::Sheet,
};
use crate::{args::Common, crash, exit::Exit, failure::Failure, notice::Notice, smoke::cosine, texts};

/// The window where the settings name none: soon full.
const WINDOW_SIZE: usize = 256;

/// What is embedded again and again.
const SAME_TEXT: &str = "A function that reads a file and returns its lines.";

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// The text that is read
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How many turns
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..))]
    turns: u32,

    /// Tokens of a turn
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    turn_tokens: u32,

    /// Behind every how many turns the same text is embedded
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,

    #[command(flatten)]
    outputs: Outputs,
}

#[derive(Serialize)]
struct Outcome<'a> {
    window: usize,
    turns: &'a [Turn],
    summaries: &'a [Summary],
    table: Sheet,
}

/// Everything that was seen.
#[derive(Default)]
struct Seen {
    turns: Vec<Turn>,
    /// Cosines of the same text's vectors before and after each actor's death.
    restarts: Vec<f64>,
    /// Of the same text alone, with the first time.
    alone: Vec<f64>,
}

/// Holds the conversation, compares, prints.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let text = texts::read(&request.file).map_err(EvalError::from)?;
    let mut settings = common.settings()?;
    settings.brain.chaos = true;
    settings.window.size = settings.window.size.or(Some(WINDOW_SIZE.min(context(&settings)?)));
    crash::expect();
    let brain = motorbrain::start(&settings).await?;
    let held = held(&brain, &text, &request).await;
    brain.shutdown().await;
    let (window, Seen { turns, restarts, alone }) = held?;

    let summaries = summaries(&turns, &restarts, &alone);
    let mut sheet = Sheet::new(&["cosine of", "how many", "lowest", "mean", "highest"]);
    for Summary { what, count, low, mean, high } in &summaries {
        sheet.rows.push(vec![
            (*what).into(),
            count.to_string(),
            format!("{low:.4}"),
            format!("{mean:.4}"),
            format!("{high:.4}"),
        ]);
    }
    let slides = turns.iter().filter(|turn| turn.slid).count();
    let text = format!("{}\n\n{} turns; the window of {window} tokens slid {slides} times.", sheet.text(), turns.len());
    let chart = chart(&turns);
    request.outputs.write(&Outcome { window, turns: &turns, summaries: &summaries, table: sheet }, &text, &chart)?;
    Ok(Exit::Fine)
}

/// Tokens of context that the model has.
fn context(settings: &Settings) -> Result<usize, Failure> {
    let model = motorbrain::model::Model::open(&motorbrain::model_options(settings)?);
    Ok(model.map_err(motorbrain::StartError::from)?.context.tokens)
}

async fn held(brain: &Brain, text: &str, request: &Request) -> Result<(usize, Seen), EvalError> {
    let info = brain.info().await?;
    let tokens = brain.tokenize(text).await?;
    let (length, count) = (request.turn_tokens as usize, request.turns as usize);
    if tokens.len() < length * count {
        let (path, found, least) = (request.file.clone(), tokens.len(), length * count);
        return Err(EvalError::TooFew { path, what: "tokens", found, least });
    }
    let turns: Vec<&[TokenId]> = tokens.chunks_exact(length).take(count).collect();
    Ok((info.window.size, conversation(brain, &turns, request.every as usize).await?))
}

async fn conversation(brain: &Brain, turns: &[&[TokenId]], every: usize) -> Result<Seen, BrainError> {
    let name = ConversationId::from("drift");
    let (mut seen, mut notice) = (Seen::default(), Notice::new());
    let (mut last, mut context_len): (Option<Vec<f32>>, usize) = (None, 0);
    let (mut looks, mut alone): (Vec<Vec<f32>>, Option<Vec<f32>>) = (Vec::new(), None);
    for (number, tokens) in (1..).zip(turns) {
        let embedded = embed::next(brain, &name, tokens.to_vec()).await?;
        let mut turn = Turn {
            turn: number,
            context_len: embedded.context.context_len,
            slid: embedded.context.context_len < context_len + tokens.len(),
            to_the_last: last.as_ref().map(|last| cosine(last, &embedded.embedding)),
            same_text: None,
            same_text_to_the_last: None,
        };
        (last, context_len) = (Some(embedded.embedding), turn.context_len);
        if (number - 1) % every == 0 {
            let look = in_a_fork(brain, &name).await?;
            turn.same_text = Some(cosine(looks.first().unwrap_or(&look), &look)).filter(|_| !looks.is_empty());
            turn.same_text_to_the_last = looks.last().map(|last| cosine(last, &look));
            looks.push(look);
            let vector = embed::alone(brain, SAME_TEXT.into()).await?.embedding;
            seen.alone.extend(alone.as_ref().map(|first| cosine(first, &vector)));
            alone.get_or_insert(vector);
        }
        seen.turns.push(turn);
        if number == turns.len().div_ceil(2) {
            let before = in_a_fork(brain, &name).await?;
            let actors = brain.stats().await?.actors;
            for ActorStats { actor, .. } in actors.into_iter().filter(|actor| actor.state == ActorState::Ready) {
                brain.crash(actor).await?;
                seen.restarts.push(cosine(&before, &in_a_fork(brain, &name).await?));
            }
        }
        notice.tell("conversation", number, turns.len());
    }
    brain.close(name).await?;
    Ok(seen)
}

/// The same text's vector where a conversation stands, which goes on without it.
async fn in_a_fork(brain: &Brain, name: &ConversationId) -> Result<Vec<f32>, BrainError> {
    let to = ConversationId::from("drift, a look");
    brain.fork(Fork { from: name.clone(), to: to.clone(), at: None, choice: None }).await?;
    let embedded = embed::next(brain, &to, SAME_TEXT).await?;
    brain.close(to).await?;
    Ok(embedded.embedding)
}

fn chart(turns: &[Turn]) -> Chart {
    let line = |name: &str, value: fn(&Turn) -> Option<f64>| Line {
        name: name.into(),
        points: turns.iter().filter_map(|turn| Some((turn.turn as f64, value(turn)?))).collect(),
    };
    Chart {
        title: "Cosine of vectors in a conversation".into(),
        marks: Marks::Lines {
            across: "turns (thin lines: the window slid)".into(),
            least: None,
            events: turns.iter().filter(|turn| turn.slid).map(|turn| turn.turn as f64).collect(),
            lines: vec![
                line("a turn and the one before", |turn| turn.to_the_last),
                line("one text, now and at the beginning", |turn| turn.same_text),
            ],
        },
    }
}
