//! One answer: asked for, shown as it comes, stopped by Ctrl-C.

use std::time::Instant;

use motorbrain::chat::{Answered, ChatError, ChatItem, ChatRequest, Chats, Finish};

use super::figures::Figures;
use crate::{failure::Failure, output, signals::Interrupts};

/// How an answer ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Whole(Figures, Finish),
    /// By Ctrl-C.
    Stopped,
    /// Nobody reads standard output any more.
    Unread,
}

/// Answers and shows it; the text that was shown, and how it ended. What is not said when it is stopped is cancelled.
pub(super) async fn answer(
    chats: &Chats,
    request: ChatRequest,
    interrupts: &mut Interrupts,
) -> (String, Result<Ended, Failure>) {
    let mut text = String::new();
    let ended = tokio::select! {
        ended = shown(chats, request, &mut text) => ended,
        () = interrupts.next() => Ok(Ended::Stopped),
    };
    (text, ended)
}

async fn shown(chats: &Chats, request: ChatRequest, text: &mut String) -> Result<Ended, Failure> {
    let (asked, mut began) = (Instant::now(), None);
    let mut stream = chats.stream(request).await.map_err(failure)?;
    while let Some(item) = stream.next().await {
        match item {
            ChatItem::Text { text: more, .. } => {
                began.get_or_insert_with(|| asked.elapsed());
                if !output::say(&more)? {
                    return Ok(Ended::Unread);
                }
                text.push_str(&more);
            }
            ChatItem::Done(answered) => {
                let over = asked.elapsed();
                let figures = Figures::of(&answered, began.unwrap_or(over), over);
                return Ok(Ended::Whole(figures, finish(&answered)));
            }
            ChatItem::Failed(error) => return Err(failure(error)),
            // No tools are offered, so none is called.
            ChatItem::CallBegins { .. } | ChatItem::Arguments { .. } | ChatItem::Ended { .. } => {}
        }
    }
    Err(ChatError::Interrupted { reason: "the answer has no end".to_owned() }.into())
}

/// An error as whoever sits there can help it.
fn failure(error: ChatError) -> Failure {
    let is_full = matches!(error, ChatError::ContextFull { .. });
    let failure = Failure::from(error);
    match is_full {
        true => {
            failure.with_hint("`/reset` forgets what was said, and `--set window.size=N` makes room for more".into())
        }
        false => failure,
    }
}

fn finish(answered: &Answered) -> Finish {
    answered.choices.first().map_or(Finish::Stop, |choice| choice.finish)
}
