//! A running brain's conversations to files and from them: what asks the brain waits, what touches files blocks a thread
//! that is there for it.
//!
//! One file is read at a time: what a file may bring is bounded by what there may be of keys and values, and several at
//! once would be bounded by nothing. (Those that are written only keep what is counted already.)

use std::{path::PathBuf, sync::Arc};

use motorbrain_actors::{
    brain::Brain,
    keep::Kept,
    message::{Context, ConversationId, Import},
};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{Here, TransferError, Wanted, export_file, import_file};
use crate::engine::OnnxLoader;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How long the file is.
    pub bytes: u64,
    /// Tokens in the conversation's context.
    pub context_len: usize,
}

/// Takes conversations out of a brain and into it; cheap to clone.
#[derive(Clone)]
pub struct Transfers {
    brain: Brain,
    loader: Arc<OnnxLoader>,
    reading: Arc<Mutex<()>>,
}

impl Transfers {
    /// Of a brain whose engines this loader makes.
    pub fn new(brain: Brain, loader: Arc<OnnxLoader>) -> Self {
        Self { brain, loader, reading: Arc::default() }
    }

    /// The same through another handle on the brain: for another client, or within another time.
    #[must_use]
    pub fn through(&self, brain: Brain) -> Self {
        Self { brain, ..self.clone() }
    }

    /// Writes a conversation, as it is between two of its requests, to a file that is not there yet. The first poll asks
    /// the brain for it. A future that is dropped once the brain has answered does not keep the file from being written.
    ///
    /// # Errors
    /// There is no such conversation, or the file cannot be written; see [`TransferError`].
    pub async fn export(
        &self,
        conversation: impl Into<ConversationId>,
        path: impl Into<PathBuf>,
    ) -> Result<Exported, TransferError> {
        let states = self.brain.export(conversation).await?;
        let context_len = states.first().map_or(0, |state| state.history.tokens.len());
        let path = path.into();
        let bytes = self.blocking(move |here| export_file(&path, &states, here)).await?;
        Ok(Exported { bytes, context_len })
    }

    /// Makes a conversation of a file. Its name is unknown, or that of an empty conversation.
    ///
    /// # Errors
    /// The file is none, is damaged, is larger than there is room or does not fit this model, or the conversation holds
    /// tokens already; see [`TransferError`].
    pub async fn import(
        &self,
        conversation: impl Into<ConversationId>,
        path: impl Into<PathBuf>,
        wanted: Wanted,
    ) -> Result<Context, TransferError> {
        let (conversation, path) = (conversation.into(), path.into());
        let _alone = self.reading.lock().await;
        let states: Vec<Kept> = self.blocking(move |here| import_file(&path, wanted, here)).await?;
        Ok(self.brain.import(Import { conversation, states }).await?)
    }

    /// Does something that blocks, with the model that is served.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Here<'_>) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransferError> {
        let stats = self.brain.stats().await?;
        let (info, kv_bytes_max) = (stats.model, stats.kv_bytes_max.unwrap_or(usize::MAX));
        let loader = Arc::clone(&self.loader);
        let work = move || {
            let fingerprint = loader.fingerprint()?;
            work(&Here { loader: &*loader, info: &info, fingerprint: &fingerprint, kv_bytes_max })
        };
        spawn_blocking(work).await.map_err(TransferError::Interrupted)?
    }
}
