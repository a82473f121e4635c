//! The rows of the output projection as numbers, some at a time: a row for each token of the vocabulary.
//!
//! A projection is stored as it suits whoever runs it: as floats or as integers with scales, by rows or by columns, behind
//! a Transpose, a Cast or a DequantizeLinear, in blocks of few bits. Here its tensors are found and cut; what is read of
//! a file is what the rows at hand lie in, so that a vocabulary of gigabytes costs some megabytes. A bias, and a factor that is
//! the same for all, are left out.

use bytes::Bytes;
use half::bf16;
use motorbrain_kernels::{
    bytes_of,
    linear::{LinearShape, ZeroPoints, unpack},
    matrix::transposed,
};

use super::{WeightsError, floats::constant, source::Source};
use crate::model::{
    ElementType, external,
    onnx::{self, NodeProto, TensorProto},
    view::{CONSTANT_DEPTH_MAX, View},
};

/// Rows that are read at once.
const ROWS: usize = 2048;

/// Some rows of the projection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadRows<'a> {
    /// Rows of all of it.
    pub(crate) vocab: usize,
    /// Numbers of a row.
    pub(crate) hidden: usize,
    /// Which row is the first of these.
    pub(crate) first: usize,
    /// `[rows, hidden]`
    pub(crate) values: &'a [f32],
}

/// Reads all rows of the projection that a node is, in order.
///
/// # Errors
/// Its weights are of a kind that is not understood, or cannot be read.
pub(crate) fn each(
    view: &View<'_>,
    projection: usize,
    source: &mut Source,
    visit: &mut dyn FnMut(HeadRows<'_>),
) -> Result<(), WeightsError> {
    let node = &view.graph.node[projection];
    let [hidden, vocab] = view.product(node).unwrap_or_default();
    let not_understood = || WeightsError::Projection { operator: node.op_type().to_owned() };
    // What is read below is bounded by the files, but for these.
    if hidden.checked_mul(vocab.max(ROWS)).is_none_or(|numbers| numbers > isize::MAX as usize / size_of::<f64>()) {
        return Err(not_understood());
    }
    let sizes = Sizes { hidden, vocab };
    let stored = Stored::of(view, node, sizes, source)?.ok_or_else(not_understood)?;
    for first in (0..vocab).step_by(ROWS) {
        let values = stored.rows(sizes, first, ROWS.min(vocab - first), source)?;
        visit(HeadRows { vocab, hidden, first, values: &values });
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    vocab: usize,
}

/// How the projection is stored.
enum Stored {
    /// Each number by itself: `(x - zero) * scale`.
    Numbers {
        tensor: Box<TensorProto>,
        /// Whether it is `[vocab, hidden]`, else `[hidden, vocab]`.
        by_rows: bool,
        /// One for each row, or one for all.
        scales: Vec<f32>,
        /// Likewise.
        zeros: Vec<f32>,
    },
    /// In blocks.
    Blocks { shape: LinearShape, codes: Box<TensorProto>, scales: Box<TensorProto>, zeros: Option<Box<TensorProto>> },
}

/// A constant matrix and the way to it.
struct Behind<'g> {
    tensor: &'g TensorProto,
    /// Whether it is `[vocab, hidden]`.
    by_rows: bool,
    /// What gives it its scales on the way.
    dequantize: Option<&'g NodeProto>,
}

impl Stored {
    /// `None` where something is not understood.
    fn of(view: &View<'_>, node: &NodeProto, sizes: Sizes, source: &mut Source) -> Result<Option<Self>, WeightsError> {
        let input = |index: usize| node.input.get(index).map(String::as_str).filter(|name| !name.is_empty());
        let turned = node.int("transB").unwrap_or(0) != 0;
        let (scale, zero) = match node.op_type() {
            "MatMulNBits" => return blocks(view, node, sizes, source),
            "MatMul" | "Gemm" | "FusedMatMul" => (None, None),
            "MatMulInteger" => (scale_behind(view, node), input(3)),
            "MatMulIntegerToFloat" => (input(3), input(5)),
            "DynamicQuantizeMatMul" => (input(2), input(3)),
            _ => return Ok(None),
        };
        let Some(Behind { tensor, by_rows, dequantize }) = input(1).and_then(|input| behind(view, input, turned))
        else {
            return Ok(None);
        };
        let is_integer = node.op_type().contains("Integer") || node.op_type().starts_with("DynamicQuantize");
        let (scale, zero) = match dequantize {
            Some(_) if is_integer => return Ok(None),
            Some(dequantize) => {
                let axis = dequantize.int("axis").unwrap_or(1).rem_euclid(2);
                let scale = dequantize.input.get(1).map(String::as_str);
                let is_by_row = axis == i64::from(!by_rows) && dequantize.int("block_size").unwrap_or(0) == 0;
                let is_single = scale.and_then(|scale| view.constant(scale)).is_some_and(is_one_number);
                if !is_by_row && !is_single {
                    return Ok(None);
                }
                (scale, dequantize.input.get(2).map(String::as_str).filter(|name| !name.is_empty()))
            }
            None if is_integer && scale.is_none() => return Ok(None),
            None => (scale, zero),
        };
        let dims = if by_rows { [sizes.vocab, sizes.hidden] } else { [sizes.hidden, sizes.vocab] };
        let is_matrix = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).eq(dims.map(Some));
        let each = |name: Option<&str>, source: &mut Source, otherwise: f32| match name {
            None => Ok(Some(vec![otherwise])),
            Some(name) => {
                let tensor = constant(view, name)?;
                let read = numbers(tensor.data_type(), &source.bytes(tensor)?);
                Ok::<_, WeightsError>(read.filter(|read| read.len() == 1 || read.len() == sizes.vocab))
            }
        };
        let (scales, zeros) = (each(scale, source, 1.0)?, each(zero, source, 0.0)?);
        let (Some(scales), Some(zeros), true, Some(_)) = (scales, zeros, is_matrix, width(tensor.data_type())) else {
            return Ok(None);
        };
        Ok(Some(Self::Numbers { tensor: settled(tensor, source)?, by_rows, scales, zeros }))
    }

    /// Some rows, `[count, hidden]`.
    fn rows(&self, sizes: Sizes, first: usize, count: usize, source: &mut Source) -> Result<Vec<f32>, WeightsError> {
        let Sizes { hidden, vocab } = sizes;
        match self {
            Self::Numbers { tensor, by_rows, scales, zeros } => {
                let data_type = tensor.data_type();
                let mut part = |at: usize, count: usize| {
                    let width = width(data_type).unwrap_or(1);
                    let bytes = source.part(tensor, (at * width) as u64, (count * width) as u64)?;
                    Ok::<_, WeightsError>(numbers(data_type, &bytes).unwrap_or_default())
                };
                let mut values = if *by_rows {
                    part(first * hidden, count * hidden)?
                } else {
                    let mut lines = Vec::with_capacity(hidden * count);
                    for line in 0..hidden {
                        lines.extend(part(line * vocab + first, count)?);
                    }
                    transposed(&lines, hidden, count)
                };
                let of = |all: &[f32], row: usize| all[if all.len() == 1 { 0 } else { first + row }];
                for (row, values) in values.chunks_exact_mut(hidden).enumerate() {
                    let (scale, zero) = (of(scales, row), of(zeros, row));
                    values.iter_mut().for_each(|x| *x = (*x - zero) * scale);
                }
                Ok(values)
            }
            Self::Blocks { shape, codes, scales, zeros } => {
                let shape = LinearShape { outputs: count, ..*shape };
                let (bits, blocks) = (shape.bits as usize, hidden / shape.block);
                let mut part =
                    |tensor: &TensorProto, row: usize| source.part(tensor, (first * row) as u64, (count * row) as u64);
                let floats = |tensor: &TensorProto, bytes: &Bytes| {
                    bytes_of(&numbers(tensor.data_type(), bytes).unwrap_or_default())
                };
                let row = |tensor: &TensorProto| blocks * width(tensor.data_type()).unwrap_or(1);
                let codes = part(codes, hidden * bits / 8)?;
                let factors = floats(scales, &part(scales, row(scales))?);
                let zeros = match (shape.zero_points, zeros) {
                    (_, None) => Vec::new(),
                    (ZeroPoints::Floats, Some(zeros)) => floats(zeros, &part(zeros, row(zeros))?),
                    (_, Some(zeros)) => part(zeros, (blocks * bits).div_ceil(8))?.to_vec(),
                };
                let unpacked = unpack(&shape, &codes, &factors, &zeros);
                unpacked.map_err(|_| WeightsError::Projection { operator: "MatMulNBits".to_owned() })
            }
        }
    }
}

/// The tensors of a MatMulNBits.
fn blocks(
    view: &View<'_>,
    node: &NodeProto,
    Sizes { hidden, vocab }: Sizes,
    source: &mut Source,
) -> Result<Option<Stored>, WeightsError> {
    let tensor = |index: usize| {
        let name = node.input.get(index).filter(|name| !name.is_empty())?;
        Some(view.constant(name))
    };
    let block = node.int("block_size").and_then(|size| usize::try_from(size).ok()).filter(|size| *size >= 16);
    let bits = node.int("bits").unwrap_or(4);
    let (Some(Some(codes)), Some(Some(scales)), Some(block), 2 | 4 | 8) = (tensor(1), tensor(2), block, bits) else {
        return Ok(None);
    };
    // Inputs in another order, and a last block that is not whole.
    if tensor(4).is_some() || !hidden.is_multiple_of(block) {
        return Ok(None);
    }
    let (zero_points, zeros) = match tensor(3) {
        None => (ZeroPoints::Middle, None),
        Some(Some(zeros)) if zeros.data_type() == onnx::UINT8 => (ZeroPoints::Codes, Some(zeros)),
        Some(Some(zeros)) if is_float(zeros) => (ZeroPoints::Floats, Some(zeros)),
        Some(_) => return Ok(None),
    };
    let whole = (hidden * vocab) as u128 * bits as u128 / 8;
    if !is_float(scales) || external::bytes_of(codes).map(u128::from) != Some(whole) {
        return Ok(None);
    }
    let shape = LinearShape { inputs: hidden, outputs: vocab, bits: bits as u32, block, zero_points };
    let zeros = zeros.map(|zeros| settled(zeros, source)).transpose()?;
    Ok(Some(Stored::Blocks { shape, codes: settled(codes, source)?, scales: settled(scales, source)?, zeros }))
}

/// The constant behind the second input of a product.
fn behind<'g>(view: &View<'g>, input: &str, turned: bool) -> Option<Behind<'g>> {
    let (mut name, mut by_rows, mut dequantize) = (input.to_owned(), turned, None);
    for _ in 0..=CONSTANT_DEPTH_MAX {
        if let Some(tensor) = view.constant(&name) {
            return Some(Behind { tensor, by_rows, dequantize });
        }
        let (_, node) = view.earlier(&name)?;
        match node.op_type() {
            // Its axis is one of the matrix as it is stored.
            "Transpose" if dequantize.is_none() => {
                let order = node.attr("perm").map_or(&[1, 0][..], |perm| &perm.ints);
                by_rows ^= order == [1, 0];
            }
            "Identity" | "Cast" => {}
            "DequantizeLinear" if dequantize.is_none() => dequantize = Some(node),
            _ => return None,
        }
        name.clone_from(node.input.first()?);
    }
    None
}

/// The scales of a MatMulInteger's weights: behind it, times that of the activations.
fn scale_behind<'g>(view: &View<'g>, node: &NodeProto) -> Option<&'g str> {
    let only = |tensor: &str, operator: &str| match view.consumers(tensor) {
        &[index] => Some(&view.graph.node[index]).filter(|node| node.op_type() == operator),
        _ => None,
    };
    let cast = only(node.output.first()?, "Cast")?.output.first()?;
    let scaled = only(cast, "Mul")?;
    let factor = scaled.input.iter().find(|input| *input != cast)?;
    let (_, product) = view.earlier(factor)?;
    let is_product = product.op_type() == "Mul";
    product.input.iter().find(|input| is_product && view.constant(input).is_some()).map(String::as_str)
}

/// A tensor whose parts can be cut: its bytes are in a file, or as they would be there.
fn settled(tensor: &TensorProto, source: &mut Source) -> Result<Box<TensorProto>, WeightsError> {
    if tensor.data_location() == onnx::EXTERNAL {
        return Ok(Box::new(tensor.clone()));
    }
    let TensorProto { name, dims, data_type, .. } = tensor;
    let (name, dims, raw_data) = (name.clone(), dims.clone(), Some(source.bytes(tensor)?));
    Ok(Box::new(TensorProto { name, dims, data_type: *data_type, raw_data, ..TensorProto::default() }))
}

fn is_one_number(tensor: &TensorProto) -> bool {
    tensor.dims.iter().all(|dim| *dim == 1)
}

fn is_float(tensor: &TensorProto) -> bool {
    matches!(tensor.data_type(), onnx::FLOAT | onnx::FLOAT16 | onnx::BFLOAT16)
}

/// Bytes of a number of a type that is understood.
fn width(data_type: i32) -> Option<usize> {
    match data_type {
        onnx::FLOAT => Some(4),
        onnx::FLOAT16 | onnx::BFLOAT16 => Some(2),
        onnx::UINT8 | onnx::INT8 => Some(1),
        _ => None,
    }
}

/// The numbers of such a type.
fn numbers(data_type: i32, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match data_type {
        onnx::FLOAT => ElementType::F32.numbers(bytes),
        onnx::FLOAT16 => ElementType::F16.numbers(bytes),
        onnx::BFLOAT16 => bytes.as_chunks().0.iter().map(|word| bf16::from_le_bytes(*word).to_f32()).collect(),
        onnx::UINT8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
        onnx::INT8 => bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::PathBuf;

    use half::f16;

    use super::*;
    use crate::model::{
        build::{int, operator, with},
        onnx::{AttributeProto, GraphProto},
    };

    /// More rows than are read at once.
    const VOCAB: usize = ROWS + 50;
    const HIDDEN: usize = 32;
    const BLOCK: usize = 16;

    /// An integer that any type here holds.
    fn code(row: usize, column: usize) -> i32 {
        (row * 7 + column * 3) as i32 % 200 - 100
    }

    fn scale(row: usize) -> f32 {
        [1.0, 0.5, 0.25][row % 3]
    }

    fn zero(row: usize) -> i32 {
        row as i32 % 5
    }

    /// A constant; dimensions and numbers in row-major order.
    fn tensor(name: &str, data_type: i32, dims: &[usize], numbers: impl Iterator<Item = f32>) -> TensorProto {
        let bytes: Vec<u8> = match data_type {
            onnx::FLOAT => numbers.flat_map(f32::to_le_bytes).collect(),
            onnx::FLOAT16 => numbers.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            onnx::BFLOAT16 => numbers.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => numbers.map(|x| (x as i32).to_le_bytes()[0]).collect(),
        };
        TensorProto {
            name: Some(name.to_owned()),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: Some(data_type),
            raw_data: Some(Bytes::from(bytes)),
            ..TensorProto::default()
        }
    }

    /// The matrix `w`: by rows or by columns.
    fn matrix(data_type: i32, by_rows: bool, value: impl Fn(usize, usize) -> f32) -> TensorProto {
        let dims = if by_rows { [VOCAB, HIDDEN] } else { [HIDDEN, VOCAB] };
        let numbers = (0..VOCAB * HIDDEN).map(|index| (index / dims[1], index % dims[1]));
        tensor("w", data_type, &dims, numbers.map(|(x, y)| if by_rows { value(x, y) } else { value(y, x) }))
    }

    /// All rows of the last node's projection.
    fn rows(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Option<Vec<f32>> {
        let graph = GraphProto { node, initializer, ..GraphProto::default() };
        let view = View::new(&graph);
        let projection = graph.node.iter().rposition(|node| node.input[0] == "x").unwrap();
        let mut all = Vec::new();
        let mut add = |rows: HeadRows<'_>| {
            assert_eq!((rows.vocab, rows.hidden, rows.first * HIDDEN), (VOCAB, HIDDEN, all.len()));
            assert!(rows.values.len() <= ROWS * HIDDEN);
            all.extend_from_slice(rows.values);
        };
        match each(&view, projection, &mut Source::new(PathBuf::new()), &mut add) {
            Ok(()) => Some(all),
            Err(WeightsError::Projection { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn expected(value: impl Fn(usize, usize) -> f32) -> Option<Vec<f32>> {
        Some((0..VOCAB * HIDDEN).map(|index| value(index / HIDDEN, index % HIDDEN)).collect())
    }

    fn plain(row: usize, column: usize) -> f32 {
        code(row, column) as f32
    }

    fn scaled(row: usize, column: usize) -> f32 {
        (code(row, column) - zero(row)) as f32 * scale(row)
    }

    #[test]
    fn floats_are_read_however_they_lie() {
        let product = |op_type: &str, input: &str, attributes: Vec<AttributeProto>| {
            with(operator(op_type, &["x", input], &["logits"]), attributes)
        };
        for data_type in [onnx::FLOAT, onnx::FLOAT16, onnx::BFLOAT16] {
            let turn = || operator("Transpose", &["w"], &["turned"]);
            let cast = || with(operator("Cast", &["w"], &["wide"]), vec![int("to", 1)]);
            let cases = [
                (false, vec![product("MatMul", "w", vec![])]),
                (false, vec![cast(), product("MatMul", "wide", vec![])]),
                (true, vec![turn(), product("MatMul", "turned", vec![])]),
                (true, vec![product("Gemm", "w", vec![int("transB", 1)])]),
                (true, vec![product("FusedMatMul", "w", vec![int("transB", 1)])]),
                (false, vec![turn(), product("Gemm", "turned", vec![int("transB", 1)])]),
            ];
            for (by_rows, nodes) in cases {
                assert_eq!(rows(nodes, vec![matrix(data_type, by_rows, plain)]), expected(plain), "{data_type}");
            }
        }
    }

    #[test]
    fn integers_are_read_with_the_scales_and_zeros_of_their_rows() {
        let scales = || tensor("scale", onnx::FLOAT, &[VOCAB], (0..VOCAB).map(scale));
        let zeros = |data_type| tensor("zero", data_type, &[VOCAB], (0..VOCAB).map(|row| zero(row) as f32));
        let one = || tensor("scale", onnx::FLOAT, &[], [0.5].into_iter());
        let dequantize =
            |axis: i64| with(operator("DequantizeLinear", &["w", "scale", "zero"], &["wide"]), vec![int("axis", axis)]);
        let all = |by_rows| vec![matrix(onnx::INT8, by_rows, plain), scales(), zeros(onnx::INT8)];
        let product = |input: &str| operator("MatMul", &["x", input], &["logits"]);
        let turn = || operator("Transpose", &["wide"], &["turned"]);
        for (by_rows, axis) in [(true, 0), (true, -2), (false, 1), (false, -1)] {
            let nodes = if by_rows { vec![turn(), product("turned")] } else { vec![product("wide")] };
            let nodes = [vec![dequantize(axis)], nodes].concat();
            assert_eq!(rows(nodes.clone(), all(by_rows)), expected(scaled), "{by_rows} {axis}");
            // Scales of columns cannot be those of as many rows.
            let nodes = [vec![dequantize(1 - axis.rem_euclid(2))], nodes[1..].to_vec()].concat();
            assert_eq!(rows(nodes, all(by_rows)), None);
        }
        let single = vec![operator("DequantizeLinear", &["w", "scale"], &["wide"]), product("wide")];
        let halved = |row, column| plain(row, column) * 0.5;
        assert_eq!(rows(single, vec![matrix(onnx::INT8, false, plain), one()]), expected(halved));

        // As dynamic quantisation makes them: unsigned, the scale behind the product.
        let unsigned = |row, column| plain(row, column) + 100.0;
        let shifted = |row: usize, column| (unsigned(row, column) - zero(row) as f32) * scale(row);
        let all = || vec![matrix(onnx::UINT8, false, unsigned), scales(), zeros(onnx::UINT8)];
        let behind = [
            operator("MatMulInteger", &["x", "w", "xz", "zero"], &["product"]),
            with(operator("Cast", &["product"], &["wide"]), vec![int("to", 1)]),
            operator("Mul", &["xs", "scale"], &["scales"]),
            operator("Mul", &["wide", "scales"], &["logits"]),
        ];
        // The factor is made before the product, as nodes stand in their order.
        let behind = [2, 0, 1, 3].map(|index| behind[index].clone()).to_vec();
        assert_eq!(rows(behind.clone(), all()), expected(shifted));
        assert_eq!(rows(behind[1..2].to_vec(), all()), None, "no scales are found");
        for (op_type, inputs) in [
            ("MatMulIntegerToFloat", &["x", "w", "xs", "scale", "xz", "zero"][..]),
            ("DynamicQuantizeMatMul", &["x", "w", "scale", "zero"]),
        ] {
            assert_eq!(rows(vec![operator(op_type, inputs, &["logits"])], all()), expected(shifted), "{op_type}");
        }
    }

    #[test]
    fn blocks_are_read_with_any_zero_points_and_what_is_not_understood_is_refused() {
        let blocks = HIDDEN / BLOCK;
        let node = |inputs: &[&str], block: usize| {
            let sizes = [("K", HIDDEN), ("N", VOCAB), ("block_size", block), ("bits", 8)];
            let sizes = sizes.map(|(name, size)| int(name, size as i64)).to_vec();
            vec![with(operator("MatMulNBits", inputs, &["logits"]), sizes)]
        };
        let codes = || {
            let codes = (0..VOCAB * HIDDEN).map(|index| plain(index / HIDDEN, index % HIDDEN) + 128.0);
            tensor("codes", onnx::UINT8, &[VOCAB, blocks, BLOCK], codes)
        };
        let each = |name: &str, data_type, value: fn(usize) -> f32| {
            let numbers = (0..VOCAB * blocks).map(move |index| value(index / blocks));
            tensor(name, data_type, &[VOCAB * blocks], numbers)
        };
        for data_type in [onnx::FLOAT, onnx::FLOAT16] {
            let scales = || each("scales", data_type, scale);
            let middle = |row, column| plain(row, column) * scale(row);
            let found = rows(node(&["x", "codes", "scales"], BLOCK), vec![codes(), scales()]);
            assert_eq!(found, expected(middle));
            for zeros in [onnx::UINT8, data_type] {
                let zeros = each("zeros", zeros, |row| 128.0 + zero(row) as f32);
                let found = rows(node(&["x", "codes", "scales", "zeros"], BLOCK), vec![codes(), scales(), zeros]);
                assert_eq!(found, expected(scaled), "{data_type}");
            }
        }
        let scales = || each("scales", onnx::FLOAT, scale);
        let order = tensor("order", onnx::UINT8, &[HIDDEN], (0..HIDDEN).map(|x| x as f32));
        let reordered = node(&["x", "codes", "scales", "", "order"], BLOCK);
        assert_eq!(rows(reordered, vec![codes(), scales(), order]), None);
        for block in [8, 24, 1 << 40] {
            assert_eq!(rows(node(&["x", "codes", "scales"], block), vec![codes(), scales()]), None, "{block}");
        }
        let short = tensor("codes", onnx::UINT8, &[8], (0..8).map(|x| x as f32));
        assert_eq!(rows(node(&["x", "codes", "scales"], BLOCK), vec![short, scales()]), None);
        let sizes = [("K", 1_i64 << 40), ("N", 1 << 40), ("block_size", 16)].map(|(name, size)| int(name, size));
        let huge = vec![with(operator("MatMulNBits", &["x", "codes", "scales"], &["logits"]), sizes.to_vec())];
        assert_eq!(rows(huge, vec![codes(), scales()]), None);
        let other = vec![with(operator("MatMulBnb4", &["x", "codes", "scales"], &["logits"]), sizes.to_vec())];
        assert_eq!(rows(other, vec![codes(), scales()]), None);
    }
}
