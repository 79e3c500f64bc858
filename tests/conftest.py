"""Fixtures for every folder of tests."""

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from carrara.engines.engine import Engine
from carrara.engines.errors import LoadingError
from carrara.engines.weights import store

# No test is timed: others may share the machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

GOLDENS = Path(__file__).parent / "goldens"
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<reponame>", "<empty_output>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = '{"name": "the other one", "number": 12, "true": false, "null": []} in the town of an inn and on'


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The folder of the embedded model, fetched if need be; for tests marked `weights`."""
    try:
        return store.ensure("smollm2")
    except LoadingError as error:
        pytest.skip(f"the embedded weights cannot be had here: {error}")


@pytest.fixture(scope="session")
def embedded(
    smollm2_folder: Path,
) -> Iterator[Callable[[Callable[[Mapping[str, Engine]], Coroutine[Any, Any, Any]]], Any]]:
    """`embedded(work)` awaits `work(engines)` with the embedded engines, which are opened once for all tests.

    They live on one event loop, on which every `work` runs.
    """
    from carrara.engines.registry import open_engines

    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        engines = open_engines(("diffusion", "ar"))  # with the embedded adapter, as users have them

        async def enter() -> None:
            for engine in engines.values():
                await stack.enter_async_context(engine)

        runner.run(enter())
        try:
            yield lambda work: runner.run(work(engines))
        finally:
            runner.run(stack.aclose())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder that is tiny: the golden Llama with a byte-level tokenizer of its 320 ids.

    Ids 0-4 are control tokens (2 ends the text), then all bytes, then merges; the last ids are of no token.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tiny")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDENS / "ar_llama" / name, folder / name)
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=CONTROLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT] * 3, trainer)
    inner.save(str(folder / "tokenizer.json"))
    settings = {"chat_template": TEMPLATE, "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
