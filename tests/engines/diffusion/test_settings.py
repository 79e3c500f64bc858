"""What an adapter may say about how it denoises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carrara.engines.diffusion.settings import FILE, Settings
from carrara.engines.errors import LoadingError


def test_a_folder_without_the_file_has_the_defaults(tmp_path: Path) -> None:
    assert Settings.of_adapter(tmp_path) == Settings()


def test_the_file_is_read(tmp_path: Path) -> None:
    found = {"logit_shift": False, "threshold": 0.8, "block_tokens": 96, "mask_token_id": 16}
    (tmp_path / FILE).write_text(json.dumps(found))
    assert Settings.of_adapter(tmp_path) == Settings(
        logit_shift=False, threshold=0.8, block_tokens=96, mask_token_id=16
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is not a JSON object"),
        ('{"treshold": 1}', "treshold"),
        ('{"threshold": 2}', "threshold is 2, it must be a number above 0 and at most 1"),
        ('{"gate_threshold": 2}', "gate_threshold is 2, it must be a number from 0 to 1"),
        ('{"slot_tokens": 0}', "slot_tokens"),
        ('{"most_steps": 0}', "most_steps"),
        ('{"accepted": 1}', "accepted is 1, it must map shapes of contracts to shares"),
        ('{"slots_grow": "no"}', "slots_grow is 'no', it must be true or false"),
        ('{"logit_shift": "yes"}', "logit_shift is 'yes', it must be true or false"),
        ('{"items_ahead": -5}', "items_ahead is -5, it must be a whole number of at least 0"),
        ('{"items_ahead": "2"}', "items_ahead is '2'"),
        ('{"most_steps": 2.5}', "most_steps is 2.5, it must be a whole number of at least 1"),
        ('{"canvas_refresh_passes": 2.5}', "canvas_refresh_passes is 2.5"),
        ('{"context_refresh_passes": -1}', "context_refresh_passes is -1"),
        ('{"slot_tokens": true}', "slot_tokens is True"),
        ('{"threshold": "0.9"}', "threshold is '0.9'"),
        ('{"threshold": NaN}', "threshold is nan"),
        ('{"threshold": null}', "threshold is None"),
        ('{"mask_token_id": "<mask>"}', "mask_token_id is '<mask>'"),
        ('{"attention": ["full"]}', "it must be causal, block or full"),
        ('{"accepted": {"json": 2}}', "accepted.json is 2, it must be a number from 0 to 1"),
        ('{"accepted": {"nested": 0.5}}', "accepted names 'nested'; known are text, choice"),
    ],
)
def test_a_mistake_names_the_file_and_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(LoadingError, match=told) as error:
        Settings.of_adapter(tmp_path)
    assert str(tmp_path / FILE) in str(error.value)


def test_what_is_accepted_changes_no_answer_and_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"accepted": {"nested json": 0.05}}')
    found = Settings.of_adapter(tmp_path)
    assert found.accepted == {"nested json": 0.05}
    assert found.line == Settings().line
    assert found.data["accepted"] == {"nested json": 0.05}
    assert hash(found) == hash(Settings())
