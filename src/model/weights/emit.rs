//! The nodes and weights that take a group's place: one product, then a Split or nothing.
//!
//! Weights are worked on one group at a time, so that memory holds one of them, not the model.

use bytes::Bytes;
use motorbrain_kernels::blocks::{Format, Quantized, quantize};

use super::{
    WeightsError,
    data_file::DataFile,
    edit::Edit,
    floats::{self, Rows, constant},
    groups::{Group, Outlet},
    products::{Blocks, Matrix, Product},
    source::Source,
};
use crate::model::{
    build,
    onnx::{self, NodeProto, TensorProto},
    view::View,
};

/// MatMulNBits' `accuracy_level`: activations are rounded to 8 bits, a block at a time, so that products of integers
/// do the work.
const ACCURACY_LEVEL: i64 = 4;

/// What groups are made with.
pub(crate) struct Emitter<'a, 'g> {
    /// The graph that is rewritten, as it was.
    pub(crate) view: &'a View<'g>,
    /// Where its weights lie.
    pub(crate) source: &'a mut Source,
    /// Where the new ones go.
    pub(crate) data: &'a mut DataFile,
    /// What changes in the graph.
    pub(crate) edit: &'a mut Edit,
    /// Whether f16 becomes f32 in all of the graph.
    pub(crate) widened: bool,
}

/// The initializers of a matrix that was quantised, for others that share its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shared {
    /// `[n, blocks, bytes of a block]`.
    pub(crate) values: TensorProto,
    /// `[n, blocks]`.
    pub(crate) scales: TensorProto,
}

impl Emitter<'_, '_> {
    /// Stacks the dense weights of a group.
    pub(crate) fn rows(&mut self, matrices: &[&Matrix]) -> Result<Rows, WeightsError> {
        let parts = matrices.iter().map(|matrix| Rows::of(self.view, self.source, matrix));
        Ok(Rows::stack(parts.collect::<Result<_, _>>()?))
    }

    /// Replaces a group by one MatMul.
    pub(crate) fn dense(&mut self, group: &Group, rows: &Rows) -> Result<(), WeightsError> {
        let name = self.name(group, "weight");
        let tensor = self.data.put(&name, onnx::FLOAT, &[rows.k, rows.n], &rows.columns_first())?;
        self.edit.initializers.push(tensor);
        self.replace(group, |input, output| build::operator("MatMul", &[input, &name], &[output]))
    }

    /// Replaces a group by one MatMulNBits of its quantised weights.
    pub(crate) fn quantized(&mut self, group: &Group, rows: &Rows, format: Format) -> Result<Shared, WeightsError> {
        let Quantized { values, scales } = quantize(&rows.values, rows.k, format);
        let (n, count) = (rows.n, rows.k / format.block_size);
        let block_bytes = format.block_size * usize::from(format.bits) / 8;
        let (values_name, scales_name) = (self.name(group, "values"), self.name(group, "scales"));
        let shared = Shared {
            values: self.data.put(&values_name, onnx::UINT8, &[n, count, block_bytes], &values)?,
            scales: self.data.put(&scales_name, onnx::FLOAT, &[n, count], &floats::bytes_of(&scales))?,
        };
        self.edit.initializers.extend([shared.values.clone(), shared.scales.clone()]);
        let block_size = i64::try_from(format.block_size).unwrap_or(i64::MAX);
        let sizes = [("K", rows.k), ("N", n)].map(|(name, size)| build::int(name, size as i64));
        self.replace(group, |input, output| {
            let mut node =
                build::microsoft(build::operator("MatMulNBits", &[input, &values_name, &scales_name], &[output]));
            node.attribute.extend(sizes.clone());
            node.attribute.push(build::int("bits", i64::from(format.bits)));
            node.attribute.push(build::int("block_size", block_size));
            node.attribute.push(build::int("accuracy_level", ACCURACY_LEVEL));
            node
        })?;
        Ok(shared)
    }

    /// Replaces a group of MatMulNBits by one: outputs are the first dimension of all their tensors.
    pub(crate) fn joined(&mut self, group: &Group, parts: &[&Blocks]) -> Result<(), WeightsError> {
        let Some(first) = parts.first() else { return Ok(()) };
        let mut inputs = vec![
            self.join(group, "values", parts.iter().map(|part| &part.values))?,
            self.join(group, "scales", parts.iter().map(|part| &part.scales))?,
        ];
        if first.zero_points.is_some() {
            inputs.push(self.join(group, "zero_points", parts.iter().filter_map(|part| part.zero_points.as_ref()))?);
        }
        let n: usize = group.members.iter().map(|member| member.n).sum();
        let template = self.view.graph.node[group.members[0].node].clone();
        self.replace(group, |input, output| {
            let mut node = template;
            node.input = [vec![input.to_owned()], inputs].concat();
            node.output = vec![output.to_owned()];
            for attribute in node.attribute.iter_mut().filter(|attribute| attribute.name() == "N") {
                attribute.i = Some(n as i64);
            }
            node
        })
    }

    /// Concatenates constants along their first dimension.
    fn join<'n>(
        &mut self,
        group: &Group,
        part: &str,
        names: impl Iterator<Item = &'n String>,
    ) -> Result<String, WeightsError> {
        let (mut data, mut length, mut like) = (Vec::new(), 0, None);
        for name in names {
            let tensor = constant(self.view, name)?;
            data.extend_from_slice(&self.bytes(tensor)?);
            length += tensor.dims.first().and_then(|&dim| usize::try_from(dim).ok()).unwrap_or(0);
            like.get_or_insert(tensor);
        }
        let name = self.name(group, part);
        if let Some(like) = like {
            let rest = like.dims.iter().skip(1).filter_map(|&dim| usize::try_from(dim).ok());
            let dims: Vec<usize> = [length].into_iter().chain(rest).collect();
            let tensor = self.data.put(&name, self.data_type(like), &dims, &data)?;
            self.edit.initializers.push(tensor);
        }
        Ok(name)
    }

    /// Puts the node that `product` makes, given input and output, in the place of the group.
    fn replace(&mut self, group: &Group, product: impl FnOnce(&str, &str) -> NodeProto) -> Result<(), WeightsError> {
        let first = &group.members[0];
        let place = group.members.iter().map(|member| member.node).min().unwrap_or(first.node);
        let mut nodes = Vec::new();
        if group.outlet == Outlet::Whole {
            nodes.push(product(&first.input, &first.output));
        } else {
            let raw = self.name(group, "product");
            nodes.push(product(&first.input, &raw));
            let whole = self.biased(group, raw, &mut nodes)?;
            self.outlet(group, &whole, &mut nodes);
            let biases = group.members.iter().filter_map(|member| member.bias.as_ref());
            self.edit.removed.extend(biases.map(|bias| bias.node));
        }
        self.edit.removed.extend(group.members.iter().map(|member| member.node));
        self.edit.inserted.entry(place).or_default().extend(nodes);
        Ok(())
    }

    /// Adds the biases as one, where any member has one; the others' are zeros.
    fn biased(&mut self, group: &Group, raw: String, nodes: &mut Vec<NodeProto>) -> Result<String, WeightsError> {
        let Some(first) = group.members.iter().find_map(|member| member.bias.as_ref()) else {
            return Ok(raw);
        };
        let data_type = self.data_type(constant(self.view, &first.tensor)?);
        let width = if data_type == onnx::FLOAT16 { 2 } else { 4 };
        let mut data = Vec::new();
        for member in &group.members {
            match &member.bias {
                Some(bias) => data.extend_from_slice(&self.bytes(constant(self.view, &bias.tensor)?)?),
                None => data.resize(data.len() + member.n * width, 0),
            }
        }
        let n = group.members.iter().map(|member| member.n).sum();
        let (name, sum) = (self.name(group, "bias"), self.name(group, "sum"));
        let tensor = self.data.put(&name, data_type, &[n], &data)?;
        self.edit.initializers.push(tensor);
        nodes.push(build::operator("Add", &[&raw, &name], &[&sum]));
        Ok(sum)
    }

    /// Hands the output of a group on.
    fn outlet(&mut self, group: &Group, whole: &str, nodes: &mut Vec<NodeProto>) {
        if let Outlet::Packed(attention) = group.outlet {
            let inputs = [whole, "", ""].map(str::to_owned);
            self.edit.inputs.extend(inputs.into_iter().enumerate().map(|(index, name)| (attention, index, name)));
            return;
        }
        let sizes = self.name(group, "sizes");
        let widths: Vec<i64> = group.members.iter().map(|member| member.n as i64).collect();
        self.edit.initializers.push(build::integers(&sizes, &[widths.len() as i64], &widths));
        let results: Vec<&str> = group.members.iter().map(Product::result).collect();
        let mut split = build::operator("Split", &[whole, &sizes], &results);
        split.attribute.push(build::int("axis", -1));
        nodes.push(split);
    }

    /// The bytes of a constant, and below the type they are of.
    fn bytes(&mut self, tensor: &TensorProto) -> Result<Bytes, WeightsError> {
        if self.data_type(tensor) == tensor.data_type() {
            return self.source.bytes(tensor);
        }
        Ok(Bytes::from(floats::bytes_of(&floats::read(self.source, tensor)?)))
    }

    fn data_type(&self, tensor: &TensorProto) -> i32 {
        match tensor.data_type() {
            onnx::FLOAT16 if self.widened => onnx::FLOAT,
            data_type => data_type,
        }
    }

    /// A name that is new to the graph, after the group's first output.
    fn name(&self, group: &Group, part: &str) -> String {
        let mut name = format!("{}.{part}", group.members[0].output);
        while self.view.knows(&name) {
            name.push('_');
        }
        name
    }
}
