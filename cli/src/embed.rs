//! `motorbrain embed`: a vector a text, in the order of the texts, a line of JSON each.
//!
//! Of many lines a few are under way at once, so that they ride together, and no more of them is in memory.

use std::{
    io::{self, BufReader},
    thread,
    time::Duration,
};

use clap::ValueEnum;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use motorbrain::{Brain, BrainError, Embed, Format, Kind, Part, Parts, Pieces, Reply, Request as Ask, VectorTerms};
use motorbrain_actors::message::PIECE_TOKENS;
use motorbrain_protocol::{Answer, encode_answer};
use tokio::sync::mpsc;

use crate::{
    args::Common,
    exit::Exit,
    failure::Failure,
    input::{self, InputError, TextLines},
    output,
    starting::started,
};

/// So many texts are under way at once: enough to fill runs, and far from any limit.
const AT_ONCE: usize = 32;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// The texts, each taken literally [default: standard input as one text, but for a line feed at its end]
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,

    /// Each line of standard input is a text
    #[arg(long, conflicts_with = "texts")]
    lines: bool,

    /// What the texts are for
    #[arg(long, value_name = "KIND", default_value = "document")]
    kind: Purpose,

    /// How many numbers a vector has, 64 or more [default: embedding.dim, or all]
    #[arg(long, value_name = "N")]
    dim: Option<usize>,

    /// Which numbers; those of i8 are times a `scale` [default: embedding.format, or f32]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Numbers>,

    /// Whether a text has one vector, or each piece of it one in the context of all before it
    #[arg(long, value_name = "WHICH", default_value = "whole")]
    pieces: Which,

    /// Tokens of a piece, at most [default: 256]
    #[arg(long, value_name = "N")]
    piece_tokens: Option<usize>,
}

/// What a text is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Purpose {
    Document,
    Query,
}

/// Which numbers a vector has.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Numbers {
    F32,
    I8,
}

/// What has a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Whole,
    Each,
}

/// Why there are no more vectors.
#[derive(Debug, thiserror::Error)]
enum EmbedError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("text {number} has no vector")]
    Text {
        /// Counted from 1.
        number: usize,
        #[source]
        cause: BrainError,
    },
    #[error("`--piece-tokens` is given where a text has one vector, expected `--pieces each`")]
    PieceTokens,
}

impl From<EmbedError> for Failure {
    fn from(error: EmbedError) -> Self {
        match error {
            EmbedError::Input(error) => error.into(),
            EmbedError::Text { ref cause, .. } => Self::new(Exit::of_code(cause.code()), error, None),
            EmbedError::PieceTokens => Self::new(Exit::Settings, error, None),
        }
    }
}

/// Embeds until the texts are over, or nobody reads the vectors.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let settings = common.settings()?;
    let vector = request.vector()?;
    let texts = request.texts()?;
    let brain = started(Parts::find(&settings).await?, &settings).await?;
    let embedded = embed(&brain.waiting(Duration::MAX), vector, texts).await;
    brain.shutdown().await;
    embedded.map(|()| Exit::Fine)
}

impl Request {
    fn vector(&self) -> Result<VectorTerms, EmbedError> {
        let pieces = match (self.pieces, self.piece_tokens) {
            (Which::Each, tokens) => Pieces::Each { tokens: tokens.unwrap_or(PIECE_TOKENS) },
            (Which::Whole, None) => Pieces::Whole,
            (Which::Whole, Some(_)) => return Err(EmbedError::PieceTokens),
        };
        let kind = match self.kind {
            Purpose::Document => Kind::Document,
            Purpose::Query => Kind::Query,
        };
        let format = self.format.map(|format| match format {
            Numbers::F32 => Format::F32,
            Numbers::I8 => Format::I8,
        });
        Ok(VectorTerms { kind, dim: self.dim, format, raw: false, pieces })
    }

    fn texts(self) -> Result<BoxStream<'static, Result<String, InputError>>, Failure> {
        if self.lines {
            return lines().map_err(|error| Failure::new(Exit::Unexpected, error, None));
        }
        let texts = if self.texts.is_empty() { vec![input::whole()?] } else { self.texts };
        Ok(stream::iter(texts.into_iter().map(Ok)).boxed())
    }
}

/// The lines of standard input, read by a thread as they are taken.
fn lines() -> io::Result<BoxStream<'static, Result<String, InputError>>> {
    let (read, mut lines) = mpsc::channel(1);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut texts = TextLines::new(BufReader::new(io::stdin()));
        texts.try_for_each(|text| read.blocking_send(text))
    })?;
    Ok(stream::poll_fn(move |context| lines.poll_recv(context)).boxed())
}

async fn embed(
    brain: &Brain,
    vector: VectorTerms,
    texts: BoxStream<'static, Result<String, InputError>>,
) -> Result<(), Failure> {
    let replies = texts.enumerate().map(|(index, text)| async move {
        let embed = Embed { vector, ..Embed::of(vec![Part::Literal(text?)]) };
        let reply = brain.request(Ask::Embed(embed)).await;
        reply.map_err(|cause| EmbedError::Text { number: index + 1, cause })
    });
    let mut replies = replies.buffered(AT_ONCE);
    while let Some(reply) = replies.next().await {
        if !output::show(&line(reply?))? {
            break;
        }
    }
    Ok(())
}

/// A reply as the pipe has it in `ok`, on a line of its own.
fn line(reply: Reply) -> String {
    let object = encode_answer(&Answer::Reply { reply, top: false });
    String::from_utf8_lossy(&object).into_owned() + "\n"
}
