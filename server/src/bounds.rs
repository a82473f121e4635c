//! Bounds on what one client or all together may take: streams at once, bytes of bodies at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use motorbrain::{ClientId, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Bodies that are being read take at most so many times what one of them may.
const BODIES_AT_ONCE: usize = 16;

/// Of what bodies take is counted so much at once, in bytes.
const GRAIN: usize = 1024;

/// When to come back where there was no room.
const SOON: Duration = Duration::from_secs(1);

/// The streams of each client.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    most: usize,
    held: Arc<Mutex<HashMap<ClientId, usize>>>,
}

impl Streams {
    /// Each client may have so many at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for this client.
    ///
    /// # Errors
    /// It has as many as it may.
    pub(crate) fn take(&self, client: &ClientId) -> Result<StreamPlace, ApiError> {
        let mut all = lock(&self.held);
        let held = all.entry(client.clone()).or_default();
        if *held >= self.most {
            let most = self.most;
            let message =
                format!("{most} streams are the most of one client at once (`server.streams_per_client_max`)");
            return Err(overloaded(message));
        }
        *held += 1;
        Ok(StreamPlace { client: client.clone(), held: Arc::clone(&self.held) })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.held).values().sum()
    }
}

/// A stream's place, which is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    client: ClientId,
    held: Arc<Mutex<HashMap<ClientId, usize>>>,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut all = lock(&self.held);
        if let Some(held) = all.get_mut(&self.client) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                all.remove(&self.client);
            }
        }
    }
}

/// A panic while it was locked left a map of counts that are right or one too high.
fn lock(held: &Mutex<HashMap<ClientId, usize>>) -> MutexGuard<'_, HashMap<ClientId, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for the bodies that are being read.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    most: usize,
    room: Arc<Semaphore>,
}

impl Bodies {
    /// One may have so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        let grains = most.div_ceil(GRAIN).saturating_mul(BODIES_AT_ONCE);
        Self { most, room: Arc::new(Semaphore::new(grains.min(Semaphore::MAX_PERMITS))) }
    }

    /// The most bytes of one.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Room for one that has nothing yet.
    pub(crate) fn begin(&self) -> BodyRoom {
        BodyRoom { bodies: self.clone(), bytes: 0, held: None }
    }
}

/// What one body takes.
#[derive(Debug)]
pub(crate) struct BodyRoom {
    bodies: Bodies,
    bytes: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    /// So many bytes more.
    ///
    /// # Errors
    /// It is too long, or there is no room beside others.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bodies.most {
            return Err(too_large(self.bodies.most));
        }
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = u32::try_from(self.bytes.div_ceil(GRAIN).saturating_sub(held)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.bodies.room).try_acquire_many_owned(wanted).map_err(|_| no_room())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// A body is longer than `most`.
pub(crate) fn too_large(most: usize) -> ApiError {
    let message = format!("the body is too long, at most {most} bytes are read (`server.body_bytes_max`)");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::InputTooLong.as_str(), message)
}

fn no_room() -> ApiError {
    overloaded("there is no room for this body beside those that are being read")
}

fn overloaded(message: impl Into<String>) -> ApiError {
    ApiError::later(StatusCode::TOO_MANY_REQUESTS, ErrorCode::Overloaded.as_str(), message, SOON)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_client_has_so_many_streams_and_takes_nobody_elses() {
        let streams = Streams::new(2);
        let (one, other) = (ClientId::from("one"), ClientId::from("other"));
        let (first, _second) = (streams.take(&one).unwrap(), streams.take(&one).unwrap());
        assert_eq!(streams.take(&one).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        let _third = streams.take(&other).unwrap();
        assert_eq!(streams.count(), 3);
        drop(first);
        assert!(streams.take(&one).is_ok());
    }

    #[test]
    fn a_body_is_bounded_and_so_are_all_of_them() {
        let bodies = Bodies::new(10 * GRAIN);
        let mut one = bodies.begin();
        one.grow(10 * GRAIN).unwrap();
        assert_eq!(one.grow(1).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        let others: Vec<BodyRoom> = (1..BODIES_AT_ONCE)
            .map(|_| {
                let mut other = bodies.begin();
                (0..10).for_each(|_| other.grow(GRAIN).unwrap());
                other
            })
            .collect();
        let mut late = bodies.begin();
        assert_eq!(late.grow(1).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        drop(others);
        assert!(late.grow(1).is_ok());
    }
}
