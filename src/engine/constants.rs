//! What our own operators keep of a model's constants, read once for all engines of a process.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use motorbrain_kernels::linear::{Packed, Precision, pack};

use crate::model::{Activations, LinearSource, Paged, Stored, TableSource, mapped};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Constants {
    /// The weights of products.
    pub linears: Vec<Packed>,
    /// Rotation tables.
    pub tables: Vec<Table>,
}

/// Cosines and sines, `[positions, pairs]` each.
pub(crate) struct Table {
    pub pairs: usize,
    pub cosines: Vec<f32>,
    pub sines: Vec<f32>,
}

impl Constants {
    /// The least that products round activations to; `None` where there are none.
    pub(super) fn coarsest(&self) -> Option<Precision> {
        let coarse = self.linears.iter().any(|packed| packed.precision() == Precision::Bytes);
        (!self.linears.is_empty()).then_some(if coarse { Precision::Bytes } else { Precision::Words })
    }

    /// Reads a paged form's constants; files are relative to `folder`. The error is a message: the model
    /// was checked when it was opened, so its files are others since.
    pub(super) fn read(paged: &Paged, folder: &Path, activations: Activations) -> Result<Self, String> {
        let mut files = Files { folder: folder.to_owned(), open: HashMap::new() };
        let linears = paged.linears.iter().map(|source| files.linear(source, activations)).collect::<Result<_, _>>()?;
        let tables = paged.tables.iter().map(|source| files.table(source)).collect::<Result<_, _>>()?;
        Ok(Self { linears, tables })
    }
}

/// A folder's files, each mapped once.
struct Files {
    folder: PathBuf,
    open: HashMap<String, Bytes>,
}

impl Files {
    fn linear(&mut self, source: &LinearSource, activations: Activations) -> Result<Packed, String> {
        let precision = if activations == Activations::Int8 { Precision::Bytes } else { Precision::Words };
        let [codes, scales, zeros] = [&source.codes, &source.scales, &source.zeros].map(|stored| self.bytes(stored));
        pack(&source.shape, &codes?, &scales?, &zeros?, precision).map_err(|error| error.to_string())
    }

    fn table(&mut self, source: &TableSource) -> Result<Table, String> {
        let cosines = source.element.numbers(&self.bytes(&source.cosines)?);
        let sines = source.element.numbers(&self.bytes(&source.sines)?);
        Ok(Table { pairs: source.pairs, cosines, sines })
    }

    fn bytes(&mut self, stored: &Stored) -> Result<Bytes, String> {
        let (location, offset, length) = match stored {
            Stored::Inline(bytes) => return Ok(bytes.clone()),
            Stored::File { location, offset, length } => (location, *offset, *length),
        };
        let file: &Bytes = match self.open.entry(location.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let path = self.folder.join(location);
                entry.insert(mapped::map(&path).map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        let (from, all) = (usize::try_from(offset).unwrap_or(usize::MAX), file.len());
        let to = length.map_or(all, |length| from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
        let inside = from <= to && to <= all;
        inside.then(|| file.slice(from..to)).ok_or_else(|| format!("{location} has only {all} bytes"))
    }
}
