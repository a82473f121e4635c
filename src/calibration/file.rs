//! A calibration in its file: `mean` and `matrix`, and what they are for.

use std::{io::Read, path::Path};

use half::f16;
use motorbrain_kernels::{ElementType, bytes_of};
use serde::{Deserialize, Serialize};

use super::{
    Affine, Calibration, CalibrationError, Maker, Recipe,
    sealed::{self, Kind, Opened, Shape, Tensor},
};
use crate::{engine::Lineage, safetensors::Type, spill::hexadecimal};

pub(super) const KIND: Kind = Kind { format: "motorbrain.calibration", what: "calibration" };

/// What the metadata say of it.
#[derive(Serialize, Deserialize)]
struct About {
    recipe: Recipe,
    /// Hexadecimal.
    tokenizer: String,
    /// Hexadecimal, of what the weights go back to.
    weights: String,
    maker: Maker,
    made_from: String,
}

impl Calibration {
    /// Reads a file; `hidden` and `lineage` are the model's. Blocks.
    ///
    /// # Errors
    /// It is none, is damaged, or is another model's. No more memory was asked for than a calibration of this model takes.
    pub fn read(path: &Path, hidden: usize, lineage: &Lineage) -> Result<Self, CalibrationError> {
        Self::opened(Opened::open(path, KIND)?, hidden, lineage)
    }

    /// Writes it to a file, where another may be. It is there as a whole or not at all. Blocks.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CalibrationError> {
        sealed::write(path, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let about = About {
            recipe: self.recipe.clone(),
            tokenizer: hexadecimal(&self.lineage.tokenizer, 64),
            weights: hexadecimal(&self.lineage.weights, 64),
            maker: self.maker,
            made_from: self.made_from.clone(),
        };
        sealed::encode(KIND, &about, &self.affine.tensors())
    }

    fn opened(file: Opened<impl Read>, hidden: usize, lineage: &Lineage) -> Result<Self, CalibrationError> {
        let About { recipe, tokenizer, weights, maker, made_from } = file.about()?;
        for (what, found, expected) in
            [("the tokenizer", tokenizer, &lineage.tokenizer), ("the weights", weights, &lineage.weights)]
        {
            let expected = hexadecimal(expected, 64);
            if found != expected {
                let found = found.chars().take(80).flat_map(char::escape_default).collect();
                return Err(CalibrationError::Foreign { path: file.path().to_owned(), what, found, expected });
            }
        }
        Ok(Self { affine: Affine::opened(file, hidden)?, recipe, lineage: *lineage, maker, made_from })
    }
}

impl Affine {
    /// Its numbers, as they lie in a file.
    pub(super) fn tensors(&self) -> [Tensor; 2] {
        let (mean, matrix) = (bytes_of(self.mean()), self.matrix().iter().flat_map(|x| x.to_le_bytes()).collect());
        let shapes = (Shape::Row(self.hidden()), Shape::Matrix(self.hidden(), self.dim()));
        [
            Tensor { name: "mean", dtype: Type::F32, shape: shapes.0, bytes: mean },
            Tensor { name: "matrix", dtype: Type::F16, shape: shapes.1, bytes: matrix },
        ]
    }

    /// Those of a file, for hidden states of this size.
    pub(super) fn opened(file: Opened<impl Read>, hidden: usize) -> Result<Self, CalibrationError> {
        let Some(Shape::Matrix(rows, dim)) = file.shape("matrix") else {
            return Err(file.malformed("it has no matrix"));
        };
        if rows != hidden {
            return Err(file.of_size(rows, hidden));
        }
        // More directions than the space has.
        if dim > hidden {
            return Err(file.malformed("its vectors are longer than hidden states"));
        }
        let not_finite = file.malformed("a number is not finite, or all are zero");
        let shapes = [("mean", Type::F32, Shape::Row(hidden)), ("matrix", Type::F16, Shape::Matrix(hidden, dim))];
        let [mean, matrix] = &file.read(&shapes)?[..] else { return Err(not_finite) };
        let matrix: Vec<f16> = matrix.as_chunks().0.iter().map(|word| f16::from_le_bytes(*word)).collect();
        Self::checked(ElementType::F32.numbers(mean), &matrix, dim).ok_or(not_finite)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs;

    use motorbrain_kernels::dense::Dense;

    use super::*;

    const HIDDEN: usize = 6;
    const LINEAGE: Lineage = Lineage { weights: [0xab; 32], tokenizer: [0x12; 32] };

    fn calibration() -> Calibration {
        let number = |index: usize| (index as f64 * 1.7).sin() * 10.0_f64.powi(index as i32 % 5 - 2);
        let matrix = Dense::of(HIDDEN, 4, (0..HIDDEN * 4).map(number).collect());
        Calibration {
            affine: Affine::of(&(0..HIDDEN).map(number).collect::<Vec<_>>(), &matrix).unwrap(),
            recipe: Recipe::Probe { prefix: "This text: \"".into(), probe: "\"\nA good name for it: `".into() },
            lineage: LINEAGE,
            maker: Maker::Texts,
            made_from: "7 texts".into(),
        }
    }

    fn read(bytes: &[u8], hidden: usize, lineage: &Lineage) -> Result<Calibration, CalibrationError> {
        let opened = Opened::begin(bytes, bytes.len() as u64, Path::new("a file"), KIND)?;
        Calibration::opened(opened, hidden, lineage)
    }

    #[test]
    fn what_was_written_is_read_again_and_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(super::super::FILE);
        fs::write(&path, "what was there before").unwrap();
        for recipe in [calibration().recipe, Recipe::Mean, Recipe::Last] {
            let calibration = Calibration { recipe, ..calibration() };
            calibration.write(&path).unwrap();
            assert_eq!(Calibration::read(&path, HIDDEN, &LINEAGE).unwrap(), calibration);
            assert_eq!(calibration.encode(), fs::read(&path).unwrap(), "the same bytes each time");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let none = folder.path().join("none");
        for path in [none.as_path(), &none.join("deeper"), folder.path()] {
            let told = Calibration::read(path, HIDDEN, &LINEAGE);
            assert!(matches!(told, Err(CalibrationError::Io { done: "read", .. })), "{told:?}");
        }
        let told = calibration().write(&none.join("deeper"));
        assert!(matches!(told, Err(CalibrationError::Io { done: "written", .. })), "{told:?}");
    }

    #[test]
    fn a_foreign_file_is_refused_by_what_differs() {
        let bytes = calibration().encode();
        let refused = |hidden, lineage| read(&bytes, hidden, &lineage).unwrap_err().to_string();
        let other = |word: &str, other: &str| (word.repeat(32), other.repeat(32));
        let (found, expected) = other("ab", "cd");
        assert_eq!(
            refused(HIDDEN, Lineage { weights: [0xcd; 32], ..LINEAGE }),
            format!("a file was made for the weights {found}, the model has {expected}")
        );
        let (found, expected) = other("12", "34");
        assert_eq!(
            refused(HIDDEN, Lineage { tokenizer: [0x34; 32], ..LINEAGE }),
            format!("a file was made for the tokenizer {found}, the model has {expected}")
        );
        assert_eq!(refused(7, LINEAGE), "a file was made for a hidden size of 6, the model has 7");
        let told = read(&bytes, 7, &LINEAGE).unwrap_err();
        assert!(told.hint().unwrap().contains("motorbrain calibrate"), "{told:?}");
    }

    #[test]
    fn whatever_bit_is_flipped_and_wherever_it_is_cut_is_told() {
        let (bytes, whole) = (calibration().encode(), calibration());
        for len in 0..bytes.len() {
            let told = read(&bytes[..len], HIDDEN, &LINEAGE);
            assert!(told.is_err(), "{len} bytes: {told:?}");
        }
        assert!(matches!(read(&bytes[..bytes.len() - 1], HIDDEN, &LINEAGE), Err(CalibrationError::Length { .. })));
        assert!(read(&[&bytes[..], b"x"].concat(), HIDDEN, &LINEAGE).is_err());
        let mut harmless = 0;
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = read(&flipped, HIDDEN, &LINEAGE) {
                assert_eq!(found, whole, "bit {bit}");
                harmless += 1;
            }
        }
        // JSON may say the same in other letters, such as the digits of an escape.
        assert!(harmless < 4, "{harmless}");
    }

    #[test]
    fn numbers_that_are_none_and_sizes_that_are_only_said_are_refused() {
        let of = |mean: [f32; 2], matrix: [f16; 4], rows| {
            let about = About {
                recipe: Recipe::Mean,
                tokenizer: hexadecimal(&LINEAGE.tokenizer, 64),
                weights: hexadecimal(&LINEAGE.weights, 64),
                maker: Maker::Pairs,
                made_from: String::new(),
            };
            let matrix = matrix.iter().flat_map(|x| x.to_le_bytes()).collect();
            let shape = Shape::Matrix(rows, 4 / rows.max(1));
            let tensors = [
                Tensor { name: "mean", dtype: Type::F32, shape: Shape::Row(2), bytes: bytes_of(&mean) },
                Tensor { name: "matrix", dtype: Type::F16, shape, bytes: matrix },
            ];
            sealed::encode(KIND, &about, &tensors)
        };
        let (one, none) = (f16::ONE, f16::NAN);
        assert!(read(&of([0.0; 2], [one; 4], 2), 2, &LINEAGE).is_ok());
        for (mean, matrix, rows, hidden) in [
            ([0.0, f32::NAN], [one; 4], 2, 2),
            ([f32::INFINITY, 0.0], [one; 4], 2, 2),
            ([0.0; 2], [one, one, none, one], 2, 2),
            ([0.0; 2], [f16::ZERO; 4], 2, 2),
            // A mean of another length, and vectors longer than hidden states.
            ([0.0; 2], [one; 4], 4, 4),
            ([0.0; 2], [one; 4], 1, 1),
        ] {
            let told = read(&of(mean, matrix, rows), hidden, &LINEAGE);
            assert!(matches!(told, Err(CalibrationError::Malformed { .. })), "{told:?}");
        }
        // A file with a hole, as long as it says.
        let huge = calibration().encode();
        let told = Opened::begin(&huge[..], u64::MAX, Path::new("a file"), KIND);
        assert!(matches!(told.err(), Some(CalibrationError::Length { .. })));
        let length = u64::MAX.to_le_bytes();
        let told = Opened::begin(&length[..], u64::MAX, Path::new("a file"), KIND);
        assert!(matches!(told.err(), Some(CalibrationError::NoFile { .. })));
    }

    #[test]
    fn another_kind_or_version_of_file_is_told_as_that() {
        let other = Kind { format: "motorbrain.conversation", what: "conversation" };
        let bytes = sealed::encode(other, &(), &calibration().affine.tensors());
        let told = read(&bytes, HIDDEN, &LINEAGE).unwrap_err().to_string();
        assert_eq!(told, "a file holds no calibration: it does not say that it does");
        let bytes = calibration().encode();
        let at = bytes.windows(13).position(|window| window == br#""version":"1""#).unwrap();
        let newer = [&bytes[..at + 11], b"2", &bytes[at + 12..]].concat();
        let told = read(&newer, HIDDEN, &LINEAGE).unwrap_err();
        assert!(matches!(&told, CalibrationError::Version { found, .. } if found == "2"), "{told}");
    }
}
