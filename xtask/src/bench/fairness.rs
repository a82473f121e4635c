//! `cargo xtask bench fairness`: what callers who ask token by token get beside a long prompt and beside a flood, through
//! the pipe, as a program that uses it would have it.
//!
//! Each figure is taken with and without the disturbance in the same minute, and what is promised is their ratio.

mod crowd;
mod pipe;
mod verdict;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use self::crowd::{Crowd, FIRST_OTHER_ID, Way, flood};
use self::pipe::{Event, Pipe, Program};
use self::verdict::{Beside, Flooded, Verdict};
use crate::error::Error;
use crate::process::{cargo, show};
use crate::project::Project;
use crate::setup;

/// What is measured, and how much of it.
#[derive(Args)]
pub(super) struct Arguments {
    /// A tenth of everything, to see that it works
    #[arg(long)]
    short: bool,
    /// A setting of the program, such as window.size=8192; may be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Another build of motorbrain, to compare with; its clients are not told apart where it does not know them
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// How much is asked.
struct Size {
    /// Tokens that a ninth reads.
    ninth: usize,
    /// Requests of a flood.
    floods: [usize; 2],
    /// Tokens of the longest prompt.
    prompt: usize,
    /// How long the eight are alone.
    alone: Duration,
    /// How long they are looked at beside others, at most.
    beside: Duration,
}

const WHOLE: Size = Size {
    ninth: 8_000,
    floods: [3_000, 10_000],
    prompt: 50_000,
    alone: Duration::from_secs(4),
    beside: Duration::from_secs(12),
};

const SHORT: Size = Size {
    ninth: 800,
    floods: [300, 1_500],
    prompt: 5_000,
    alone: Duration::from_secs(1),
    beside: Duration::from_secs(3),
};

/// The id of a long prompt's request.
const PROMPT_ID: u64 = FIRST_OTHER_ID - 1;

/// Answers of each of the eight, at least, wherever they are counted.
const ANSWERS_MIN: usize = 20;

/// Of a text, one part in so many is read before it counts.
const WARM_UP: usize = 4;

/// How often the process's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Measures and prints.
pub(super) fn run(project: &Project, arguments: &Arguments) -> Result<String, Error> {
    drop(setup::provide_default(project)?);
    let file = match &arguments.program {
        Some(file) => file.clone(),
        None => build(project)?,
    };
    let program = Program { file, set: arguments.set.clone() };
    let size = if arguments.short { SHORT } else { WHOLE };
    let mut bench = Bench { project, program, knows_clients: true };
    let began = Instant::now();
    let verdict = bench.measure(&size)?;
    println!("{verdict}\nmeasured in {:.0} s", began.elapsed().as_secs_f64());
    Ok("measure on a quiet machine, and compare only what one run has measured".into())
}

/// Builds the program as it is shipped; its path.
fn build(project: &Project) -> Result<PathBuf, Error> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "motorbrain-cli"]).current_dir(project.root());
    show("motorbrain", &mut build, |_| ())?;
    Ok(project.target().join("release").join(format!("motorbrain{}", std::env::consts::EXE_SUFFIX)))
}

struct Bench<'a> {
    project: &'a Project,
    program: Program,
    /// Whether the program takes the key `client`.
    knows_clients: bool,
}

impl Bench<'_> {
    fn measure(&mut self, size: &Size) -> Result<Verdict, Error> {
        let client = json!({ "op": "tokenize", "text": "a", "client": "b" });
        self.knows_clients = self.pipe()?.ask(client).is_ok();
        let ninth = self.text(size.ninth)?;
        let alone = self.reading_alone(&ninth)?;
        let steps = self.beside_a_ninth(Way::Steps, &ninth, alone)?;
        let streams = self.beside_a_ninth(Way::Streams, &ninth, alone)?;
        let mut floods = Vec::new();
        for requests in size.floods {
            floods.push((requests, self.beside_a_flood(size, requests)?));
        }
        let prompt = self.text(size.prompt)?;
        let prompt = self.beside_a_prompt(size, &prompt)?;
        Ok(Verdict { steps, streams, floods, prompt, sizes: (size.ninth, size.prompt) })
    }

    fn pipe(&self) -> Result<Pipe, Error> {
        let pipe = Pipe::start(self.project, &self.program, &self.project.models().join("smollm2-135m"))?;
        // What is made in a process's first run is not what is measured.
        pipe.ask(json!({ "op": "embed", "text": "Once upon a time" }))?;
        Ok(pipe)
    }

    /// A text of about so many tokens: the committed ones, over and over.
    fn text(&self, tokens: usize) -> Result<String, Error> {
        let path = self.project.tool("texts").join("english.txt");
        let text = fs::read_to_string(&path).map_err(Error::files("read", &path))?;
        // English has about four characters a token, and how many they are exactly changes nothing.
        Ok(text.chars().cycle().take(4 * tokens).collect())
    }

    /// The seconds that the reading of a text takes with nobody else there.
    fn reading_alone(&self, text: &str) -> Result<f64, Error> {
        let pipe = self.pipe()?;
        // What goes first goes over memory that is new to it.
        let some: String = text.chars().take(text.len() / WARM_UP).collect();
        pipe.ask(prompt(&some, None))?;
        pipe.ask(json!({ "op": "close", "conversation": "prompt" }))?;
        pipe.ask(prompt(text, None))
    }

    /// How the eight fare while a ninth conversation reads a long text, and how that fares.
    fn beside_a_ninth(&self, way: Way, text: &str, read_alone: f64) -> Result<Beside, Error> {
        let pipe = self.pipe()?;
        let mut crowd = Crowd::start(&pipe, way, false)?;
        let from = Instant::now();
        pipe.send(&prompt(text, None));
        crowd.go_on(from + Duration::from_secs(120), |_, event| is_answer(event, PROMPT_ID))?;
        let to = Instant::now();
        let beside = crowd.gaps(from, to)?;
        let answers = crowd.answers().max(ANSWERS_MIN);
        drop(pipe);

        // As many answers undisturbed: gaps grow with a context, and that is nobody's doing.
        let pipe = self.pipe()?;
        let mut crowd = Crowd::start(&pipe, way, false)?;
        let began = Instant::now();
        crowd.go_on(began + Duration::from_secs(60), |crowd, _| crowd.answers() >= answers)?;
        let alone = crowd.gaps(began, Instant::now())?;
        Ok(Beside { alone, beside, refused: crowd.refused, read: Some((read_alone, (to - from).as_secs_f64())) })
    }

    /// How eight clients fare beside one that asks for very much at once, and what that is told.
    fn beside_a_flood(&self, size: &Size, requests: usize) -> Result<Flooded, Error> {
        let pipe = self.pipe()?;
        let mut crowd = Crowd::start(&pipe, Way::Steps, self.knows_clients)?;
        let alone = Self::alone(&mut crowd, size)?;
        let before = pipe.memory();
        let mut flooded = Flooded::new(requests, before);
        let from = Instant::now();
        pipe.flood(flood(requests).map(|(id, request)| (id, self.known(request))));
        let mut looked = from;
        crowd.go_on(from + size.beside, |_, event| {
            flooded.take_note(event);
            if looked.elapsed() > LOOK_EVERY {
                looked = Instant::now();
                flooded.memory_most = flooded.memory_most.max(pipe.memory());
            }
            flooded.is_over()
        })?;
        let beside = crowd.gaps(from, Instant::now())?;
        flooded.memory_after = pipe.memory();
        flooded.beside = Beside { alone, beside, refused: crowd.refused, read: None };
        Ok(flooded)
    }

    /// How eight clients fare while another one reads a very long text; not to its end.
    fn beside_a_prompt(&self, size: &Size, text: &str) -> Result<Beside, Error> {
        let pipe = self.pipe()?;
        let mut crowd = Crowd::start(&pipe, Way::Steps, self.knows_clients)?;
        let alone = Self::alone(&mut crowd, size)?;
        let from = Instant::now();
        pipe.send(&self.known(prompt(text, Some("prompt"))));
        crowd.go_on(from + size.beside, |_, event| is_answer(event, PROMPT_ID))?;
        let beside = crowd.gaps(from, Instant::now())?;
        Ok(Beside { alone, beside, refused: crowd.refused, read: None })
    }

    fn alone(crowd: &mut Crowd<'_>, size: &Size) -> Result<Vec<f64>, Error> {
        let began = Instant::now();
        crowd.go_on(began + size.alone, |_, _| false)?;
        crowd.gaps(began, Instant::now())
    }

    /// Without the keys that the program does not know.
    fn known(&self, mut request: Value) -> Value {
        if let Some(request) = request.as_object_mut().filter(|_| !self.knows_clients) {
            request.remove("client");
        }
        request
    }
}

/// A conversation's reading of a text, up to its first token.
fn prompt(text: &str, client: Option<&str>) -> Value {
    let mut request = json!({ "id": PROMPT_ID, "op": "step", "conversation": "prompt", "text": text, "share": false });
    if let Some(client) = client {
        request["client"] = json!(client);
    }
    request
}

fn is_answer(event: &Event, id: u64) -> bool {
    matches!(event, Event::Came(reply, _) if reply.id == Some(id))
}
