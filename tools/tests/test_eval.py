"""Pairs for evaluation: what of a file becomes one, that whole files are held out, and the other encoder's tokenizer."""

import random
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))

import extract
import functions
import minilm
import prose

PYTHON = '''
class A:
    @staticmethod
    def lines(path):
        """Read all lines of a file that is there.

        And more.
        """
        with open(path) as file:
            found = []
            for line in file:
                found.append(line)
            return found

    def short(self):
        """Say nothing that would be worth a pair."""
        return 1
'''

RUST = '''
/// Reads all lines of a [`File`](std::fs::File) that is "there".
///
/// ```
/// lines("a");
/// ```
#[inline(
    always
)]
pub fn lines(path: &str) -> Vec<String> {
    // A brace in a comment: {
    let open = '{';
    let other = "}}";
    let text = read(path);
    text.lines().map(String::from).collect()
}

/// This one is declared and has no body at all here.
fn declared(a: u32);

/// A type that is documented as well as any function is.
struct Documented;
'''

MARKDOWN = '''# A heading

The first sentence, e.g. This one, says what it is about and is long enough. The rest of it goes on about
the same thing for a while, so that it can be told from all the others that are in the same set of paragraphs.

```text
The first sentence of code is none, whatever it says and however long it is. Neither is what follows it in the block,
even where it goes on and on and on, as it does here, for at least as many letters as a paragraph would need to have.
```

- A list that says so much. It has as many letters as a paragraph would need to have, and is none all the same, since its
  items are not sentences of one thought. So it is left out here, in every file that there is.
'''


class Functions(unittest.TestCase):
    def test_a_python_function_is_its_code_without_its_docstring(self):
        ((query, code, file, name),) = functions.of_python("a.py", PYTHON.encode())
        self.assertEqual((query, file, name), ("Read all lines of a file that is there.", "a.py", "lines"))
        self.assertTrue(code.startswith("    def lines(path):\n        with open"), code)
        self.assertTrue(code.endswith("return found"), code)

    def test_what_does_not_parse_has_none(self):
        self.assertEqual(list(functions.of_python("a.py", b"def (")), [])
        self.assertEqual(list(functions.of_rust("a.rs", b"\xff")), [])

    def test_a_rust_function_ends_at_its_own_brace(self):
        ((query, code, _, name),) = functions.of_rust("a.rs", RUST.encode())
        self.assertEqual((query, name), ('Reads all lines of a `File` that is "there".', "lines"))
        self.assertTrue(code.startswith("pub fn lines") and code.endswith("collect()\n}"), code)

    def test_an_index_is_no_link(self):
        self.assertEqual(functions.plain('See [this](a) or `v["x"]` and  #[y], **all**.'), 'See this or `v["x"]` and #[y], all.')


class Prose(unittest.TestCase):
    def test_a_paragraph_is_cut_behind_its_first_sentence(self):
        ((first, rest, _, _),) = prose.of_markdown("guide.md", MARKDOWN.encode())
        self.assertEqual(first, "The first sentence, e.g. This one, says what it is about and is long enough.")
        self.assertTrue(rest.startswith("The rest of it") and rest.endswith("set of paragraphs."), rest)

    def test_a_changelog_is_no_guide(self):
        self.assertEqual(list(prose.of_markdown("a/CHANGELOG.md", MARKDOWN.encode())), [])

    def test_modules_say_what_they_are(self):
        said = "".join(f"//! {line}\n" for line in MARKDOWN.splitlines())
        self.assertEqual(len(list(prose.of_rust("a.rs", said.encode()))), 1)


class Choosing(unittest.TestCase):
    def test_whole_files_are_held_out_and_the_same_seed_chooses_the_same(self):
        found = [(f"what {file} {at} does", f"code {file} {at}", f"p/{file}", "") for file in range(30) for at in range(5)]
        choose = lambda: extract.choose(found, "x/", random.Random(0), set(), 20, per_file=4, per_package=1000)
        tests, train = choose()
        self.assertEqual((tests, train), choose())
        self.assertEqual(len(tests), 20)
        self.assertFalse({file for _, _, file, _ in tests} & {file for _, _, file, _ in train})
        self.assertEqual(len(train), 30 * 4 - 20)

    def test_no_text_comes_twice(self):
        found = [("What it does", "one", "p/a", ""), ("what it does", "two", "p/b", ""), ("Other", "one", "p/c", "")]
        tests, train = extract.choose(found, "", random.Random(0), set(), 0, per_file=4, per_package=1000)
        self.assertEqual((len(tests), len(train)), (0, 1))

    def test_the_corpus_has_no_text_of_a_file_that_is_held_out(self):
        train = [(f"query {at}", f"document {at}", f"p/{at % 4}", "") for at in range(40)]
        texts = extract.corpus({"rust": ([], train), "prose": ([], train)}, {"p/3"}, random.Random(0))
        self.assertEqual({text["source"] for text in texts}, {"p/0", "p/1", "p/2"})
        self.assertEqual(len(texts), 90)


class WordPieces(unittest.TestCase):
    def test_words_are_cut_into_the_longest_known_pieces(self):
        tokenizer = minilm.WordPiece(["[UNK]", "[CLS]", "[SEP]", "read", "##ing", "##lines", "(", "cafe", "\u4e2d"])
        pieces = lambda text: [list(tokenizer.ids)[index] for index in tokenizer.encode(text)[1:-1]]
        self.assertEqual(pieces("Reading(readlines"), ["read", "##ing", "(", "read", "##lines"])
        self.assertEqual(pieces("Caf\u00e9 \u4e2d reader"), ["cafe", "\u4e2d", "[UNK]"])


if __name__ == "__main__":
    unittest.main()
