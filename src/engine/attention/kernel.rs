//! One layer's attention in one run: what the tasks are and what each does. Knows no ONNX Runtime.

use std::{
    cell::RefCell,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    BatchRow, KvHead,
    attend::{Attend, Found, SECTION, Scratch},
};

/// Queries of a task at most: enough that its keys are loaded once for many, few enough that there are
/// tasks for every thread.
const TASK_QUERIES: usize = 48;

/// Pieces that a row's tokens are cut into where they are few, of at least so many tokens: KV heads alone
/// are too few tasks to share evenly.
const PIECES: usize = 4;
const PIECE_TOKENS_MIN: usize = 4;

/// Tasks of a row that are enough to share evenly. A row with fewer and a long context is cut into sections of
/// its keys, which costs next to nothing, rather than into more pieces, which each read the keys again.
const TASKS: usize = 8;

/// Multiply-adds below which waking other threads takes longer than the work.
const SHARED_WORK_MIN: usize = 1 << 17;

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
    /// The one section of the keys that it is for, and which of the plan's parts that is; `None`: all keys.
    part: Option<(usize, usize)>,
}

/// What a layer has to do, kept between runs for its memory.
#[derive(Default)]
pub(super) struct Plan {
    pub tasks: Vec<Task>,
    /// Tasks that were cut into sections, and the parts that are to be added up: after all of `tasks`.
    pub sums: Vec<(Task, Range<usize>)>,
    /// How many parts there are.
    pub parts: usize,
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

    /// Cuts the run into tasks, the largest first.
    pub(super) fn plan(&self, plan: &mut Plan) {
        let Plan { tasks, sums, parts } = plan;
        tasks.clear();
        sums.clear();
        *parts = 0;
        let (mut first, mut piece) = (0, 0);
        for (index, row) in self.rows.iter().enumerate() {
            let tokens_max = self.piece_tokens(row);
            for offset in (0..row.tokens).step_by(tokens_max) {
                let tokens = tokens_max.min(row.tokens - offset);
                for head in 0..self.shape.kv_heads {
                    let task = Task { row: index, head, first: first + offset, offset, tokens, piece, part: None };
                    if !self.has_parts(row) {
                        tasks.push(task);
                        continue;
                    }
                    let sections = self.sections(&task);
                    tasks.extend((0..sections).map(|section| Task { part: Some((section, *parts + section)), ..task }));
                    sums.push((task, *parts..*parts + sections));
                    *parts += sections;
                }
                piece += 1;
            }
            first += row.tokens;
        }
        tasks.sort_unstable_by_key(|task| std::cmp::Reverse(self.work(task)));
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
        MEMORY.with_borrow_mut(|Memory { key: rotated, .. }| {
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

    /// Does one task. What it finds goes to its part or, where it is for all keys, to its columns of the output,
    /// `[tokens, heads * head_dim]`, cut into `pieces` as the tasks are.
    pub(super) fn mix(&self, task: &Task, parts: &[Mutex<Found>], pieces: &[Mutex<&mut [f32]>]) {
        MEMORY.with_borrow_mut(|Memory { scratch, whole, found, .. }| {
            self.load(task, &mut scratch.queries);
            let kv = self.rows[task.row].kv.read(self.shape.layer, task.head);
            if let Some((section, part)) = task.part {
                self.attend(task, &kv, section, scratch, &mut lock(&parts[part]));
                return;
            }
            self.attend(task, &kv, 0, scratch, whole);
            for section in 1..self.sections(task) {
                self.attend(task, &kv, section, scratch, found);
                whole.add(found);
            }
            self.give(task, whole, &mut lock(&pieces[task.piece]));
        });
    }

    /// Adds up the parts of a task that was cut into sections, for the output.
    pub(super) fn sum(&self, task: &Task, parts: &[Mutex<Found>], pieces: &[Mutex<&mut [f32]>]) {
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

    fn attend(&self, task: &Task, head: &KvHead, section: usize, scratch: &mut Scratch, found: &mut Found) {
        let (head_dim, group, visible) = (self.shape.head_dim, self.shape.group(), self.visible(task));
        pulp::Arch::new().dispatch(Attend { head, head_dim, group, visible, section, scratch, found });
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

    /// The most tokens of a task of this row. What a token gets does not depend on it.
    fn piece_tokens(&self, row: &BatchRow) -> usize {
        let tokens = row.tokens.max(1);
        if self.has_parts(row) { tokens.div_ceil(tokens.div_ceil(self.tokens_max())) } else { self.few_tokens(tokens) }
    }

    /// Whether the row's tasks are cut into sections of the keys: where whole they are too few, and cut they are
    /// enough, or no fewer than pieces would be.
    fn has_parts(&self, row: &BatchRow) -> bool {
        let tasks = |tokens| row.tokens.div_ceil(tokens) * self.shape.kv_heads;
        let whole = tasks(self.tokens_max());
        let sections = (row.past + row.tokens).div_ceil(SECTION);
        sections > 1 && whole < TASKS && whole * sections >= tasks(self.few_tokens(row.tokens)).min(TASKS)
    }

    /// The most tokens of any task.
    fn tokens_max(&self) -> usize {
        (TASK_QUERIES / self.shape.group()).max(1)
    }

    /// The most tokens of a task that sees all keys.
    fn few_tokens(&self, tokens: usize) -> usize {
        tokens.div_ceil(PIECES).max(PIECE_TOKENS_MIN).min(self.tokens_max())
    }

    /// How many sections of the keys the task's tokens see.
    fn sections(&self, task: &Task) -> usize {
        (self.visible(task) + task.tokens - 1).div_ceil(SECTION)
    }

    /// Products of a token and a key.
    fn work(&self, task: &Task) -> usize {
        let keys = self.visible(task) + task.tokens - 1;
        task.tokens * task.part.map_or(keys, |(section, _)| (keys - section * SECTION).min(SECTION))
    }

    /// How many keys the task's first token sees.
    fn visible(&self, task: &Task) -> usize {
        self.rows[task.row].past + task.offset + 1
    }

    /// Cuts the output as the tasks are.
    pub(super) fn cut<'o>(&self, mut output: &'o mut [f32], pieces: &mut Vec<Mutex<&'o mut [f32]>>) {
        let width = self.shape.heads * self.shape.head_dim;
        for row in self.rows {
            let tokens_max = self.piece_tokens(row);
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

/// A part is one task's alone; tasks of one piece write to different columns of it and take turns.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Arc;

    use super::*;
    use crate::{engine::attention::PagedKv, model::ElementType};

    const SHAPE: Shape = Shape { layer: 0, heads: 4, kv_heads: 2, head_dim: 8, scale: 0.5 };
    /// Queries, keys and values of a token.
    const WIDTH: usize = (4 + 2 + 2) * 8;

    /// New tokens of one conversation behind those that are there.
    struct New<'a> {
        kv: &'a Arc<PagedKv>,
        past: usize,
        packed: &'a [f32],
    }

    fn kv() -> Arc<PagedKv> {
        Arc::new(PagedKv::of_heads(SHAPE.kv_heads, || KvHead::new(ElementType::F32, ElementType::F32, 8)))
    }

    /// What each row gets, all in one run; and how many sections it was cut into.
    fn run(news: &[New<'_>]) -> (Vec<Vec<f32>>, usize) {
        let row = |New { kv, past, packed }: &New<'_>| {
            let tokens = packed.len() / WIDTH;
            kv.grow(past + tokens).unwrap();
            BatchRow { kv: Arc::clone(kv), past: *past, position: *past, tokens }
        };
        let rows: Vec<_> = news.iter().map(row).collect();
        let packed: Vec<f32> = news.iter().flat_map(|new| new.packed).copied().collect();
        let tokens = packed.len() / WIDTH;
        let part = |first| Heads { data: &packed, width: WIDTH, first, head_dim: SHAPE.head_dim };
        let layer =
            Layer { shape: SHAPE, rows: &rows, queries: part(0), keys: part(32), values: part(48), rotary: None };
        layer.check(tokens).unwrap();
        let mut plan = Plan::default();
        layer.plan(&mut plan);
        let parts: Vec<Mutex<Found>> = (0..plan.parts).map(|_| Mutex::default()).collect();
        let mut output = vec![0.0; tokens * SHAPE.heads * SHAPE.head_dim];
        let mut pieces = Vec::new();
        layer.cut(&mut output, &mut pieces);
        (0..rows.len() * SHAPE.kv_heads).for_each(|index| layer.store(index / SHAPE.kv_heads, index % SHAPE.kv_heads));
        // Whatever the order.
        plan.tasks.iter().rev().for_each(|task| layer.mix(task, &parts, &pieces));
        plan.sums.iter().for_each(|(task, range)| layer.sum(task, &parts[range.clone()], &pieces));
        drop(pieces);
        let mut rest = &output[..];
        let mut row = |row: &BatchRow| {
            let (mine, others) = rest.split_at(row.tokens * SHAPE.heads * SHAPE.head_dim);
            rest = others;
            mine.to_vec()
        };
        (rows.iter().map(&mut row).collect(), plan.parts)
    }

    #[test]
    fn what_a_token_gets_depends_neither_on_cuts_nor_on_sections_nor_on_other_rows() {
        let number = |i: usize| ((i * 37 + i / 64 * 11) % 101) as f32 / 25.0 - 2.0;
        let tokens = 2 * SECTION + 300;
        let texts: Vec<Vec<f32>> =
            (0..2).map(|text| (0..tokens * WIDTH).map(|i| number(i + 5 * text)).collect()).collect();
        let whole: Vec<Vec<f32>> = texts
            .iter()
            .map(|packed| {
                let (mut rows, parts) = run(&[New { kv: &kv(), past: 0, packed }]);
                assert_eq!(parts, 0, "a long chunk has tasks enough");
                rows.remove(0)
            })
            .collect();
        let short = &texts[0][..9 * WIDTH];
        for cuts in [&[1, 30, 7, 100][..], &[24, 300]] {
            let caches = [kv(), kv()];
            let (mut past, mut found, mut sections) = (0, [Vec::<f32>::new(), Vec::new()], 0);
            for cut in cuts.iter().cycle() {
                let end = (past + cut).min(tokens);
                let new = |row: usize| New { kv: &caches[row], past, packed: &texts[row][past * WIDTH..end * WIDTH] };
                // A short one in between.
                let (rows, parts) = run(&[new(0), New { kv: &kv(), past: 0, packed: short }, new(1)]);
                assert!(rows[1] == whole[0][..rows[1].len()]);
                found[0].extend(&rows[0]);
                found[1].extend(&rows[2]);
                sections = sections.max(parts);
                past = end;
                if past == tokens {
                    break;
                }
            }
            // Three of each row's, of two KV heads.
            assert!(sections >= 12, "{cuts:?}: {sections}");
            assert!(found[..] == whole, "{cuts:?}");
        }
    }
}
