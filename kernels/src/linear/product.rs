//! A product of a run: its rows are rounded, then multiplied, both cut into tasks that threads share.
//!
//! A task's rows and panels are its own, and what it computes depends on nothing beside them.

use std::{
    cell::RefCell,
    marker::PhantomData,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    codes::{Bytes, Nibbles, Quads, Source, Words},
    columns::Columns,
    dispatch::{Vectors, Work},
    lanes::Lanes,
    packed::{Line, PANEL, Packed, STEP},
    panel::{Panel, WideFactors},
    rounded::{Factor, Inputs, Precision, Rounded, Rows, round},
    tile::{self, ROWS},
};
use crate::Threads;

/// Tasks of a product, where it is large enough: several for each thread, so that none waits long for another.
const TASKS: usize = 32;

/// Rows of a task at most: enough to share the unpacking of weights, and they stay in the second cache.
const ROWS_MAX: usize = 64;

/// Inputs that are unpacked at a time where many rows share them: 8 KiB of a panel.
const STRETCH: usize = 128;

/// Memory of one thread, kept from call to call.
#[derive(Default)]
struct Workspace {
    /// `[rows, PANEL]`: the last panel's sums, where it has more columns than there are outputs.
    sums: Vec<f32>,
    /// A stretch of a panel's codes, 16 bits each.
    words: Vec<Line>,
    /// A panel's scales and offsets.
    factors: WideFactors,
}

/// What a call needs, in memory of the thread that calls, which lends it to those that share the tasks.
#[derive(Default)]
struct Call {
    rounded: Rounded,
    /// Of each task, whether a thread has taken it.
    taken: Vec<AtomicBool>,
}

thread_local! {
    static CALL: RefCell<Call> = RefCell::default();
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Writes the products of some rows with a layer's weights to `output`, `[rows, outputs]`.
///
/// # Errors
/// Those of `threads`.
///
/// # Panics
/// Where `output` has not as many rows as there are ([`Inputs::count`]), and where `threads` do a task twice.
pub fn multiply<T: Threads>(
    weights: &Packed,
    rows: Inputs<'_>,
    output: &mut [f32],
    threads: &T,
) -> Result<(), T::Error> {
    let count = rows.count();
    let (found, outputs) = (output.len(), weights.outputs);
    assert!(found == count * outputs, "{found} numbers of room for {count} rows of {outputs} outputs");
    if found == 0 {
        return Ok(());
    }
    CALL.with_borrow_mut(|Call { rounded, taken }| {
        rounded.resize(count, weights.inputs, weights.block, weights.precision);
        round_all(weights, rows, rounded, threads)?;
        let tasks = Tasks::of(weights, rounded, count, output, taken);
        threads.share(tasks.count(), &|task| tasks.run(task))
    })
}

/// Rounds all rows, each thread some of them where they are many.
fn round_all<T: Threads>(
    weights: &Packed,
    rows: Inputs<'_>,
    rounded: &mut Rounded,
    threads: &T,
) -> Result<(), T::Error> {
    let chunk = ROWS_MAX * weights.inputs / weights.precision.packed();
    if rounded.packed.len() <= chunk {
        round_rows(weights, rows, &mut rounded.packed, &mut rounded.factors);
        return Ok(());
    }
    let factors = rounded.factors.chunks_mut(ROWS_MAX * weights.blocks());
    let parts: Vec<_> = rounded.packed.chunks_mut(chunk).zip(factors).map(Mutex::new).collect();
    threads.share(parts.len(), &|task| {
        let mut part = parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (packed, factors) = &mut *part;
        round_rows(weights, rows.from(task * ROWS_MAX), packed, factors);
    })
}

/// A product cut into chunks of rows by parts of the panels.
struct Tasks<'a> {
    weights: &'a Packed,
    rounded: &'a Rounded,
    /// Rows.
    count: usize,
    chunks: usize,
    parts: usize,
    taken: &'a [AtomicBool],
    output: Columns<'a>,
}

impl<'a> Tasks<'a> {
    fn of(
        weights: &'a Packed,
        rounded: &'a Rounded,
        count: usize,
        output: &'a mut [f32],
        taken: &'a mut Vec<AtomicBool>,
    ) -> Self {
        let chunks = count.div_ceil(ROWS_MAX);
        let parts = TASKS.div_ceil(chunks).min(weights.panels());
        taken.clear();
        taken.resize_with(chunks * parts, AtomicBool::default);
        Self { weights, rounded, count, chunks, parts, taken, output: Columns::all(output, weights.outputs) }
    }

    fn count(&self) -> usize {
        self.chunks * self.parts
    }

    /// Does one of them.
    fn run(&self, task: usize) {
        let Self { weights, rounded, count, parts, .. } = *self;
        assert!(!self.taken[task].swap(true, Ordering::Relaxed), "task {task} of a product is done twice");
        let (chunk, part, all) = (task / parts, task % parts, weights.panels());
        let panels = part * all / parts..(part + 1) * all / parts;
        let (first, last) = (chunk * ROWS_MAX, count.min((chunk + 1) * ROWS_MAX));
        let (row, blocks) = (weights.inputs / weights.precision.packed(), weights.blocks());
        let rows = Rows {
            packed: &rounded.packed[first * row..last * row],
            factors: &rounded.factors[first * blocks..last * blocks],
            count: last - first,
        };
        let columns = panels.start * PANEL..weights.outputs.min(panels.end * PANEL);
        // SAFETY: each task is taken once, and no two have the same rows and panels.
        #[expect(unsafe_code, reason = "see the comment")]
        let mut to = unsafe { self.output.part(first..last, columns) };
        WORKSPACE.with_borrow_mut(|workspace| {
            multiply_panels(Vectors::best(), weights, panels, rows, workspace, &mut to);
        });
    }
}

/// Rounds rows for these weights.
fn round_rows(weights: &Packed, rows: Inputs<'_>, packed: &mut [i32], factors: &mut [Factor]) {
    Vectors::best().run(Round(weights, rows, packed, factors));
}

/// A call of [`round_rows`].
struct Round<'a>(&'a Packed, Inputs<'a>, &'a mut [i32], &'a mut [Factor]);

impl Work for Round<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self(weights, rows, packed, factors) = self;
        round(lanes, rows, weights.block, weights.precision, packed, factors);
    }
}

/// Writes the products of some rows with some panels to those panels' columns.
fn multiply_panels(
    vectors: Vectors,
    weights: &Packed,
    panels: Range<usize>,
    rows: Rows<'_>,
    workspace: &mut Workspace,
    to: &mut Columns<'_>,
) {
    let call = Panels { weights, panels, rows, workspace, to };
    match (weights.bits, weights.precision) {
        (4, Precision::Bytes) => vectors.run(Multiply::<Direct<Quads>>(call, PhantomData)),
        _ if rows.count > ROWS => vectors.run(Multiply::<Unpacked>(call, PhantomData)),
        (4, Precision::Words) => vectors.run(Multiply::<Direct<Nibbles>>(call, PhantomData)),
        _ => vectors.run(Multiply::<Direct<Bytes>>(call, PhantomData)),
    }
}

/// A call of [`multiply_panels`].
struct Panels<'a, 'o> {
    weights: &'a Packed,
    panels: Range<usize>,
    rows: Rows<'a>,
    workspace: &'a mut Workspace,
    to: &'a mut Columns<'o>,
}

/// All of a call's panels in one [`Way`], compiled as one function.
struct Multiply<'a, 'o, W>(Panels<'a, 'o>, PhantomData<W>);

impl<W: Way> Work for Multiply<'_, '_, W> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Panels { weights, panels, rows, workspace, to } = self.0;
        let Workspace { sums, words, factors } = workspace;
        for (index, panel) in panels.enumerate() {
            let panel = Panel::of(weights, panel, factors);
            let columns = index * PANEL..to.width().min((index + 1) * PANEL);
            let is_whole = columns.len() == PANEL;
            let mut target = if is_whole {
                to.narrow(columns.clone())
            } else {
                sums.resize(rows.count * PANEL, 0.0);
                Columns::all(sums, PANEL)
            };
            W::multiply(lanes, OnePanel { bits: weights.bits, panel, rows, words: &mut *words, to: &mut target });
            if !is_whole {
                for (row, sums) in sums.chunks_exact(PANEL).enumerate() {
                    to.row(row)[columns.clone()].copy_from_slice(&sums[..columns.len()]);
                }
            }
        }
    }
}

/// One panel of a call.
struct OnePanel<'a, 'o> {
    bits: u32,
    panel: Panel<'a>,
    rows: Rows<'a>,
    /// Memory for codes that are unpacked.
    words: &'a mut Vec<Line>,
    to: &'a mut Columns<'o>,
}

/// A way from a panel's codes to the products of all rows with them.
trait Way {
    /// Writes them.
    fn multiply<L: Lanes>(lanes: L, call: OnePanel<'_, '_>);
}

/// Codes are unpacked in registers and used at once.
struct Direct<S>(PhantomData<S>);

impl<S: Source> Way for Direct<S> {
    #[inline(always)]
    fn multiply<L: Lanes>(lanes: L, OnePanel { panel, rows, to, .. }: OnePanel<'_, '_>) {
        tile::multiply::<L, S>(lanes, panel, rows, 0, to);
    }
}

/// Codes are unpacked to words, a stretch at a time, which many rows share.
struct Unpacked;

impl Way for Unpacked {
    #[inline(always)]
    fn multiply<L: Lanes>(lanes: L, OnePanel { bits, panel, rows, words, to }: OnePanel<'_, '_>) {
        let blocks = (STRETCH / STEP / panel.steps).max(1);
        for first in (0..panel.blocks).step_by(blocks) {
            let part = panel.part(first..(first + blocks).min(panel.blocks));
            let part = match bits {
                4 => part.unpacked::<L, Nibbles>(lanes, words),
                _ => part.unpacked::<L, Bytes>(lanes, words),
            };
            tile::multiply::<L, Words>(lanes, part, rows, first, to);
        }
    }
}

#[cfg(test)]
mod tests;
