"""config.json is read as published, in old and new spelling, and what is not computed here is refused."""

from typing import Any

import pytest
import torch

from carrara.engines.errors import LoadingError
from carrara.engines.model.config import LlamaConfig, RopeScaling
from carrara.engines.model.rope import inverse_frequencies

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 72,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
}


LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_the_published_fields_are_read() -> None:
    config = LlamaConfig.from_dict(SMALL)
    assert (config.head_dim, config.group, config.tied, config.rope_theta) == (8, 3, True, 1e5)
    assert LlamaConfig.from_dict(SMALL | {"model_type": "a2d-llama"}).model_type == "a2d-llama"


def test_rope_settings_are_found_in_both_places() -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 8192
    old = LlamaConfig.from_dict(SMALL | {"rope_scaling": {"rope_type": "llama3", **scaling}})
    inside = {"rope_type": "llama3", "rope_theta": 100000, **scaling}
    new = LlamaConfig.from_dict({**SMALL, "rope_theta": None, "rope_parameters": inside})
    assert old == new
    assert old.rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)


def test_stretched_frequencies_follow_their_formulas() -> None:
    plain = inverse_frequencies(LlamaConfig.from_dict(SMALL | {"head_dim": 64}))
    linear = {"rope_scaling": {"type": "linear", "factor": 4.0}}
    quarter = inverse_frequencies(LlamaConfig.from_dict(SMALL | {"head_dim": 64} | linear))
    assert torch.allclose(quarter * 4, plain)
    ramped = inverse_frequencies(
        LlamaConfig.from_dict(SMALL | {"head_dim": 64, "rope_scaling": LLAMA3})
    )
    assert torch.equal(ramped[0], plain[0])  # fast turns stay
    assert torch.allclose(ramped[-1] * 8, plain[-1])  # slow ones are stretched by the factor
    assert bool((ramped <= plain).all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"model_type": None}, "model_type None"),
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"num_key_value_heads": 2}, "9 attention heads cannot share 2"),
        ({"hidden_size": 70}, "hidden_size 70"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope type 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "lacks rope_scaling.factor"),
        ({"rope_scaling": "x"}, "rope_scaling is 'x', it must be an object"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_parameters.rope_theta is 'x'"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor is 1.0"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', it must be true or false"),
        ({"head_dim": 7}, "heads of 7 dimensions"),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadingError, match=words):
        LlamaConfig.from_dict(SMALL | change, "x/config.json")
