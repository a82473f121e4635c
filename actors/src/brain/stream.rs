//! A streamed step as its caller holds it.

use tokio::sync::mpsc;

use super::message::{StepItem, stopped};

/// What the caller of a streamed step holds. Dropping it cancels the step; tokens that were shown stay.
#[derive(Debug)]
pub struct StepStream {
    items: mpsc::UnboundedReceiver<StepItem>,
    shown: usize,
    ended: bool,
}

impl StepStream {
    pub(super) fn new(items: mpsc::UnboundedReceiver<StepItem>) -> Self {
        Self { items, shown: 0, ended: false }
    }

    /// The next item; `None` after the last, which is [`StepItem::Stepped`] or [`StepItem::Failed`].
    pub async fn next(&mut self) -> Option<StepItem> {
        if self.ended {
            return None;
        }
        let item =
            self.items.recv().await.unwrap_or_else(|| StepItem::Failed { error: stopped(), committed: self.shown });
        match item {
            StepItem::Token { .. } => self.shown += 1,
            StepItem::Stepped(_) | StepItem::Failed { .. } => self.ended = true,
        }
        Some(item)
    }
}
