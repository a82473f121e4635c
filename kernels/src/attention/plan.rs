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
                    let count = sections.len();
                    let part = |(index, section)| Task { part: Some((section, *parts + index)), ..task };
                    tasks.extend(sections.enumerate().map(part));
                    sums.push((task, *parts..*parts + count));
                    *parts += count;
                }
                piece += 1;
            }
            first += row.tokens;
        }
        tasks.sort_unstable_by_key(|task| std::cmp::Reverse(self.work(task)));
    }

    /// Whether the work is worth several threads.
    pub(super) fn is_shared(&self) -> bool {
        let work = |row: &BatchRow| row.tokens * self.shape.seen(row.past + row.tokens - 1).len();
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
        let sections = self.sections_of(row.past, row.tokens).len();
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

    /// The sections of the keys that the task's tokens see.
    pub(super) fn sections(&self, task: &Task) -> Range<usize> {
        self.sections_of(self.past(task), task.tokens)
    }

    /// The sections of the keys that some tokens behind `past` others see.
    fn sections_of(&self, past: usize, tokens: usize) -> Range<usize> {
        self.shape.seen(past).start / SECTION..(past + tokens).div_ceil(SECTION)
    }

    /// Products of a token and a key, about.
    fn work(&self, task: &Task) -> usize {
        let (first, end) = (self.shape.seen(self.past(task)).start, self.past(task) + task.tokens);
        let seen = |(section, _)| end.min((section + 1) * SECTION) - first.max(section * SECTION);
        task.tokens * task.part.map_or(end - first, seen)
    }

    /// Rows before the task's first token.
    pub(super) fn past(&self, task: &Task) -> usize {
        self.rows[task.row].past + task.offset
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
