//! Rotary position embedding (Su et al. 2021, "RoFormer"): pairs of a head's numbers turned by an angle of their own
//! for each position.
//!
//! [`Rotary`] turns new queries and keys by a graph's tables; [`Turn`] moves keys that are cached already from one
//! position to another.

/// How a head's numbers form pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Number `i` with number `i + rotary / 2` (GPT-NeoX, Llama and Qwen as exported).
    Halves,
    /// Number `2 i` with number `2 i + 1` (GPT-J).
    Interleaved,
}

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Halves, Self::Interleaved];

    /// The places of pair number `pair` of `pairs`.
    #[inline]
    pub fn pair(self, pair: usize, pairs: usize) -> (usize, usize) {
        match self {
            Self::Halves => (pair, pair + pairs),
            Self::Interleaved => (2 * pair, 2 * pair + 1),
        }
    }
}

/// How queries and keys are rotated: tables `[positions, pairs]`.
#[derive(Clone, Copy)]
pub struct Rotary<'a> {
    /// The cosines of the angles.
    pub cosines: &'a [f32],
    /// The sines.
    pub sines: &'a [f32],
    /// Pairs of a head that are rotated: its first `2 * pairs` numbers.
    pub pairs: usize,
    /// Which numbers they are.
    pub layout: Layout,
}

impl Rotary<'_> {
    /// Positions the tables reach to.
    pub fn positions(&self) -> usize {
        self.cosines.len().min(self.sines.len()) / self.pairs
    }

    /// Appends `head`, rotated by `position` and scaled, to `to`.
    #[inline(always)]
    pub(crate) fn rotate(&self, position: usize, head: &[f32], scale: f32, to: &mut Vec<f32>) {
        let cosines = &self.cosines[position * self.pairs..][..self.pairs];
        let sines = &self.sines[position * self.pairs..][..self.pairs];
        let angles = cosines.iter().zip(sines);
        let start = to.len();
        to.extend_from_slice(head);
        let to = &mut to[start..];
        match self.layout {
            Layout::Interleaved => {
                for (pair, (cos, sin)) in to.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                    let [x, y] = *pair;
                    *pair = [x * cos - y * sin, y * cos + x * sin];
                }
            }
            Layout::Halves => {
                let (first, rest) = to.split_at_mut(self.pairs);
                for ((x, y), (cos, sin)) in first.iter_mut().zip(rest).zip(angles) {
                    (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                }
            }
        }
        to.iter_mut().for_each(|x| *x *= scale);
    }
}

/// A rotation by a number of positions, ready to be applied to many keys.
pub struct Turn {
    layout: Layout,
    /// Of each pair's angle.
    cos_sin: Vec<(f32, f32)>,
}

impl Turn {
    /// By so many positions, back where they are negative. `frequencies`: radians a position, one for each pair.
    pub fn new(layout: Layout, frequencies: &[f64], positions: f64) -> Self {
        let cos_sin = frequencies.iter().map(|frequency| {
            let (sin, cos) = (frequency * positions).sin_cos();
            (cos as f32, sin as f32)
        });
        Self { layout, cos_sin: cos_sin.collect() }
    }

    /// Rotates one key, `[head_dim]`, in place.
    pub fn apply(&self, key: &mut [f32]) {
        self.apply_to_lanes(key.as_chunks_mut::<1>().0);
    }

    /// Rotates several keys, `[head_dim, KEYS]`, in place: each to the same bits, however many they are.
    #[inline(always)]
    pub(crate) fn apply_to_lanes<const KEYS: usize>(&self, keys: &mut [[f32; KEYS]]) {
        let pairs = self.cos_sin.len();
        for (pair, (cos, sin)) in self.cos_sin.iter().enumerate() {
            let (i, j) = self.layout.pair(pair, pairs);
            let (first, rest) = keys.split_at_mut(j);
            for (x, y) in first[i].iter_mut().zip(&mut rest[0]) {
                (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
            }
        }
    }
}
