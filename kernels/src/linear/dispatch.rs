//! Kinds of vectors: work is compiled for each, and one is chosen when it runs.

use pulp::Scalar;
#[cfg(target_arch = "x86_64")]
use pulp::{
    NullaryFnOnce,
    x86::{V3, V4},
};

use super::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use super::lanes::x86::{Avx512, Madd, Vnni};

/// A kind of vectors that this machine has.
#[derive(Clone, Copy)]
pub(super) enum Vectors {
    /// None.
    Scalar,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    V3(V3),
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4(Avx512<Madd>),
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Vnni(Avx512<Vnni>),
}

impl Vectors {
    /// All there are, the best first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let known = {
            let v4 = V4::try_new();
            let vnni = v4.zip(Vnni::try_new()).map(|(v4, vnni)| Self::Vnni(Avx512(v4, vnni)));
            [vnni, v4.map(|v4| Self::V4(Avx512(v4, Madd))), V3::try_new().map(Self::V3)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let known = [None];
        known.into_iter().flatten().chain([Self::Scalar])
    }

    /// The best.
    pub(super) fn best() -> Self {
        Self::all().next().unwrap_or(Self::Scalar)
    }

    /// Their name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "none",
            #[cfg(target_arch = "x86_64")]
            Self::V3(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::V4(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(_) => "AVX-512 with VNNI",
        }
    }

    /// Does some work with them.
    pub(super) fn run(self, work: impl Work) {
        match self {
            Self::Scalar => work.run(Scalar::new()),
            #[cfg(target_arch = "x86_64")]
            Self::V3(lanes) => lanes.vectorize(With(lanes, work)),
            #[cfg(target_arch = "x86_64")]
            Self::V4(lanes) => lanes.0.vectorize(With(lanes, work)),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(lanes) => lanes.1.vectorize(With(lanes, work)),
        }
    }
}

/// Work that is compiled for each kind of vectors. A type rather than a closure: its method can be told to
/// be inlined, without which it would be compiled for the oldest machine.
pub(super) trait Work {
    /// Does it with these vectors.
    fn run<L: Lanes>(self, lanes: L);
}

/// Work and the vectors that it is done with.
#[cfg(target_arch = "x86_64")]
struct With<L, W>(L, W);

#[cfg(target_arch = "x86_64")]
impl<L: Lanes, W: Work> NullaryFnOnce for With<L, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.run(self.0);
    }
}
