//! The messages of an ONNX file, derived by hand from the field numbers of the public schema
//! (`onnx-ml.proto`, IR version 14). Weights (`raw_data`) are slices of the buffer they were decoded
//! from, never copies. Names are the schema's own; public so that tools and tests can write graphs.
//!
//! The schema is proto2: optional fields keep their presence, repeated numbers are unpacked unless
//! marked, so that encoding what was decoded gives the same number of bytes.

use std::fmt;

use bytes::Bytes;
use prost::{Message, Oneof};

/// [`TensorProto::data_type`] and [`type_proto::Tensor::elem_type`]: 32-bit floats.
pub const FLOAT: i32 = 1;
/// Unsigned bytes.
pub const UINT8: i32 = 2;
/// Signed bytes.
pub const INT8: i32 = 3;
/// Unsigned 16-bit integers.
pub const UINT16: i32 = 4;
/// 16-bit integers.
pub const INT16: i32 = 5;
/// 32-bit integers.
pub const INT32: i32 = 6;
/// 64-bit integers.
pub const INT64: i32 = 7;
/// Truth values, a byte each.
pub const BOOL: i32 = 9;
/// 16-bit floats (IEEE 754).
pub const FLOAT16: i32 = 10;
/// 64-bit floats.
pub const DOUBLE: i32 = 11;
/// Unsigned 32-bit integers.
pub const UINT32: i32 = 12;
/// Unsigned 64-bit integers.
pub const UINT64: i32 = 13;
/// 16-bit floats with the exponent of 32-bit ones.
pub const BFLOAT16: i32 = 16;
/// Unsigned 4-bit integers, two a byte.
pub const UINT4: i32 = 21;
/// 4-bit integers, two a byte.
pub const INT4: i32 = 22;
/// [`TensorProto::data_location`]: the data lies in another file.
pub const EXTERNAL: i32 = 1;
/// The `type` of an [`AttributeProto`] that holds a float.
pub const ATTRIBUTE_FLOAT: i32 = 1;
/// The `type` of an [`AttributeProto`] that holds an integer.
pub const ATTRIBUTE_INT: i32 = 2;
/// The `type` of an [`AttributeProto`] that holds integers.
pub const ATTRIBUTE_INTS: i32 = 7;
/// The `type` of an [`AttributeProto`] that holds a tensor.
pub const ATTRIBUTE_TENSOR: i32 = 4;

/// The domain of ONNX Runtime's own operators.
pub const MICROSOFT: &str = "com.microsoft";

/// A file: a graph, the operators it uses and who wrote it.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Of the file format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// The tool that wrote it.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// That tool's own.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// The model's namespace, in reverse-DNS order.
    #[prost(string, optional, tag = "4")]
    pub domain: Option<String>,
    /// The model's own, as its author counts.
    #[prost(int64, optional, tag = "5")]
    pub model_version: Option<i64>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub doc_string: Option<Bytes>,
    /// What is run.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Which operators the graph's nodes mean, one version a domain.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Entries of anybody's, `motorbrain.activations` among them.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// How it would be trained on; kept as it is.
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    /// Operators that the file itself defines.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
    /// How it would be spread over devices; kept as it is.
    #[prost(message, repeated, tag = "26")]
    pub configuration: Vec<DeviceConfigurationProto>,
}

/// Nodes with what flows between them, by name.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// In an order in which each comes behind those that it needs.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// For readers.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub doc_string: Option<Bytes>,
    /// What a run is given; older files list the constants here, too.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// What a run gives.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types and shapes of tensors in between, as far as they are known.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// What quantised tensors mean; kept as it is.
    #[prost(message, repeated, tag = "14")]
    pub quantization_annotation: Vec<TensorAnnotation>,
    /// Constants that are mostly zeros; none is understood here.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Entries of anybody's.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// One operator at its place.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of tensors; empty where an optional one is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of tensors; empty where nobody wants one.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// For readers; may be empty.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// Which operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// What does not change from run to run.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub doc_string: Option<Bytes>,
    /// Whose operator it is; empty: ONNX's own.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
    /// Which of several functions of one name.
    #[prost(string, optional, tag = "8")]
    pub overload: Option<String>,
    /// Entries of anybody's.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Where it would run; kept as it is.
    #[prost(message, repeated, tag = "10")]
    pub device_configurations: Vec<NodeDeviceConfigurationProto>,
}

/// A constant of a node. Which field counts is said by `type`. The large ones are boxed: most attributes are
/// a number.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// As its operator calls it.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// A float.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// A text, in UTF-8.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// A tensor.
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<TensorProto>>,
    /// A graph: the body of a loop or of one side of a condition.
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    /// Floats.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Texts.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "13")]
    pub doc_string: Option<Bytes>,
    /// A type.
    #[prost(message, optional, boxed, tag = "14")]
    pub tp: Option<Box<TypeProto>>,
    /// Types.
    #[prost(message, repeated, tag = "15")]
    pub type_protos: Vec<TypeProto>,
    /// Which of the fields counts.
    #[prost(int32, optional, tag = "20")]
    pub r#type: Option<i32>,
    /// In a function: the attribute of the caller's that it stands for.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
    /// A tensor that is mostly zeros.
    #[prost(message, optional, boxed, tag = "22")]
    pub sparse_tensor: Option<Box<SparseTensorProto>>,
    /// Such tensors.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
}

/// A constant tensor, its numbers inline, in a typed field or in another file.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Its shape; empty for a scalar.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The element type's number, such as [`FLOAT`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Which part of a larger tensor; never used in practice.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Numbers of f32, where they are in no bytes.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Numbers of 32 bits and narrower ones, f16 by its bits.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Texts.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// Numbers of i64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// As nodes call it.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// The numbers as little-endian bytes, in row-major order.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Numbers of f64.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Numbers of u64 and u32.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub doc_string: Option<Bytes>,
    /// Where in another file: `location`, `offset` and `length`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// [`EXTERNAL`] where the numbers lie in another file.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
    /// Entries of anybody's.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A part of a tensor.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Segment {
    /// Its first element.
    #[prost(int64, optional, tag = "1")]
    pub begin: Option<i64>,
    /// The one behind its last.
    #[prost(int64, optional, tag = "2")]
    pub end: Option<i64>,
}

/// A tensor that is mostly zeros.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// Those that are none.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where they stand.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The whole tensor's shape.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// A tensor's name and type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// As nodes call it.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// `None` where it is not known.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub doc_string: Option<Bytes>,
    /// Entries of anybody's.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// The type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// Which one.
    #[prost(oneof = "type_proto::Value", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<type_proto::Value>,
    /// What it stands for, such as an image; kept as it is.
    #[prost(string, optional, tag = "6")]
    pub denotation: Option<String>,
}

/// What a [`TypeProto`] may hold.
pub mod type_proto {
    use super::{Message, Oneof, TensorShapeProto, TypeProto};

    /// Kinds of values; language models use tensors alone.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Value {
        /// A tensor.
        #[prost(message, tag = "1")]
        TensorType(Tensor),
        /// A list.
        #[prost(message, tag = "4")]
        SequenceType(Box<Sequence>),
        /// A map.
        #[prost(message, tag = "5")]
        MapType(Box<Map>),
        /// A type that only its domain knows.
        #[prost(message, tag = "7")]
        OpaqueType(Opaque),
        /// A tensor that is mostly zeros.
        #[prost(message, tag = "8")]
        SparseTensorType(SparseTensor),
        /// A value or none.
        #[prost(message, tag = "9")]
        OptionalType(Box<Optional>),
    }

    /// The type of a tensor.
    #[derive(Clone, PartialEq, Message)]
    pub struct Tensor {
        /// The element type's number.
        #[prost(int32, optional, tag = "1")]
        pub elem_type: Option<i32>,
        /// `None` where not even the rank is known.
        #[prost(message, optional, tag = "2")]
        pub shape: Option<TensorShapeProto>,
    }

    /// The type of a list.
    #[derive(Clone, PartialEq, Message)]
    pub struct Sequence {
        /// Of its elements.
        #[prost(message, optional, boxed, tag = "1")]
        pub elem_type: Option<Box<TypeProto>>,
    }

    /// The type of a map.
    #[derive(Clone, PartialEq, Message)]
    pub struct Map {
        /// The keys' element type.
        #[prost(int32, optional, tag = "1")]
        pub key_type: Option<i32>,
        /// Of its values.
        #[prost(message, optional, boxed, tag = "2")]
        pub value_type: Option<Box<TypeProto>>,
    }

    /// The type of a value that may be missing.
    #[derive(Clone, PartialEq, Message)]
    pub struct Optional {
        /// Of the value.
        #[prost(message, optional, boxed, tag = "1")]
        pub elem_type: Option<Box<TypeProto>>,
    }

    /// The type of a tensor that is mostly zeros.
    #[derive(Clone, PartialEq, Message)]
    pub struct SparseTensor {
        /// The element type's number.
        #[prost(int32, optional, tag = "1")]
        pub elem_type: Option<i32>,
        /// `None` where not even the rank is known.
        #[prost(message, optional, tag = "2")]
        pub shape: Option<TensorShapeProto>,
    }

    /// A type that only its domain knows.
    #[derive(Clone, PartialEq, Message)]
    pub struct Opaque {
        /// Whose it is.
        #[prost(string, optional, tag = "1")]
        pub domain: Option<String>,
        /// As that calls it.
        #[prost(string, optional, tag = "2")]
        pub name: Option<String>,
    }
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// One a dimension.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One dimension of a shape.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// `None` where nothing is known of it.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
    /// What it stands for; kept as it is.
    #[prost(string, optional, tag = "3")]
    pub denotation: Option<String>,
}

/// How long a dimension is.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    /// So long.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// As long as all of this name.
    #[prost(string, tag = "2")]
    DimParam(String),
}

/// An entry of a list of texts by name.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// The text.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// What a quantised tensor means.
#[derive(Clone, PartialEq, Message)]
pub struct TensorAnnotation {
    /// Which tensor.
    #[prost(string, optional, tag = "1")]
    pub tensor_name: Option<String>,
    /// The tensors of its scale and zero point.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}

/// A set of operators.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Whose; empty: ONNX's own.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Which version of each operator is meant: the newest that is not above this.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// An operator that is made of others.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// As nodes call it.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Names of its parameters.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of what it gives.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Names of attributes that have no default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// Its body.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// A comment for readers.
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub doc_string: Option<Bytes>,
    /// Which operators the body's nodes mean.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Whose it is.
    #[prost(string, optional, tag = "10")]
    pub domain: Option<String>,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// Types and shapes of tensors in the body.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Which of several of one name.
    #[prost(string, optional, tag = "13")]
    pub overload: Option<String>,
    /// Entries of anybody's.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// How a model would be trained on.
#[derive(Clone, PartialEq, Message)]
pub struct TrainingInfoProto {
    /// Makes what it starts from.
    #[prost(message, optional, tag = "1")]
    pub initialization: Option<GraphProto>,
    /// One step.
    #[prost(message, optional, tag = "2")]
    pub algorithm: Option<GraphProto>,
    /// Which constants the first graph sets.
    #[prost(message, repeated, tag = "3")]
    pub initialization_binding: Vec<StringStringEntryProto>,
    /// Which constants a step sets.
    #[prost(message, repeated, tag = "4")]
    pub update_binding: Vec<StringStringEntryProto>,
}

/// Devices that a model could be spread over.
#[derive(Clone, PartialEq, Message)]
pub struct DeviceConfigurationProto {
    /// As nodes call them.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// How many.
    #[prost(int32, optional, tag = "2")]
    pub num_devices: Option<i32>,
    /// Their names.
    #[prost(string, repeated, tag = "3")]
    pub device: Vec<String>,
}

/// How a node would be spread over devices.
#[derive(Clone, PartialEq, Message)]
pub struct NodeDeviceConfigurationProto {
    /// Which devices.
    #[prost(string, optional, tag = "1")]
    pub configuration_id: Option<String>,
    /// How its tensors are cut.
    #[prost(message, repeated, tag = "2")]
    pub sharding_spec: Vec<ShardingSpecProto>,
    /// At which stage of a pipeline.
    #[prost(int32, optional, tag = "3")]
    pub pipeline_stage: Option<i32>,
}

/// How a tensor would be cut.
#[derive(Clone, PartialEq, Message)]
pub struct ShardingSpecProto {
    /// Which one.
    #[prost(string, optional, tag = "1")]
    pub tensor_name: Option<String>,
    /// On which devices; negative: a group.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub device: Vec<i64>,
    /// What the groups are.
    #[prost(message, repeated, tag = "3")]
    pub index_to_device_group_map: Vec<IntIntListEntryProto>,
    /// Which dimensions are cut.
    #[prost(message, repeated, tag = "4")]
    pub sharded_dim: Vec<ShardedDimProto>,
}

/// A group of devices.
#[derive(Clone, PartialEq, Message)]
pub struct IntIntListEntryProto {
    /// Its negative number.
    #[prost(int64, optional, tag = "1")]
    pub key: Option<i64>,
    /// The devices.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub value: Vec<i64>,
}

/// A dimension that is cut.
#[derive(Clone, PartialEq, Message)]
pub struct ShardedDimProto {
    /// Which one.
    #[prost(int64, optional, tag = "1")]
    pub axis: Option<i64>,
    /// Into what.
    #[prost(message, repeated, tag = "2")]
    pub simple_sharding: Vec<SimpleShardedDimProto>,
}

/// A cut into equal parts.
#[derive(Clone, PartialEq, Message)]
pub struct SimpleShardedDimProto {
    /// The dimension's length.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub dim: Option<DimensionValue>,
    /// Into how many.
    #[prost(int64, optional, tag = "3")]
    pub num_shards: Option<i64>,
}

impl NodeProto {
    /// The attribute of that name.
    pub fn attr(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name() == name)
    }

    /// The integer attribute of that name.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attr(name).and_then(|attribute| attribute.i)
    }
}

impl ValueInfoProto {
    /// A tensor of the given element type and shape.
    pub fn tensor(name: &str, elem_type: i32, dim: Vec<Dimension>) -> Self {
        let shape = Some(TensorShapeProto { dim });
        let tensor = type_proto::Tensor { elem_type: Some(elem_type), shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        Self { name: Some(name.to_owned()), r#type: Some(TypeProto { value, denotation: None }), ..Self::default() }
    }

    /// Its type, where it is a tensor.
    pub fn tensor_type(&self) -> Option<&type_proto::Tensor> {
        match self.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Its dimensions, where it is a tensor of declared rank.
    pub fn dims(&self) -> Option<&[Dimension]> {
        Some(&self.tensor_type()?.shape.as_ref()?.dim)
    }
}

impl Dimension {
    /// A dimension of that size.
    pub fn size(size: usize) -> Self {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Self { value: Some(DimensionValue::DimValue(size)), denotation: None }
    }

    /// A dimension that each run chooses.
    pub fn named(name: &str) -> Self {
        Self { value: Some(DimensionValue::DimParam(name.to_owned())), denotation: None }
    }

    /// Its size, where it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self.value {
            Some(DimensionValue::DimValue(size)) => usize::try_from(size).ok().filter(|&size| size > 0),
            _ => None,
        }
    }
}

/// Its size, else its name, else `?`.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(DimensionValue::DimValue(size)) => write!(f, "{size}"),
            Some(DimensionValue::DimParam(name)) if !name.is_empty() => f.write_str(name),
            _ => f.write_str("?"),
        }
    }
}

impl StringStringEntryProto {
    /// An entry.
    pub fn new(key: &str, value: impl Into<String>) -> Self {
        Self { key: Some(key.to_owned()), value: Some(value.into()) }
    }
}
