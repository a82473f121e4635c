//! Brings what a rewrite left alone into the new data file, so that the new folder needs no other.

use std::collections::{HashMap, HashSet};

use super::{WeightsError, data_file::DataFile, floats, source::Source};
use crate::model::{
    external::{Reference, bytes_of, each_tensor},
    onnx::{self, GraphProto, TensorProto},
};

/// Writes every initializer that is not in the data file yet, f16 as f32 where `widened`. Those that
/// shared bytes go on sharing them. Tensors elsewhere in the graph are small and move into it.
pub(crate) fn settle(
    graph: &mut GraphProto,
    source: &mut Source,
    data: &mut DataFile,
    widened: bool,
) -> Result<(), WeightsError> {
    let mut initializers = std::mem::take(&mut graph.initializer);
    let mut written: HashMap<Place, TensorProto> = HashMap::new();
    for tensor in initializers.iter_mut().filter(|tensor| tensor.string_data.is_empty()) {
        if data.holds(tensor.name()) {
            continue;
        }
        let place = Place::of(tensor)?;
        let settled = match place.as_ref().and_then(|place| written.get(place)) {
            Some(same) => same.clone(),
            None => write(tensor, source, data, widened)?,
        };
        if let Some(place) = place {
            written.insert(place, settled.clone());
        }
        *tensor = TensorProto { name: tensor.name.take(), dims: std::mem::take(&mut tensor.dims), ..settled };
    }
    let mut inlined = Ok(());
    each_tensor(graph, &mut |tensor| {
        if inlined.is_ok() && tensor.data_location() == onnx::EXTERNAL {
            inlined = inline(tensor, source);
        }
    });
    inlined?;
    // Inputs that are initializers could be given other values in each run, and would not be folded.
    let names: HashSet<&str> = initializers.iter().map(TensorProto::name).collect();
    graph.input.retain(|input| !names.contains(input.name()));
    graph.initializer = initializers;
    Ok(())
}

/// The bytes of all initializers, those that several share counted once.
pub(crate) fn bytes(graph: &GraphProto) -> Result<u64, WeightsError> {
    let mut counted = HashSet::new();
    let mut bytes = 0;
    for tensor in &graph.initializer {
        if Place::of(tensor)?.is_none_or(|place| counted.insert(place)) {
            bytes += bytes_of(tensor).unwrap_or(0);
        }
    }
    Ok(bytes)
}

/// Where the bytes of an external tensor were, and what they are.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    location: String,
    offset: u64,
    length: Option<u64>,
    data_type: i32,
}

impl Place {
    fn of(tensor: &TensorProto) -> Result<Option<Self>, WeightsError> {
        if tensor.data_location() != onnx::EXTERNAL {
            return Ok(None);
        }
        let Reference { location, offset, length } = Reference::of(tensor)?;
        let length = length.or_else(|| bytes_of(tensor));
        Ok(Some(Self { location: location.to_owned(), offset, length, data_type: tensor.data_type() }))
    }
}

fn write(
    tensor: &TensorProto,
    source: &mut Source,
    data: &mut DataFile,
    widened: bool,
) -> Result<TensorProto, WeightsError> {
    let dims: Vec<usize> = tensor.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    if widened && tensor.data_type() == onnx::FLOAT16 {
        let values = floats::bytes_of(&floats::read(source, tensor)?);
        return Ok(data.put(tensor.name(), onnx::FLOAT, &dims, &values)?);
    }
    let bytes = source.bytes(tensor)?;
    Ok(data.put(tensor.name(), tensor.data_type(), &dims, &bytes)?)
}

fn inline(tensor: &mut TensorProto, source: &mut Source) -> Result<(), WeightsError> {
    tensor.raw_data = Some(source.bytes(tensor)?);
    tensor.data_location = None;
    tensor.external_data.clear();
    Ok(())
}
