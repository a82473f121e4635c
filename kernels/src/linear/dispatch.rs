//! Which kind of vectors this machine has: work is compiled for each, and the best is chosen when it runs.

#[cfg(target_arch = "x86_64")]
use pulp::NullaryFnOnce;
use pulp::{Arch, Scalar};

use super::lanes::Lanes;

/// Work that is compiled for each kind of vectors. A type rather than a closure: its method can be told to
/// be inlined, without which it would be compiled for the oldest machine.
pub(super) trait Work {
    /// Does it with these vectors.
    fn run<L: Lanes>(self, lanes: L);
}

/// Work and the vectors that it is done with.
#[cfg(target_arch = "x86_64")]
pub(super) struct With<L, W>(pub L, pub W);

#[cfg(target_arch = "x86_64")]
impl<L: Lanes, W: Work> NullaryFnOnce for With<L, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.run(self.0);
    }
}

/// Does some work with the best vectors there are.
pub(super) fn dispatch(work: impl Work) {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V3(lanes) => Lanes::call(lanes, With(lanes, work)),
        #[cfg(target_arch = "x86_64")]
        Arch::V4(lanes) => Lanes::call(lanes, With(lanes, work)),
        _ => work.run(Scalar::new()),
    }
}
