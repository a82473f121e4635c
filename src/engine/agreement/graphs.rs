//! Whether a rewritten graph computes what the untouched one does, for tests: both run the same random tokens
//! after the same past, and their logits, keys and values are compared number by number.
//!
//! Prompts read at once, two rows in one run, single tokens, a chunk on a past, and all that far from
//! the first position, where a rotation or scale that is slightly wrong shows. Both graphs are given
//! the untouched one's past, so that differences do not add up. That past was read, not drawn: random
//! keys and values drive a trained model to where roundings grow a hundredfold.

use half::f16;
use ort::{
    session::Session,
    value::{DynValue, Tensor, TensorElementType},
};

use super::largest_difference;
use crate::model::{Contract, ElementType};

/// The largest difference allowed of numbers up to 1 in magnitude, else of that fraction of the
/// largest. f32 sums of a few hundred terms in another order differ by some 1e-6 a layer, f16 ones by
/// its precision of 1e-3 a layer; what is wrong by a position, a head or a scale differs by tenths.
const TOLERANCE_F32: f32 = 1e-4;
const TOLERANCE_F16: f32 = 1e-2;
/// Where activations are quantised, a difference of one rounding grows through the layers. The
/// untouched graph itself then gives other numbers when tokens are cut differently; this many times
/// that is allowed, output by output.
const NOISE_FACTOR: f32 = 4.0;

/// How far two tensors are apart: of all outputs of all runs those that differ most, beside what is allowed.
#[derive(Clone, Debug, PartialEq)]
struct Difference {
    /// The output that differs.
    output: String,
    /// The run in which it does.
    run: &'static str,
    /// The largest difference of two numbers; infinite where shapes differ or a number is none.
    largest: f32,
    /// What is allowed.
    allowed: f32,
}

/// Two sessions and what they have in common.
struct Pair<'a> {
    /// The model as its exporter wrote it.
    untouched: &'a mut Session,
    /// The same model, rewritten.
    rewritten: &'a mut Session,
    /// Names and types of caches, the same in both.
    contract: &'a Contract,
    /// The coarsest type of numbers that the graph computes in.
    precision: ElementType,
    /// How many tokens the longest prompt has: there and behind it positions are compared.
    far: usize,
}

/// Tokens, keys and values of one run.
struct Feed {
    run: &'static str,
    batch: usize,
    past: usize,
    tokens: Vec<i64>,
    /// Two a layer, [batch, kv_heads, past, head_dim].
    kv: Vec<Vec<f32>>,
}

/// What a run gave: the name and the numbers of each output.
type Given = Vec<(String, Vec<f32>)>;

impl Pair<'_> {
    /// Compares the two.
    ///
    /// # Errors
    /// The runtime's own: one of the graphs does not run.
    fn compare(&mut self) -> ort::Result<Difference> {
        let mut random = Random(0x6d6f_746f_7262_7261);
        let feeds = self.feeds(&mut random)?;
        let noise = self.noise(&feeds)?;
        let mut worst: Option<Difference> = None;
        for feed in feeds {
            let expected = run(self.untouched, self.contract, &feed)?;
            let found = run(self.rewritten, self.contract, &feed)?;
            for (((output, expected), (_, found)), noise) in expected.iter().zip(&found).zip(&noise) {
                let difference = Difference {
                    output: output.clone(),
                    run: feed.run,
                    largest: largest_difference(expected, found),
                    allowed: allowed(self.precision, expected, *noise),
                };
                if difference.ratio() > worst.as_ref().map_or(-1.0, Difference::ratio) {
                    worst = Some(difference);
                }
            }
        }
        worst.ok_or_else(|| ort::Error::new("the graph gives nothing to compare"))
    }

    /// Runs that the two are compared on.
    fn feeds(&mut self, random: &mut Random) -> ort::Result<Vec<Feed>> {
        let shape = self.contract;
        let prompt = Feed::new(shape, random, "prompt", [2, 7]);
        let next = self.behind(&prompt, Feed::new(shape, random, "next token", [2, 1]))?;
        let far = Feed::new(shape, random, "far prompt", [1, self.far]);
        let far_token = self.behind(&far, Feed::new(shape, random, "far token", [1, 1]))?;
        let far_chunk = self.behind(&far, Feed::new(shape, random, "far chunk", [1, 5]))?;
        Ok(vec![prompt, next, far, far_token, far_chunk])
    }

    /// The second feed on a past that the untouched graph has read with the first.
    fn behind(&mut self, first: &Feed, second: Feed) -> ort::Result<Feed> {
        let read = run(self.untouched, self.contract, first)?;
        Ok(Feed { past: first.tokens.len() / first.batch, kv: caches(&read), ..second })
    }

    /// How far each output of the untouched graph is from itself when the tokens of a row are read at
    /// once and one by one.
    fn noise(&mut self, feeds: &[Feed]) -> ort::Result<Vec<f32>> {
        let short = feeds.iter().filter(|feed| feed.batch == 1 && (2..8).contains(&feed.tokens.len()));
        let mut noise = vec![0.0; 1 + 2 * self.contract.layers];
        for feed in short {
            let found = self.noise_of(feed)?;
            noise.iter_mut().zip(found).for_each(|(noise, found)| *noise = found.max(*noise));
        }
        Ok(noise)
    }

    fn noise_of(&mut self, whole: &Feed) -> ort::Result<Vec<f32>> {
        let at_once = run(self.untouched, self.contract, whole)?;
        let mut kv = whole.kv.clone();
        let mut given: Given = Vec::new();
        for (index, token) in whole.tokens.iter().enumerate() {
            let feed = Feed { run: whole.run, batch: 1, past: whole.past + index, tokens: vec![*token], kv };
            given = run(self.untouched, self.contract, &feed)?;
            kv = caches(&given);
        }
        // The caches whole, and of the logits those of the last token.
        let differences = at_once.iter().zip(&given).map(|((_, at_once), (_, one_by_one))| {
            let tail = at_once.len().saturating_sub(one_by_one.len());
            largest_difference(&at_once[tail..], one_by_one)
        });
        Ok(differences.collect())
    }
}

impl Difference {
    /// Whether that is no more than is allowed.
    fn is_allowed(&self) -> bool {
        self.ratio() <= 1.0
    }

    fn ratio(&self) -> f32 {
        self.largest / self.allowed
    }
}

impl Feed {
    /// Random tokens on an empty past; `[batch, new]`.
    fn new(contract: &Contract, random: &mut Random, run: &'static str, [batch, new]: [usize; 2]) -> Self {
        let tokens = (0..batch * new).map(|_| random.below(contract.vocab)).collect();
        Self { run, batch, past: 0, tokens, kv: vec![Vec::new(); 2 * contract.layers] }
    }
}

/// One run of one of the graphs.
fn run(session: &mut Session, contract: &Contract, feed: &Feed) -> ort::Result<Given> {
    let new = feed.tokens.len() / feed.batch;
    let takes: Vec<String> = session.inputs().iter().map(|input| input.name().to_owned()).collect();
    let mut inputs: Vec<(String, DynValue)> = Vec::new();
    let mut integers = |name: &str, shape: Vec<usize>, values: Vec<i64>| -> ort::Result<()> {
        if takes.iter().any(|input| input == name) {
            inputs.push((name.to_owned(), Tensor::from_array((shape, values))?.into_dyn()));
        }
        Ok(())
    };
    let positions = (0..feed.batch).flat_map(|_| (feed.past as i64..).take(new));
    integers("input_ids", vec![feed.batch, new], feed.tokens.clone())?;
    integers("attention_mask", vec![feed.batch, feed.past + new], vec![1; feed.batch * (feed.past + new)])?;
    integers("position_ids", vec![feed.batch, new], positions.collect())?;
    let shape = vec![feed.batch, contract.kv_heads, feed.past, contract.head_dim];
    let mut wanted = vec!["logits".to_owned()];
    for (names, kv) in contract.kv.iter().zip(feed.kv.chunks_exact(2)) {
        let [key, value] = [&kv[0], &kv[1]];
        inputs.push((names.past_key.clone(), floats(&shape, key, names.key_type)?));
        inputs.push((names.past_value.clone(), floats(&shape, value, names.value_type)?));
        wanted.extend([names.present_key.clone(), names.present_value.clone()]);
    }
    let outputs = session.run(inputs)?;
    let given = wanted.into_iter().map(|name| {
        let value = outputs.get(&name).ok_or_else(|| ort::Error::new(format!("the run gave no `{name}`")))?;
        let numbers = to_f32(value)?;
        Ok((name, numbers))
    });
    given.collect()
}

/// The caches of what a run gave: all but the logits, which come first.
fn caches(given: &Given) -> Vec<Vec<f32>> {
    given.iter().skip(1).map(|(_, numbers)| numbers.clone()).collect()
}

fn floats(shape: &[usize], values: &[f32], element: ElementType) -> ort::Result<DynValue> {
    Ok(match element {
        ElementType::F32 => Tensor::from_array((shape.to_vec(), values.to_vec()))?.into_dyn(),
        ElementType::F16 => {
            let values: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
            Tensor::from_array((shape.to_vec(), values))?.into_dyn()
        }
    })
}

fn to_f32(value: &DynValue) -> ort::Result<Vec<f32>> {
    Ok(match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => value.try_extract_tensor::<f16>()?.1.iter().map(|x| x.to_f32()).collect(),
        _ => value.try_extract_tensor::<f32>()?.1.to_vec(),
    })
}

/// What two numbers of a tensor may differ by.
fn allowed(precision: ElementType, expected: &[f32], noise: f32) -> f32 {
    let magnitude = expected.iter().fold(1f32, |largest, x| largest.max(x.abs()));
    let tolerance = match precision {
        ElementType::F32 => TOLERANCE_F32,
        ElementType::F16 => TOLERANCE_F16,
    };
    tolerance * magnitude + NOISE_FACTOR * noise
}

/// A generator whose numbers are the same in every run and on every machine (SplitMix64, Steele et al.
/// 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> i64 {
        (self.next() % bound.max(1) as u64) as i64
    }
}

#[cfg(test)]
mod tests;
