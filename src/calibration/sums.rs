//! Sums of vectors in a file, so that who makes a calibration of many texts can stop and go on.

use std::io::Read;

use motorbrain_kernels::moments::Moments;
use serde::{Deserialize, Serialize};

use super::{
    CalibrationError,
    sealed::{Opened, Shape, Tensor},
};
use crate::safetensors::Type;

/// What the metadata say.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    /// Rows of each of the sums.
    pub(super) counts: Vec<u64>,
    /// Whatever the writer wants to know again.
    pub(super) note: String,
}

/// Whether a vector can be added to sums over vectors of `expected` numbers.
pub(super) fn check(vector: &[f32], expected: usize) -> Result<(), CalibrationError> {
    let found = vector.len();
    if found != expected {
        return Err(CalibrationError::Size { found, expected });
    }
    if vector.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(CalibrationError::NotFinite) }
}

/// The numbers of some sums, three tensors each.
pub(super) fn tensors<const N: usize>(sums: [&Moments; N], names: [[&'static str; 3]; N]) -> Vec<Tensor> {
    let each = sums.into_iter().zip(names).flat_map(|(sums, names)| {
        let (shapes, parts) = (shapes(sums.width(), sums.waiting()), sums.parts());
        names.into_iter().zip(shapes).zip(parts).map(|((name, shape), part)| {
            let bytes = part.iter().flat_map(|x| x.to_le_bytes()).collect();
            Tensor { name, dtype: Type::F64, shape, bytes }
        })
    });
    each.collect()
}

/// The sums of a file, and its note.
pub(super) fn of_file<const N: usize>(
    file: Opened<impl Read>,
    hidden: usize,
    names: [[&'static str; 3]; N],
) -> Result<([Moments; N], String), CalibrationError> {
    let About { counts, note } = file.about()?;
    let malformed = || file.malformed("its sums are not of as many vectors as it says");
    let counts = <[u64; N]>::try_from(counts).map_err(|_| malformed())?;
    let not_whole = malformed();
    if let Some(Shape::Row(found)) = file.shape(names[0][0])
        && found != hidden
    {
        return Err(file.of_size(found, hidden));
    }
    let shapes = counts.map(|count| shapes(hidden, Moments::waiting_of(count)));
    let expected = names.as_flattened().iter().zip(shapes.as_flattened());
    let read = file.read(&expected.map(|(name, shape)| (*name, Type::F64, *shape)).collect::<Vec<_>>())?;
    let mut read = read
        .into_iter()
        .map(|bytes| bytes.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word)).collect::<Vec<_>>());
    let mut of = |count| {
        let parts = [read.next()?, read.next()?, read.next()?];
        let is_finite = parts.iter().flatten().all(|x| x.is_finite());
        Moments::of_parts(hidden, count, parts).filter(|_| is_finite)
    };
    let sums: Option<Vec<Moments>> = counts.into_iter().map(&mut of).collect();
    let sums = sums.and_then(|sums| <[Moments; N]>::try_from(sums).ok());
    Ok((sums.ok_or(not_whole)?, note))
}

fn shapes(hidden: usize, waiting: usize) -> [Shape; 3] {
    [Shape::Row(hidden), Shape::Matrix(hidden, hidden), Shape::Matrix(waiting, hidden)]
}
