//! JSON in templates: values of it, and `tojson` as Python's `json.dumps` writes it.
//!
//! Separators are `, ` and `: `, keys keep their order, and characters beyond ASCII stay as they are (transformers
//! overrides the filter of Jinja2, which escapes for HTML).

use std::fmt::Write as _;

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind},
};

/// A JSON value as a template sees it; `text` is what becomes of each text in it, keys included.
pub(crate) fn value_of(json: &serde_json::Value, text: &mut dyn FnMut(&str) -> String) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(bool) => Value::from(*bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(string) => Value::from(text(string)),
        serde_json::Value::Array(items) => {
            Value::from(items.iter().map(|item| value_of(item, text)).collect::<Vec<Value>>())
        }
        serde_json::Value::Object(pairs) => {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (text(key), value_of(value, text))).collect();
            Value::from_pairs(pairs)
        }
    }
}

/// The text of a JSON value as Python writes it; `text` is what becomes of each text in it.
pub(crate) fn python_json(json: &serde_json::Value, text: &mut dyn FnMut(&str) -> String) -> String {
    let mut writer = Writer { text: String::new(), style: Style::default(), depth: 0, state: None, paid: 0 };
    // Only what is no JSON fails.
    let _ = writer.write(&value_of(json, text));
    writer.text
}

/// The filter: `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    positional: Rest<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let argument = |place: usize, name: &str| match positional.get(place) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let is = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is(argument(0, "ensure_ascii")?);
    let indent = argument(1, "indent")?.filter(|indent| !indent.is_none());
    let separators = argument(2, "separators")?.filter(|separators| !separators.is_none());
    let sort_keys = is(argument(3, "sort_keys")?);
    named.assert_all_used()?;
    let indent = indent.map(|indent| match (indent.as_str(), usize::try_from(indent.clone())) {
        (Some(text), _) => text.to_owned(),
        // What is below nothing is nothing.
        (None, width) => " ".repeat(width.unwrap_or(0).min(INDENT_MAX)),
    });
    let (mut comma, mut colon) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(separators) = separators {
        let of = |place: usize| separators.get_item_by_index(place).map(|it| it.to_string());
        (comma, colon) = (of(0)?, of(1)?);
    }
    let style = Style { ensure_ascii, indent, comma, colon, sort_keys };
    let mut writer = Writer { text: String::new(), style, depth: 0, state: Some(state), paid: 0 };
    writer.write(value)?;
    Ok(Value::from(writer.text))
}

/// The widest indent. Not a setting: it only keeps a template from writing spaces without end.
const INDENT_MAX: usize = 64;

/// How deep values may nest.
const DEPTH_MAX: usize = 128;

/// What a value costs of a template's fuel, beside a unit for each 64 bytes that it is written in: one may stand in
/// others many times over.
const VALUE_FUEL: u64 = 4;

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    comma: String,
    colon: String,
    sort_keys: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { ensure_ascii: false, indent: None, comma: ", ".to_owned(), colon: ": ".to_owned(), sort_keys: false }
    }
}

struct Writer<'s> {
    text: String,
    style: Style,
    depth: usize,
    /// Who pays.
    state: Option<&'s State<'s, 's>>,
    /// For so many bytes.
    paid: usize,
}

impl Writer<'_> {
    fn write(&mut self, value: &Value) -> Result<(), Error> {
        if self.depth > DEPTH_MAX {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        if let Some(state) = self.state {
            state.consume_fuel(VALUE_FUEL + (self.text.len() - self.paid) as u64 / 64)?;
            self.paid = self.text.len();
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => {
                let _ = write!(self.text, "{value}");
            }
            ValueKind::Number => self.text.push_str(&float(f64::try_from(value.clone()).unwrap_or(f64::NAN))),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Result<Vec<Value>, Error> = value.try_iter()?.checked().collect();
                self.container('[', ']', items?, |writer, item| writer.write(&item))?;
            }
            ValueKind::Map => {
                let keys: Result<Vec<Value>, Error> = value.try_iter()?.checked().collect();
                let mut keys = keys?;
                if self.style.sort_keys {
                    keys.sort();
                }
                self.container('{', '}', keys, |writer, key| {
                    match key.as_str() {
                        Some(text) => writer.string(text),
                        None => {
                            let text = if key.is_none() { "null".to_owned() } else { key.to_string() };
                            // True and False are written as JSON has them.
                            let text = if key.kind() == ValueKind::Bool { text.to_lowercase() } else { text };
                            writer.string(&text);
                        }
                    }
                    let colon = writer.style.colon.clone();
                    writer.text.push_str(&colon);
                    writer.write(&value.get_item(&key)?)
                })?;
            }
            kind => {
                let what = format!("{kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, what));
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        self.depth += 1;
        let is_empty = items.is_empty();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(&self.style.comma);
            }
            self.line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !is_empty {
            self.line();
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.text.push('\n');
            for _ in 0..self.depth {
                self.text.push_str(indent);
            }
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for character in string.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{C}' => self.text.push_str("\\f"),
                '\0'..'\u{20}' => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(character));
                }
                // What marks texts (see `inert.rs`) stays what it is.
                '\u{FDD0}'..='\u{FDEF}' => self.text.push(character),
                '\u{7F}'.. if self.style.ensure_ascii && character != '\u{7F}' => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                character => self.text.push(character),
            }
        }
        self.text.push('"');
    }
}

/// A number as Python's `repr` writes it: the shortest digits that give it back, with an exponent below 1e-4 and from
/// 1e16 on.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent @ -4..16 => {
            let plain = format!("{number}");
            debug_assert!(exponent < 16, "{number}");
            if plain.contains('.') { plain } else { plain + ".0" }
        }
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected as `json.dumps(json.loads(json), ensure_ascii=False)` of Python gives it.
    fn check(json: &str, expected: &str) {
        let json = serde_json::from_str(json).expect("the test's JSON");
        assert_eq!(python_json(&json, &mut str::to_owned), expected);
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        check(r#"{"b":1,"a":[true,null,{}],"c":[]}"#, r#"{"b": 1, "a": [true, null, {}], "c": []}"#);
        check(r#""é\u007f\u0001\n</s>\"\\ 😀""#, "\"é\u{7f}\\u0001\\n</s>\\\"\\\\ 😀\"");
        check(
            "[1.0,1e16,1e15,1e-4,1e-5,0.1,-0.0,1e22,123456789.125]",
            "[1.0, 1e+16, 1000000000000000.0, 0.0001, 1e-05, 0.1, -0.0, 1e+22, 123456789.125]",
        );
        check("[18446744073709551615,-9223372036854775808]", "[18446744073709551615, -9223372036854775808]");
    }
}
