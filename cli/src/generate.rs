//! `motorbrain generate`: a text goes on, as the model would have it, and nothing else comes to standard output.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use motorbrain::{
    Brain, BrainError, Input, Parts, Reply, Step, StepItem, Stepped, chat::Constraint, grammar::Grammars, model::Model,
};
use motorbrain_protocol::{Answer, Piece, encode_answer, encode_piece};
use tokio::task::spawn_blocking;

use crate::{
    args::Common,
    choosing::Choosing,
    exit::Exit,
    failure::Failure,
    input, output,
    signals::Interrupts,
    starting::started,
    texts::{self, Whole},
};

/// How long a text becomes of which nothing was said: base models seldom end one.
const COUNT: usize = 256;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// How the text begins; words are joined by spaces [default: standard input, but for a line feed at its end]
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,

    /// The most tokens; an end token or a text of --stop ends it sooner
    #[arg(long, visible_alias = "max-tokens", value_name = "N", default_value_t = COUNT)]
    count: usize,

    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Write JSON that fits the schema in this file
    #[arg(long, value_name = "FILE", conflicts_with = "regex")]
    schema: Option<PathBuf>,

    /// Write what this regular expression matches as a whole
    #[arg(long, value_name = "PATTERN")]
    regex: Option<String>,

    /// Write a JSON object at the end, as the pipe's `step` is answered; where Ctrl-C ended it, a part as there
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    choosing: Choosing,
}

/// What the text must be.
enum Grammar {
    Schema(serde_json::Value),
    Regex(String),
}

/// How it ended.
enum Ended {
    Stepped(Stepped),
    Interrupted,
    /// Nobody reads standard output any more.
    Unread,
}

/// Generates until it is over, or until Ctrl-C.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let settings = common.settings()?;
    let grammar = request.grammar()?;
    let prompt = match request.prompt.as_slice() {
        [] => input::whole()?,
        words => words.join(" "),
    };
    let parts = Parts::find(&settings).await?;
    let model = Arc::clone(&parts.model);
    let brain = started(parts, &settings).await?;
    let mut interrupts = Interrupts::heard()?;
    let made = tokio::select! {
        made = constraint(model, grammar) => made.map(Some),
        () = interrupts.next() => Ok(None),
    };
    let generated = match made {
        Ok(None) => Ok(Exit::Interrupted),
        Ok(Some(grammar)) => generate(&brain, request.step(prompt, grammar), request.json, &mut interrupts).await,
        Err(failure) => Err(failure),
    };
    tokio::select! {
        () = brain.shutdown() => {}
        () = interrupts.next() => {}
    }
    generated
}

impl Request {
    fn grammar(&self) -> Result<Option<Grammar>, Failure> {
        let Some(file) = &self.schema else { return Ok(self.regex.clone().map(Grammar::Regex)) };
        Ok(Some(Grammar::Schema(texts::whole(file, Whole::Schema)?)))
    }

    fn step(&self, prompt: String, grammar: Option<Constraint>) -> Step {
        Step {
            sampling: self.choosing.sampling(),
            seed: self.choosing.seed,
            stop: self.stop.clone(),
            grammar,
            ..Step::greedy("generate", Input::Text(prompt), self.count)
        }
    }
}

async fn constraint(model: Arc<Model>, grammar: Option<Grammar>) -> Result<Option<Constraint>, Failure> {
    let Some(grammar) = grammar else { return Ok(None) };
    let made = spawn_blocking(move || {
        let grammars = Grammars::new(&model)?;
        match &grammar {
            Grammar::Schema(schema) => grammars.json_schema(schema),
            Grammar::Regex(pattern) => grammars.regex(pattern),
        }
    });
    let made = made.await.map_err(|panic| Failure::new(Exit::Unexpected, panic, None))?;
    Ok(Some(made?))
}

async fn generate(brain: &Brain, step: Step, json: bool, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    let mut piece = Piece::default();
    let ended = tokio::select! {
        ended = shown(brain, step, &mut piece, !json) => ended?,
        () = interrupts.next() => Ended::Interrupted,
    };
    let exit = if matches!(ended, Ended::Interrupted) { Exit::Interrupted } else { Exit::Fine };
    let object = match ended {
        Ended::Stepped(stepped) => encode_answer(&Answer::Reply { reply: Reply::Stepped(stepped), top: false }),
        Ended::Interrupted => encode_piece(&piece, false),
        Ended::Unread => return Ok(exit),
    };
    if json {
        output::print(&String::from_utf8_lossy(&object))?;
    } else if io::stdout().is_terminal() && !piece.text.ends_with('\n') {
        output::print("")?;
    }
    Ok(exit)
}

/// Does a step and gathers what it says, showing it as it comes if that is wanted.
async fn shown(brain: &Brain, step: Step, piece: &mut Piece, shows: bool) -> Result<Ended, Failure> {
    let mut stream = brain.step_stream(step).await?;
    loop {
        match stream.next().await {
            Some(StepItem::Token { sampled, text }) => {
                if shows && !output::say(&text)? {
                    return Ok(Ended::Unread);
                }
                piece.sampled.push(sampled);
                piece.text += &text;
            }
            Some(StepItem::Stepped(stepped)) => return Ok(Ended::Stepped(stepped)),
            Some(StepItem::Failed { error, .. }) => return Err(error.into()),
            None => return Err(BrainError::Unavailable { reason: "the text has no end".to_owned() }.into()),
        }
    }
}
