//! What a setting can be: its reading from a file's value or from text, and its spelling in TOML.
//!
//! The environment and `--set` give text, a file gives typed values; a number may come as either,
//! but text in a file is no number.

use std::{net::SocketAddr, path::PathBuf};

use config::{Value, ValueKind};
use motorbrain_actors::{
    policy::WhenDown,
    vectors::{Format, Pooling},
};

use crate::{
    calibration,
    engine::{Activations, Overflow, WindowPolicy},
    model::RecipeName,
};

/// A type that a setting may have.
pub(super) trait Setting: Sized {
    /// What a value must be, for the error that says that one is not.
    const EXPECTED: &'static str;

    /// Reads a value as a file gives it.
    fn from_value(kind: &ValueKind) -> Option<Self>;

    /// Reads text, as the environment and `--set` give it.
    fn from_text(text: &str) -> Option<Self>;

    /// The value as TOML; `None` where there is none to write.
    fn to_toml(&self) -> Option<String>;
}

/// Reads a value, typed or text; the error is what was expected.
pub(super) fn read<T: Setting>(value: &Value, as_text: bool) -> Result<T, &'static str> {
    let read = match &value.kind {
        ValueKind::String(text) if as_text => T::from_text(text),
        kind => T::from_value(kind),
    };
    read.ok_or(T::EXPECTED)
}

fn text_of(kind: &ValueKind) -> Option<&str> {
    if let ValueKind::String(text) = kind { Some(text) } else { None }
}

macro_rules! integers {
    ($($ty:ty)+) => { $(
        impl Setting for $ty {
            const EXPECTED: &'static str = "a whole number, 0 or more";

            fn from_value(kind: &ValueKind) -> Option<Self> {
                match kind {
                    ValueKind::I64(number) => Self::try_from(*number).ok(),
                    ValueKind::U64(number) => Self::try_from(*number).ok(),
                    _ => None,
                }
            }

            fn from_text(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }

            fn to_toml(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+ };
}

integers!(usize u64);

impl Setting for f32 {
    const EXPECTED: &'static str = "a finite number";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::Float(number) => Some(*number as Self).filter(|number| number.is_finite()),
            ValueKind::I64(number) => Some(*number as Self),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|number: &Self| number.is_finite())
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::Boolean(flag) => Some(*flag),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "text that is not empty";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        text_of(kind).and_then(Self::from_text)
    }

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path that is not empty";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        String::from_value(kind).map(Self::from)
    }

    fn from_text(text: &str) -> Option<Self> {
        String::from_text(text).map(Self::from)
    }

    fn to_toml(&self) -> Option<String> {
        self.display().to_string().to_toml()
    }
}

/// In a file a list of texts, elsewhere one text with commas between them.
impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list of texts that are not empty";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::Array(values) => values.iter().map(|value| String::from_value(&value.kind)).collect(),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(Vec::new()),
            text => text.split(',').map(|text| String::from_text(text.trim())).collect(),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an address and a port, such as `127.0.0.1:8080` or `[::1]:8080`";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        text_of(kind).and_then(Self::from_text)
    }

    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        self.to_string().to_toml()
    }
}

impl Setting for calibration::Source {
    const EXPECTED: &'static str = "a path, `weights` or `none`";

    fn from_value(kind: &ValueKind) -> Option<Self> {
        text_of(kind).and_then(Self::from_text)
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "weights" => Some(Self::Weights),
            "none" => Some(Self::Nowhere),
            _ => PathBuf::from_text(text).map(Self::File),
        }
    }

    fn to_toml(&self) -> Option<String> {
        match self {
            Self::Weights => "weights".to_owned().to_toml(),
            Self::Nowhere => "none".to_owned().to_toml(),
            Self::File(path) => path.to_toml(),
        }
    }
}

/// A key that may be left out. Once set in one layer it can be replaced by another, not unset.
impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(kind: &ValueKind) -> Option<Self> {
        T::from_value(kind).map(Some)
    }

    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Some)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }
}

macro_rules! words {
    ($ty:ident, $expected:literal, $($word:literal => $variant:ident)+) => {
        impl Setting for $ty {
            const EXPECTED: &'static str = $expected;

            fn from_value(kind: &ValueKind) -> Option<Self> {
                text_of(kind).and_then(Self::from_text)
            }

            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $( $word => Some(Self::$variant), )+
                    _ => None,
                }
            }

            fn to_toml(&self) -> Option<String> {
                let word = match self {
                    $( Self::$variant => $word, )+
                };
                Some(format!("{word:?}"))
            }
        }
    };
}

words!(Activations, "`as_exported`, `f32` or `int8`", "as_exported" => AsExported "f32" => F32 "int8" => Int8);
words!(Format, "`f32` or `i8`", "f32" => F32 "i8" => I8);
words!(Overflow, "`slide` or `error`", "slide" => Slide "error" => Error);
words!(Pooling, "`mean` or `last`", "mean" => Mean "last" => Last);
words!(RecipeName, "`probe` or `pooled`", "probe" => Probe "pooled" => Pooled);
words!(WhenDown, "`retry` or `stop`", "retry" => Retry "stop" => Stop);
words!(WindowPolicy, "`shift` or `recompute`", "shift" => Shift "recompute" => Recompute);
