//! The macro behind the settings: one list of sections and keys becomes the structs, their
//! defaults, the reading of a value and the list of keys.
//!
//! A macro, because the alternative is to write every key four times and to test that the four
//! agree. It holds no decision.

/// A key as it is documented.
pub(super) struct Key {
    /// The section's name.
    pub(super) section: &'static str,
    /// The key's name inside it.
    pub(super) name: &'static str,
    /// One line: what it is and why.
    pub(super) doc: &'static str,
    /// The default as TOML; `None` where it is computed or there is none.
    pub(super) default: Option<String>,
    /// A value to show where there is no default.
    pub(super) example: Option<&'static str>,
}

impl Key {
    /// The key with its section, as overrides and errors spell it.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

macro_rules! sections {
    ($(
        #[doc = $section_doc:literal]
        $Section:ident $section:ident {
            $( #[doc = $doc:literal] $key:ident: $ty:ty = $default:expr $(, example $example:literal)?; )+
        }
    )+) => {
        $(
            #[doc = $section_doc]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $( #[doc = $doc] pub $key: $ty, )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )+ }
                }
            }
        )+

        /// All settings. `Settings::default()` serves the default model with the defaults of each key.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Settings {
            $( #[doc = $section_doc] pub $section: $Section, )+
        }

        impl Settings {
            /// Takes a value that was read for `section.key`. `None`: there is no such key;
            /// `Some(Err)`: the value is not one, and what would be.
            fn set(
                &mut self,
                section: &str,
                key: &str,
                value: &config::Value,
                as_text: bool,
            ) -> Option<Result<(), &'static str>> {
                match (section, key) {
                    $($(
                        (stringify!($section), stringify!($key)) => {
                            Some(value::read(value, as_text).map(|read| self.$section.$key = read))
                        }
                    )+)+
                    _ => None,
                }
            }
        }

        /// The sections with their one line, in the order of the documented file.
        const SECTIONS: &[(&str, &str)] = &[$( (stringify!($section), $section_doc), )+];

        /// Every key, in the order of the documented file.
        fn keys() -> Vec<sections::Key> {
            vec![$($(
                sections::Key {
                    section: stringify!($section),
                    name: stringify!($key),
                    doc: $doc.trim_ascii(),
                    default: value::Setting::to_toml(&<$Section>::default().$key),
                    example: [$($example)?].first().copied(),
                },
            )+)+]
        }
    };
}

pub(super) use sections;
