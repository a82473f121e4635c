//! A streamed step as its caller holds it.

use tokio::sync::mpsc;

use super::{
    leaving::Waits,
    message::{StepItem, stopped},
};

/// What the caller of a streamed step holds. Dropping it cancels the step; tokens that were shown stay.
#[derive(Debug)]
pub struct StepStream {
    items: mpsc::UnboundedReceiver<StepItem>,
    shown: usize,
    /// `None`: it has ended.
    waits: Option<Waits>,
}

impl StepStream {
    pub(super) fn new(items: mpsc::UnboundedReceiver<StepItem>, waits: Waits) -> Self {
        Self { items, shown: 0, waits: Some(waits) }
    }

    /// The next item; `None` after the last, which is [`StepItem::Stepped`] or [`StepItem::Failed`].
    pub async fn next(&mut self) -> Option<StepItem> {
        self.waits.as_ref()?;
        let item =
            self.items.recv().await.unwrap_or_else(|| StepItem::Failed { error: stopped(), committed: self.shown });
        match item {
            StepItem::Token { .. } => self.shown += 1,
            StepItem::Stepped(_) | StepItem::Failed { .. } => {
                if let Some(mut waits) = self.waits.take() {
                    waits.is_over();
                }
            }
        }
        Some(item)
    }
}
