//! What of a layer's weights a tile reads: a panel's codes and factors, or some blocks of them.

use std::ops::Range;

use super::{
    codes::{Source, Words},
    lanes::Lanes,
    packed::{Factors, Line, Offsets, PANEL, Packed, STEP},
};
use crate::vector;

/// One panel's part of the weights, or some blocks of it.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// `[blocks, steps]` of a step's codes.
    pub codes: &'a [Line],
    /// `[blocks, PANEL]`.
    pub scales: &'a [f32],
    /// What is added to a scaled code.
    pub offsets: PanelOffsets<'a>,
    /// Blocks of an output.
    pub blocks: usize,
    /// Steps of a block.
    pub steps: usize,
}

/// What is added to a panel's scaled codes.
#[derive(Clone, Copy)]
pub(super) enum PanelOffsets<'a> {
    /// So many scales.
    Scales(f32),
    /// `[blocks, PANEL]`.
    Each(&'a [f32]),
}

/// A panel's scales and offsets where they are kept in f16.
#[derive(Default)]
pub(super) struct WideFactors {
    scales: Vec<f32>,
    offsets: Vec<f32>,
}

impl<'a> Panel<'a> {
    /// Panel number `panel` of a layer.
    pub(super) fn of(weights: &'a Packed, panel: usize, wide: &'a mut WideFactors) -> Self {
        let blocks = weights.blocks();
        let lines = weights.inputs / STEP * weights.lines();
        let range = panel * blocks * PANEL..(panel + 1) * blocks * PANEL;
        Self {
            codes: &weights.codes[panel * lines..][..lines],
            scales: floats(&weights.scales, range.clone(), &mut wide.scales),
            offsets: match &weights.offsets {
                Offsets::Scales(factor) => PanelOffsets::Scales(*factor),
                Offsets::Each(each) => PanelOffsets::Each(floats(each, range, &mut wide.offsets)),
            },
            blocks,
            steps: weights.block / STEP,
        }
    }

    /// Some of its blocks.
    #[inline(always)]
    pub(super) fn part(self, blocks: Range<usize>) -> Self {
        let lines = self.codes.len() / self.blocks;
        let factors = blocks.start * PANEL..blocks.end * PANEL;
        Self {
            codes: &self.codes[blocks.start * lines..blocks.end * lines],
            scales: &self.scales[factors.clone()],
            offsets: match self.offsets {
                PanelOffsets::Each(offsets) => PanelOffsets::Each(&offsets[factors]),
                scales => scales,
            },
            blocks: blocks.len(),
            steps: self.steps,
        }
    }

    /// The same with its codes as [`Words`].
    #[inline(always)]
    pub(super) fn unpacked<'w, L: Lanes, P: Source>(self, lanes: L, words: &'w mut Vec<Line>) -> Panel<'w>
    where
        'a: 'w,
    {
        let steps: &[P::Codes] = bytemuck::cast_slice(self.codes);
        let lines = steps.len() * size_of::<<Words as Source>::Codes>() / size_of::<Line>();
        words.resize(words.len().max(lines), Line([0; 64]));
        let to: &mut [<Words as Source>::Codes] = bytemuck::cast_slice_mut(&mut words[..lines]);
        for (step, to) in steps.iter().zip(to) {
            P::prefetch(step);
            for pair in 0..STEP / 2 {
                for vector in 0..PANEL / L::COUNT {
                    let codes = P::codes(lanes, step, pair, vector);
                    lanes.store_words(codes, &mut to[pair * PANEL * 4 + vector * L::COUNT * 4..]);
                }
            }
        }
        Panel { codes: &words[..lines], ..self }
    }
}

/// Factors as f32.
fn floats<'a>(factors: &'a Factors, range: Range<usize>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    match factors {
        Factors::Wide(floats) => &floats[range],
        Factors::Narrow(halves) => {
            scratch.resize(range.len(), 0.0);
            vector::widen(&halves[range], scratch);
            scratch
        }
    }
}
