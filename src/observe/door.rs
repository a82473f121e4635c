//! Whoever connects is answered line by line, until the brain ends.

use std::{io, pin::pin, sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::Brain,
    message::{BrainError, ClientId},
};
use motorbrain_protocol::{Answer, Decoded, Op, Rules, decode, encode, too_long};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
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
                            let _ = answer(stream, &brain).await;
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

async fn answer(mut stream: UnixStream, brain: &Brain) -> io::Result<()> {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let come = timeout(PATIENCE, stream.read(&mut chunk)).await??;
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
            timeout(PATIENCE, stream.write_all(&encode(&id, &answer))).await??;
        }
        if read.len() > LINE_BYTES_MAX {
            let Decoded { id, op } = too_long(LINE_BYTES_MAX);
            let answer = op.and(Ok(Answer::HandedOn));
            return timeout(PATIENCE, stream.write_all(&encode(&id, &answer))).await?;
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
