"""Record and replay: every engine call of a run in one JSON-lines file, and engines that answer from it.

    with Cassette.recording(path) as cassette:
        engines = cassette.record(engines)          # the same engines, overheard
    engines = Cassette.load(path).replay()          # no weights, no network, the same answers

Calls are found by what was asked (messages, contract, limits, sampling, draft) and by the engine's name,
never by their order; equal requests get the recorded answers in turn, the last one again when they are used
up. The engines themselves are in `cassette_engines`.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from carrara.engines import contract as contracts
from carrara.engines.contract import Contract
from carrara.engines.engine import Ability, Engine
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Request
from carrara.runtime.cassette_format import (
    readable,
    request_data,
    request_key,
)

_FORMAT = {"cassette": "carrara", "version": 1}
_LONGEST_HEAD = 1000  # bytes of a first line that are looked at
_LONGEST_SHOWN = 1000  # characters of a line of a request in a message

asking_step: ContextVar[str] = ContextVar("carrara_asking_step", default="")
"""The path of the step that is asking: recorded beside its calls, to find the nearest one after a miss."""


class CassetteError(CarraraError):
    """A cassette cannot be read or written; the message names file and line."""


class CassetteMiss(CarraraError):
    """What is asked was not recorded. The message holds a diff against the nearest recorded request."""


@dataclass(slots=True)
class Call:
    """One recorded call: `reply` is completion data or an error; `line` its place in the file."""

    engine: str
    step: str
    key: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any]
    line: int = 0


@dataclass(slots=True)
class EngineRecord:
    """What an engine said of itself when it was recorded."""

    can: frozenset[Ability]
    context_tokens: int
    fingerprint: str
    facts: EngineFacts = field(default_factory=EngineFacts)
    refusals: dict[str, str] = field(default_factory=dict)


class Cassette:
    """Recorded calls and the engines that gave them; made by `recording` or `load`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engines: dict[str, EngineRecord] = {}
        self.calls: list[Call] = []
        self._found: dict[tuple[str, str], list[Call]] = {}
        self._used: dict[tuple[str, str], int] = {}
        self._file: IO[str] | None = None

    @classmethod
    def recording(cls, path: str | Path) -> Cassette:
        """A new cassette. Lines go to `PATH.partial` as they come; leaving the block without an error
        puts it in the place of `path` in one step, otherwise it stays beside it.

        Raises:
            CassetteError: it cannot be written, or a file that is no cassette would be lost.
        """
        cassette = cls(Path(path))
        for place in (cassette.path, cassette._partial):
            _refuse_other(place)
        try:
            cassette._file = cassette._partial.open(
                "w", encoding="utf-8", errors="surrogatepass", newline="\n"
            )
        except OSError as error:
            raise CassetteError(
                f"{cassette._partial}: cannot be written: {error.strerror}"
            ) from error
        cassette._write(_FORMAT)
        return cassette

    @classmethod
    def load(cls, path: str | Path) -> Cassette:
        """Read a cassette.

        Raises:
            CassetteError: no such file, no cassette, or a corrupt line (named file:line).
        """
        cassette = cls(Path(path))
        try:
            lines = cassette.path.read_bytes().splitlines()
        except OSError as error:
            raise CassetteError(f"{path}: cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, 1):
            try:
                cassette._read(json.loads(line), number)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise CassetteError(
                    f"{path}:{number}: not a line of a cassette: {reason}"
                ) from error
        if not lines:
            raise CassetteError(f"{path}: the cassette is empty")
        return cassette

    def record(self, engines: Mapping[str, Engine]) -> dict[str, Engine]:
        """The same engines, writing down every call."""
        from carrara.runtime.cassette_engines import RecordingEngine

        return {name: RecordingEngine(engine, self) for name, engine in engines.items()}

    def replay(self) -> dict[str, Engine]:
        """An engine for each recorded one, by its name, answering from here."""
        from carrara.runtime.cassette_engines import ReplayEngine

        return {name: ReplayEngine(name, self) for name in self.engines}

    def add_engine(self, name: str, found: EngineRecord) -> None:
        self.engines[name] = found
        facts = {
            "can": sorted(found.can),
            "context_tokens": found.context_tokens,
            "fingerprint": found.fingerprint,
            **found.facts.to_data(),
        }
        self._write({"engine": name, "facts": facts})

    def add_refusal(self, name: str, contract: Contract, reason: str) -> None:
        key = contract_key(contract)
        if key not in self.engines[name].refusals:
            self.engines[name].refusals[key] = reason
            self._write({"engine": name, "refuses": key, "reason": reason})

    def add_call(self, engine: str, request: Request, reply: Mapping[str, Any]) -> None:
        data = request_data(request)
        call = Call(engine, asking_step.get(), request_key(data), data, reply)
        self.calls.append(call)
        self._write(
            {
                "engine": engine,
                "step": call.step,
                "key": call.key,
                "request": call.request,
                "reply": call.reply,
            }
        )

    def find(self, engine: str, request: Request) -> Call:
        """The next recorded answer of `engine` to `request`.

        Raises:
            EngineRefused: recorded, but only of another engine: the router goes on to that one.
            CassetteMiss: not recorded.
        """
        data = request_data(request)
        key = request_key(data)
        if calls := self._found.get((engine, key)):
            place = self._used.get((engine, key), 0)
            self._used[engine, key] = place + 1
            return calls[min(place, len(calls) - 1)]
        if others := [call.engine for call in self.calls if call.key == key]:
            raise EngineRefused(
                f"{self.path}: not {engine!r} but {others[0]!r} was asked this when it was recorded",
                engine=engine,
            )
        raise CassetteMiss(self._miss(engine, data))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        try:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
            self._file = None
            if error is None:
                os.replace(self._partial, self.path)
        except OSError as fault:
            raise CassetteError(f"{self.path}: cannot be written: {fault.strerror}") from fault

    @property
    def _partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._file is None:
            raise CassetteError(f"{self.path}: the cassette is not being recorded any more")
        try:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise CassetteError(f"{self._partial}: cannot be written: {error.strerror}") from error

    def _read(self, row: Mapping[str, Any], number: int) -> None:
        if number == 1:
            if row != _FORMAT:
                raise ValueError(f"it does not begin with {json.dumps(_FORMAT)}")
        elif "facts" in row:
            facts = row["facts"]
            self.engines[row["engine"]] = EngineRecord(
                frozenset(facts["can"]),
                facts["context_tokens"],
                facts["fingerprint"],
                EngineFacts.from_data(facts),  # older cassettes hold none
            )
        elif "refuses" in row:
            self.engines[row["engine"]].refusals[row["refuses"]] = row["reason"]
        else:
            call = Call(
                row["engine"], row["step"], row["key"], row["request"], row["reply"], number
            )
            readable(call.request)
            self.calls.append(call)
            self._found.setdefault((call.engine, call.key), []).append(call)

    def _miss(self, engine: str, data: Mapping[str, Any]) -> str:
        step = asking_step.get()
        asked = readable(data)
        who = f"step {step!r}" if step else "a call"
        head = f"{self.path}: {who} asks engine {engine!r} what was not recorded."
        pool = [call for call in self.calls if call.engine == engine] or self.calls
        pool = [call for call in pool if call.step == step] or pool
        if not pool:
            return f"{head} The cassette holds no calls. Record it again."
        nearest = max(pool, key=lambda call: _likeness(readable(call.request), asked))
        lines = difflib.unified_diff(
            readable(nearest.request),
            asked,
            f"{self.path}:{nearest.line} (recorded, step {nearest.step!r}, engine {nearest.engine!r})",
            "asked now",
            lineterm="",
            n=2,
        )
        return "\n".join(
            [
                f"{head} Nearest recorded request:",
                *map(_cut, lines),
                "Record it again if this is meant.",
            ]
        )


def _refuse_other(path: Path) -> None:
    """Only a cassette, whole or not, and an empty file are replaced.

    Raises:
        CassetteError: something else is there.
    """
    another = "it is not replaced. Name another file for the recording."
    try:
        if not path.exists():
            return
        if not path.is_file():
            raise CassetteError(f"{path} is there and is not a file; {another}")
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEAD)
        found = json.loads(line) if line else _FORMAT
    except OSError as error:
        raise CassetteError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("cassette") != _FORMAT["cassette"]:
        raise CassetteError(f"{path} is there and is not a cassette; {another}")


def contract_key(contract: Contract) -> str:
    """A name for a contract: its kind and a hash."""
    return f"{contract.kind}:{request_key(contracts.to_data(contract))}"


def _cut(line: str) -> str:
    """A line of a prompt as it is shown: a document may be one of 50 MB."""
    if len(line) <= _LONGEST_SHOWN:
        return line
    return f"{line[:_LONGEST_SHOWN]}… ({len(line):,} characters)"


def _likeness(one: list[str], other: list[str]) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).quick_ratio()


__all__ = [
    "Cassette",
    "CassetteError",
    "CassetteMiss",
    "EngineRecord",
    "asking_step",
    "contract_key",
]
