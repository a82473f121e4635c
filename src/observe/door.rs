//! Whoever connects is answered line by line, until the brain ends.

use std::{io, pin::pin, sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::Brain,
    message::{BrainError, ClientId},
};
use motorbrain_protocol::{Answer, Decoded, Op, Rules, decode, encode, too_long};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Socket;

/// The most who look at once; whoever comes then is sent away.
const LOOKERS_MAX: usize = 8;

/// The longest line: an id, a name of 1,024 bytes with each byte escaped, and the keys.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// How long one may say nothing, or leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose requests they are, as shares go.
const CLIENT: &str = "motorbrain/observe";

/// Answers at the socket until the brain ends, then takes it away.
pub async fn serve(socket: Socket, brain: Brain) {
    let brain = brain.of(ClientId::from(CLIENT));
    let room = Arc::new(Semaphore::new(LOOKERS_MAX));
    let mut lookers = JoinSet::new();
    let stopped = brain.actor_ref().clone();
    let mut stopped = pin!(stopped.wait(None));
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = lookers.join_next() => {}
            came = socket.accept() => match came {
                Ok(stream) => {
                    if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                        let brain = brain.clone();
                        lookers.spawn(async move {
                            // Whoever goes away or is too slow is gone.
                            let _ = answer(stream, &brain, PATIENCE).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "nobody can look in for a moment");
                    sleep(Duration::from_secs(1)).await;
                }
            },
        }
    }
}

/// Answers one who looks until he goes, or says or reads nothing for as long as `patience`.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, brain: &Brain, patience: Duration) -> io::Result<()> {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let come = timeout(patience, stream.read(&mut chunk)).await??;
        if come == 0 {
            return Ok(());
        }
        read.extend_from_slice(&chunk[..come]);
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            let Decoded { id, op } = decode(&line[..end], &RULES);
            let answer = match op {
                Ok(op) => look(op, brain).await,
                Err(error) => Err(error),
            };
            timeout(patience, stream.write_all(&encode(&id, &answer))).await??;
        }
        if read.len() > LINE_BYTES_MAX {
            let Decoded { id, op } = too_long(LINE_BYTES_MAX);
            let answer = op.and(Ok(Answer::HandedOn));
            return timeout(patience, stream.write_all(&encode(&id, &answer))).await?;
        }
    }
}

/// Nothing is asked here that names a token.
const RULES: Rules = Rules { chaos: false, files: false, vocab: 0 };

async fn look(op: Op, brain: &Brain) -> Result<Answer, BrainError> {
    match op {
        Op::Stats => brain.stats().await.map(Answer::Stats),
        Op::List(ask) => brain.list(ask).await.map(Answer::Listed),
        Op::Inspect(name) => brain.inspect(name).await.map(Answer::Inspected),
        _ => Err(BrainError::BadRequest {
            what: "op",
            found: "one that does something".to_owned(),
            expected: "`stats`, `list` or `inspect`: here one only looks".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io::ErrorKind;

    use motorbrain_actors::brain::BrainConfig;
    use tokio::io::{AsyncBufReadExt as _, BufReader, duplex};

    use super::*;
    use crate::{fakes::loader, model::ModelTokenizer};

    const STATS: &[u8] = b"{\"id\":1,\"op\":\"stats\"}\n";

    async fn brain() -> Brain {
        // Nothing here becomes tokens; where there is no file, bytes do.
        let tokenizer = ModelTokenizer::open(tempfile::tempdir().unwrap().path(), 256).unwrap();
        Brain::start(BrainConfig::default(), Arc::new(loader()), Arc::new(tokenizer)).await.unwrap()
    }

    /// How it ends for one who looks; a test that does not end fails.
    async fn end(looker: impl Future<Output = io::Result<()>>) -> Result<(), ErrorKind> {
        timeout(PATIENCE, looker)
            .await
            .expect("whoever is waited for in vain is sent away")
            .map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn who_says_nothing_or_does_not_read_is_sent_away() {
        let (brain, short) = (brain().await, Duration::from_millis(1));
        let (_idle, here) = duplex(1 << 16);
        assert_eq!(end(answer(here, &brain, short)).await, Err(ErrorKind::TimedOut));
        // In the middle of a line.
        let (mut slow, here) = duplex(1 << 16);
        slow.write_all(&STATS[..5]).await.unwrap();
        assert_eq!(end(answer(here, &brain, short)).await, Err(ErrorKind::TimedOut));
        // An answer has room for its first bytes, and nobody reads them.
        let (mut deaf, here) = duplex(STATS.len());
        deaf.write_all(STATS).await.unwrap();
        assert_eq!(end(answer(here, &brain, short)).await, Err(ErrorKind::TimedOut));
        // Who speaks and reads is answered each time, and goes when he likes.
        let (there, here) = duplex(64);
        let looks = async {
            let mut there = BufReader::new(there);
            for _ in 0..3 {
                there.write_all(STATS).await.unwrap();
                let mut line = String::new();
                there.read_line(&mut line).await.unwrap();
                assert!(line.contains("\"ok\""), "{line}");
            }
        };
        let (_, ended) = tokio::join!(looks, end(answer(here, &brain, PATIENCE)));
        assert_eq!(ended, Ok(()));
        brain.shutdown().await;
    }
}
