//! One layer's attention in one run: the new keys and values are stored, and each task mixes what its queries see.

use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    attend::{Attend, Scratch},
    found::Found,
    head::Head,
    paged_kv::{BatchRow, InHand},
    plan::{Plan, Task},
    shape::{Heads, Shape},
};
use crate::{Threads, rotary::Rotary};

/// What a thread keeps from task to task.
#[derive(Default)]
struct Memory {
    scratch: Scratch,
    /// What a task's queries have found so far, and in the section under way.
    whole: Found,
    found: Found,
    /// `[head_dim]`: a key on its way into the cache, rotated.
    key: Vec<f32>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Everything a layer's tasks read.
pub struct Layer<'a> {
    /// The layer's sizes.
    pub shape: Shape,
    /// The run's rows, in the order of their tokens.
    pub rows: &'a [BatchRow],
    /// Of all the run's tokens, as are the next two.
    pub queries: Heads<'a>,
    /// New keys, not rotated yet.
    pub keys: Heads<'a>,
    /// New values.
    pub values: Heads<'a>,
    /// `None`: queries and keys are rotated already.
    pub rotary: Option<Rotary<'a>>,
}

impl Layer<'_> {
    /// Whether the tensors are as large as the run of `tokens` says; the message names what is not.
    pub fn check(&self, tokens: usize) -> Result<(), String> {
        let Shape { layer, heads, kv_heads, head_dim, .. } = self.shape;
        let parts = [("query", self.queries, heads), ("key", self.keys, kv_heads), ("value", self.values, kv_heads)];
        for (name, part, heads) in parts {
            let holds = part.first + heads * head_dim <= part.width && part.data.len() == tokens * part.width;
            if !holds {
                let (found, width) = (part.data.len(), part.width);
                return Err(format!(
                    "layer {layer}: the {name} has {found} numbers, {width} wide, for {tokens} tokens"
                ));
            }
        }
        if let Some(row) = self.rows.iter().position(|row| !row.kv.fits(&self.shape)) {
            return Err(format!(
                "layer {layer}: the pages of row {row} are not of {kv_heads} heads of {head_dim} numbers"
            ));
        }
        let Some(rotary) = self.rotary else { return Ok(()) };
        let reach = self.rows.iter().map(|row| row.position + row.tokens).max().unwrap_or(0);
        if 2 * rotary.pairs > head_dim || reach > rotary.positions() {
            let (pairs, positions) = (rotary.pairs, rotary.positions());
            return Err(format!(
                "layer {layer}: rotation tables of {positions} positions and {pairs} pairs do not reach {reach} positions of {head_dim} numbers"
            ));
        }
        Ok(())
    }

    /// Computes the layer: writes the new keys and values behind their rows' past ones, and to the output's `pieces`
    /// what each query gets. `plan` and `pieces` are those of [`Self::plan`] and [`Self::cut`]; `parts` are as many as
    /// the plan's at least, and are left with what is of no use.
    ///
    /// # Errors
    /// Those of `threads`, which are asked where the work is worth it.
    ///
    /// # Panics
    /// A row's conversation stands here twice or in another layer's run at the same time.
    pub fn run<T: Threads>(
        &self,
        plan: &Plan,
        parts: &[Mutex<Found>],
        pieces: &[Mutex<&mut [f32]>],
        threads: &T,
    ) -> Result<(), T::Error> {
        let (needed, found) = (plan.parts(), parts.len());
        assert!(found >= needed, "{found} parts for a plan of {needed}");
        let steps = Steps { layer: self, _hand: InHand::take(self.rows), plan, parts, pieces };
        if !self.is_shared() {
            steps.all();
            return Ok(());
        }
        threads.share(steps.heads(), &|index| steps.store(index))?;
        threads.share(plan.tasks.len(), &|index| steps.mix(index))?;
        if plan.sums.is_empty() { Ok(()) } else { threads.share(plan.sums.len(), &|index| steps.sum(index)) }
    }

    /// Writes the new keys and values of one row and head, but for those that are there.
    ///
    /// # Safety
    /// Meanwhile nobody else reads or writes this head of the row's conversation by its leases.
    #[expect(unsafe_code, reason = "see the contract")]
    unsafe fn store(&self, row: usize, head: usize) {
        let first: usize = self.rows[..row].iter().map(|row| row.tokens).sum();
        let BatchRow { kv, past, cached, position, tokens } = &self.rows[row];
        MEMORY.with_borrow_mut(|Memory { key: rotated, .. }| {
            for token in cached - past..*tokens {
                let mut key = self.keys.row(first + token, head);
                let value = self.values.row(first + token, head);
                if let Some(rotary) = self.rotary {
                    rotated.clear();
                    rotary.rotate(position + token, key, 1.0, rotated);
                    key = rotated;
                }
                // SAFETY: the caller's.
                unsafe { kv.write(self.shape.layer, head, past + token, key, value) };
            }
        });
    }

    /// Does one task. What it finds goes to its part or, where it is for all keys, to its columns of the output,
    /// `[tokens, heads * head_dim]`, cut into `pieces` as the tasks are.
    ///
    /// # Safety
    /// Meanwhile nobody writes to this head of the row's conversation by its leases.
    #[expect(unsafe_code, reason = "see the contract")]
    unsafe fn mix(&self, task: &Task, parts: &[Mutex<Found>], pieces: &[Mutex<&mut [f32]>]) {
        MEMORY.with_borrow_mut(|Memory { scratch, whole, found, .. }| {
            self.load(task, &mut scratch.queries);
            // SAFETY: the caller's.
            let kv = unsafe { Head::new(&self.rows[task.row].kv, self.shape.layer, task.head) };
            if let Some((section, part)) = task.part {
                self.attend(task, &kv, section, scratch, &mut lock(&parts[part]));
                return;
            }
            let mut sections = self.sections(task);
            self.attend(task, &kv, sections.next().unwrap_or(0), scratch, whole);
            for section in sections {
                self.attend(task, &kv, section, scratch, found);
                whole.add(found);
            }
            self.give(task, whole, &mut lock(&pieces[task.piece]));
        });
    }

    /// Adds up the parts of a task that was cut into sections, for the output.
    fn sum(&self, task: &Task, parts: &[Mutex<Found>], pieces: &[Mutex<&mut [f32]>]) {
        let Some((whole, rest)) = parts.split_first() else { return };
        let mut whole = lock(whole);
        rest.iter().for_each(|part| whole.add(&lock(part)));
        self.give(task, &mut whole, &mut lock(&pieces[task.piece]));
    }

    /// A task's queries, rotated and scaled.
    fn load(&self, task: &Task, queries: &mut Vec<f32>) {
        let group = self.shape.group();
        queries.clear();
        for token in 0..task.tokens {
            let position = self.rows[task.row].position + task.offset + token;
            for head in task.head * group..(task.head + 1) * group {
                let query = self.queries.row(task.first + token, head);
                match self.rotary {
                    Some(rotary) => rotary.rotate(position, query, self.shape.scale, queries),
                    None => queries.extend(query.iter().map(|x| x * self.shape.scale)),
                }
            }
        }
    }

    fn attend(&self, task: &Task, kv: &Head<'_>, section: usize, scratch: &mut Scratch, found: &mut Found) {
        pulp::Arch::new().dispatch(Attend { kv, shape: &self.shape, past: self.past(task), section, scratch, found });
    }

    /// Copies a task's answers, `[tokens, group]` rows of which `head_dim` numbers count, to its columns of the
    /// output.
    fn give(&self, task: &Task, found: &mut Found, piece: &mut [f32]) {
        let Shape { heads, head_dim, .. } = self.shape;
        let first = task.head * self.shape.group() * head_dim;
        let mut answers = found.finish();
        for token in piece.chunks_exact_mut(heads * head_dim) {
            let heads = token[first..].chunks_exact_mut(head_dim).take(self.shape.group());
            heads.zip(&mut answers).for_each(|(to, from)| to.copy_from_slice(&from[..head_dim]));
        }
    }
}

/// A layer's work, in the three steps of which each must be done before the next, and each of a step once.
struct Steps<'a, 'o> {
    layer: &'a Layer<'a>,
    _hand: InHand<'a>,
    plan: &'a Plan,
    parts: &'a [Mutex<Found>],
    pieces: &'a [Mutex<&'o mut [f32]>],
}

impl Steps<'_, '_> {
    /// Rows by KV heads.
    fn heads(&self) -> usize {
        self.layer.rows.len() * self.layer.shape.kv_heads
    }

    fn store(&self, index: usize) {
        let kv_heads = self.layer.shape.kv_heads;
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: no other layer has the conversations in hand, in which each index is a head of its own, done once,
        // and nobody reads before all are done: that is what [`Threads`] promise.
        unsafe {
            self.layer.store(index / kv_heads, index % kv_heads);
        }
    }

    fn mix(&self, index: usize) {
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: all is written, and no other layer has the conversations in hand.
        unsafe {
            self.layer.mix(&self.plan.tasks[index], self.parts, self.pieces);
        }
    }

    fn sum(&self, index: usize) {
        let (task, parts) = &self.plan.sums[index];
        self.layer.sum(task, &self.parts[parts.clone()], self.pieces);
    }

    /// All of it on this thread.
    fn all(&self) {
        (0..self.heads()).for_each(|index| self.store(index));
        (0..self.plan.tasks.len()).for_each(|index| self.mix(index));
        (0..self.plan.sums.len()).for_each(|index| self.sum(index));
    }
}

/// A part is one task's alone; tasks of one piece write to different columns of it and take turns.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
