//! Lines of input, none longer than a limit held in memory.
//!
//! A line that is too long is skipped to its end as it comes, so that no caller can fill the memory
//! with one, and what follows it is read as if it had not been there.

use std::io::{BufRead, Result};

/// A line without its line feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Its bytes; they need not be UTF-8.
    Text(Vec<u8>),
    /// More bytes than the limit; they are gone.
    TooLong,
}

/// The next line of at most `bytes_max` bytes; `None` at the end of input. What stands behind the
/// last line feed is a line too, unless it is nothing.
pub fn next_line(input: &mut impl BufRead, bytes_max: usize) -> Result<Option<Line>> {
    let mut text = Vec::new();
    let mut too_long = false;
    let mut ended = false;
    let mut any = false;
    while !ended {
        let piece = input.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        any = true;
        let (line, used) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&piece[..end], end + 1),
            None => (piece, piece.len()),
        };
        ended = used > line.len();
        too_long |= text.len() + line.len() > bytes_max;
        if too_long {
            text = Vec::new();
        } else {
            text.extend_from_slice(line);
        }
        input.consume(used);
    }
    Ok(any.then_some(if too_long { Line::TooLong } else { Line::Text(text) }))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Reads all lines of `input`, at most four bytes each, through a buffer of three.
    fn check(input: &str, expected: &[Option<&str>]) {
        let mut reader = BufReader::with_capacity(3, input.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, 4).expect("a slice can be read") {
            lines.push(line);
        }
        let expected: Vec<_> =
            expected.iter().map(|line| line.map_or(Line::TooLong, |text| Line::Text(text.into()))).collect();
        assert_eq!(lines, expected, "{input:?}");
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end_of_input() {
        check("", &[]);
        check("\n", &[Some("")]);
        check("a", &[Some("a")]);
        check("a\n\nb\n", &[Some("a"), Some(""), Some("b")]);
        check("abcd\r\n", &[None]);
        check("abc\r\nd", &[Some("abc\r"), Some("d")]);
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_to_its_end() {
        check("abcd\n", &[Some("abcd")]);
        check("abcde\nf\n", &[None, Some("f")]);
        check("abcdefghijklmnopq\nrs", &[None, Some("rs")]);
        check("ab\nabcdefgh", &[Some("ab"), None]);
    }
}
