//! BM25, the yardstick: documents that have a query's rare words score high (Robertson and Zaragoza 2009), with the
//! inverse document frequency of Lucene, `ln(1 + (N - n + 0.5) / (n + 0.5))`, which is never negative. Pure.
//!
//! Identifiers are cut into their words, so that `readLines` and `read_lines` have a query's `read lines`.

use std::collections::HashMap;

use super::metrics::Scores;

/// How soon a word that comes again counts no more.
const K1: f64 = 1.2;
/// How much long documents are held back.
const B: f64 = 0.75;

/// How well each document matches each query.
pub(super) fn scores(queries: &[&str], documents: &[&str]) -> Scores {
    let index = Index::of(documents);
    Scores::of(queries.len(), |query| index.scores(queries[query]))
}

/// Of each word the documents that have it, and how often; and how long documents are.
struct Index {
    places: HashMap<String, Vec<(usize, f64)>>,
    lengths: Vec<f64>,
}

impl Index {
    fn of(documents: &[&str]) -> Self {
        let mut places: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(documents.len());
        for (number, document) in documents.iter().enumerate() {
            let words = words(document);
            lengths.push(words.len() as f64);
            for word in words {
                let places = places.entry(word).or_default();
                match places.last_mut() {
                    Some((last, count)) if *last == number => *count += 1.0,
                    _ => places.push((number, 1.0)),
                }
            }
        }
        Self { places, lengths }
    }

    fn scores(&self, query: &str) -> Vec<f32> {
        let total = self.lengths.len() as f64;
        let mean = (self.lengths.iter().sum::<f64>() / total).max(f64::MIN_POSITIVE);
        let mut scores = vec![0.0_f64; self.lengths.len()];
        for places in words(query).iter().filter_map(|word| self.places.get(word)) {
            let having = places.len() as f64;
            let rarity = (1.0 + (total - having + 0.5) / (having + 0.5)).ln();
            for (document, count) in places {
                let held_back = K1 * (1.0 - B + B * self.lengths[*document] / mean);
                scores[*document] += rarity * count * (K1 + 1.0) / (count + held_back);
            }
        }
        scores.into_iter().map(|score| score as f32).collect()
    }
}

/// What of a text a word is made of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Upper,
    Lower,
    Digit,
    Other,
}

fn kind(letter: char) -> Kind {
    match letter {
        _ if letter.is_numeric() => Kind::Digit,
        _ if letter.is_uppercase() => Kind::Upper,
        _ if letter.is_alphabetic() => Kind::Lower,
        _ => Kind::Other,
    }
}

/// The words of a text in lower case: letters up to the next capital (`readLines`), capitals up to the last one where
/// a word begins (`HTTPServer`), and numbers. Letters without case are as small ones.
fn words(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let kinds: Vec<Kind> = letters.iter().copied().map(kind).collect();
    let run = |from: usize, kind: Kind| kinds[from..].iter().take_while(|found| **found == kind).count();
    let (mut words, mut at) = (Vec::new(), 0);
    while at < letters.len() {
        let (upper, length) = (run(at, Kind::Upper), run(at, kinds[at]));
        let small = kinds.get(at + upper) == Some(&Kind::Lower);
        let length = match kinds[at] {
            Kind::Upper if small && upper == 1 => 1 + run(at + 1, Kind::Lower),
            // The last capital begins the next word.
            Kind::Upper if small => upper - 1,
            _ => length,
        };
        if kinds[at] != Kind::Other {
            words.push(letters[at..at + length].iter().collect::<String>().to_lowercase());
        }
        at += length;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_cut_into_words() {
        // By Python's `re`, `[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+`.
        let text = "readLines read_lines HTTPServer2x getID ABC Ab x1 (self.__init__)";
        let expected = [
            "read", "lines", "read", "lines", "http", "server", "2", "x", "get", "id", "abc", "ab", "x", "1", "self",
            "init",
        ];
        assert_eq!(words(text), expected);
        assert_eq!(words("Über straße"), ["über", "straße"]);
        assert_eq!(words(" _ -"), [""; 0]);
    }

    #[test]
    fn scores_are_those_of_an_independent_computation() {
        // By the formula in numpy, over counters of words.
        let documents =
            ["def read_lines(path): return open(path).readlines()", "fn add(a, b) { a + b }", "class Reader: pass"];
        let queries = ["read the lines of a path", "add a and b", "reader reader"];
        let expected: [[f32; 3]; 3] = [[2.8875225, 1.3266913, 0.0], [0.0, 3.6111636, 0.0], [0.0, 0.0, 2.4293387]];
        let scores = scores(&queries, &documents);
        for (query, row) in expected.iter().enumerate() {
            for (document, expected) in row.iter().enumerate() {
                let found = scores.at(query, document);
                assert!((found - expected).abs() < 1e-6, "query {query}, document {document}: {found}, not {expected}");
            }
        }
    }
}
