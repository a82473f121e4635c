//! One layer's attention in one run: what the tasks are and what each does. Knows no ONNX Runtime.

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
};

use super::{
    BatchRow, KvHead,
    attend::{Attend, Scratch},
    product::PANEL,
};

/// Queries of a task at most: enough that its keys are loaded once for many, few enough that there are
/// tasks for every thread.
const TASK_QUERIES: usize = 48;

/// Pieces that a row's tokens are cut into where they are few, of at least so many tokens: KV heads alone
/// are too few tasks to share evenly.
const PIECES: usize = 4;
const PIECE_TOKENS_MIN: usize = 4;

/// Multiply-adds below which waking other threads takes longer than the work.
const SHARED_WORK_MIN: usize = 1 << 17;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A layer's sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub layer: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Factor of the products of queries and keys.
    pub scale: f32,
}

impl Shape {
    /// Query heads that share a KV head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Rows of a tensor `[tokens, width]`, of which each head's numbers begin at `first + head * head_dim`.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub data: &'a [f32],
    pub width: usize,
    pub first: usize,
    pub head_dim: usize,
}

impl<'a> Heads<'a> {
    fn row(&self, token: usize, head: usize) -> &'a [f32] {
        &self.data[token * self.width + self.first + head * self.head_dim..][..self.head_dim]
    }
}

/// How queries and keys are rotated: tables `[positions, pairs]`.
#[derive(Clone, Copy)]
pub(super) struct Rotary<'a> {
    pub cosines: &'a [f32],
    pub sines: &'a [f32],
    pub pairs: usize,
    pub interleaved: bool,
}

impl Rotary<'_> {
    /// Positions the tables reach to.
    pub(super) fn positions(&self) -> usize {
        self.cosines.len().min(self.sines.len()) / self.pairs
    }

    /// Appends `head`, rotated by `position` and scaled, to `to`.
    #[inline(always)]
    fn rotate(&self, position: usize, head: &[f32], scale: f32, to: &mut Vec<f32>) {
        let cosines = &self.cosines[position * self.pairs..][..self.pairs];
        let sines = &self.sines[position * self.pairs..][..self.pairs];
        let angles = cosines.iter().zip(sines);
        let start = to.len();
        to.extend_from_slice(head);
        let to = &mut to[start..];
        if self.interleaved {
            for (pair, (cos, sin)) in to.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                let [x, y] = *pair;
                *pair = [x * cos - y * sin, y * cos + x * sin];
            }
        } else {
            let (first, rest) = to.split_at_mut(self.pairs);
            for ((x, y), (cos, sin)) in first.iter_mut().zip(rest).zip(angles) {
                (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
            }
        }
        to.iter_mut().for_each(|x| *x *= scale);
    }
}

/// Everything a layer's tasks read.
pub(super) struct Layer<'a> {
    pub shape: Shape,
    pub rows: &'a [BatchRow],
    pub queries: Heads<'a>,
    pub keys: Heads<'a>,
    pub values: Heads<'a>,
    pub rotary: Option<Rotary<'a>>,
}

/// A few neighbouring tokens of one row and one KV head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    row: usize,
    head: usize,
    /// The first token's place in the run.
    first: usize,
    /// The first token's place in its row.
    offset: usize,
    tokens: usize,
    /// Which of the run's pieces of tokens it is: tasks of one piece write to one part of the output.
    piece: usize,
}

impl Layer<'_> {
    /// Whether the tensors are as large as the run of `tokens` says; the message names what is not.
    pub(super) fn check(&self, tokens: usize) -> Result<(), String> {
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

    /// Cuts the run into tasks; those that begin latest in their row, which see most keys, first.
    pub(super) fn plan(&self, tasks: &mut Vec<Task>) {
        tasks.clear();
        let (mut first, mut piece) = (0, 0);
        for (row, BatchRow { tokens, .. }) in self.rows.iter().enumerate() {
            let tokens_max = self.piece_tokens(*tokens);
            for offset in (0..*tokens).step_by(tokens_max) {
                let tokens = tokens_max.min(tokens - offset);
                let task = |head| Task { row, head, first: first + offset, offset, tokens, piece };
                tasks.extend((0..self.shape.kv_heads).map(task));
                piece += 1;
            }
            first += tokens;
        }
        tasks.sort_unstable_by_key(|task| std::cmp::Reverse(self.visible(task)));
    }

    /// Whether the work is worth several threads.
    pub(super) fn is_shared(&self) -> bool {
        let work = |row: &BatchRow| row.tokens * (row.past + row.tokens);
        let keys: usize = self.rows.iter().map(work).sum();
        keys * self.shape.heads * self.shape.head_dim * 2 >= SHARED_WORK_MIN
    }

    /// Writes the new keys and values of one row and head.
    pub(super) fn store(&self, row: usize, head: usize) {
        let first: usize = self.rows[..row].iter().map(|row| row.tokens).sum();
        let BatchRow { kv, past, position, tokens } = &self.rows[row];
        let mut kv = kv.write(self.shape.layer, head);
        SCRATCH.with_borrow_mut(|Scratch { key: rotated, .. }| {
            for token in 0..*tokens {
                let key = self.keys.row(first + token, head);
                let value = self.values.row(first + token, head);
                match self.rotary {
                    Some(rotary) => {
                        rotated.clear();
                        rotary.rotate(position + token, key, 1.0, rotated);
                        kv.write(past + token, rotated, value);
                    }
                    None => kv.write(past + token, key, value),
                }
            }
        });
    }

    /// Mixes the values for one task's queries. `pieces`: the output, `[tokens, heads * head_dim]`, cut
    /// as the tasks are.
    pub(super) fn mix(&self, task: &Task, pieces: &[Mutex<&mut [f32]>]) {
        SCRATCH.with_borrow_mut(|scratch| {
            let row = &self.rows[task.row];
            let kv = row.kv.read(self.shape.layer, task.head);
            self.attend(task, &kv, scratch);
            let mut piece = pieces[task.piece].lock().unwrap_or_else(PoisonError::into_inner);
            self.give(task, &scratch.mixed, kv.value_panels() * PANEL, &mut piece);
        });
    }

    fn attend(&self, task: &Task, kv: &KvHead, scratch: &mut Scratch) {
        let Shape { head_dim, scale, .. } = self.shape;
        let group = self.shape.group();
        scratch.queries.clear();
        for token in 0..task.tokens {
            let position = self.rows[task.row].position + task.offset + token;
            for head in task.head * group..(task.head + 1) * group {
                let query = self.queries.row(task.first + token, head);
                match self.rotary {
                    Some(rotary) => rotary.rotate(position, query, scale, &mut scratch.queries),
                    None => scratch.queries.extend(query.iter().map(|x| x * scale)),
                }
            }
        }
        let visible = self.visible(task);
        pulp::Arch::new().dispatch(Attend { head: kv, head_dim, group, visible, scratch });
    }

    /// Copies a task's answer, `[tokens, group]` rows of `width` numbers of which `head_dim` count, to its
    /// columns of the output.
    fn give(&self, task: &Task, mixed: &[f32], width: usize, piece: &mut [f32]) {
        let Shape { heads, head_dim, .. } = self.shape;
        let first = task.head * self.shape.group();
        let tokens = piece.chunks_exact_mut(heads * head_dim).zip(mixed.chunks_exact(self.shape.group() * width));
        for (to, from) in tokens {
            let heads = to[first * head_dim..].chunks_exact_mut(head_dim).zip(from.chunks_exact(width));
            heads.for_each(|(to, from)| to.copy_from_slice(&from[..head_dim]));
        }
    }

    /// The most tokens of a task, of a row that has so many. What a token gets does not depend on it.
    fn piece_tokens(&self, tokens: usize) -> usize {
        let most = (TASK_QUERIES / self.shape.group()).max(1);
        tokens.div_ceil(PIECES).max(PIECE_TOKENS_MIN).min(most)
    }

    /// How many keys the task's first token sees.
    fn visible(&self, task: &Task) -> usize {
        self.rows[task.row].past + task.offset + 1
    }

    /// Cuts the output as the tasks are.
    pub(super) fn cut<'o>(&self, mut output: &'o mut [f32], pieces: &mut Vec<Mutex<&'o mut [f32]>>) {
        let width = self.shape.heads * self.shape.head_dim;
        for row in self.rows {
            let tokens_max = self.piece_tokens(row.tokens);
            let (mut mine, rest) = output.split_at_mut(row.tokens * width);
            while !mine.is_empty() {
                let (piece, after) = mine.split_at_mut(mine.len().min(tokens_max * width));
                pieces.push(Mutex::new(piece));
                mine = after;
            }
            output = rest;
        }
    }
}
