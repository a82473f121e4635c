//! How the vectors of one brain are made: its configuration with the texts around a text as tokens, and what each request
//! makes of that.

use std::sync::Arc;

use super::{config::StartError, cuts::Cut, tokenizing::encode};
use crate::{
    message::{BrainError, Context, Embed, EmbeddedPiece, EmbeddedPieces, Input, Part, Pieces, VectorTerms},
    policy::EmbedAsk,
    tokens::Tokenizer,
    vectors::{
        Codes, DIM_MIN, EmbeddingConfig, Format, Frame, Framed, Kind, MadeBy, Pooling, Recipe, Shape, mean, normalize,
    },
};

/// See the module's page.
pub(super) struct Recipes {
    config: EmbeddingConfig,
    /// Around documents and around queries; `None`: the text's own states are pooled.
    frames: Option<[Arc<Framed>; 2]>,
    /// Numbers in a hidden state, once that is known.
    pub(super) hidden: usize,
}

/// What an answer says of its vector, and what is still to be done to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Label {
    by: MadeBy,
    calibrated: bool,
    normalize: bool,
    format: Format,
}

impl Recipes {
    /// Tokenises what stands around texts.
    ///
    /// # Errors
    /// The tokenizer refuses it, or there is no probe.
    pub(super) fn new(config: EmbeddingConfig, tokenizer: &dyn Tokenizer) -> Result<Self, StartError> {
        let frames = match &config.recipe {
            Recipe::Pooled(_) => None,
            Recipe::Probe { document, query } => {
                Some([framed(document, tokenizer)?.into(), framed(query, tokenizer)?.into()])
            }
        };
        Ok(Self { config, frames, hidden: usize::MAX })
    }

    /// Whether a vector can be as it is asked for.
    pub(super) fn check(&self, embed: &Embed) -> Result<(), BrainError> {
        let Embed { conversation, vector: VectorTerms { dim, format, raw, .. }, .. } = embed;
        check_pieces(embed)?;
        let most = match self.config.straighten.as_ref().filter(|_| conversation.is_none()) {
            Some(by) => by.dim(),
            None => self.hidden,
        };
        let refused = |found: String, expected: String| Err(BrainError::BadRequest { what: "dim", found, expected });
        match *dim {
            Some(dim) if *raw || dim < DIM_MIN || dim > most => {
                let expected = match (*raw, most) {
                    (true, _) => "none: a raw vector is given as it is".to_owned(),
                    (false, usize::MAX) => format!("{DIM_MIN} or more"),
                    (false, most) if most < DIM_MIN => format!("none: vectors have {most} numbers"),
                    (false, most) => format!("{DIM_MIN} to {most}"),
                };
                refused(dim.to_string(), expected)
            }
            _ if *raw && *format == Some(Format::I8) => Err(BrainError::BadRequest {
                what: "format",
                found: "i8".to_owned(),
                expected: "none: a raw vector is given as it is".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What the policy is asked for a vector, and what is said of it.
    pub(super) fn ask(&self, terms: &VectorTerms, in_conversation: bool) -> (EmbedAsk, Label) {
        let Self { config, frames, .. } = self;
        let VectorTerms { kind, dim, format, raw, .. } = *terms;
        let frame = frames.as_ref().map(|[document, query]| match kind {
            Kind::Document => Arc::clone(document),
            Kind::Query => Arc::clone(query),
        });
        let (pooling, by) = match (&config.recipe, in_conversation) {
            (Recipe::Pooled(pooling), _) => (*pooling, MadeBy::Pooled),
            (Recipe::Probe { .. }, false) => (Pooling::Last, MadeBy::Probe),
            (Recipe::Probe { .. }, true) => (Pooling::Last, MadeBy::ProbeInConversation),
        };
        let calibrated = config.straighten.is_some() && !in_conversation && !raw;
        let shape = Shape {
            pooling,
            straighten: calibrated,
            dim: dim.or(config.dim).filter(|_| !raw),
            normalize: config.normalize && !raw,
        };
        let format = if raw { Format::F32 } else { format.unwrap_or(config.format) };
        (EmbedAsk { frame, shape }, Label { by, calibrated, normalize: shape.normalize, format })
    }
}

impl Label {
    /// The vector of a text of one piece or several.
    pub(super) fn of(self, mut vectors: Vec<Vec<f32>>) -> Vector {
        let pieces = vectors.len();
        let mut embedding = match pieces {
            1 => vectors.swap_remove(0),
            _ => mean(&vectors),
        };
        if self.normalize && pieces > 1 {
            normalize(&mut embedding);
        }
        let (embedding, codes) = self.written(embedding);
        Vector { embedding, codes, by: self.by, calibrated: self.calibrated, pieces }
    }

    /// The vectors of a text's pieces.
    pub(super) fn of_each(
        self,
        vectors: Vec<Vec<f32>>,
        cuts: Vec<Cut>,
        tokens: usize,
        context: Context,
    ) -> EmbeddedPieces {
        let begins: Vec<usize> = [0].into_iter().chain(cuts.iter().map(|cut| cut.end)).collect();
        let piece = |((vector, Cut { end, bytes }), begin): ((Vec<f32>, Cut), usize)| {
            let (embedding, codes) = self.written(vector);
            EmbeddedPiece { embedding, codes, bytes, tokens: end - begin }
        };
        let pieces = vectors.into_iter().zip(cuts).zip(begins).map(piece).collect();
        EmbeddedPieces { pieces, recipe: self.by, calibrated: self.calibrated, tokens, context }
    }

    /// A vector in the numbers that were asked for.
    fn written(self, vector: Vec<f32>) -> (Vec<f32>, Option<Codes>) {
        let codes = (self.format == Format::I8).then(|| Codes::of(&vector));
        (codes.as_ref().map_or(vector, Codes::values), codes)
    }
}

/// Whether pieces can be as they are asked for.
fn check_pieces(embed: &Embed) -> Result<(), BrainError> {
    let Pieces::Each { tokens } = embed.vector.pieces else { return Ok(()) };
    let bad = |what, found: &str, expected: &str| {
        Err(BrainError::BadRequest { what, found: found.to_owned(), expected: expected.to_owned() })
    };
    let has_tokens = match &embed.input {
        Input::Text(_) => false,
        Input::Tokens(_) => true,
        Input::Parts(parts) => parts.iter().any(|part| matches!(part, Part::Tokens(_))),
    };
    match tokens {
        _ if embed.conversation.is_some() => bad("pieces", "each in a conversation", "an embed for each of them"),
        _ if has_tokens => bad("pieces", "each of token ids", "text, in whose bytes pieces are told"),
        0 => bad("piece_tokens", "0", "at least 1"),
        _ => Ok(()),
    }
}

/// A vector with what is said of it.
pub(super) struct Vector {
    pub(super) embedding: Vec<f32>,
    pub(super) codes: Option<Codes>,
    pub(super) by: MadeBy,
    pub(super) calibrated: bool,
    pub(super) pieces: usize,
}

/// What stands around a text as tokens. Each of the three is tokenised by itself, so that a prefix's tokens are the same
/// before every text; what the tokenizer writes at a text's beginning stands before the first of them and no other.
fn framed(frame: &Frame, tokenizer: &dyn Tokenizer) -> Result<Framed, StartError> {
    let tokens = |what, input, behind| {
        encode(tokenizer, input, behind).map_err(|error| StartError::Setting {
            what,
            found: format!("refused by the tokenizer ({})", error.reason),
            expected: "a text it takes".to_owned(),
        })
    };
    let prefix = tokens("embedding.prefix", frame.prefix.clone(), None)?;
    let probe = tokens("embedding.probe", frame.probe.clone(), prefix.last().copied())?;
    if probe.is_empty() {
        let expected = "a text with a token at least, whose hidden state is the vector".to_owned();
        return Err(StartError::Setting { what: "embedding.probe", found: "empty".to_owned(), expected });
    }
    Ok(Framed { prefix, probe })
}
