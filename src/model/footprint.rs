//! What a graph file takes in memory once it is decoded, told from its bytes before anything is decoded.
//!
//! An empty message is two bytes in a file and hundreds in memory, so that ten megabytes of them would take
//! gigabytes. This file walks over the wire format (protobuf's, see <https://protobuf.dev/programming-guides/encoding/>)
//! once, allocates nothing and adds up what the decoded messages would hold. Weights are not counted: they stay in
//! the file. Sizes are in bytes.

use std::mem::size_of;

use super::onnx::{
    AttributeProto, DeviceConfigurationProto, Dimension, FunctionProto, GraphProto, IntIntListEntryProto, ModelProto,
    NodeDeviceConfigurationProto, NodeProto, OperatorSetIdProto, Segment, ShardedDimProto, ShardingSpecProto,
    SimpleShardedDimProto, SparseTensorProto, StringStringEntryProto, TensorAnnotation, TensorProto, TensorShapeProto,
    TrainingInfoProto, TypeProto, ValueInfoProto, type_proto,
};

/// How deep messages may lie in one another: as deep as the decoder goes.
pub(crate) const DEPTH_MAX: usize = 100;

/// Of a text or a slice in a list, and of a number in one.
const TEXT: u64 = size_of::<bytes::Bytes>() as u64;
const NUMBER: u64 = size_of::<i64>() as u64;

/// Why a file is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It would hold more than is allowed.
    TooMuch,
    /// Its messages lie deeper in one another than [`DEPTH_MAX`].
    TooDeep,
}

/// Whether a file that is an ONNX model would hold no more than `allowed` in memory. A file that is none ends where
/// that shows; the decoder, which goes over the same bytes, says so.
///
/// # Errors
/// As soon as it is known.
pub(crate) fn check(file: &[u8], allowed: u64) -> Result<(), Refused> {
    match (Walk { held: 0, messages: 0, allowed }).message(&MODEL, file, DEPTH_MAX) {
        Ok(()) | Err(End::Malformed) => Ok(()),
        Err(End::Refused(refused)) => Err(refused),
    }
}

/// A message of the schema.
struct Kind {
    /// Of one that is empty.
    bytes: usize,
    /// Its fields that are messages, and those that are lists of integers, by number.
    fields: &'static [(u64, Field)],
}

/// What a field holds.
enum Field {
    Message(&'static Kind),
    /// They may be packed: several in one field of the file.
    Integers,
}

/// Why a walk ended early.
enum End {
    Refused(Refused),
    /// What follows is no message that the decoder takes.
    Malformed,
}

struct Walk {
    held: u64,
    messages: usize,
    allowed: u64,
}

impl Walk {
    fn message(&mut self, kind: &'static Kind, mut bytes: &[u8], depth: usize) -> Result<(), End> {
        self.messages += 1;
        self.hold(kind.bytes as u64)?;
        let depth = depth.checked_sub(1).ok_or(End::Refused(Refused::TooDeep))?;
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let field = kind.fields.iter().find(|(number, _)| *number == key >> 3).map(|(_, field)| field);
            match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    self.hold(NUMBER)?;
                }
                1 => {
                    take(&mut bytes, 8)?;
                    self.hold(NUMBER)?;
                }
                2 => {
                    let length = varint(&mut bytes)?;
                    let content = take(&mut bytes, length)?;
                    match field {
                        Some(Field::Message(kind)) => self.message(kind, content, depth)?,
                        // Each integer ends with the one byte of it whose highest bit is clear.
                        Some(Field::Integers) => {
                            let count = content.iter().filter(|byte| **byte < 0x80).count();
                            self.hold(NUMBER * count as u64)?;
                        }
                        // Weights are slices of the file. Texts are copied, all of them no more than the file.
                        None => self.hold(TEXT)?,
                    }
                }
                5 => {
                    take(&mut bytes, 4)?;
                    self.hold(NUMBER)?;
                }
                3 => skip_group(&mut bytes, key >> 3, depth)?,
                _ => return Err(End::Malformed),
            }
        }
        Ok(())
    }

    fn hold(&mut self, bytes: u64) -> Result<(), End> {
        self.held = self.held.saturating_add(bytes);
        if self.held > self.allowed { Err(End::Refused(Refused::TooMuch)) } else { Ok(()) }
    }
}

/// Passes over a group, of which this schema has none: the decoder takes those that it does not know for nothing.
fn skip_group(bytes: &mut &[u8], number: u64, depth: usize) -> Result<(), End> {
    let depth = depth.checked_sub(1).ok_or(End::Refused(Refused::TooDeep))?;
    loop {
        let key = varint(bytes)?;
        match key & 7 {
            0 => {
                varint(bytes)?;
            }
            1 => {
                take(bytes, 8)?;
            }
            2 => {
                let length = varint(bytes)?;
                take(bytes, length)?;
            }
            3 => skip_group(bytes, key >> 3, depth)?,
            4 if key >> 3 == number => return Ok(()),
            5 => {
                take(bytes, 4)?;
            }
            _ => return Err(End::Malformed),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, End> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(End::Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(End::Malformed)
}

fn take<'b>(bytes: &mut &'b [u8], length: u64) -> Result<&'b [u8], End> {
    let length = usize::try_from(length).map_err(|_| End::Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(End::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

use Field::{Integers, Message};

static MODEL: Kind = Kind {
    bytes: size_of::<ModelProto>(),
    fields: &[
        (7, Message(&GRAPH)),
        (8, Message(&OPERATOR_SET)),
        (14, Message(&ENTRY)),
        (20, Message(&TRAINING)),
        (25, Message(&FUNCTION)),
        (26, Message(&DEVICES)),
    ],
};
static GRAPH: Kind = Kind {
    bytes: size_of::<GraphProto>(),
    fields: &[
        (1, Message(&NODE)),
        (5, Message(&TENSOR)),
        (11, Message(&VALUE)),
        (12, Message(&VALUE)),
        (13, Message(&VALUE)),
        (14, Message(&ANNOTATION)),
        (15, Message(&SPARSE_TENSOR)),
        (16, Message(&ENTRY)),
    ],
};
static NODE: Kind = Kind {
    bytes: size_of::<NodeProto>(),
    fields: &[(5, Message(&ATTRIBUTE)), (9, Message(&ENTRY)), (10, Message(&NODE_DEVICES))],
};
static ATTRIBUTE: Kind = Kind {
    bytes: size_of::<AttributeProto>(),
    fields: &[
        (5, Message(&TENSOR)),
        (6, Message(&GRAPH)),
        (8, Integers),
        (10, Message(&TENSOR)),
        (11, Message(&GRAPH)),
        (14, Message(&TYPE)),
        (15, Message(&TYPE)),
        (22, Message(&SPARSE_TENSOR)),
        (23, Message(&SPARSE_TENSOR)),
    ],
};
static TENSOR: Kind = Kind {
    bytes: size_of::<TensorProto>(),
    fields: &[
        (1, Integers),
        (3, Message(&SEGMENT)),
        (5, Integers),
        (7, Integers),
        (11, Integers),
        (13, Message(&ENTRY)),
        (16, Message(&ENTRY)),
    ],
};
static SEGMENT: Kind = Kind { bytes: size_of::<Segment>(), fields: &[] };
static SPARSE_TENSOR: Kind = Kind {
    bytes: size_of::<SparseTensorProto>(),
    fields: &[(1, Message(&TENSOR)), (2, Message(&TENSOR)), (3, Integers)],
};
static VALUE: Kind = Kind { bytes: size_of::<ValueInfoProto>(), fields: &[(2, Message(&TYPE)), (4, Message(&ENTRY))] };
static TYPE: Kind = Kind {
    bytes: size_of::<TypeProto>(),
    fields: &[
        (1, Message(&TENSOR_TYPE)),
        (4, Message(&SEQUENCE_TYPE)),
        (5, Message(&MAP_TYPE)),
        (7, Message(&OPAQUE_TYPE)),
        (8, Message(&SPARSE_TENSOR_TYPE)),
        (9, Message(&OPTIONAL_TYPE)),
    ],
};
static TENSOR_TYPE: Kind = Kind { bytes: size_of::<type_proto::Tensor>(), fields: &[(2, Message(&SHAPE))] };
static SPARSE_TENSOR_TYPE: Kind =
    Kind { bytes: size_of::<type_proto::SparseTensor>(), fields: &[(2, Message(&SHAPE))] };
static SEQUENCE_TYPE: Kind = Kind { bytes: size_of::<type_proto::Sequence>(), fields: &[(1, Message(&TYPE))] };
static MAP_TYPE: Kind = Kind { bytes: size_of::<type_proto::Map>(), fields: &[(2, Message(&TYPE))] };
static OPTIONAL_TYPE: Kind = Kind { bytes: size_of::<type_proto::Optional>(), fields: &[(1, Message(&TYPE))] };
static OPAQUE_TYPE: Kind = Kind { bytes: size_of::<type_proto::Opaque>(), fields: &[] };
static SHAPE: Kind = Kind { bytes: size_of::<TensorShapeProto>(), fields: &[(1, Message(&DIMENSION))] };
static DIMENSION: Kind = Kind { bytes: size_of::<Dimension>(), fields: &[] };
static ENTRY: Kind = Kind { bytes: size_of::<StringStringEntryProto>(), fields: &[] };
static ANNOTATION: Kind = Kind { bytes: size_of::<TensorAnnotation>(), fields: &[(2, Message(&ENTRY))] };
static OPERATOR_SET: Kind = Kind { bytes: size_of::<OperatorSetIdProto>(), fields: &[] };
static FUNCTION: Kind = Kind {
    bytes: size_of::<FunctionProto>(),
    fields: &[
        (7, Message(&NODE)),
        (9, Message(&OPERATOR_SET)),
        (11, Message(&ATTRIBUTE)),
        (12, Message(&VALUE)),
        (14, Message(&ENTRY)),
    ],
};
static TRAINING: Kind = Kind {
    bytes: size_of::<TrainingInfoProto>(),
    fields: &[(1, Message(&GRAPH)), (2, Message(&GRAPH)), (3, Message(&ENTRY)), (4, Message(&ENTRY))],
};
static DEVICES: Kind = Kind { bytes: size_of::<DeviceConfigurationProto>(), fields: &[] };
static NODE_DEVICES: Kind =
    Kind { bytes: size_of::<NodeDeviceConfigurationProto>(), fields: &[(2, Message(&SHARDING))] };
static SHARDING: Kind = Kind {
    bytes: size_of::<ShardingSpecProto>(),
    fields: &[(2, Integers), (3, Message(&DEVICE_GROUP)), (4, Message(&SHARDED_DIMENSION))],
};
static DEVICE_GROUP: Kind = Kind { bytes: size_of::<IntIntListEntryProto>(), fields: &[(2, Integers)] };
static SHARDED_DIMENSION: Kind =
    Kind { bytes: size_of::<ShardedDimProto>(), fields: &[(2, Message(&SIMPLE_SHARDING))] };
static SIMPLE_SHARDING: Kind = Kind { bytes: size_of::<SimpleShardedDimProto>(), fields: &[] };

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use prost::Message as _;

    use super::*;

    fn walked(file: &[u8]) -> Walk {
        let mut walk = Walk { held: 0, messages: 0, allowed: u64::MAX };
        assert!(walk.message(&MODEL, file, DEPTH_MAX).is_ok());
        walk
    }

    /// The table above against the decoder: the fixture has every field of the schema.
    #[test]
    fn every_message_that_the_decoder_makes_is_counted() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        for file in ["every_field.onnx", "tiny-plain/model.onnx"] {
            let file = std::fs::read(folder.join(file)).unwrap();
            let decoded = ModelProto::decode(file.as_slice()).unwrap();
            // Each message is written once as a name and its braces.
            let messages = format!("{decoded:?}").matches(" { ").count();
            assert_eq!(walked(&file).messages, messages);
        }
    }

    #[test]
    fn integers_are_counted_packed_or_not() {
        let tensor = |bytes: &[u8]| [&[0x3a, bytes.len() as u8 + 2, 0x2a, bytes.len() as u8], bytes].concat();
        let none = walked(&tensor(&[])).held;
        let packed = walked(&tensor(&[0x3a, 3, 1, 0x80, 1])).held;
        let single = walked(&tensor(&[0x38, 1, 0x38, 2])).held;
        assert_eq!((packed - none, single - none), (2 * NUMBER, 2 * NUMBER));
    }

    #[test]
    fn a_file_that_is_none_ends_the_walk() {
        for file in [&b"version https"[..], &[0x3a], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 20], &[0x3b]] {
            assert!(check(file, u64::MAX).is_ok());
        }
        assert_eq!(check(&[0x3a, 0], 1), Err(Refused::TooMuch));
    }

    /// Graphs in attributes of nodes of graphs.
    #[test]
    fn graphs_in_graphs_are_not_followed_for_ever() {
        let mut graph = GraphProto::default();
        for _ in 0..1000 {
            let attribute = AttributeProto { g: Some(Box::new(graph)), ..AttributeProto::default() };
            let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
            graph = GraphProto { node: vec![node], ..GraphProto::default() };
        }
        let file = ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec();
        assert_eq!(check(&file, u64::MAX), Err(Refused::TooDeep));
    }
}
