//! Random forks, rewinds, steps, scores, vectors, choices, resets, closes and deaths of few conversations on two actors,
//! against a model that shares nothing: it copies whatever goes on from somewhere, and reads all of it again for every
//! answer.
//!
//! What is asked at once is answered in the order in which it was asked; so the model does one after the other.

use std::{collections::BTreeMap, time::Duration};

use motorbrain_actors::{
    brain::Delivery,
    engine::{Engine, EngineInfo, Pooling, Row, RowOutput, Sampling, Want},
    message::{Embed, ErrorCode, Fork, Input, Reply, Request, Rewind, Score, Sharing, Step, Stepped, Terms},
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, FakeEngine, Fault, fake_info};
use proptest::{collection::vec, option, prelude::*};

use super::{Bench, config, start_with, within};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A conversation as it would be alone.
#[derive(Clone, Default)]
struct Copied {
    context: Vec<TokenId>,
    /// Tokens since the last reset.
    total: u64,
    /// The fewest it can go back to.
    floor: usize,
    /// Answers that wait.
    choices: Vec<Self>,
}

impl Copied {
    fn has_slid(&self) -> bool {
        self.total > self.context.len() as u64
    }

    /// Runs one row behind all of the context, which is read again first, until it is done.
    fn run(&mut self, info: &EngineInfo, tokens: &[TokenId], mut want: Want<'_>) -> (RowOutput, Vec<f32>) {
        let mut engine = FakeEngine::new(info.clone(), FakeControl::default());
        let slot = engine.open().unwrap();
        if !self.context.is_empty() {
            self.row(&mut engine, Row { slot, tokens: &self.context.clone(), want: Want::Nothing });
        }
        let mut scores = Vec::new();
        loop {
            let output = self.row(&mut engine, Row { slot, tokens, want });
            scores.extend(&output.scores);
            if let Want::Scores { first, .. } = &mut want {
                *first &= output.scores.is_empty();
            }
            if output.taken == tokens.len() {
                let before = self.context.len();
                self.context = engine.context(slot).to_vec();
                self.total += tokens.len() as u64 + u64::from(output.sampled.is_some());
                if self.context.len() < before + tokens.len() + usize::from(output.sampled.is_some()) {
                    self.floor = info.window.size - info.window.slide;
                }
                return (output, scores);
            }
        }
    }

    fn row(&self, engine: &mut FakeEngine, row: Row<'_>) -> RowOutput {
        engine.run(&[row]).unwrap().next().unwrap()
    }

    fn read(&mut self, info: &EngineInfo, tokens: &[TokenId]) {
        tokens.iter().for_each(|token| drop(self.run(info, &[*token], Want::Nothing)));
    }

    /// Samples as many, token by token.
    fn step(&mut self, info: &EngineInfo, count: usize, sampling: &Sampling, seed: u64) -> Answer {
        let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let want = Want::Next { sampling, seed, number: self.total, top: 0, guide: None };
            let sampled = self.run(info, &[], want).0.sampled.unwrap();
            tokens.push(sampled.token);
            logprobs.push(Some(sampled.logprob));
        }
        Answer { tokens, logprobs, vector: Vec::new(), context_len: self.context.len() }
    }

    fn score(&mut self, info: &EngineInfo, tokens: &[TokenId]) -> Answer {
        let score = |token: &TokenId| {
            let want = Want::Scores { first: true, next: None, top: 0 };
            self.run(info, &[*token], want).1.first().copied()
        };
        let logprobs = tokens.iter().map(score).collect();
        Answer { tokens: Vec::new(), logprobs, vector: Vec::new(), context_len: self.context.len() }
    }

    fn embed(&mut self, info: &EngineInfo, tokens: &[TokenId]) -> Answer {
        let mut sum = vec![0.0; info.hidden];
        for token in tokens {
            let hidden = self.run(info, &[*token], Want::Hidden(Pooling::Last)).0.hidden;
            sum.iter_mut().zip(hidden).for_each(|(sum, value)| *sum += value / tokens.len() as f32);
        }
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        let vector = sum.into_iter().map(|value| value / length).collect();
        Answer { tokens: Vec::new(), logprobs: Vec::new(), vector, context_len: self.context.len() }
    }
}

/// All that a reply says of tokens.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    tokens: Vec<TokenId>,
    logprobs: Vec<Option<f32>>,
    vector: Vec<f32>,
    context_len: usize,
}

impl Answer {
    fn of(stepped: Stepped) -> Self {
        let logprobs = stepped.logprobs.into_iter().map(Some).collect();
        Self { tokens: stepped.token_ids, logprobs, vector: Vec::new(), context_len: stepped.context.context_len }
    }

    /// Vectors may differ by the order of a sum; everything else is equal.
    fn check(&self, expected: &Self) -> Result<(), TestCaseError> {
        for (found, expected) in self.vector.iter().zip(&expected.vector) {
            prop_assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
        let without = |answer: &Self| (answer.tokens.clone(), answer.logprobs.clone(), answer.context_len);
        prop_assert_eq!(self.vector.len(), expected.vector.len());
        prop_assert_eq!(without(self), without(expected));
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Asked {
    Step { input: Vec<TokenId>, count: usize, seed: Option<u64>, n: usize, choice: Option<usize> },
    Score { input: Vec<TokenId>, choice: Option<usize> },
    Embed { input: Vec<TokenId>, choice: Option<usize> },
    Reset,
    Close,
    Fork { to: usize, at: Option<usize>, choice: Option<usize> },
    Rewind { context_len: usize },
}

/// What happens next.
#[derive(Clone, Debug)]
enum Happens {
    Asked(usize, Asked, Option<Sharing>),
    Crash(usize),
    /// All that was asked is answered.
    Calm {
        run: u64,
        dies: bool,
    },
}

/// One thing after the other, or several answers of which one is chosen and gone on from.
fn histories() -> impl Strategy<Value = Vec<Happens>> {
    let seed = || (0..3_u64).prop_map(Some);
    let chosen = (0..4_usize, 1..6_usize, seed(), 2..4_usize, 0..3_usize).prop_map(|(who, count, seed, n, choice)| {
        let step = |n, choice| Asked::Step { input: vec![TokenId(choice)], count, seed, n, choice: None };
        let mut steps = [step(n, 1), step(1, 2), step(1, 3), step(1, 4)];
        if let Asked::Step { choice: choose, .. } = &mut steps[1] {
            *choose = Some(choice);
        }
        steps.map(|step| Happens::Asked(who, step, None)).to_vec()
    });
    let piece = prop_oneof![8 => happens().prop_map(|happens| vec![happens]), 1 => chosen];
    vec(piece, 1..50).prop_map(|pieces| pieces.concat())
}

fn happens() -> impl Strategy<Value = Happens> {
    // Few different texts, so that conversations have much in common; some are longer than a window.
    let text = (0..3_u32, 1..20_usize).prop_map(|(first, len)| {
        (0..len as u32).map(|token| TokenId((first + token * token) % 64)).collect::<Vec<_>>()
    });
    let choice = || option::weighted(0.3, 0..4_usize);
    let step = (prop_oneof![text.clone(), Just(Vec::new())], 0..6_usize, option::of(0..3_u64), 1..4_usize, choice());
    let asked = prop_oneof![
        8 => step.prop_map(|(input, count, seed, n, choice)| Asked::Step { input, count, seed, n, choice }),
        2 => (text.clone(), choice()).prop_map(|(input, choice)| Asked::Score { input, choice }),
        2 => (text, choice()).prop_map(|(input, choice)| Asked::Embed { input, choice }),
        1 => Just(Asked::Reset),
        2 => Just(Asked::Close),
        6 => (0..4_usize, option::of(0..20_usize), choice()).prop_map(|(to, at, choice)| Asked::Fork { to, at, choice }),
        3 => (0..20_usize).prop_map(|context_len| Asked::Rewind { context_len }),
    ];
    let scope = prop_oneof![Just(Sharing::Nobody), Just(Sharing::With(None)), Just(Sharing::With(Some("x".into())))];
    prop_oneof![
        12 => (0..4_usize, asked, option::weighted(0.2, scope)).prop_map(|(who, asked, sharing)| Happens::Asked(who, asked, sharing)),
        1 => (0..2_usize).prop_map(Happens::Crash),
        4 => (1..8_u64, any::<bool>()).prop_map(|(run, dies)| Happens::Calm { run, dies }),
    ]
}

const HOT: Sampling = Sampling { temperature: 2.0, frequency_penalty: 0.5, ..Sampling::GREEDY };

impl Asked {
    fn request(&self, who: usize, sharing: Option<Sharing>) -> Request {
        let conversation = NAMES[who].into();
        let terms = |choice| Terms { choice, sharing, pin: false };
        match self.clone() {
            Self::Step { input, count, seed, n, choice } => Request::Step(Step {
                conversation,
                input: (!input.is_empty()).then_some(Input::Tokens(input)),
                count,
                sampling: if seed.is_some() { HOT } else { Sampling::GREEDY },
                seed,
                top: 0,
                stop: Vec::new(),
                n,
                terms: terms(choice),
                grammar: None,
            }),
            Self::Score { input, choice } => {
                Request::Score(Score { terms: terms(choice), ..Score::of(conversation, input) })
            }
            Self::Embed { input, choice } => {
                Request::Embed(Embed { conversation: Some(conversation), terms: terms(choice), ..Embed::of(input) })
            }
            Self::Reset => Request::Reset(conversation),
            Self::Close => Request::Close(conversation),
            Self::Fork { to, at, choice } => {
                Request::Fork(Fork { from: conversation, to: NAMES[to].into(), at, choice })
            }
            Self::Rewind { context_len } => Request::Rewind(Rewind { conversation, context_len }),
        }
    }
}

/// All conversations as they would be alone.
struct Model {
    info: EngineInfo,
    known: BTreeMap<usize, Copied>,
}

impl Model {
    /// Where a request begins.
    fn base(&self, who: usize, choice: Option<usize>) -> Result<Copied, ErrorCode> {
        let copied = self.known.get(&who).cloned().unwrap_or_default();
        match choice {
            None => Ok(Copied { choices: Vec::new(), ..copied }),
            Some(choice) => copied.choices.get(choice).cloned().ok_or(ErrorCode::BadRequest),
        }
    }

    /// Checks a reply and does what it says was done.
    fn check(&mut self, who: usize, asked: &Asked, found: Result<Reply, ErrorCode>) -> Result<(), TestCaseError> {
        let expected = self.answer(who, asked, &found);
        let found = match found {
            Err(code) => Err(code),
            Ok(Reply::Done | Reply::Exported(_) | Reply::EmbeddedPieces(_)) => Ok(Vec::new()),
            Ok(Reply::Stands(context)) => Ok(vec![Answer { context_len: context.context_len, ..Answer::default() }]),
            Ok(Reply::Stepped(stepped)) => Ok(vec![Answer::of(stepped)]),
            Ok(Reply::Several(several)) => Ok(several.choices.into_iter().map(Answer::of).collect()),
            Ok(Reply::Scored(scored)) => Ok(vec![Answer {
                logprobs: scored.logprobs,
                context_len: scored.context.context_len,
                ..Answer::default()
            }]),
            Ok(Reply::Embedded(embedded)) => Ok(vec![Answer {
                vector: embedded.embedding,
                context_len: embedded.context.context_len,
                ..Answer::default()
            }]),
        };
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                prop_assert_eq!(found.len(), expected.len());
                found.iter().zip(&expected).try_for_each(|(found, expected)| found.check(expected))
            }
            (found, expected) => {
                prop_assert_eq!(found.err(), expected.err());
                Ok(())
            }
        }
    }

    fn answer(
        &mut self,
        who: usize,
        asked: &Asked,
        found: &Result<Reply, ErrorCode>,
    ) -> Result<Vec<Answer>, ErrorCode> {
        let info = self.info.clone();
        match asked {
            Asked::Step { input, count, seed, n, choice } => {
                let is_drawn = seed.is_some() && *count > 0;
                if *n > 1 && !is_drawn {
                    return Err(ErrorCode::BadRequest);
                }
                if *count == 0 && input.is_empty() {
                    return Err(ErrorCode::EmptyInput);
                }
                let mut copied = self.base(who, *choice)?;
                if input.is_empty() && copied.total == 0 {
                    return Err(ErrorCode::EmptyInput);
                }
                copied.read(&info, input);
                let sampling = if seed.is_some() { HOT } else { Sampling::GREEDY };
                let seed = seed.unwrap_or_default();
                let mut first = copied.clone();
                let mut answers = vec![first.step(&info, *count, &sampling, seed)];
                if *n == 1 {
                    self.known.insert(who, first);
                    return Ok(answers);
                }
                let mut choices = vec![first];
                // Which seeds the others have is no matter: their tokens have the log-probabilities that they have here.
                let Ok(Reply::Several(several)) = found else { return Ok(answers) };
                for other in several.choices.iter().skip(1) {
                    let mut choice = copied.clone();
                    let scored = choice.score(&info, &other.token_ids);
                    answers.push(Answer { tokens: other.token_ids.clone(), ..scored });
                    choices.push(choice);
                }
                copied.choices = choices;
                let len = copied.context.len();
                assert_eq!((several.context.context_len, several.choices.len()), (len, *n));
                self.known.insert(who, copied);
                Ok(answers)
            }
            Asked::Score { input, choice } => {
                let mut copied = self.base(who, *choice)?;
                let answer = copied.score(&info, input);
                self.known.insert(who, copied);
                Ok(vec![answer])
            }
            Asked::Embed { input, choice } => {
                let mut copied = self.base(who, *choice)?;
                let answer = copied.embed(&info, input);
                self.known.insert(who, copied);
                Ok(vec![answer])
            }
            Asked::Reset => {
                self.known.entry(who).and_modify(|copied| *copied = Copied::default());
                Ok(Vec::new())
            }
            Asked::Close => match self.known.remove(&who) {
                Some(_) => Ok(Vec::new()),
                None => Err(ErrorCode::UnknownConversation),
            },
            Asked::Fork { to, at, choice } => self.fork(who, *to, *at, *choice),
            Asked::Rewind { context_len } => self.rewind(who, *context_len),
        }
    }

    fn fork(
        &mut self,
        from: usize,
        to: usize,
        at: Option<usize>,
        choice: Option<usize>,
    ) -> Result<Vec<Answer>, ErrorCode> {
        if from == to {
            return Err(ErrorCode::BadRequest);
        }
        if !self.known.contains_key(&from) {
            return Err(ErrorCode::UnknownConversation);
        }
        let mut child = self.base(from, choice)?;
        let len = at.unwrap_or(child.context.len());
        if len > child.context.len() {
            return Err(ErrorCode::BadRequest);
        }
        if child.has_slid() && len != child.context.len() {
            return Err(ErrorCode::BehindSlide);
        }
        if self.known.get(&to).is_some_and(|there| there.total > 0) {
            return Err(ErrorCode::ConversationExists);
        }
        child.total -= (child.context.len() - len) as u64;
        child.context.truncate(len);
        self.known.insert(to, child);
        if choice.is_none() {
            self.known.entry(from).and_modify(|parent| parent.choices.clear());
        }
        Ok(vec![Answer { context_len: len, ..Answer::default() }])
    }

    fn rewind(&mut self, who: usize, len: usize) -> Result<Vec<Answer>, ErrorCode> {
        let copied = self.known.get_mut(&who).ok_or(ErrorCode::UnknownConversation)?;
        if len > copied.context.len() {
            return Err(ErrorCode::BadRequest);
        }
        if len < copied.floor {
            return Err(ErrorCode::BehindSlide);
        }
        copied.total -= (copied.context.len() - len) as u64;
        copied.context.truncate(len);
        copied.choices.clear();
        Ok(vec![Answer { context_len: len, ..Answer::default() }])
    }
}

/// What was asked and is not answered yet, in its order.
struct Open {
    replies: tokio::sync::mpsc::UnboundedReceiver<(u64, Delivery)>,
    asked: Vec<(usize, Asked)>,
}

impl Open {
    /// Waits for all answers and has the model check them one by one.
    async fn close(&mut self, model: &mut Model) -> Result<(), TestCaseError> {
        let mut found = BTreeMap::new();
        while found.len() < self.asked.len() {
            let (tag, delivery) = within(self.replies.recv()).await.unwrap();
            let Delivery::End(reply) = delivery else { panic!("nothing is streamed") };
            found.insert(tag, reply.map_err(|error| error.code()));
        }
        for ((who, asked), (_, reply)) in self.asked.drain(..).zip(found) {
            let context = format!("{who}: {asked:?}");
            model.check(who, &asked, reply).map_err(|error| TestCaseError::fail(format!("{context}: {error}")))?;
        }
        Ok(())
    }
}

async fn check(info: EngineInfo, happens: Vec<Happens>) -> Result<(), TestCaseError> {
    let mut config = config(2);
    config.supervision.restarts_max = usize::MAX;
    // These deaths have nothing to do with what is asked, and are more than an innocent would meet in ten minutes.
    config.supervision.quarantine = Duration::from_millis(1);
    config.cached_bytes = 10 * 64;
    let bench = start_with(config, info.clone()).await;
    let mut model = Model { info, known: BTreeMap::new() };
    let (port, replies) = tokio::sync::mpsc::unbounded_channel();
    let mut open = Open { replies, asked: Vec::new() };
    for happens in happens {
        match happens {
            Happens::Asked(who, asked, sharing) => {
                let tag = open.asked.len() as u64;
                bench.brain.request_to(&port, tag, asked.request(who, sharing)).unwrap();
                open.asked.push((who, asked));
            }
            // It may be on its way back already.
            Happens::Crash(actor) => drop(bench.brain.crash(actor).await),
            Happens::Calm { run, dies } => {
                open.close(&mut model).await?;
                // A request that dies twice is given up, so that only one death is ahead at a time.
                bench.control.heal();
                if dies {
                    bench.control.fault_in_run(run, Fault::Panic);
                }
            }
        }
    }
    open.close(&mut model).await?;
    close_all(&bench, &model).await;
    Ok(())
}

/// With all conversations gone, so are their pages but for those that are cached.
async fn close_all(bench: &Bench, model: &Model) {
    for who in model.known.keys() {
        bench.brain.close(NAMES[*who]).await.unwrap();
    }
    super::sharing::until_pages(&bench.control, |pages| pages <= 10).await;
    within(bench.brain.shutdown()).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_forked_rewound_and_chosen_answers_as_a_copy_would(
        happens in histories(),
        has_pages in prop::bool::weighted(0.8),
    ) {
        let info = EngineInfo { pages: fake_info().pages.filter(|_| has_pages), ..fake_info() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_secs(10);
        runtime.block_on(async { tokio::time::timeout(limit, check(info, happens)).await.expect("it ends") })?;
    }
}
