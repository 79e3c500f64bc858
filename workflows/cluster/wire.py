"""What travels between the processes of a job, as text: records and outcomes, requests and completions of engines.

Everything is written by the journal's codec, so that a value arrives as what it was; nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carrara.engines import contract as contracts
from carrara.engines import errors as engine_errors
from carrara.engines.engine import Engine
from carrara.engines.errors import (
    CarraraError,
    EngineBusy,
    EngineDown,
    EngineError,
    EngineFailed,
    LoadingError,
)
from carrara.engines.request import Completion, Draft, Limits, Message, Request, Rule, Sampling
from carrara.runtime.cassette_format import completion_data, completion_from, request_data
from carrara.runtime.codec import CodecError, decode, encode
from carrara.runtime.errors import StepError
from carrara.runtime.events import Event, ValueShown, from_data, to_data
from carrara.runtime.routing.budget import OverBudget
from carrara.workflows.batch import Outcome
from carrara.workflows.digits import as_decimals, as_digits
from carrara.workflows.plain import plain
from carrara.workflows.records import Record

_ENDINGS: Mapping[str, type[CarraraError]] = {
    kind.__name__: kind for kind in (EngineBusy, EngineDown, LoadingError, OverBudget)
}
"""Errors that are no record's own: a job begins no more records after them."""


class FarError(CarraraError):
    """What went wrong with a record on another machine. `text` is the raw answer, "" where there is none."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True, slots=True)
class Told:
    """What came back for the record at `place`: its value or an error, the seconds that it took, its events."""

    place: int
    value: Any
    error: CarraraError | None
    seconds: float
    events: list[Event]


def record_text(record: Record) -> str:
    """Numbers that know their digits travel as decimals, of which a record has no others."""
    return encode(
        [
            record.index,
            record.key,
            record.where,
            as_decimals(dict(record.fields)),
            record.problem,
            dict(record.unused),
            record.is_cells,
        ]
    )


def record_from(text: str) -> Record:
    """Raises CodecError for what is no record."""
    index, key, where, fields, *rest = decode(text, None)
    return Record(index, key, where, as_digits(fields), *rest)


def outcome_text(outcome: Outcome, returns: Any, events: Iterable[Event]) -> str:
    """`returns` is the annotation of the workflow's value. A value that has no text becomes an error."""
    error = outcome.error
    value = "null"
    if error is None:
        try:
            value = encode(outcome.value, returns)
        except CodecError as reason:
            error = FarError(f"the result cannot be sent from the worker: {reason}")
    return json.dumps(
        {
            "place": outcome.record.index,
            "value": value,
            "error": None if error is None else _error_data(error),
            "seconds": outcome.seconds,
            "events": [_event_data(event) for event in events],
        }
    )


def outcome_from(text: str, returns: Any) -> Told:
    found = json.loads(text)
    value, error = None, None
    if found["error"] is not None:
        error = _error_from(found["error"])
    else:
        try:
            value = decode(found["value"], returns)
        except ValueError as reason:
            error = FarError(f"the result of the worker cannot be read: {reason}")
    events = [_event_from(data) for data in found["events"]]
    return Told(found["place"], value, error, found["seconds"], events)


def _error_data(error: CarraraError) -> dict[str, Any]:
    data: dict[str, Any] = {"message": str(error), "text": ""}
    if isinstance(error, StepError):
        data["step"] = [error.run, error.step, error.index, error.attempt]
    cause: BaseException | None = error
    while cause is not None:
        text = getattr(cause, "text", None)
        if isinstance(text, str) and text:
            data["text"] = text
        if isinstance(cause, tuple(_ENDINGS.values())):
            data["ending"] = [type(cause).__name__, str(cause)]
        cause = cause.__cause__
    return data


def _error_from(data: dict[str, Any]) -> CarraraError:
    far: CarraraError = FarError(data["message"], data["text"])
    if "ending" in data:
        kind, message = data["ending"]
        far.__cause__ = _ENDINGS.get(kind, LoadingError)(message)
    if "step" not in data:
        return far
    run, step, index, attempt = data["step"]
    error = StepError(data["message"], run=run, step=step, index=index, attempt=attempt)
    error.__cause__ = far
    return error


def _event_data(event: Event) -> dict[str, Any]:
    if not isinstance(event, ValueShown):
        return to_data(event)
    call = event.call
    return {
        "type": ValueShown.__name__,
        "run_id": event.run_id,
        "at": event.at,
        "path": event.path,
        "node": event.node,
        "value": _plain_or_none(event.value),
        "reused": event.reused,
        "call": None if call is None else request_data(Request(call.messages, call.output)),
    }


def _event_from(data: dict[str, Any]) -> Event:
    event = from_data(data)
    if isinstance(event, ValueShown) and event.call is not None:
        data = {**data, "call": _request_of(event.call)}
        return from_data(data)
    return event


def _plain_or_none(value: Any) -> Any:
    try:
        return plain(value, exact=True)  # as in the row
    except TypeError:  # no JSON form: no field of a row is this value
        return None


def request_text(request: Request) -> str:
    data = request_data(request)
    return json.dumps(
        {**data, "deadline_s": request.limits.deadline_s, "priority": request.priority}
    )


def request_from(text: str) -> Request:
    return _request_of(json.loads(text))


def _request_of(data: dict[str, Any]) -> Request:
    draft, rule = data["draft"], data.get("rule")
    if draft is not None:
        spans = tuple(tuple(span) for span in draft["spans"])
        draft = Draft(**{**draft, "fields": tuple(draft["fields"]), "spans": spans})
    return Request(
        tuple(Message(**message) for message in data["messages"]),
        contracts.from_data(data["output"]),
        Limits(data["max_tokens"], data["max_steps"], data.get("deadline_s")),
        Sampling(**data["sampling"]),
        tuple(data["stop"]),
        data.get("priority", 0.0),
        draft,
        data["adapter"],
        None if rule is None else Rule(**rule),
    )


def completion_text(completion: Completion) -> str:
    return json.dumps({"done": completion_data(completion)})


def failure_text(error: EngineError) -> str:
    """An engine's error with what tells routers what to do about it."""
    facts = {
        name: getattr(error, name, None)
        for name in ("engine", "phase", "status", "retry_after_s", "text")
    }
    return json.dumps({"failed": {"kind": type(error).__name__, "message": str(error), **facts}})


def completion_from_text(text: str, engine: str, output: contracts.Contract) -> Completion:
    """The completion.

    Raises:
        EngineError: the engine's own error.
    """
    found = json.loads(text)
    if "done" in found:
        return completion_from(found["done"], engine, output)
    raise _engine_error(found["failed"])


def _engine_error(data: dict[str, Any]) -> EngineError:
    kind = getattr(engine_errors, data["kind"], EngineFailed)
    if not (isinstance(kind, type) and issubclass(kind, EngineError)):
        kind = EngineFailed
    more = {}
    if issubclass(kind, engine_errors.StreamCut):
        more["text"] = data["text"] or ""
    error = kind(data["message"], engine=data["engine"] or "", **more)
    error.phase = data["phase"] or ""
    error.status = data["status"]
    error.retry_after_s = data["retry_after_s"]
    return error


def description_of(engine: Engine) -> dict[str, Any]:
    """What an engine says of itself, as data."""
    return {
        "can": sorted(engine.can),
        "context_tokens": engine.context_tokens,
        "fingerprint": engine.fingerprint,
        "facts": engine.facts.to_data(),
        "line": engine.health().line,
    }


__all__ = [
    "FarError",
    "Told",
    "completion_from_text",
    "completion_text",
    "description_of",
    "failure_text",
    "outcome_from",
    "outcome_text",
    "record_from",
    "record_text",
    "request_from",
    "request_text",
]
