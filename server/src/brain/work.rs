//! A request of the brain's own interface: its keys are read as the pipe reads them, and it is done for its caller.

use std::time::Duration;

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use motorbrain::{Brain, BrainError, Reply, Request, Rerank, Sharing, Step, Terms};
use motorbrain_protocol::{Answer, Manner, Op, Work, decode_keys, encode_answer};

use super::stepped;
use crate::{
    app::{App, Caller},
    body::Raw,
    error::ApiError,
    sse,
};

/// Does what an op asks for. `conversation`: where the path names one.
pub(super) async fn done(
    app: &App,
    caller: &Caller,
    op: &'static str,
    conversation: Option<&str>,
    body: &Raw,
) -> Result<Response, ApiError> {
    let own = |error: BrainError| ApiError::own(&error);
    let (work, manner) = match decode_keys(op, conversation, &body.bytes, app.rules()).map_err(own)? {
        Op::Work(work, manner) => (work, manner),
        _ => return Err(ApiError::not_found("unknown_path", "there is no such path here")),
    };
    let brain = asked_by(app.brain(caller), manner, app.request_max())?;
    let answer = match shared(work, app.sharing(caller)) {
        Work::Step { step, grammar, stream } => {
            let place = stream.then(|| app.streams().take(&caller.client)).transpose()?;
            let top = step.top > 0;
            let grammar = match grammar {
                Some(grammar) => Some(app.compiled(grammar).await?),
                None => None,
            };
            let step = Step { grammar, ..step };
            if let Some(place) = place {
                let stream = brain.step_stream(step).await.map_err(own)?;
                return sse::answer(stepped::Steps::new(stream, top), place).await;
            }
            brain.request(Request::Step(step)).await.map(|reply: Reply| Answer::Reply { reply, top })
        }
        Work::Ask(request) => brain.request(request).await.map(|reply: Reply| Answer::Reply { reply, top: false }),
        Work::Tokenize(input) => brain.tokenize(input).await.map(Answer::Tokens),
        Work::Detokenize(tokens) => brain.detokenize(tokens).await.map(Answer::Text),
        Work::Rerank { query, documents, mix, sharing } => {
            let settings = app.rerank().clone();
            let rerank = Rerank { query, documents, mix: mix.or(settings.mix), sharing, ..settings };
            brain.rerank(rerank).await.map(Answer::Reranked)
        }
        // Files are this machine's, and whoever asks here may be elsewhere.
        Work::Export { .. } | Work::Import { .. } => {
            return Err(ApiError::not_found("unknown_path", "there is no such path here"));
        }
    };
    Ok(written(&answer.map_err(own)?))
}

/// An answer as the pipe writes it.
pub(super) fn written(answer: &Answer) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], encode_answer(answer)).into_response()
}

/// The brain as a request wants to be served by it. Whose it is says its token.
fn asked_by(
    brain: Brain,
    Manner { client, priority, deadline }: Manner,
    most: Option<Duration>,
) -> Result<Brain, ApiError> {
    if client.is_some() {
        return Err(ApiError::unsupported("client", "here a client is who has a token"));
    }
    let brain = match priority {
        Some(priority) => brain.at(priority),
        None => brain,
    };
    Ok(match deadline {
        // No later than settings say.
        Some(deadline) => brain.within(most.map_or(deadline, |most| most.min(deadline))),
        None => brain,
    })
}

/// With whom a request shares what is read, where it does not say.
fn shared(mut work: Work, sharing: Option<Sharing>) -> Work {
    if sharing.is_some() {
        match &mut work {
            Work::Ask(request) => {
                if let Some(terms) = terms(request) {
                    terms.sharing = terms.sharing.take().or(sharing);
                }
            }
            Work::Step { step, .. } => step.terms.sharing = step.terms.sharing.take().or(sharing),
            Work::Rerank { sharing: own, .. } => *own = own.take().or(sharing),
            _ => {}
        }
    }
    work
}

fn terms(request: &mut Request) -> Option<&mut Terms> {
    match request {
        Request::Embed(embed) => Some(&mut embed.terms),
        Request::Score(score) => Some(&mut score.terms),
        _ => None,
    }
}
