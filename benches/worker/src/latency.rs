//! How long a streamed conversation waits for its next token: while another one reads a long prompt, and
//! undisturbed.

use motorbrain::{Brain, Step, StepItem, TokenId};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{Outcome, Tokens, unshared};

/// More tokens than are made while the long prompt is being read.
const ENDLESS: usize = 4096;

/// Tokens that are made undisturbed however short the long prompt was.
const TOKENS_MIN: usize = 16;

/// The gaps between tokens in seconds, and the seconds of the long prompt alone and among the others.
///
/// Undisturbed the conversations make as many tokens as beside the prompt: gaps grow with a context, and that
/// is not the prompt's doing.
pub(crate) async fn measure(brain: &Brain, ids: Tokens, streams: usize, context: usize, long: usize) -> Outcome<Value> {
    let prompt = ids.of(streams, 0, long);
    let alone = read(brain, &prompt).await?;

    let mut disturbed = Streams::start(brain, ids, streams, context, ENDLESS).await?;
    let began = disturbed.under_way().await?;
    let among = read(brain, &prompt).await?;
    let ended = Instant::now();
    let came = disturbed.cut(brain).await?;
    let disturbed = gaps(&came, began, ended);

    let tokens = came.iter().map(Vec::len).max().unwrap_or(0).max(TOKENS_MIN);
    let mut undisturbed = Streams::start(brain, ids, streams, context, tokens).await?;
    let began = undisturbed.under_way().await?;
    let undisturbed = gaps(&undisturbed.end(brain).await?, began, Instant::now());

    Ok(json!({
        "undisturbed": undisturbed,
        "disturbed": disturbed,
        "alone_seconds": alone,
        "among_seconds": among,
    }))
}

/// The seconds to the first token after a long prompt.
async fn read(brain: &Brain, prompt: &[TokenId]) -> Outcome<f64> {
    let step = Step { terms: unshared(), ..Step::greedy("reader", prompt.to_vec(), 1) };
    let began = Instant::now();
    brain.step(step).await?;
    let seconds = began.elapsed().as_secs_f64();
    brain.close("reader").await?;
    Ok(seconds)
}

/// Conversations that are streaming, and when their tokens came: one list a conversation.
struct Streams {
    tasks: JoinSet<()>,
    tokens: mpsc::UnboundedReceiver<(usize, Instant)>,
    came: Vec<Vec<Instant>>,
}

impl Streams {
    async fn start(brain: &Brain, ids: Tokens, streams: usize, context: usize, tokens: usize) -> Outcome<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for row in 0..streams {
            let step = Step { terms: unshared(), ..Step::greedy(name(row), ids.of(row, 0, context), tokens) };
            let mut stream = brain.step_stream(step).await?;
            let sender = sender.clone();
            tasks.spawn(async move {
                while let Some(StepItem::Token { .. }) = stream.next().await {
                    // Nobody listens any more once the measurement is over.
                    let _ = sender.send((row, Instant::now()));
                }
            });
        }
        Ok(Self { tasks, tokens: receiver, came: vec![Vec::new(); streams] })
    }

    /// Waits until each has shown a token; the time since which gaps count.
    async fn under_way(&mut self) -> Outcome<Instant> {
        while self.came.iter().any(Vec::is_empty) {
            let (row, at) = self.tokens.recv().await.ok_or("a stream ended before its first token")?;
            self.came[row].push(at);
        }
        Ok(Instant::now())
    }

    /// Waits until all have ended; when the tokens of each came.
    async fn end(mut self, brain: &Brain) -> Outcome<Vec<Vec<Instant>>> {
        while let Some((row, at)) = self.tokens.recv().await {
            self.came[row].push(at);
        }
        for row in 0..self.came.len() {
            brain.close(name(row)).await?;
        }
        Ok(self.came)
    }

    /// Ends them now: a stream that is dropped is cancelled.
    async fn cut(mut self, brain: &Brain) -> Outcome<Vec<Vec<Instant>>> {
        self.tasks.shutdown().await;
        self.end(brain).await
    }
}

/// The gaps in seconds that overlap with the time measured.
fn gaps(came: &[Vec<Instant>], began: Instant, ended: Instant) -> Vec<f64> {
    let pairs = came.iter().flat_map(|tokens| tokens.windows(2).map(|pair| (pair[0], pair[1])));
    pairs.filter(|(from, to)| *to > began && *from < ended).map(|(from, to)| (to - from).as_secs_f64()).collect()
}

fn name(row: usize) -> String {
    format!("stream {row}")
}
