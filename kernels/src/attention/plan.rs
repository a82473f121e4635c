//! Cutting a layer's work into tasks of one row, one KV head and a few tokens, and of one section of the keys where
//! those are too few.
//!
//! Pure: what the tasks are follows from the rows' sizes. What a token gets does not depend on it.

use std::{ops::Range, sync::Mutex};

use super::{attend::SECTION, layer::Layer, paged_kv::BatchRow};

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

/// A few neighbouring tokens of one row and one KV head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Which row of the run.
    pub row: usize,
    /// Which KV head.
    pub head: usize,
    /// The first token's place in the run.
    pub first: usize,
    /// The first token's place in its row.
    pub offset: usize,
    /// How many tokens.
    pub tokens: usize,
    /// Which of the run's pieces of tokens it is: tasks of one piece write to one part of the output.
    pub piece: usize,
    /// The one section of the keys that it is for, and which of the plan's parts that is; `None`: all keys.
    pub part: Option<(usize, usize)>,
}

/// What a layer has to do, kept between runs for its memory.
#[derive(Default)]
pub struct Plan {
    /// The largest first.
    pub(super) tasks: Vec<Task>,
    /// Tasks that were cut into sections, and the parts that are to be added up: after all of `tasks`.
    pub(super) sums: Vec<(Task, Range<usize>)>,
    parts: usize,
}

impl Plan {
    /// How many parts its tasks find something for.
    pub fn parts(&self) -> usize {
        self.parts
    }
}

impl Layer<'_> {
    /// Cuts the run into tasks, the largest first.
    pub fn plan(&self, plan: &mut Plan) {
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
    pub(super) fn sections(&self, task: &Task) -> usize {
        (self.visible(task) + task.tokens - 1).div_ceil(SECTION)
    }

    /// Products of a token and a key.
    fn work(&self, task: &Task) -> usize {
        let keys = self.visible(task) + task.tokens - 1;
        task.tokens * task.part.map_or(keys, |(section, _)| (keys - section * SECTION).min(SECTION))
    }

    /// How many keys the task's first token sees.
    pub(super) fn visible(&self, task: &Task) -> usize {
        self.rows[task.row].past + task.offset + 1
    }

    /// Cuts the output as the tasks are.
    pub fn cut<'o>(&self, mut output: &'o mut [f32], pieces: &mut Vec<Mutex<&'o mut [f32]>>) {
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
