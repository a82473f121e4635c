//! Reads JSON that comes in pieces, as far as calls need it: where a value ends, and how one begins.

/// How much of a call's beginning may come without its name and the key of its arguments being known.
const HEAD_BYTES_MAX: usize = 4096;

/// Where a JSON value ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// A number, or a word, which what follows ends.
    in_word: bool,
}

impl ValueScan {
    /// Of an object that has begun.
    pub(super) const IN_OBJECT: Self = Self { depth: 1, in_string: false, escaped: false, in_word: false };

    /// Reads on; how many bytes of the text belong to the value, where it ends in it.
    pub(super) fn read(&mut self, text: &str) -> Option<usize> {
        for (at, character) in text.char_indices() {
            let end = at + character.len_utf8();
            if self.in_string {
                match character {
                    _ if self.escaped => self.escaped = false,
                    '\\' => self.escaped = true,
                    '"' => self.in_string = false,
                    _ => continue,
                }
                if !self.in_string && self.depth == 0 {
                    return Some(end);
                }
                continue;
            }
            match character {
                '}' | ']' | ',' if self.in_word && self.depth == 0 => return Some(at),
                _ if self.in_word && self.depth == 0 && character.is_whitespace() => return Some(at),
                '"' => self.in_string = true,
                '{' | '[' => self.depth += 1,
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(end);
                    }
                }
                _ => self.in_word |= self.depth == 0 && !character.is_whitespace(),
            }
        }
        None
    }
}

/// How a call begins: `{"name": "..", "arguments": ` up to its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// It may be one.
    Incomplete,
    /// It is none.
    No,
    /// It is one.
    Call {
        /// The tool's name.
        name: String,
        /// Bytes up to the arguments.
        len: usize,
    },
}

/// Looks at how a text begins. `listed`: a bracket opens a list before it.
pub(super) fn head(text: &str, listed: bool) -> Head {
    let mut cursor = Cursor { text, at: 0 };
    let found = (|| {
        if listed {
            cursor.character('[')?;
        }
        cursor.character('{')?;
        if cursor.string()? != "name" {
            return Err(Stop::Wrong);
        }
        cursor.character(':')?;
        let name = cursor.string()?;
        cursor.character(',')?;
        if !matches!(cursor.string()?.as_str(), "arguments" | "parameters") {
            return Err(Stop::Wrong);
        }
        cursor.character(':')?;
        cursor.next()?;
        Ok(name)
    })();
    match found {
        Ok(name) => Head::Call { name, len: cursor.at },
        Err(Stop::Short) if text.len() < HEAD_BYTES_MAX => Head::Incomplete,
        Err(_) => Head::No,
    }
}

enum Stop {
    /// The text ends.
    Short,
    /// It is something else.
    Wrong,
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    /// The next character that is no white space, where the cursor comes to stand.
    fn next(&mut self) -> Result<char, Stop> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next().ok_or(Stop::Short)
    }

    fn character(&mut self, expected: char) -> Result<(), Stop> {
        match self.next()? {
            found if found == expected => {
                self.at += expected.len_utf8();
                Ok(())
            }
            _ => Err(Stop::Wrong),
        }
    }

    fn string(&mut self) -> Result<String, Stop> {
        if self.next()? != '"' {
            return Err(Stop::Wrong);
        }
        let rest = &self.text[self.at..];
        let len = ValueScan::default().read(rest).ok_or(Stop::Short)?;
        self.at += len;
        serde_json::from_str(&rest[..len]).map_err(|_| Stop::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_it_ends_however_it_is_cut() {
        for (value, rest) in [
            (r#"{"a": "}\"{", "b": [1, {"c": null}]}"#, "}"),
            (r#""a\\""#, ","),
            ("[[]]", "]"),
            ("12.5e3", "}"),
            ("true", " }"),
            ("{}", "{}"),
        ] {
            let text = format!("{value}{rest}");
            assert_eq!(ValueScan::default().read(&text), Some(value.len()), "{text}");
            let (mut scan, mut read) = (ValueScan::default(), 0);
            let end = text.chars().find_map(|character| {
                let end = scan.read(character.encode_utf8(&mut [0; 4])).map(|len| read + len);
                read += character.len_utf8();
                end
            });
            assert_eq!(end, Some(value.len()), "{text}");
        }
        assert_eq!(ValueScan::default().read(r#"{"a": "}"#), None);
    }

    #[test]
    fn a_call_is_known_by_its_beginning() {
        let call = |name: &str, len| Head::Call { name: name.to_owned(), len };
        assert_eq!(head(r#"{"name": "f", "arguments": {"#, false), call("f", 27));
        assert_eq!(head("\n{ \"name\":\"\\u0066\" , \"parameters\" :{}", false), call("f", 35));
        assert_eq!(head(r#" [{"name": "f", "arguments": {"#, true), call("f", 29));
        for incomplete in ["", " ", "{", r#"{"name": "f"#, r#"{"name": "f", "arguments":"#] {
            assert_eq!(head(incomplete, false), Head::Incomplete, "{incomplete}");
        }
        for other in ["a", "[", r#"{"a""#, r#"{"nam":"#, r#"{"name": 1"#, r#"{"name": "f", "x":"#] {
            assert_eq!(head(other, false), Head::No, "{other}");
        }
        assert_eq!(head(&format!("{{\"name\": \"{}", "f".repeat(HEAD_BYTES_MAX)), false), Head::No);
    }
}
