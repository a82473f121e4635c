//! What the model is that engines pretend to be, and a context of it as nobody but its caller sees it: tokens, and for
//! each of them a state in the place of its keys and values. What was answered is checked with it.

use std::{borrow::Cow, sync::Arc};

use motorbrain_actors::{
    engine::{EngineInfo, PageSize, Resident, Sampled, Sampling, Slides, Window},
    grammar::{Constraint, Mask},
    job::{History, Outcome, Work},
    policy::{Ask, EmbedAsk},
    text::{StepText, StopTexts},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
    vectors::{Framed, Pooling, Shape},
};
use motorbrain_testing::{
    hashed_grammar,
    model::{draw, hidden, likeliest, logprobs, sample, state_behind},
    states_in,
};

pub(crate) const VOCAB: u32 = 40;
pub(crate) const WINDOW: Window = Window { size: 12, sinks: 2, slide: 3, slides: Slides::Shift };
const HIDDEN: usize = 2;
const ENDS: [TokenId; 2] = [TokenId(0), TokenId(1)];
/// Tokens whose texts end a step; of those policy and engine know nothing.
const STOPS: [TokenId; 2] = [TokenId(7), TokenId(27)];

/// Tokens that kill, and how. None of them is ever sampled.
pub(crate) mod poison {
    use super::TokenId;

    /// Whoever reads it dies.
    pub(crate) const KILLS: TokenId = TokenId(36);
    /// Whoever reads it hangs.
    pub(crate) const HANGS: TokenId = TokenId(37);
    /// Whoever samples a few tokens behind it dies.
    pub(crate) const KILLS_LATE: TokenId = TokenId(38);
    /// Whoever reads it for nothing but to have read it dies: a history that is read again.
    pub(crate) const CURSE: TokenId = TokenId(39);

    pub(crate) const FIRST: u32 = 36;

    pub(crate) fn is_in(tokens: &[TokenId]) -> bool {
        tokens.iter().any(|token| (FIRST..super::VOCAB).contains(&token.0))
    }
}

const NO_POISON: [(TokenId, f32); 4] =
    [(poison::KILLS, -100.0), (poison::HANGS, -100.0), (poison::KILLS_LATE, -100.0), (poison::CURSE, -100.0)];

pub(crate) const GREEDY: Sampling = Sampling { logit_bias: Cow::Borrowed(&NO_POISON), ..Sampling::GREEDY };

pub(crate) fn info(pages: Option<PageSize>) -> EngineInfo {
    info_that(Slides::Shift, pages)
}

pub(crate) fn info_that(slides: Slides, pages: Option<PageSize>) -> EngineInfo {
    EngineInfo {
        layers: 1,
        hidden: HIDDEN,
        vocab: VOCAB as usize,
        inputs: 1,
        embeds: true,
        window: Window { slides, ..WINDOW },
        end_tokens: ENDS.to_vec(),
        kv_bytes_per_token: 1,
        pages,
    }
}

/// What the model sees. Every answer depends on every token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) history: History,
    states: Vec<u64>,
    /// Tokens that the last slide left.
    pub(crate) floor: usize,
    /// What it held before each slide.
    pub(crate) before: Vec<Vec<TokenId>>,
}

impl Context {
    pub(crate) fn len(&self) -> usize {
        self.history.tokens.len()
    }

    /// Appends a token; the oldest after those that never leave do where it does not fit.
    pub(crate) fn append(&mut self, token: TokenId) {
        if self.len() == WINDOW.size {
            self.before.push(self.history.tokens.to_vec());
            let first = WINDOW.kept_first(self.history.pinned);
            Arc::make_mut(&mut self.history.tokens).drain(first..first + WINDOW.slide);
            self.states = states_of(&self.history.tokens);
            self.floor = self.len();
        }
        self.states.push(state_behind(self.state(), token));
        Arc::make_mut(&mut self.history.tokens).push(token);
        self.history.total += 1;
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.history.truncate(len);
        self.states.truncate(len);
    }

    fn state(&self) -> u64 {
        self.states.last().copied().unwrap_or_default()
    }

    /// The next token.
    fn next(&self, sampling: &Sampling, seed: u64, allowed: Option<&Mask>) -> Sampled {
        let logprobs = logprobs(self.state(), VOCAB as usize);
        sample(&logprobs, sampling, &self.history.tokens, draw(seed, self.history.total), 0, allowed)
    }

    /// Does all of a work at once.
    pub(crate) fn perform(&mut self, work: &Work) -> Outcome {
        match work {
            Work::Embed { tokens, shape: Shape { pooling: Pooling::Last, .. } } => {
                tokens.iter().for_each(|&token| self.append(token));
                Outcome::Embedded(hidden(self.state(), HIDDEN).collect())
            }
            Work::Embed { tokens, .. } => {
                let mut sum = vec![0.0; HIDDEN];
                for &token in &**tokens {
                    self.append(token);
                    sum.iter_mut().zip(hidden(self.state(), HIDDEN)).for_each(|(sum, value)| *sum += value);
                }
                Outcome::Embedded(sum.into_iter().map(|sum| sum / tokens.len() as f32).collect())
            }
            Work::Score { tokens, top } => {
                let mut score = |&token: &TokenId| {
                    let known = (self.len() > 0).then(|| logprobs(self.state(), VOCAB as usize));
                    self.append(token);
                    let known = known.unwrap_or_default();
                    (known.get(token.0 as usize).map(|logprob| *logprob as f32), likeliest(&known, *top))
                };
                let (logprobs, lists) = tokens.iter().map(&mut score).unzip();
                Outcome::Scored { logprobs, top: if *top > 0 { lists } else { Vec::new() } }
            }
            Work::Step { tokens, count, sampling, seed, grammar, .. } => {
                tokens.iter().for_each(|&token| self.append(token));
                let mut sampled: Vec<Sampled> = Vec::new();
                let mut spelling = grammar.as_ref().map(Constraint::begin);
                let mut stopped = false;
                while sampled.len() < *count && !stopped {
                    let forced = spelling.as_mut().and_then(|spelling| spelling.forced().first().copied());
                    let allowed = spelling.as_mut().and_then(|spelling| spelling.allowed().ok());
                    let next = match forced {
                        Some(token) => Sampled { token, logprob: 0.0, top: Vec::new() },
                        None => self.next(sampling, *seed, allowed.as_ref()),
                    };
                    self.append(next.token);
                    sampled.push(next.clone());
                    stopped = has_ended(&sampled);
                    if let Some(spelling) = spelling.as_mut().filter(|_| !stopped) {
                        spelling.accept(next.token).expect("it is what may come next");
                        stopped = spelling.is_over();
                    }
                }
                Outcome::Stepped { sampled, stopped }
            }
            Work::Forget => Outcome::Forgotten,
        }
    }
}

/// One of the fake's grammars, which spells nothing that kills.
pub(crate) fn grammar(seed: u64) -> Constraint {
    hashed_grammar(seed, poison::FIRST as usize, &ENDS)
}

/// What stands around a text whose vector a probe gives.
pub(crate) fn frame() -> Framed {
    Framed { prefix: vec![TokenId(11), TokenId(12)], probe: vec![TokenId(30), TokenId(11), TokenId(31)] }
}

/// A vector as the states' sum or by a probe.
pub(crate) fn embed(probes: bool) -> Ask {
    let pooling = if probes { Pooling::Last } else { Pooling::Mean };
    let shape = Shape { pooling, normalize: false, ..Shape::default() };
    Ask::Embed(EmbedAsk { frame: probes.then(|| frame().into()), shape })
}

/// The state behind each token of a context.
fn states_of(tokens: &[TokenId]) -> Vec<u64> {
    let next = |state: &mut u64, &token: &TokenId| {
        *state = state_behind(*state, token);
        Some(*state)
    };
    tokens.iter().scan(0, next).collect()
}

/// Whether pages hold the states of a context's tokens, as many as they say.
pub(crate) fn check_pages(held: &Resident, tokens: &[TokenId], page: usize) -> Result<(), String> {
    let Resident { pages, kv_len } = held;
    if pages.len() != kv_len.div_ceil(page) || *kv_len > tokens.len() {
        return Err(format!("{} pages for {kv_len} rows of {} tokens", pages.len(), tokens.len()));
    }
    match states_in(held, page) {
        Some(states) if states == states_of(&tokens[..*kv_len]) => Ok(()),
        Some(_) => Err(format!("other rows than those of {tokens:?}")),
        None => Err(format!("less than {kv_len} rows of {tokens:?}")),
    }
}

/// Whether two outcomes are the same: sums of hidden states are as exact as the order of their summands lets them be.
pub(crate) fn are_same(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::Embedded(one), Outcome::Embedded(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-5)
        }
        (Outcome::Pieces(one), Outcome::Pieces(other)) => {
            let vectors = |one: &[f32], other: &[f32]| {
                are_same(&Outcome::Embedded(one.to_vec()), &Outcome::Embedded(other.to_vec()))
            };
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| vectors(one, other))
        }
        _ => one == other,
    }
}

/// Whether the last token ends a step: as an end token or at a stop text.
pub(crate) fn has_ended(sampled: &[Sampled]) -> bool {
    sampled.last().is_some_and(|last| ENDS.contains(&last.token) || STOPS.contains(&last.token))
}

/// Whether a step has spelled all that its grammar has to say.
pub(crate) fn has_spelled(grammar: &Constraint, sampled: &[Sampled]) -> bool {
    let mut spelling = grammar.begin();
    let spelled = sampled.iter().all(|sampled| spelling.accept(sampled.token).is_ok());
    spelled && spelling.is_over()
}

/// The text of a step behind a context, which stops where [`has_ended`] says.
pub(crate) fn step_text(context: &[TokenId], input: &[TokenId]) -> StepText {
    let before = input.iter().rev().chain(context.iter().rev()).copied();
    let stops: Vec<String> = STOPS.iter().map(|token| letter(*token).to_string()).collect();
    StepText::behind(before, StopTexts::new(&stops).unwrap(), Arc::new(Letters))
}

/// A letter for each token.
struct Letters;

fn letter(token: TokenId) -> char {
    char::from(b'0' + token.0 as u8)
}

impl Tokenizer for Letters {
    fn encode_behind(&self, _text: Spelled<'_>, _behind: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        Err(EncodeError { reason: "nobody asks for tokens here".to_owned() })
    }

    fn append(&self, _before: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
        bytes.extend(tokens.iter().map(|token| letter(*token) as u8));
    }

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Model
    }
}
