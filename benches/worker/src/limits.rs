//! What the machine can do at most, whatever runs on it: bytes read a second, operations a second.

use std::{hint::black_box, path::Path, thread, time::Instant};

use motorbrain::{Settings, engine::Runtime, find_library};
use ort::{
    session::Session,
    value::{Tensor, ValueType},
};

use crate::Outcome;

/// Far more than any cache holds.
const STREAM_BYTES: usize = 1 << 30;
/// The best of so many: whatever else happens on the machine makes a run slower, never faster.
const STREAM_RUNS: usize = 8;
const MATMUL_RUNS: usize = 12;

/// Bytes a second that `threads` read together, each its own part of a buffer.
pub(crate) fn bandwidth(threads: usize) -> f64 {
    let buffer = vec![1_u64; STREAM_BYTES / 8];
    let part = buffer.len().div_ceil(threads.max(1));
    let run = || {
        let began = Instant::now();
        thread::scope(|scope| {
            for part in buffer.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        STREAM_BYTES as f64 / began.elapsed().as_secs_f64()
    };
    (0..STREAM_RUNS).map(|_| run()).fold(0.0, f64::max)
}

/// Independent sums, so that additions never wait for each other: memory is the only limit.
fn sum(numbers: &[u64]) -> u64 {
    let mut sums = [0_u64; 32];
    for block in numbers.chunks_exact(sums.len()) {
        for (sum, number) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*number);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

/// Operations a second of the graph that `tools/bench/make_models.py` writes, a product of two
/// matrices: 2 * rows * inner * columns.
pub(crate) fn matmul(graph: &Path, threads: usize) -> Outcome<f64> {
    // Nothing of the runtime may be touched before its library is open.
    let runtime = Runtime::open(&find_library(&Settings::default())?.path)?;
    let mut session = Session::builder(runtime.environment())?
        .with_intra_threads(threads)
        .map_err(ort::Error::<()>::from)?
        .commit_from_file(graph)?;
    let (a, product) = (shape(session.inputs()[0].dtype())?, shape(session.outputs()[0].dtype())?);
    let flop = 2.0 * (a[0] * a[1] * product[1]) as f64;
    let a = Tensor::from_array((a.clone(), vec![0.5_f32; a.iter().product()]))?;
    let mut best = 0.0_f64;
    for _ in 0..MATMUL_RUNS {
        let began = Instant::now();
        session.run(ort::inputs![&a])?;
        best = best.max(flop / began.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn shape(value: &ValueType) -> Outcome<Vec<usize>> {
    let shape = value.tensor_shape().ok_or("the graph's values are no tensors")?;
    Ok(shape.iter().map(|&length| usize::try_from(length)).collect::<Result<_, _>>()?)
}
