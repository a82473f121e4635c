//! Keys on their way from one page to another: a panel of them, which turn or change their type together.
//!
//! When a window slides whoever shares its thread waits for it, and nearly all that it does is this.

use half::{f16, slice::HalfFloatSliceExt};
use pulp::{Arch, NullaryFnOnce};

use super::{product::PANEL, strided::Strided};
use crate::{ElementType, rotary::Turn, vector};

/// One head's keys of [`PANEL`] rows, `[head_dim, PANEL]`. Where rows were left out their numbers are any.
pub(super) struct Panel {
    wide: Vec<[f32; PANEL]>,
    narrow: Vec<f16>,
}

impl Panel {
    pub(super) fn new(head_dim: usize) -> Self {
        Self { wide: vec![[0.0; PANEL]; head_dim], narrow: vec![f16::ZERO; head_dim * PANEL] }
    }

    /// Where some of its numbers lie that are of a type.
    pub(super) fn place(&mut self, element: ElementType, numbers: Strided) -> *mut u8 {
        let (span, len) = (numbers.span(), self.narrow.len());
        assert!(span <= len, "{numbers:?} in a panel of {len}");
        match element {
            ElementType::F32 => self.wide.as_mut_ptr().cast(),
            ElementType::F16 => self.narrow.as_mut_ptr().cast(),
        }
    }

    /// Turns keys that are of one type, and then they are of the other. They are rounded once, behind the turn.
    pub(super) fn turn(&mut self, from: ElementType, turn: Option<&Turn>, to: ElementType) {
        if turn.is_none() && from == to {
            return;
        }
        if from == ElementType::F16 {
            vector::widen(&self.narrow, self.wide.as_flattened_mut());
        }
        if let Some(turn) = turn {
            Arch::new().dispatch(Turning(turn, &mut self.wide));
        }
        if to == ElementType::F16 {
            self.narrow.convert_from_f32_slice(self.wide.as_flattened());
        }
    }
}

/// A type rather than a closure: its method can be told to be inlined, without which it would be compiled for the
/// oldest machine.
struct Turning<'a>(&'a Turn, &'a mut [[f32; PANEL]]);

impl NullaryFnOnce for Turning<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.apply_to_lanes(self.1);
    }
}
