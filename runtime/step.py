"""What the runtime is asked to do, as plain data: steps, their options, the options of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

StepKind = Literal["python", "llm", "workflow"]
RetryOn = tuple[type[BaseException], ...] | Callable[[Exception], bool]


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is run.

    `retries` is the number of further attempts after the first, `retry_on` the errors that deserve one (None: all but
    those that can never succeed, such as EngineRefused). `timeout_s` bounds one attempt, without waits for an engine
    that is away or being opened. `concurrency` bounds how many nodes of this step name run at once in a run (None:
    only the run's own bound). `cache` allows the journal to keep the result and to use it again. `inline` runs a sync
    body on the event loop instead of a worker thread: for bodies of microseconds. `isolated` asks for a process of
    its own; the runtime only carries it, like `engine` and `tags`, which are for the router.
    """

    retries: int = 0
    timeout_s: float | None = None
    concurrency: int | None = None
    cache: bool = True
    inline: bool = False
    isolated: bool = False
    tags: frozenset[str] = frozenset()
    engine: str | None = None
    retry_on: RetryOn | None = None


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step of a definition.

    `body` is called with the resolved arguments; it may be sync (run in a worker thread unless
    `options.inline`) or async. Kind "workflow": `body` is a workflow function, run in a scope of its own, on
    the loop, holding no slot. `fingerprint` is a hash of the definition, "" if none can be computed: such a
    step's result is never reused. `returns` is the annotation of the result for the codec, None if unknown.
    `repeatable`: equal inputs give equal results, so one result may stand for several nodes.
    """

    name: str
    body: Callable[..., Any]
    kind: StepKind = "python"
    fingerprint: str = ""
    options: StepOptions = StepOptions()
    returns: Any = None
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is run.

    `concurrency` bounds the steps running at once (None: no bound), `threads` those among them that are
    sync and hold a worker thread. `fail_fast` ends the run at the first step that fails for good; otherwise
    what does not depend on it goes on. `deadline_s` counts from the start of the run. `reuse`: "run" takes
    finished steps from the journal of the resumed run only, "any" from any earlier run with the same
    identity. `source` says where the workflow is found again ("file.yaml", "package.module:name"); the
    journal keeps it for `resume`.
    """

    concurrency: int | None = 256
    threads: int = 32
    fail_fast: bool = False
    deadline_s: float | None = None
    reuse: Literal["run", "any"] = "run"
    source: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Which run this is: `id` names it in the journal, `name` is that of its workflow."""

    id: str
    name: str
