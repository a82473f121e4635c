//! `motorbrain chat`: a talk with a model, by somebody at a terminal or line by line from standard input.
//!
//! A chat is always sent whole, and the conversation of its name reads what is new. Where nobody sits there, the first
//! thing that goes wrong ends it.

mod answer;
mod command;
mod editor;
mod figures;
mod history;
mod lines;
mod saved;
mod talk;

use std::{path::PathBuf, sync::Arc};

use motorbrain::{
    Brain, BrainError, Fork, Parts,
    chat::{ChatError, ChatOptions, ChatRequest, Chats, Finish, Message},
    model::Model,
};

use self::{
    answer::{Ended, answer},
    command::{Command, CommandError, Entry},
    figures::Figures,
    lines::{Lines, Typed},
    talk::{Talk, TalkError},
};
use crate::{
    args::Common, choosing::Choosing, exit::Exit, failure::Failure, output, signals::Interrupts, starting::started,
};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// What the model is told first
    #[arg(long, value_name = "TEXT", conflicts_with = "messages")]
    system: Option<String>,

    /// Go on from messages: a JSON list as /save writes it, each with `role` and `content`
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,

    /// The most tokens of an answer [default: what is left of the window]
    #[arg(long, visible_alias = "max-tokens", value_name = "N")]
    count: Option<usize>,

    /// The conversation's name, by which /switch and `motorbrain top` know it
    #[arg(short, long, value_name = "NAME", default_value = "chat")]
    conversation: String,

    /// A file with the chat template [default: the model's own]
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,

    /// Do not keep the lines that are typed
    #[arg(long)]
    no_history: bool,

    #[command(flatten)]
    choosing: Choosing,
}

/// Chats until there are no more lines, or until Ctrl-C.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let settings = common.settings()?;
    let said = match (&request.messages, &request.system) {
        (Some(file), _) => saved::read(file)?,
        (None, system) => system.iter().map(Message::system).collect(),
    };
    let parts = Parts::find(&settings).await?;
    let model = Arc::clone(&parts.model);
    let brain = started(parts, &settings).await?;
    let mut interrupts = Interrupts::heard()?;
    let ended = chat(&brain, model, request, said, &mut interrupts).await;
    tokio::select! {
        () = brain.shutdown() => {}
        () = interrupts.next() => {}
    }
    ended
}

async fn chat(
    brain: &Brain,
    model: Arc<Model>,
    request: Request,
    said: Vec<Message>,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let name = model.dir.file_name().unwrap_or(model.dir.as_os_str()).to_string_lossy().into_owned();
    let options = ChatOptions { template: request.template.clone() };
    let chats = Chats::open(brain.clone(), model, options).await.map_err(without_template)?;
    let window = brain.info().await?.window.size;
    let history = if request.no_history { None } else { history::place_here() };
    let mut lines = Lines::open(history).map_err(|error| Failure::new(Exit::Unexpected, error, None))?;
    let is_terminal = lines.is_terminal();
    if is_terminal {
        output::tell(&format!("{name}, a window of {window} tokens; /help tells what there is, Ctrl-D ends"));
    }
    let talk = Talk::new(request.conversation.clone(), said);
    let mut session = Session { chats, talk, request, window, last: None };
    loop {
        let line = match lines.next(format!("{}> ", session.talk.name()), interrupts).await {
            Typed::Line(line) => line,
            Typed::End => return Ok(Exit::Fine),
            Typed::Interrupted => return Ok(Exit::Interrupted),
            Typed::Failed(error) => return Err(error.into()),
        };
        match session.take(&line, interrupts).await {
            Ok(Then::GoesOn) => {}
            Ok(Then::Stopped) if is_terminal => {}
            Ok(Then::Stopped) => return Ok(Exit::Interrupted),
            Ok(Then::Ends) => return Ok(Exit::Fine),
            Err(failure) if is_terminal => failure.report(),
            Err(failure) => return Err(failure),
        }
    }
}

/// The failure of a model with which nobody can chat.
fn without_template(error: ChatError) -> Failure {
    let is_template = matches!(error, ChatError::Template(_));
    let hint = error.hint().filter(|_| is_template);
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.with_hint(format!("{hint}; `motorbrain generate` needs none")),
        None => failure,
    }
}

/// What follows a line.
enum Then {
    GoesOn,
    /// Its answer was stopped.
    Stopped,
    Ends,
}

/// A chat under way.
struct Session {
    chats: Chats,
    talk: Talk,
    request: Request,
    window: usize,
    /// Of the last answer that was not stopped.
    last: Option<Figures>,
}

impl Session {
    async fn take(&mut self, line: &str, interrupts: &mut Interrupts) -> Result<Then, Failure> {
        match command::parse(line)? {
            Entry::Nothing => Ok(Then::GoesOn),
            Entry::Message(message) => self.say(message, interrupts).await,
            Entry::Command(Command::Quit) => Ok(Then::Ends),
            Entry::Command(command) => self.obey(command).await.map(|()| Then::GoesOn),
        }
    }

    /// A message and its answer. What was said when it is stopped stays said; where nothing was, nothing was asked.
    async fn say(&mut self, message: String, interrupts: &mut Interrupts) -> Result<Then, Failure> {
        let request = ChatRequest {
            conversation: Some(self.talk.name().into()),
            count: self.request.count,
            sampling: self.request.choosing.sampling(),
            seed: self.request.choosing.seed,
            ..ChatRequest::new(self.talk.with(&message))
        };
        let (text, ended) = answer(&self.chats, request, interrupts).await;
        // Each answer ends its line, also one without a word.
        if (ended.is_ok() || !text.is_empty()) && !text.ends_with('\n') {
            output::print("")?;
        }
        match ended? {
            Ended::Whole(figures, finish) => {
                if finish == Finish::Length {
                    output::tell("[cut off: it has as many tokens as it may have]");
                }
                self.last = Some(figures);
                self.talk.answered(message, text);
                Ok(Then::GoesOn)
            }
            Ended::Stopped => {
                if !text.is_empty() {
                    self.talk.answered(message, text);
                }
                Ok(Then::Stopped)
            }
            Ended::Unread => Ok(Then::Ends),
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Help => output::print(&command::help())?,
            Command::Switch(None) => output::print(&self.talk.list())?,
            Command::Stats => {
                output::print(&figures::words(self.context_len().await?, self.window, self.last.as_ref()))?;
            }
            Command::Switch(Some(name)) => self.talk.switch(name)?,
            Command::Fork(name) => self.fork(name).await?,
            Command::Reset => {
                self.forget().await?;
                self.talk.reset();
                output::tell("nothing was said");
            }
            Command::Load(file) => {
                let messages = saved::read(&file)?;
                self.forget().await?;
                output::tell(&format!("{} messages of {}", messages.len(), file.display()));
                self.talk.load(messages);
            }
            Command::Save(file) => {
                saved::write(&file, self.talk.messages())?;
                output::tell(&format!("{} messages are in {}", self.talk.messages().len(), file.display()));
            }
            Command::Quit => {}
        }
        Ok(())
    }

    async fn fork(&mut self, name: String) -> Result<(), Failure> {
        let (before, from) = (self.talk.clone(), self.talk.name().to_owned());
        self.talk.fork(name.clone())?;
        // So that it is seen before anything is said in it; what is said would find all that was read anyway.
        let fork = Fork { from: from.as_str().into(), to: name.into(), at: None, choice: None };
        match self.chats.brain().fork(fork).await {
            Ok(_) | Err(BrainError::UnknownConversation { .. }) => {}
            Err(error) => {
                self.talk = before;
                return Err(error.into());
            }
        }
        output::tell(&format!("`/switch {from}` goes back"));
        Ok(())
    }

    async fn forget(&self) -> Result<(), BrainError> {
        self.chats.brain().reset(self.talk.name()).await
    }

    async fn context_len(&self) -> Result<usize, BrainError> {
        match self.chats.brain().inspect(self.talk.name()).await {
            Err(BrainError::UnknownConversation { .. }) => Ok(0),
            inspected => Ok(inspected?.context_len),
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let hint = error.hint();
        Self::new(Exit::Settings, error, Some(hint))
    }
}

impl From<TalkError> for Failure {
    fn from(error: TalkError) -> Self {
        let hint = error.hint();
        Self::new(Exit::Settings, error, Some(hint))
    }
}
