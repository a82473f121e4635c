//! The types of floats that keys, values and constants are kept in.

use std::fmt;

use half::f16;

use crate::vector;

/// A type of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

impl ElementType {
    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The numbers that some little-endian bytes are, wherever in memory these lie. What is behind the last whole
    /// number is left out.
    pub fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Self::F16 => {
                let narrow: Vec<f16> = bytes.as_chunks().0.iter().map(|word| f16::from_le_bytes(*word)).collect();
                let mut wide = vec![0.0; narrow.len()];
                vector::widen(&narrow, &mut wide);
                wide
            }
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

/// Numbers as little-endian bytes.
pub fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_numbers_they_were_made_of() {
        let numbers = [0.0, -1.5, 65_504.0, 2.0, 0.25, -0.0, 1.0, 3.0, 7.0];
        let wide: Vec<u8> = bytes_of(&numbers).into_iter().chain([1]).collect();
        let narrow: Vec<u8> = numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).chain([1]).collect();
        assert_eq!(ElementType::F32.numbers(&wide), numbers);
        assert_eq!(ElementType::F16.numbers(&narrow), numbers);
    }
}
