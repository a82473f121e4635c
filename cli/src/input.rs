//! Texts from standard input: all of it, or line by line. None longer than a limit is held in memory.

use std::io::{self, BufRead, Read as _};

use motorbrain_protocol::{Line, next_line};

use crate::{exit::Exit, failure::Failure};

/// The most bytes that are held at once: of a line, or of all that is one text.
pub(crate) const INPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why standard input gives no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("standard input cannot be read")]
    Read(#[source] io::Error),
    #[error("standard input has more than {INPUT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("line {line} of standard input has more than {INPUT_BYTES_MAX} bytes")]
    TooLong { line: usize },
    #[error("line {line} of standard input is not UTF-8")]
    NotText { line: usize },
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        match &error {
            InputError::Read(_) => Self::new(Exit::Unexpected, error, None),
            InputError::TooLarge => Self::new(Exit::Settings, error, Some("give the end of it alone".into())),
            InputError::TooLong { .. } => Self::new(Exit::Settings, error, Some("cut it into lines".into())),
            InputError::NotText { .. } => Self::new(Exit::Settings, error, Some("convert it to UTF-8".into())),
        }
    }
}

/// All of standard input as one text, but for one line feed at its end: `echo` writes that.
pub(crate) fn whole() -> Result<String, InputError> {
    let mut bytes = Vec::new();
    let mut most = io::stdin().lock().take(INPUT_BYTES_MAX as u64 + 1);
    most.read_to_end(&mut bytes).map_err(InputError::Read)?;
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(InputError::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        InputError::NotText { line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    })?;
    Ok(without_end(text))
}

/// A text without the end of its last line.
fn without_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Lines of text, without their ends; the first mistake is the last of them.
pub(crate) struct TextLines<R> {
    input: R,
    line: usize,
    is_over: bool,
}

impl<R: BufRead> TextLines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, line: 0, is_over: false }
    }

    fn text(&mut self) -> Result<Option<String>, InputError> {
        let Some(found) = next_line(&mut self.input, INPUT_BYTES_MAX).map_err(InputError::Read)? else {
            return Ok(None);
        };
        self.line += 1;
        match found {
            Line::TooLong => Err(InputError::TooLong { line: self.line }),
            Line::Text(mut bytes) => {
                bytes.pop_if(|last| *last == b'\r');
                let text = String::from_utf8(bytes);
                text.map(Some).map_err(|_| InputError::NotText { line: self.line })
            }
        }
    }
}

impl<R: BufRead> Iterator for TextLines<R> {
    type Item = Result<String, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let text = self.text().transpose();
        self.is_over = !matches!(text, Some(Ok(_)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_feed_at_the_end_is_no_part_of_a_text() {
        for (input, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("\n", ""), ("", "")]
        {
            assert_eq!(without_end(input.to_owned()), expected, "{input:?}");
        }
    }

    /// The lines of an input, and how its mistake begins.
    fn lines(input: &[u8]) -> (Vec<String>, Option<String>) {
        let (mut texts, mut mistake) = (Vec::new(), None);
        for line in TextLines::new(input) {
            assert!(mistake.is_none(), "nothing follows a mistake");
            match line {
                Ok(text) => texts.push(text),
                Err(error) => mistake = Some(error.to_string()),
            }
        }
        (texts, mistake)
    }

    #[test]
    fn lines_are_texts_up_to_the_first_mistake() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(b"a\r\n\nb"), (texts(&["a", "", "b"]), None));
        assert_eq!(lines(b""), (Vec::new(), None));
        let mistake = "line 2 of standard input is not UTF-8".to_owned();
        assert_eq!(lines(b"a\n\xff\nb\n"), (texts(&["a"]), Some(mistake)));
    }
}
