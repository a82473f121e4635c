"""Kinds of models that differ in how layers attend: small, random, and with the patterns of the real ones.

A kind is an architecture of transformers, perhaps with a suffix, and what makes it a case of its own. Embeddings
that an exporter's graph scales have a width whose root is exact in two decimals: a builder rounds it so.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "vocab_size": 576,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "bos_token_id": 509,
    "eos_token_id": 511,
    "pad_token_id": 509,
    "tie_word_embeddings": True,
}
LOCAL, WHOLE = "sliding_attention", "full_attention"
# Factors as in Phi-3: short ones near 1, long ones that grow with the wavelength.
FACTORS = {
    "type": "longrope",
    "short_factor": [1.0 + 0.03 * i for i in range(8)],
    "long_factor": [1.0 + 0.9 * i for i in range(8)],
}
KINDS = {
    # Local and whole layers in turn, soft caps of scores and logits, a scale of its own, embeddings scaled.
    "gemma2": {
        "num_hidden_layers": 4,
        "hidden_size": 16,
        "sliding_window": 24,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0,
    },
    # Five local layers with a base of their own for each whole one; norms of queries and keys.
    "gemma3_text": {
        "num_hidden_layers": 6,
        "hidden_size": 16,
        "sliding_window": 24,
        "query_pre_attn_scalar": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "layer_types": [LOCAL] * 5 + [WHOLE],
    },
    # The whole layers' frequencies divided by eight, as from 4B on.
    "gemma3_text-linear": {
        "num_hidden_layers": 3,
        "hidden_size": 16,
        "sliding_window": 24,
        "query_pre_attn_scalar": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "layer_types": [LOCAL, WHOLE, LOCAL],
    },
    # For few bits, which want whole blocks of 32.
    "gemma3_text-64": {
        "num_hidden_layers": 6,
        "hidden_size": 64,
        "sliding_window": 24,
        "query_pre_attn_scalar": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "layer_types": [LOCAL] * 5 + [WHOLE],
    },
    # Every fourth layer has no rotation.
    "smollm3": {"num_hidden_layers": 5, "rope_theta": 2e6, "no_rope_layer_interval": 4},
    # Three local layers with a rotation, one whole without; neighbours are rotated; attention beside the network.
    "cohere2": {"num_hidden_layers": 4, "sliding_window": 24, "rope_theta": 5e4, "logit_scale": 0.25},
    # The same pattern, norms of queries and keys, norms behind each part.
    "exaone4": {"num_hidden_layers": 4, "sliding_window": 24, "sliding_window_pattern": 4, "rope_theta": 1e6},
    # Other frequencies from position 64 on.
    "phi3-long": {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 64,
        "rope_scaling": FACTORS,
    },
    # Three quarters of each head are rotated; one local window for all layers.
    "phi3-local": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "partial_rotary_factor": 0.75,
        "sliding_window": 24,
        "original_max_position_embeddings": 1024,
    },
    "phi3-partial": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 1024,
    },
    # Two fifths of each head; attention beside the network; norms with a mean; as many heads of keys as of queries.
    "phi": {
        "num_hidden_layers": 3,
        "hidden_size": 40,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 40,
        "partial_rotary_factor": 0.4,
        "tie_word_embeddings": False,
    },
    "phi-wide": {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 80,
        "partial_rotary_factor": 0.4,
    },
    # Positions are added to the embedding; as many as the table has.
    "gpt2": {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "n_positions": 256,
        "n_inner": 32,
        "head_dim": 16,
    },
    "qwen3": {"num_hidden_layers": 3, "rope_theta": 1e6},
    # Cosines and sines are scaled, and frequencies are no powers of one base.
    "qwen3-yarn": {
        "num_hidden_layers": 3,
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    },
    # A quarter of each head, heads of queries, keys and values in turn in one product.
    "gpt_neox": {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rotary_pct": 0.25,
    },
    # No positions but a bias by distance.
    "bloom": {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2},
    # Positions are added to the embedding, two rows further on.
    "opt": {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "ffn_dim": 32,
        "word_embed_proj_dim": 32,
    },
    # Norms of all heads of queries and keys together, and behind each part.
    "olmo2": {"num_hidden_layers": 3, "rope_theta": 5e5},
    "granite": {
        "num_hidden_layers": 3,
        "attention_multiplier": 0.1,
        "residual_multiplier": 0.5,
        "embedding_multiplier": 3.0,
        "logits_scaling": 2.0,
    },
    # Frequencies that are no powers of one base.
    "llama3": {
        "num_hidden_layers": 3,
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
}
ARCHITECTURES = {"llama3": "llama"}
# Pairs of neighbours rather than of halves.
NEIGHBOURS = {"cohere2"}
# Positions are learned, so that a window cannot slide.
LEARNED = {"gpt2", "opt"}
# What some architectures call their sizes.
SPELLED = {
    "gpt2": {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
    "bloom": {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
}


def model(kind: str) -> torch.nn.Module:
    """A model with random weights of sensible sizes, the same ones each time."""
    torch.manual_seed(11)
    architecture = ARCHITECTURES.get(kind, kind.split("-")[0])
    spelled = SPELLED.get(architecture, {})
    sizes = {spelled.get(name, name): size for name, size in (SIZES | KINDS[kind]).items()}
    config = AutoConfig.for_model(architecture, **sizes)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            noise = torch.randn_like(weights)
            if "norm" in name or "ln_" in name:
                # Gemma adds 1 itself.
                weights.copy_(0.1 * noise + (0.0 if architecture.startswith("gemma") else 1.0))
            elif name.endswith("bias"):
                weights.copy_(0.3 * noise)
            else:
                weights.copy_(noise * size_of(name) / weights.shape[-1] ** 0.5)
    return made


def size_of(name: str) -> float:
    """How large a matrix is: a table of positions must not drown the tokens."""
    if "wpe" in name or "embed_positions" in name:
        return 0.5
    return 3.0 if "embed" in name or "wte" in name else 1.5


def angles(made: torch.nn.Module) -> list[np.ndarray | None]:
    """Radians that each layer turns each pair by from one token to the next; None for a layer that turns none."""
    config, inner = made.config, getattr(made, "model", None) or made.base_model
    types = getattr(config, "layer_types", None) or [WHOLE] * config.num_hidden_layers
    rotary = getattr(inner, "rotary_emb", None)
    found = []
    for layer, kind in enumerate(types):
        turns = {
            "smollm3": lambda: config.no_rope_layers[layer],
            "cohere2": lambda: kind == LOCAL,
            "exaone4": lambda: kind == LOCAL,
        }.get(config.model_type, lambda: rotary is not None)()
        local = config.model_type == "gemma3_text" and kind == LOCAL
        of_layer = inner.rotary_emb_local if local else rotary
        found.append(of_layer.original_inv_freq.double().numpy() if turns else None)
    return found
