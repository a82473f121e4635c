//! How the tensors of the KV cache are named, layer by layer.

/// How cache tensors are named; `%d` stands for the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    /// Input: keys of past tokens. `%d` is the layer, here and below.
    pub(crate) past_key: String,
    /// Input: values of past tokens.
    pub(crate) past_value: String,
    /// Output: keys of past and new tokens.
    pub(crate) present_key: String,
    /// Output: values of past and new tokens.
    pub(crate) present_value: String,
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            past_key: "past_key_values.%d.key".into(),
            past_value: "past_key_values.%d.value".into(),
            present_key: "present.%d.key".into(),
            present_value: "present.%d.value".into(),
        }
    }
}

/// `past_key_values.3.key` from `past_key_values.%d.key` and 3.
pub(crate) fn name_of(pattern: &str, layer: usize) -> String {
    pattern.replacen("%d", &layer.to_string(), 1)
}

/// 3 from `past_key_values.%d.key` and `past_key_values.3.key`.
pub(crate) fn layer_of(pattern: &str, name: &str) -> Option<usize> {
    let (prefix, suffix) = pattern.split_once("%d")?;
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let layer = digits.parse().ok()?;
    (name_of(pattern, layer) == name).then_some(layer)
}
