"""Makes tests/fixtures/tokenizers/: two small tokenizers of kinds that the other fixtures are not of.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tools/tokenizer_fixtures.py

llama2.json: BPE whose normalizer writes a space before each stretch of text, with a token for each byte, and whose
decoder strips the first space. unigram.json: the most likely pieces, trained on README.md; its vocabulary holds its
special tokens as pieces, and what cannot be spelled is <unk>.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/fixtures/tokenizers"
SPECIAL = ["<unk>", "<s>", "</s>"]
WORDS = """the of and to in is you that it he was for on are as with his they at be this have from or one had by word man
up other about out many then them these so""".split()
SCRIPTS = "🚀 emoji 👩‍🚀🏳️‍🌈 مرحبا بالعالم नमस्ते दुनिया 你好，世界 Straße"


def added(tokens, first_id=0, special=True):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    return [{"id": first_id + place, "content": content, **flags} for place, content in enumerate(tokens)]


def llama2():
    pieces = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"]
    pieces += [chr(code) for code in range(33, 127)]
    merges = []
    for word in WORDS:
        done = "▁"
        for letter in word:
            merges.append(f"{done} {letter}")
            done += letter
            if done not in pieces:
                pieces.append(done)
    marks = ["<|user|>", "<tool_call>", "▁▁▁▁"]
    spaces = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    decoder = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added(SPECIAL) + added(marks, len(pieces), special=False),
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoder},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: place for place, piece in enumerate(pieces)},
            "merges": list(dict.fromkeys(merges)),
        },
    }


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted({*map(chr, range(33, 127)), *SCRIPTS.replace(" ", "")})
    trainer = trainers.UnigramTrainer(
        vocab_size=560, special_tokens=SPECIAL, unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([(ROOT / "README.md").read_text(), SCRIPTS], trainer)
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False, special=False)])
    return json.loads(tokenizer.to_str())


OUT.mkdir(exist_ok=True)
for name, content in (("llama2", llama2()), ("unigram", unigram())):
    (OUT / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
