//! What `/openapi.json` says: paths and types as the code has them, then what of a type's values is taken.
//!
//! Keys and types are derived; what Rust's numbers hold is filled in here, and everything else that a value must be, be it a
//! constant of the brain's or known only of the model and the settings, stands in one table, `taken`. So who keeps to the
//! document is not refused for what he says, but for what the brain's state is or no schema can tell.

mod taken;

use serde_json::{Value, json};
use utoipa::openapi::{
    InfoBuilder, OpenApi, OpenApiBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

pub(crate) use self::taken::Sizes;

/// `f32::MAX` as it is written and read, which is a little more in 64 bits.
const FLOAT_MAX: f64 = 3.402_823_5e38;

/// A document without paths.
pub(crate) fn empty() -> OpenApi {
    let info = InfoBuilder::new().title("MotorBrain").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Many conversations on one local language model: OpenAI's interface under /v1, its own under /brain.",
    ));
    let mut api = OpenApiBuilder::new().info(info).build();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components.get_or_insert_default().security_schemes.insert("token".to_owned(), bearer.into());
    api.security = Some(vec![SecurityRequirement::new("token", [""; 0]), SecurityRequirement::default()]);
    api
}

/// The document with what values are taken.
///
/// # Errors
/// It is no JSON.
pub(crate) fn complete(api: &OpenApi, sizes: &Sizes) -> Result<Value, serde_json::Error> {
    let mut api = serde_json::to_value(api)?;
    merge(&mut api["components"]["schemas"], taken::taken(sizes));
    let of_parameters = taken::of_parameters();
    for parameter in parameters(&mut api) {
        let over = parameter["name"].as_str().and_then(|name| of_parameters.get(name)).cloned();
        over.into_iter().for_each(|over| merge(&mut parameter["schema"], over));
    }
    bound(&mut api);
    Ok(api)
}

/// Those of all paths.
fn parameters(api: &mut Value) -> impl Iterator<Item = &mut Value> {
    let operations = values(&mut api["paths"]).flat_map(values);
    operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten()
}

/// What an object holds.
fn values(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.as_object_mut().into_iter().flat_map(|keys| keys.values_mut())
}

/// Lays one document over another: objects key by key, all else whole.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Numbers of all schemas are no larger than what they are read into, which the derived ones leave out.
fn bound(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(bound),
        Value::Object(keys) => {
            let is = |kind: &str| keys.get("type").is_some_and(|it| it == kind || it[0] == kind);
            let format = keys.get("format").and_then(Value::as_str);
            let (least, most) = match (is("integer"), is("number"), format) {
                (true, _, _) if keys.get("minimum").is_some() => (json!(0), json!(u64::MAX)),
                (true, _, _) => (json!(i64::MIN), json!(i64::MAX)),
                (_, true, Some("float")) => (json!(-FLOAT_MAX), json!(FLOAT_MAX)),
                _ => (Value::Null, Value::Null),
            };
            if !most.is_null() {
                if !keys.contains_key("exclusiveMinimum") {
                    keys.entry("minimum").or_insert(least);
                }
                keys.entry("maximum").or_insert(most);
            }
            keys.values_mut().for_each(bound);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_taken_is_of_keys_that_there_are() {
        let (_, api) = crate::routes::paths(true).split_for_parts();
        let schemas = serde_json::to_value(&api).unwrap()["components"]["schemas"].take();
        let sizes = Sizes { vocab: 576, hidden: 64, count: 16, inputs: 2, opens: false };
        for (name, over) in taken::taken(&sizes).as_object().unwrap() {
            let schema = schemas.get(name).unwrap_or_else(|| panic!("there is no {name}"));
            // What closes a schema that is derived as an open one brings keys of its own.
            let is_closed = over.get("additionalProperties").is_some();
            for key in over["properties"].as_object().into_iter().flatten().map(|(key, _)| key).filter(|_| !is_closed) {
                assert!(schema["properties"].get(key).is_some(), "{name} has no {key}");
            }
        }
    }

    #[test]
    fn what_is_taken_is_of_parameters_that_there_are() {
        let (_, api) = crate::routes::paths(true).split_for_parts();
        let mut api = serde_json::to_value(&api).unwrap();
        let names: Vec<_> = parameters(&mut api).map(|parameter| parameter["name"].clone()).collect();
        for name in taken::of_parameters().as_object().unwrap().keys() {
            assert!(names.iter().any(|other| other == name), "there is no {name}");
        }
    }

    #[test]
    fn objects_are_laid_over_one_another_key_by_key() {
        let mut under = json!({"a": {"b": 1, "c": [1, 2]}});
        merge(&mut under, json!({"a": {"c": [3], "d": null}, "e": {"f": 4}}));
        assert_eq!(under, json!({"a": {"b": 1, "c": [3], "d": null}, "e": {"f": 4}}));
    }

    #[test]
    fn numbers_are_bounded_by_what_they_are_read_into_and_by_no_more_than_is_said() {
        let mut schema = json!({"properties": {
            "count": {"type": ["integer", "null"], "minimum": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": 9},
            "seed": {"type": "integer"},
            "items": {"type": "array", "items": [{"type": "number", "format": "float", "exclusiveMinimum": 0}]},
        }});
        bound(&mut schema);
        let expected = json!({"properties": {
            "count": {"type": ["integer", "null"], "minimum": 0, "maximum": u64::MAX},
            "limit": {"type": "integer", "minimum": 1, "maximum": 9},
            "seed": {"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX},
            "items": {"type": "array", "items": [
                {"type": "number", "format": "float", "exclusiveMinimum": 0, "maximum": FLOAT_MAX},
            ]},
        }});
        assert_eq!(schema, expected);
    }
}
