//! Whether settings can be meant: ranges, and keys that must fit each other. Pure.
//!
//! What depends on the model (its context, its rotation) is judged by the engine.

use motorbrain_actors::{rerank::is_prompt, vectors::DIM_MIN};

use super::{Settings, SettingsError};

/// More threads than any machine has cores for. ONNX Runtime starts as many as it is told, for minutes,
/// and takes a number beyond 31 bits for its default.
const THREADS_MAX: u64 = 1024;

/// A head of an ordinary browser, and the least that is read at once.
const HEAD_BYTES_MIN: u64 = 8 * 1024;

impl Settings {
    /// Checks every key and every pair of keys that must fit each other.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let at_least_one = [
            ("runtime.threads", self.runtime.threads.map(|threads| threads as u64)),
            ("brain.actors", Some(self.brain.actors as u64)),
            ("brain.run_beside_ms", Some(self.brain.run_beside_ms)),
            ("brain.run_ms_max", Some(self.brain.run_ms_max)),
            ("brain.load_ms_max", Some(self.brain.load_ms_max)),
            ("brain.restarts_within_ms", Some(self.brain.restarts_within_ms)),
            ("brain.retry_ms_min", Some(self.brain.retry_ms_min)),
            ("brain.quarantine_ms", Some(self.brain.quarantine_ms)),
            ("window.size", self.window.size.map(|size| size as u64)),
            ("window.slide", self.window.slide.map(|slide| slide as u64)),
            ("limits.text_bytes", Some(self.limits.text_bytes as u64)),
            ("limits.count", Some(self.limits.count as u64)),
            ("limits.requests", Some(self.limits.requests as u64)),
            ("limits.conversation_requests", Some(self.limits.conversation_requests as u64)),
            ("limits.conversations", Some(self.limits.conversations as u64)),
            ("server.body_bytes_max", Some(self.server.body_bytes_max as u64)),
            ("server.head_ms_max", Some(self.server.head_ms_max)),
            ("server.body_ms_max", Some(self.server.body_ms_max)),
            ("server.write_ms_max", Some(self.server.write_ms_max)),
            ("server.connections_max", Some(self.server.connections_max as u64)),
            ("server.streams_per_client_max", Some(self.server.streams_per_client_max as u64)),
            ("server.inputs_max", Some(self.server.inputs_max as u64)),
            ("server.responses_max", Some(self.server.responses_max as u64)),
        ];
        for (key, found) in at_least_one {
            if found == Some(0) {
                return Err(SettingsError::TooSmall { key, found: 0, least: 1 });
            }
        }
        let threads = [("runtime.threads", self.runtime.threads.unwrap_or(1)), ("brain.actors", self.brain.actors)];
        for (key, found) in threads.map(|(key, found)| (key, found as u64)) {
            if found > THREADS_MAX {
                return Err(SettingsError::TooLarge { key, found, most: THREADS_MAX });
            }
        }
        let (found, least) = (self.server.head_bytes_max as u64, HEAD_BYTES_MIN);
        if found < least {
            return Err(SettingsError::TooSmall { key: "server.head_bytes_max", found, least });
        }
        if let Some(found) = self.embedding.dim.filter(|dim| *dim < DIM_MIN) {
            let (found, least) = (found as u64, DIM_MIN as u64);
            return Err(SettingsError::TooSmall { key: "embedding.dim", found, least });
        }
        if let Some(found) = self.rerank.prompt.as_ref().filter(|prompt| !is_prompt(prompt)) {
            let (found, expected) = (found.clone(), "a text with `{query}` and `{document}` in it");
            return Err(SettingsError::Text { key: "rerank.prompt", found, expected });
        }
        let ordered = [
            ("brain.backoff_ms_min", self.brain.backoff_ms_min, "brain.backoff_ms_max", self.brain.backoff_ms_max),
            ("brain.retry_ms_min", self.brain.retry_ms_min, "brain.retry_ms_max", self.brain.retry_ms_max),
        ];
        for (key, found, limit_key, limit) in ordered {
            if found > limit {
                return Err(SettingsError::AboveOther { key, found, limit_key, limit });
            }
        }
        if self.window.size.is_some() {
            // The same rule as later with the model's own context, which can only forbid more.
            self.window_options().resolve(usize::MAX)?;
        }
        Ok(())
    }
}
