//! A streamed step as events: parts, then what any step is answered.

use bytes::Bytes;
use motorbrain::{Reply, StepItem, StepStream};
use motorbrain_protocol::{Answer, Piece, encode_answer, encode_piece};

use crate::{
    error::ApiError,
    sse::{self, Source},
};

/// The events of a streamed step: `part`, then `ok`.
pub(super) struct Steps {
    stream: StepStream,
    /// Whether the most likely tokens were asked for.
    top: bool,
}

impl Steps {
    pub(super) fn new(stream: StepStream, top: bool) -> Self {
        Self { stream, top }
    }
}

impl Source for Steps {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        match self.stream.next().await {
            Some(StepItem::Token { sampled, text }) => {
                let piece = Piece { sampled: vec![sampled], text };
                Ok(Some(sse::event(Some("part"), &encode_piece(&piece, self.top))))
            }
            Some(StepItem::Stepped(stepped)) => {
                let answer = Answer::Reply { reply: Reply::Stepped(stepped), top: self.top };
                Ok(Some(sse::event(Some("ok"), &encode_answer(&answer))))
            }
            Some(StepItem::Failed { error, .. }) => Err(ApiError::own(&error)),
            None => Ok(None),
        }
    }
}
