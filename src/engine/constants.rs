//! What our own operators keep of a model's constants, read once for all engines of a process.

use bytes::Bytes;
use motorbrain_kernels::linear::{Packed, Precision, pack};

use crate::model::{Activations, LinearSource, Paged, Stored, TableSource, parts::Files};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Constants {
    /// The weights of products.
    pub linears: Vec<Packed>,
    /// Rotation tables.
    pub tables: Vec<Table>,
}

/// Cosines and sines of an attention's rotation.
pub(crate) struct Table {
    /// Pairs of a head that are rotated.
    pub pairs: usize,
    /// `[positions, pairs]`.
    pub cosines: Vec<f32>,
    /// `[positions, pairs]`.
    pub sines: Vec<f32>,
}

impl Constants {
    /// The least that products round activations to; `None` where there are none.
    pub(super) fn coarsest(&self) -> Option<Precision> {
        let coarse = self.linears.iter().any(|packed| packed.precision() == Precision::Bytes);
        (!self.linears.is_empty()).then_some(if coarse { Precision::Bytes } else { Precision::Words })
    }

    /// Reads a paged form's constants from its folder's files. The error is a message: the model was checked when it
    /// was opened, so its files are others since.
    pub(super) fn read(paged: &Paged, files: &mut Files, activations: Activations) -> Result<Self, String> {
        let linears =
            paged.linears.iter().map(|source| linear(source, files, activations)).collect::<Result<_, _>>()?;
        let tables = paged.tables.iter().map(|source| table(source, files)).collect::<Result<_, _>>()?;
        Ok(Self { linears, tables })
    }
}

fn linear(source: &LinearSource, files: &mut Files, activations: Activations) -> Result<Packed, String> {
    let precision = if activations == Activations::Int8 { Precision::Bytes } else { Precision::Words };
    let [codes, scales, zeros] = [&source.codes, &source.scales, &source.zeros].map(|stored| bytes(stored, files));
    pack(&source.shape, &codes?, &scales?, &zeros?, precision).map_err(|error| error.to_string())
}

fn table(source: &TableSource, files: &mut Files) -> Result<Table, String> {
    let cosines = source.element.numbers(&bytes(&source.cosines, files)?);
    let sines = source.element.numbers(&bytes(&source.sines, files)?);
    Ok(Table { pairs: source.pairs, cosines, sines })
}

fn bytes(stored: &Stored, files: &mut Files) -> Result<Bytes, String> {
    let (location, offset, length) = match stored {
        Stored::Inline(bytes) => return Ok(bytes.clone()),
        Stored::File { location, offset, length } => (location, *offset, *length),
    };
    let read = |files: &mut Files| {
        let length = match length {
            Some(length) => length,
            None => files.length(location)?.saturating_sub(offset),
        };
        files.part(location, offset, length)
    };
    read(files).map_err(|error| format!("{}: {error}", files.path(location).display()))
}
