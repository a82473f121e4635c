//! The embedding, where it is the output projection's matrix: it is looked up in the quantised rows.
//!
//! Tied weights are one initializer in some exports, which the other side may take through a Transpose
//! or along the other axis, and two of equal content in others. Either way the quantised bytes are
//! stored once.

use motorbrain_kernels::blocks::Format;

use super::{
    WeightsError,
    emit::{Emitter, Shared},
    floats::{Rows, constant},
    products::{self, Matrix},
    source::Source,
};
use crate::model::{build, onnx::NodeProto, view::View};

/// A Gather of rows, or of columns, of a constant matrix.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lookup {
    node: usize,
    /// Seen as `[n, k]`, `n` being what is looked up: not swapped means stored as `[k, n]`.
    matrix: Matrix,
    ids: String,
    /// How many dimensions `ids` has.
    rank: usize,
    /// Whether the matrix's rows come first in the result, `[k, ..ids]`.
    columns: bool,
    output: String,
}

/// Every lookup of a graph.
pub(crate) fn find(view: &View<'_>) -> Vec<Lookup> {
    let lookup = |(index, node): (usize, &NodeProto)| {
        let [data, ids] = node.input.as_slice() else {
            return None;
        };
        let columns = match node.int("axis").unwrap_or(0) {
            0 | -2 => false,
            1 | -1 => true,
            _ => return None,
        };
        let gathers = node.op_type() == "Gather" && !view.is_constant(ids);
        let mut matrix = gathers.then(|| products::matrix(view, data))??;
        // `products::matrix` takes `[k, n]` for granted; a lookup of rows has `[n, k]`.
        matrix.swapped ^= !columns;
        let rank = view.rank(ids)?;
        Some(Lookup { node: index, matrix, ids: ids.clone(), rank, columns, output: node.output.first()?.clone() })
    };
    view.graph.node.iter().enumerate().filter_map(lookup).collect()
}

impl Lookup {
    /// Whether it looks up the rows of a projection's matrix, which is `rows` in memory.
    pub(crate) fn is_tied(
        &self,
        view: &View<'_>,
        source: &mut Source,
        projection: &Matrix,
        rows: &Rows,
    ) -> Result<bool, WeightsError> {
        if self.matrix.tensor == projection.tensor {
            return Ok(self.matrix.swapped == projection.swapped);
        }
        let dims = constant(view, &self.matrix.tensor)?.dims.as_slice();
        let (n, k) = (rows.n as i64, rows.k as i64);
        let alike = dims == if self.matrix.swapped { [n, k] } else { [k, n] };
        Ok(alike && Rows::of(view, source, &self.matrix)? == *rows)
    }

    /// Replaces it by a lookup in quantised rows, whose values are the initializer `values`.
    pub(crate) fn share(&self, emitter: &mut Emitter<'_, '_>, shared: &Shared, rows: &Rows, format: Format) {
        let mut name = format!("{}.table", self.output);
        while emitter.view.knows(&name) {
            name.push('_');
        }
        // The same bytes, with two dimensions.
        let dims = [rows.n, rows.k * usize::from(format.bits) / 8];
        let table = emitter.data.alias(&shared.values, &name, &dims);
        let edit = &mut *emitter.edit;
        edit.initializers.push(table);
        let turned = format!("{name}.rows");
        let output = if self.columns { &turned } else { &self.output };
        let mut gather = build::microsoft(build::operator(
            "GatherBlockQuantized",
            &[&name, &self.ids, shared.scales.name()],
            &[output],
        ));
        let attributes = [
            ("bits", i64::from(format.bits)),
            ("block_size", format.block_size as i64),
            ("gather_axis", 0),
            ("quantize_axis", 1),
        ];
        gather.attribute.extend(attributes.map(|(name, value)| build::int(name, value)));
        let mut nodes = vec![gather];
        if self.columns {
            // [..ids, k] as [k, ..ids]; ONNX Runtime drops it where a Transpose back follows.
            let mut transpose = build::operator("Transpose", &[&turned], &[&self.output]);
            let last = self.rank as i64;
            transpose.attribute.push(build::ints("perm", [last].into_iter().chain(0..last).collect()));
            nodes.push(transpose);
        }
        edit.removed.insert(self.node);
        edit.inserted.entry(self.node).or_default().extend(nodes);
    }
}
