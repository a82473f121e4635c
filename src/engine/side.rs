//! On whose side of the call into ONNX Runtime a thread is.
//!
//! The engine says so where it begins, where it calls the runtime and where the runtime calls our own
//! operators. Nothing here reads it: it is for an allocator that counts, which can then tell what the
//! engine allocates from what the runtime and its bindings do.

use std::cell::Cell;

/// Whose code a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Anybody's: no engine is at work on this thread.
    Elsewhere,
    /// The engine's, our operators included.
    Engine,
    /// The runtime's or its bindings', in a call of the engine's.
    Runtime,
}

thread_local! {
    // Without a destructor and made at compile time, so that an allocator may read it at any moment.
    static SIDE: Cell<Side> = const { Cell::new(Side::Elsewhere) };
}

/// Whose code this thread is in.
pub fn side() -> Side {
    SIDE.get()
}

/// Work of the engine's.
pub(super) fn engine<T>(work: impl FnOnce() -> T) -> T {
    let _back = Back(SIDE.replace(Side::Engine));
    work()
}

/// A call of the runtime's.
pub(super) fn runtime<T>(call: impl FnOnce() -> T) -> T {
    let _back = Back(SIDE.replace(Side::Runtime));
    call()
}

/// Where a thread came from and goes back to, be it by a panic.
struct Back(Side);

impl Drop for Back {
    fn drop(&mut self) {
        SIDE.set(self.0);
    }
}
