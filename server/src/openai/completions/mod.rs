//! `POST /v1/completions`: what follows a text.
//!
//! Each prompt is read by a conversation that is gone with the answer; what it has read stays for a while for those that
//! begin alike.

mod request;
mod stream;
pub(crate) mod written;

use std::iter::repeat_n;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream as futures};
use motorbrain::{Brain, BrainError, Finished, Input, Part, Score, Scored, Stepped, Temporary, Terms, TokenId};
use serde::Serialize;
use utoipa::ToSchema;

use self::{
    request::{Asking, Prompt, Request},
    written::{Logprobs, Writer, listed},
};
use super::{head::Head, usage::Usage};
use crate::{
    app::{App, Caller},
    body::Asked,
    error::{ApiError, ErrorBody},
    spans, sse,
};

/// So many prompts of one request are with the brain at once.
const AT_ONCE: usize = 8;

/// The answer, and each event of a streamed one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Completion)]
pub(crate) struct Answer {
    id: String,
    /// `text_completion`.
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<Choice>,
    /// Of a stream, in its last event where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// What follows one of the prompts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CompletionChoice)]
pub(crate) struct Choice {
    text: String,
    index: usize,
    logprobs: Option<Logprobs>,
    /// `stop` at an end token or a stop text, else `length`.
    finish_reason: Option<&'static str>,
}

impl Answer {
    fn new(head: &Head, choices: Vec<Choice>, usage: Option<Usage>) -> Self {
        let Head { id, created, model } = head.clone();
        Self { id, object: "text_completion", created, model, choices, usage }
    }
}

/// What follows a text, or several.
#[utoipa::path(post, path = "/v1/completions", tag = "openai", request_body = Request, responses(
    (status = 200, description = "Streamed as server-sent events where that was asked for",
        content((Answer = "application/json"), (sse::Events = "text/event-stream"))),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Asked(request): Asked<Request>,
) -> Result<Response, ApiError> {
    app.check_model(&request.model)?;
    let asking = request.asking(app.limits().count, app.settings().inputs_max)?;
    let head = Head::new("cmpl-", &asking.model);
    let operation = asking.operation().begin();
    spans::told(operation, answered(app, caller, head, asking)).await
}

async fn answered(app: App, caller: Caller, head: Head, asking: Asking) -> Result<Response, ApiError> {
    if asking.stream {
        let place = app.streams().take(&caller.client)?;
        let events = stream::begin(&app, &caller, head, asking).await?;
        return sse::answer(events, place).await;
    }
    let (brain, terms) = (app.brain(&caller), Terms { sharing: app.sharing(&caller), ..Terms::default() });
    let one = |prompt: Prompt| completed(&app, &brain, &terms, &asking, prompt);
    let prompts = futures::iter(asking.prompts.clone()).map(one).buffered(AT_ONCE);
    let completed: Vec<Completed> = app.in_time(prompts.try_collect()).await?;
    let usage = Usage::new(
        completed.iter().map(|it| it.prompt).sum(),
        completed.iter().map(|it| it.cached).sum(),
        completed.iter().map(|it| it.sampled).sum(),
    );
    let choices = completed.into_iter().flat_map(|it| it.choices).enumerate();
    let choices: Vec<Choice> = choices.map(|(index, choice)| Choice { index, ..choice }).collect();
    let reasons: Vec<&str> = choices.iter().filter_map(|choice| choice.finish_reason).collect();
    spans::finished(&head.id, &reasons, usage);
    Ok(Json(Answer::new(&head, choices, Some(usage))).into_response())
}

/// What came of one prompt.
struct Completed {
    choices: Vec<Choice>,
    prompt: usize,
    cached: usize,
    sampled: usize,
}

async fn completed(
    app: &App,
    brain: &Brain,
    terms: &Terms,
    asking: &Asking,
    prompt: Prompt,
) -> Result<Completed, ApiError> {
    let tokens = tokens(app, brain, prompt).await?;
    let conversation = Temporary::new(brain, "http");
    let scored = match asking.is_scored() {
        true => Some(scored(brain, &conversation, terms, &tokens, asking).await?),
        false => None,
    };
    let step = asking.step(conversation.name().clone(), terms, scored.is_none().then(|| tokens.clone()));
    let (stepped, read) = match &scored {
        // A step that neither reads nor samples is none.
        Some(scored) if asking.count == 0 => (vec![unsampled(scored); asking.n], scored.context),
        _ if asking.n == 1 => {
            let stepped = brain.step(step).await?;
            let read = stepped.context;
            (vec![stepped], read)
        }
        _ => {
            let several = brain.several(step).await?;
            (several.choices, several.context)
        }
    };
    conversation.close().await;
    let echoes = repeat_n(echo(app, asking, &tokens, scored.as_ref()), stepped.len());
    Ok(Completed {
        prompt: tokens.len(),
        cached: scored.as_ref().map_or(read, |scored| scored.context).reused,
        sampled: stepped.iter().map(|it| it.token_ids.len()).sum(),
        choices: stepped.iter().zip(echoes).map(|(stepped, echo)| choice(app, &tokens, echo, stepped)).collect(),
    })
}

/// The answer of no tokens to a prompt that is read.
fn unsampled(scored: &Scored) -> Stepped {
    Stepped {
        token_ids: Vec::new(),
        text: String::new(),
        logprobs: Vec::new(),
        top: Vec::new(),
        finished: Finished::Count,
        context: scored.context,
    }
}

/// What stands before each answer to a prompt, and what its tokens are listed behind where that was asked for.
fn echo(app: &App, asking: &Asking, prompt: &[TokenId], scored: Option<&Scored>) -> (String, Option<Logprobs>) {
    let writer = Writer::new(app.tokenizer(), prompt);
    let mut logprobs = asking.logprobs.map(|_| Logprobs::default());
    if let (Some(logprobs), Some(scored)) = (&mut logprobs, scored) {
        writer.scored(prompt, scored, logprobs);
    }
    (if asking.echo { writer.prompt() } else { String::new() }, logprobs)
}

/// An answer as it is written.
fn choice(app: &App, prompt: &[TokenId], echo: (String, Option<Logprobs>), stepped: &Stepped) -> Choice {
    let (mut text, mut logprobs) = echo;
    if let Some(logprobs) = &mut logprobs {
        let mut writer = Writer::new(app.tokenizer(), prompt);
        let offset = text.chars().count();
        for (index, (token, logprob)) in stepped.token_ids.iter().zip(&stepped.logprobs).enumerate() {
            writer.list(*token, Some(*logprob), listed(&stepped.top, index), offset, logprobs);
        }
    }
    text += &stepped.text;
    Choice { text, index: 0, logprobs, finish_reason: Some(finish(stepped.finished)) }
}

fn finish(finished: Finished) -> &'static str {
    match finished {
        Finished::Stop => "stop",
        Finished::Count => "length",
    }
}

/// A prompt's tokens; a text begins as the model's texts do.
async fn tokens(app: &App, brain: &Brain, prompt: Prompt) -> Result<Vec<TokenId>, ApiError> {
    let text = match prompt {
        Prompt::Ids(ids) => return Ok(ids),
        Prompt::Text(text) => text,
    };
    let opening = Part::Tokens(app.opening().to_vec());
    Ok(brain.tokenize(Input::Parts(vec![opening, Part::Text(text)])).await?)
}

/// How likely a prompt's tokens are, each behind those before it, and which are likeliest in its place; it is read with that.
async fn scored(
    brain: &Brain,
    conversation: &Temporary,
    terms: &Terms,
    tokens: &[TokenId],
    asking: &Asking,
) -> Result<Scored, ApiError> {
    let score = Score::of(conversation.name().clone(), tokens.to_vec());
    let scored = brain.score(Score { top: asking.logprobs.unwrap_or(0), terms: terms.clone(), ..score }).await;
    scored.map_err(|error| match error {
        // As it is called here.
        BrainError::BadRequest { what: "top", found, expected } => ApiError::invalid("logprobs", found, expected),
        error => error.into(),
    })
}
