//! `POST /v1/embeddings`: vectors of texts, or of tokens.
//!
//! Inputs of a request ride together, a few at a time; one that the brain has no room for waits once the first has been
//! let in, since what was done before would be for nothing otherwise.

use std::time::Duration;

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use motorbrain::{Brain, Embed, Embedded, Format, Input, Part, Terms, VectorTerms};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    app::{App, Caller},
    body::Asked,
    error::{ApiError, ErrorBody},
    openai::tokens::{TokenIdSent, tokens},
    spans::{self, Operation},
};

/// So many inputs of one request are with the brain at once.
const AT_ONCE: usize = 32;

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmbeddingRequest)]
pub(crate) struct Request {
    /// One of the served names.
    model: String,
    /// What is embedded; texts are taken literally, and never become one of the model's markers.
    input: Inputs,
    /// `float`, or `base64`: 32-bit floats, the lowest byte first.
    encoding_format: Option<Encoding>,
    /// How many numbers, from 64 to all; left out, as settings say.
    dimensions: Option<usize>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    user: Option<String>,
}

/// One input or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, a list of texts, a list of token ids, or a list of such lists")]
pub(crate) enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<TokenIdSent>),
    Lists(Vec<Vec<TokenIdSent>>),
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    #[default]
    Float,
    Base64,
}

/// The vectors, in the order of the inputs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// `list`.
    object: &'static str,
    data: Vec<Vector>,
    model: String,
    usage: EmbeddingUsage,
}

/// A vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Vector {
    /// `embedding`.
    object: &'static str,
    embedding: Numbers,
    /// Which input's, counted from 0.
    index: usize,
}

/// Its numbers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Numbers {
    Floats(Vec<f32>),
    Base64(String),
}

/// Tokens of all inputs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Vectors of texts or tokens.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = Request,
    responses((status = 200, body = Answer), (status = "default", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Asked(request): Asked<Request>,
) -> Result<Json<Answer>, ApiError> {
    app.check_model(&request.model)?;
    let inputs = request.input.inputs();
    let most = app.settings().inputs_max;
    match inputs.len() {
        0 => return Err(ApiError::invalid("input", "empty", "one input or more")),
        many if many > most => {
            return Err(ApiError::invalid("input", format!("{many} inputs"), format!("at most {most}")));
        }
        _ => {}
    }
    let vector = VectorTerms { dim: request.dimensions, format: Some(Format::F32), ..VectorTerms::default() };
    let terms = Terms { sharing: app.sharing(&caller), ..Terms::default() };
    let embeds = inputs.into_iter().map(|input| Embed { vector, terms: terms.clone(), ..Embed::of(input) });
    let operation = Operation::new("embeddings", &request.model).begin();
    let work = async {
        let embedded = app.in_time(all(app.brain(&caller), embeds)).await?;
        let tokens = embedded.iter().map(|embedded| embedded.tokens).sum();
        spans::embedded(tokens);
        Ok((embedded, tokens))
    };
    let (embedded, tokens) = spans::told(operation, work).await?;
    let encoding = request.encoding_format.unwrap_or_default();
    let vectors = embedded.into_iter().enumerate();
    let data = vectors.map(|(index, it)| Vector { object: "embedding", embedding: encoding.of(it.embedding), index });
    Ok(Json(Answer {
        object: "list",
        data: data.collect(),
        model: request.model,
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    }))
}

/// All of them in their order; the first that fails fails all.
async fn all(brain: Brain, embeds: impl Iterator<Item = Embed>) -> Result<Vec<Embedded>, ApiError> {
    let patient = brain.waiting(Duration::MAX);
    let asked = embeds.enumerate().map(|(index, embed)| {
        let brain = if index == 0 { brain.clone() } else { patient.clone() };
        async move { brain.embed(embed).await.map_err(|error| of_input(index, error.into())) }
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

/// A refusal names the keys of this request.
fn of_input(index: usize, error: ApiError) -> ApiError {
    match error.param.as_deref() {
        Some("dim") => error.at("dimensions"),
        _ if error.status.is_client_error() && !error.retryable => error.at(&format!("input[{index}]")),
        _ => error,
    }
}

impl Inputs {
    fn inputs(self) -> Vec<Input> {
        let text = |text: String| Input::Parts(vec![Part::Literal(text)]);
        let ids = |ids| Input::Tokens(tokens(ids));
        match self {
            Self::Text(one) => vec![text(one)],
            Self::Texts(many) => many.into_iter().map(text).collect(),
            Self::Ids(one) => vec![ids(one)],
            Self::Lists(many) => many.into_iter().map(ids).collect(),
        }
    }
}

impl Encoding {
    fn of(self, numbers: Vec<f32>) -> Numbers {
        match self {
            Self::Float => Numbers::Floats(numbers),
            Self::Base64 => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                Numbers::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use motorbrain::TokenId;

    use super::*;

    #[test]
    fn floats_in_base64_have_their_lowest_byte_first() {
        let Numbers::Base64(text) = Encoding::Base64.of(vec![1.0, -2.5]) else { panic!("no text") };
        assert_eq!(text, "AACAPwAAIMA=");
    }

    #[test]
    fn inputs_come_in_four_ways() {
        let inputs = |json: &str| serde_json::from_str::<Inputs>(json).map(Inputs::inputs).unwrap_or_default();
        let literal = |text: &str| Input::Parts(vec![Part::Literal(text.to_owned())]);
        let ids = |ids: &[u32]| Input::Tokens(ids.iter().copied().map(TokenId).collect());
        assert_eq!(inputs("\"a\""), [literal("a")]);
        assert_eq!(inputs("[\"a\",\"b\"]"), [literal("a"), literal("b")]);
        assert_eq!(inputs("[1,2]"), [ids(&[1, 2])]);
        assert_eq!(inputs("[[1],[2,3]]"), [ids(&[1]), ids(&[2, 3])]);
        assert_eq!(inputs("[]"), []);
        assert!(serde_json::from_str::<Inputs>("[1,\"a\"]").is_err());
    }
}
