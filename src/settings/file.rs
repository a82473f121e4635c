//! The documented settings file: every key, its default, one line why.

use std::fmt::Write as _;

use super::{SECTIONS, keys};

const HEAD: &str = "\
# Settings of MotorBrain: every key, its default, and why it is there.
#
# Generated from the settings types; a test keeps it current. A key that is commented out has no
# fixed default. The environment beats this file (MOTORBRAIN__WINDOW__SIZE=512), and
# --set window.size=512 beats both. Relative paths start at the working folder.
";

/// The text of `config/motorbrain.toml`. Reading it gives the defaults.
pub fn documented_file() -> String {
    let mut text = HEAD.to_owned();
    for (section, doc) in SECTIONS {
        let _ = write!(text, "\n#{doc}\n[{section}]\n");
        for key in keys().iter().filter(|key| key.section == *section) {
            let _ = match (&key.default, key.example) {
                (Some(default), _) => writeln!(text, "# {}\n{} = {default}", key.doc, key.name),
                (None, example) => writeln!(text, "# {}\n# {} = {}", key.doc, key.name, example.unwrap_or("...")),
            };
        }
    }
    text
}
