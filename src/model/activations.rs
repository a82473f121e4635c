//! What becomes of activations where a model's products have weights of few bits.

/// The metadata entry of a graph that says what its activations are to be: `f32` or `int8`. The accuracy
/// level of its products is then only for runtimes that have nothing better.
pub(crate) const ACTIVATIONS_ENTRY: &str = "motorbrain.activations";

/// See the module's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As the graph's metadata say; where they do not and its products have accuracy level 4, rounded to 8
    /// bits by the runtime's own operators.
    #[default]
    AsExported,
    /// Kept: products round them to 16 bits, scaled by the largest of a block, which is as good as f32.
    F32,
    /// Products with weights of 4 bits round them to 8 bits, scaled by the largest of a block: the fastest.
    /// Others keep them.
    Int8,
}

impl Activations {
    /// What a graph's metadata entry says.
    pub(crate) fn of_entry(value: &str) -> Self {
        match value {
            "f32" => Self::F32,
            "int8" => Self::Int8,
            _ => Self::AsExported,
        }
    }

    /// The metadata entry that says so.
    pub(crate) const fn entry(self) -> &'static str {
        match self {
            Self::AsExported => "as_exported",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}
