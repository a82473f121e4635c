//! Vectors: which hidden states a text's vector is made of, and what is done to them.
//!
//! A recipe says what is run: the text alone, of whose states the mean or the last is taken, or the text behind a prefix
//! with a probe after it, a short text whose last state is the vector. A plain causal model says more of a text when it is
//! asked for it: where it is about to give the text a name, its state stands for the whole. What comes behind the recipe
//! is the same for both: made straight by a calibration, cut, scaled to length 1, rounded to bytes.
//!
//! Plain arithmetic and plain values, but for [`Straighten`], the port to calibrations. Sums are over f32, lengths over f64.

use std::{fmt, sync::Arc};

use crate::{engine, message::Input, tokens::TokenId};

/// The fewest numbers that a vector can be cut to. Not a setting: fewer tell texts apart no better than a hash.
pub const DIM_MIN: usize = 64;

/// How a text's hidden states become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Their mean, over the tokens of the job's own input.
    #[default]
    Mean,
    /// That of the last token.
    Last,
}

/// What is done to a stateless vector behind its recipe: a calibration.
pub trait Straighten: Send + Sync + 'static {
    /// How many numbers come out of one of the model's hidden size.
    fn dim(&self) -> usize;

    /// `hidden`: as the recipe gives it, `[hidden]`, not normalised. What comes out is not either, and its directions are
    /// in falling order of what they say.
    fn straighten(&self, hidden: &[f32]) -> Vec<f32>;
}

/// How one job's hidden states become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Which states.
    pub pooling: Pooling,
    /// Whether the actor's [`Straighten`] is applied, if it has one.
    pub straighten: bool,
    /// How many of the numbers are kept, the first ones; `None`: all. More than there are is all.
    pub dim: Option<usize>,
    /// Whether the vector is scaled to length 1.
    pub normalize: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { pooling: Pooling::Mean, straighten: false, dim: None, normalize: true }
    }
}

impl Shape {
    /// What to ask of a row. `ends`: whether the row reaches the input's last token.
    pub(crate) fn want(self, ends: bool) -> engine::Want<'static> {
        match self.pooling {
            Pooling::Mean => engine::Want::Hidden(engine::Pooling::Sum),
            Pooling::Last if ends => engine::Want::Hidden(engine::Pooling::Last),
            Pooling::Last => engine::Want::Nothing,
        }
    }

    /// Takes in what a row gave; empty where nothing was asked or nothing was read.
    pub(crate) fn absorb(self, pooled: &mut Vec<f32>, hidden: Vec<f32>) {
        if hidden.is_empty() {
            return;
        }
        if pooled.is_empty() || self.pooling == Pooling::Last {
            *pooled = hidden;
        } else {
            let (before, now) = (pooled.len(), hidden.len());
            assert!(before == now, "a hidden state of {now} numbers is added to one of {before}");
            for (sum, value) in pooled.iter_mut().zip(hidden) {
                *sum += value;
            }
        }
    }

    /// The finished vector of an input of `tokens` tokens.
    pub(crate) fn finish(self, mut pooled: Vec<f32>, tokens: usize, by: Option<&dyn Straighten>) -> Vec<f32> {
        if self.pooling == Pooling::Mean {
            let factor = 1.0 / tokens as f32;
            pooled.iter_mut().for_each(|value| *value *= factor);
        }
        if let Some(by) = by.filter(|_| self.straighten) {
            pooled = by.straighten(&pooled);
        }
        pooled.truncate(self.dim.unwrap_or(usize::MAX));
        if self.normalize {
            normalize(&mut pooled);
        }
        pooled
    }
}

/// Scales a vector to length 1.
pub(crate) fn normalize(vector: &mut [f32]) {
    // In f64, which the squares of large numbers fit.
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    // A zero vector has no direction; dividing would make it NaN.
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

/// The mean of vectors of one length; of none, none.
pub(crate) fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let len = vectors.first().map_or(0, Vec::len);
    let sum = |index| vectors.iter().map(|vector: &Vec<f32>| f64::from(vector[index])).sum::<f64>();
    (0..len).map(|index| (sum(index) / vectors.len() as f64) as f32).collect()
}

/// What stands around a text whose vector a probe gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame<T = Input> {
    /// Before it, from the beginning on.
    pub prefix: T,
    /// Behind it: the hidden state of its last token is the vector.
    pub probe: T,
}

/// The same as tokens.
pub type Framed = Frame<Vec<TokenId>>;

impl Framed {
    /// A text's tokens in their frame.
    pub(crate) fn around(&self, text: &[TokenId]) -> Vec<TokenId> {
        [&self.prefix, text, &self.probe].concat()
    }

    /// The tokens around a text.
    pub(crate) fn len(&self) -> usize {
        self.prefix.len() + self.probe.len()
    }
}

/// How vectors are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The hidden state of a probe's last token, the text standing before it. In a conversation no prefix stands before
    /// the text, and the probe leaves no trace.
    Probe {
        /// Around texts that are to be found.
        document: Frame,
        /// Around what they are looked for by.
        query: Frame,
    },
    /// The text's own states.
    Pooled(Pooling),
}

/// Whether a text is looked for or looked by, which a recipe may make a difference of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It is to be found.
    #[default]
    Document,
    /// It is what is looked for.
    Query,
}

/// Which numbers a vector is given in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As they are.
    #[default]
    F32,
    /// As bytes with one scale.
    I8,
}

/// How vectors are made, for all requests that do not say otherwise.
#[derive(Clone)]
pub struct EmbeddingConfig {
    /// What is run.
    pub recipe: Recipe,
    /// A calibration of the recipe's vectors; it is applied where no conversation stands before the text.
    pub straighten: Option<Arc<dyn Straighten>>,
    /// How many numbers are kept, at least [`DIM_MIN`]; `None`: all.
    pub dim: Option<usize>,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Which numbers they are given in.
    pub format: Format,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        let recipe = Recipe::Pooled(Pooling::Mean);
        Self { recipe, straighten: None, dim: None, normalize: true, format: Format::F32 }
    }
}

impl fmt::Debug for EmbeddingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipe, straighten, dim, normalize, format } = self;
        f.debug_struct("EmbeddingConfig")
            .field("recipe", recipe)
            .field("straighten", &straighten.as_ref().map(|by| by.dim()))
            .field("dim", dim)
            .field("normalize", normalize)
            .field("format", format)
            .finish()
    }
}

/// The recipe that a vector was made by. Only those of one recipe, and of one calibration, can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MadeBy {
    /// The text behind the prefix, the probe behind the text.
    Probe,
    /// The probe behind a conversation and the text.
    ProbeInConversation,
    /// The text's own states.
    #[default]
    Pooled,
}

impl MadeBy {
    /// As the pipe protocol spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::ProbeInConversation => "probe_in_conversation",
            Self::Pooled => "pooled",
        }
    }
}

/// A vector as bytes: each number is about its code times the scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// From -127 to 127.
    pub codes: Vec<i8>,
    /// The largest number's magnitude by 127; 0 where all are.
    pub scale: f32,
}

impl Codes {
    /// Rounds a vector of finite numbers.
    pub fn of(vector: &[f32]) -> Self {
        let scale = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
        let code = |value: &f32| if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
        Self { codes: vector.iter().map(code).collect(), scale }
    }

    /// The numbers that the codes stand for.
    pub fn values(&self) -> Vec<f32> {
        self.codes.iter().map(|&code| f32::from(code) * self.scale).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twice the first two numbers, the other way around.
    struct Turned;

    impl Straighten for Turned {
        fn dim(&self) -> usize {
            2
        }

        fn straighten(&self, hidden: &[f32]) -> Vec<f32> {
            vec![2.0 * hidden[1], 2.0 * hidden[0]]
        }
    }

    fn check(shape: Shape, chunks: &[&[f32]], tokens: usize, expected: &[f32]) {
        let mut pooled = Vec::new();
        for chunk in chunks {
            shape.absorb(&mut pooled, chunk.to_vec());
        }
        assert_eq!(shape.finish(pooled, tokens, Some(&Turned)), expected, "{shape:?}");
    }

    fn shape(pooling: Pooling, normalize: bool) -> Shape {
        Shape { pooling, normalize, ..Shape::default() }
    }

    #[test]
    fn the_mean_is_over_all_chunks() {
        check(shape(Pooling::Mean, false), &[&[2.0, 4.0], &[], &[1.0, 2.0]], 3, &[1.0, 2.0]);
        check(shape(Pooling::Mean, true), &[&[6.0, 8.0]], 2, &[0.6, 0.8]);
    }

    #[test]
    fn the_last_chunk_wins_under_last() {
        check(shape(Pooling::Last, false), &[&[2.0, 4.0], &[1.0, 2.0]], 3, &[1.0, 2.0]);
        check(shape(Pooling::Last, true), &[&[0.0, 2.0]], 9, &[0.0, 1.0]);
    }

    #[test]
    fn a_vector_is_made_straight_before_it_is_cut_and_cut_before_it_is_scaled() {
        let straight = Shape { straighten: true, ..shape(Pooling::Last, false) };
        check(straight, &[&[1.0, 3.0, 5.0]], 1, &[6.0, 2.0]);
        check(Shape { dim: Some(1), ..straight }, &[&[1.0, 3.0, 5.0]], 1, &[6.0]);
        check(Shape { dim: Some(1), normalize: true, ..straight }, &[&[1.0, 3.0, 5.0]], 1, &[1.0]);
        check(Shape { dim: Some(2), ..shape(Pooling::Last, true) }, &[&[3.0, 4.0, 5.0]], 1, &[0.6, 0.8]);
        check(Shape { dim: Some(9), ..shape(Pooling::Mean, false) }, &[&[3.0, 4.0]], 1, &[3.0, 4.0]);
    }

    #[test]
    fn squares_of_large_numbers_do_not_make_a_vector_zero() {
        check(shape(Pooling::Last, true), &[&[3e38, -3e38]], 1, &[0.5f32.sqrt(), -0.5f32.sqrt()]);
    }

    #[test]
    fn a_zero_vector_stays_zero() {
        check(shape(Pooling::Mean, true), &[&[0.0, 0.0]], 2, &[0.0, 0.0]);
        let codes = Codes::of(&[0.0, -0.0]);
        assert_eq!((&codes.codes[..], codes.scale), (&[0, 0][..], 0.0));
        assert_eq!(codes.values(), [0.0, 0.0]);
    }

    #[test]
    fn bytes_are_off_by_half_a_step_at_most_and_the_largest_number_by_nothing() {
        let vector: Vec<f32> = (-50..70).map(|number| number as f32 * 0.013).collect();
        let codes = Codes::of(&vector);
        assert_eq!((codes.codes.iter().max(), codes.scale), (Some(&127), 69.0 * 0.013 / 127.0));
        for (value, found) in vector.iter().zip(codes.values()) {
            assert!((value - found).abs() <= 0.501 * codes.scale, "{value} became {found}");
        }
    }

    #[test]
    fn pieces_count_the_same() {
        assert_eq!(mean(&[vec![1.0, 2.0], vec![3.0, -2.0]]), [2.0, 0.0]);
        assert_eq!(mean(&[]), [0.0; 0]);
    }
}
