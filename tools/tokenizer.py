"""`tokenizer.json`, `config.json` and `generation_config.json` out of what a GGUF file says.

The tokenizer is byte-level BPE over GPT-2's alphabet. SmolLM splits text with GPT-2's expression
and, before it, every digit apart; that is what llama.cpp calls the pre-tokenizer `smollm`.
"""

from __future__ import annotations

from gguf_model import Config, Vocabulary


def tokenizer_json(vocabulary: Vocabulary) -> dict:
    """The file that the `tokenizers` library reads."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(id, vocabulary.tokens[id]) for id in vocabulary.special_ids],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(vocabulary.tokens)},
            "merges": [merge.split(" ") for merge in vocabulary.merges],
        },
    }


def _special(id: int, content: str) -> dict:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": id, "content": content} | flags


def config_json(config: Config, family: str, vocabulary: Vocabulary | None) -> dict:
    """The network's sizes under the names that Hugging Face uses; without a vocabulary no token ends a text."""
    return {
        "architectures": [f"{family}ForCausalLM"],
        "model_type": family.lower(),
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_base,
        "rope_scaling": None,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": True,
        **(generation_config_json(vocabulary) if vocabulary else {}),
    }


def generation_config_json(vocabulary: Vocabulary) -> dict:
    """Which tokens begin, end and pad a text."""
    return {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
        "pad_token_id": vocabulary.pad_id,
    }
