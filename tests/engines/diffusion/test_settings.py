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
        ("[]", "unknown keys"),
        ('{"treshold": 1}', "treshold"),
        ('{"threshold": 2}', "threshold is above 0"),
        ('{"gate_threshold": 2}', "gate_threshold is from 0 to 1"),
        ('{"slot_tokens": 0}', "slot_tokens"),
        ('{"most_steps": 0}', "most_steps"),
        ('{"accepted": {"json": 2}}', "accepted maps shapes of contracts to shares"),
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
