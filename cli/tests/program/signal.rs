//! What Ctrl-C sends.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Child;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// As a terminal does it for whoever runs in it.
pub(crate) fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
}
