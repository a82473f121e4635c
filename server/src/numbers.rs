//! Whole numbers of a body, however they are written: JSON has one kind of number, and `2.0` and `2e0` are the integer 2 to
//! JSON Schema and to languages that have no other. What reads a body here wants such a number without point and exponent.
//!
//! Digits are moved and never computed with, so nothing is rounded. A number that gets shorter is filled up with blanks, and
//! so errors tell the places of what was sent. What is passed on as it is, to a template or a grammar, keeps its numbers: there
//! `1.0` is another text than `1`. Pure.

use std::str::from_utf8;

use bytes::Bytes;

/// No integer of 64 bits has more digits.
const DIGITS_MAX: usize = 20;

/// Keys whose values are the caller's own JSON.
const PASSED_ON: [&[u8]; 4] = [br#""parameters""#, br#""schema""#, br#""json_schema""#, br#""chat_template_kwargs""#];

/// The same JSON, in which what is whole is written so. What is no JSON stays none.
pub(crate) fn plain(json: Bytes) -> Bytes {
    let mut plain = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = json[at..].iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9')) {
        let begin = at + found;
        at = if json[begin] == b'"' { end_of_text(&json, begin) } else { end_of_number(&json, begin) };
        if PASSED_ON.contains(&&json[begin..at]) {
            at = behind_what_it_names(&json, at);
            continue;
        }
        if let Some(whole) = from_utf8(&json[begin..at]).ok().and_then(whole) {
            plain.extend_from_slice(&json[copied..begin]);
            plain.extend_from_slice(whole.as_bytes());
            plain.resize(plain.len() + (at - begin).saturating_sub(whole.len()), b' ');
            copied = at;
        }
    }
    if copied == 0 {
        return json;
    }
    plain.extend_from_slice(&json[copied..]);
    plain.into()
}

/// Behind the quotation mark that ends what begins at `begin`.
fn end_of_text(json: &[u8], begin: usize) -> usize {
    let mut escaped = false;
    let ends = |byte: &u8| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    };
    json[begin + 1..].iter().position(ends).map_or(json.len(), |length| begin + length + 2)
}

/// Behind the value of the key that ends at `at`; the same place where that is no key.
fn behind_what_it_names(json: &[u8], at: usize) -> usize {
    let next =
        |from: usize| json[from..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|blanks| from + blanks);
    let Some(value) = next(at).filter(|colon| json[*colon] == b':').and_then(|colon| next(colon + 1)) else {
        return at;
    };
    let (mut depth, mut at) = (0_usize, value);
    while at < json.len() {
        match json[at] {
            b'"' => at = end_of_text(json, at) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + depth,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    json.len()
}

fn end_of_number(json: &[u8], begin: usize) -> usize {
    let is_part = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    begin + json[begin..].iter().take_while(is_part).count()
}

/// A number's digits where it is whole and not written so; nothing for what is no number or is one beyond 64 bits.
fn whole(raw: &str) -> Option<String> {
    if raw.starts_with('"') || raw != "-0" && !raw.contains(['.', 'e', 'E']) {
        return None;
    }
    serde_json::from_str::<f64>(raw).ok()?;
    let (sign, size) = raw.strip_prefix('-').map_or(("", raw), |size| ("-", size));
    let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    let digits = digits.trim_start_matches('0');
    let first = digits.trim_end_matches('0');
    if first.is_empty() {
        return Some("0".to_owned());
    }
    let dropped = i64::try_from(digits.len() - first.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let zeros = usize::try_from(exponent.parse::<i64>().ok()?.checked_add(dropped)?).ok()?;
    (first.len().saturating_add(zeros) <= DIGITS_MAX).then(|| format!("{sign}{first}{}", "0".repeat(zeros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &'static str, expected: &str) {
        assert_eq!(plain(Bytes::from_static(json.as_bytes())), expected, "{json}");
    }

    #[test]
    fn what_is_whole_is_written_so_where_it_stood() {
        check(r#"{"a":2.0,"b":[-3.00,4]}"#, r#"{"a":2  ,"b":[-3   ,4]}"#);
        check("[1.5e1, 2E+3,0.0,-0,-0.0e7,120e-1]", "[15   , 2000,0  ,0 ,0     ,12    ]");
        check("18446744073709551615.0", "18446744073709551615  ");
        check("1e19", "10000000000000000000");
    }

    #[test]
    fn what_is_passed_on_keeps_its_numbers() {
        check(
            r#"{"tools":[{"parameters":{"a":[1.0,{"b":"} 2.0"}],"c":3.0}}],"n":1.0,"schema" : 4.0,"m":5.0}"#,
            r#"{"tools":[{"parameters":{"a":[1.0,{"b":"} 2.0"}],"c":3.0}}],"n":1  ,"schema" : 4.0,"m":5  }"#,
        );
        check(r#"["schema",1.0]"#, r#"["schema",1  ]"#);
        check(r#"{"schema":1.0}"#, r#"{"schema":1.0}"#);
        for cut in [r#"{"schema""#, r#"{"schema":"#, r#"{"schema":{"a":1.0"#, r#"{"schema":"1.0"#, r#"{"schema":[}"#] {
            check(cut, cut);
        }
    }

    #[test]
    fn all_else_stays_as_it_was() {
        for json in [
            r#"{"2.0":"3.0 \" 4.0 \\"}"#,
            "[1,-2,0.5,1.25e1,5e-1]",
            "1e20",
            "1e400",
            "1e99999999999999999999",
            "[1.,.0,01.0,2.0.0,--1.0,1.0e]",
            "\"2.0",
            "",
        ] {
            check(json, json);
        }
        check(r#"{"a\"":1.0,"b":"\\","c":2.0}"#, r#"{"a\"":1  ,"b":"\\","c":2  }"#);
    }
}
