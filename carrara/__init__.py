"""Carrara: workflows of chained LLM calls on a local text-diffusion engine.

The public names are loaded when they are first used, so that `import carrara` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrara.engines.contract import Choice as Choice
    from carrara.engines.contract import Column as Column
    from carrara.engines.contract import Hole as Hole
    from carrara.engines.contract import Regex as Regex
    from carrara.engines.errors import CarraraError as CarraraError
    from carrara.engines.request import Message as Message
    from carrara.runtime.errors import RunError as RunError
    from carrara.runtime.errors import StepError as StepError
    from carrara.runtime.handle import Handle as Handle
    from carrara.runtime.routing.policy import Policy as Policy
    from carrara.runtime.run import RunResult as RunResult
    from carrara.runtime.run import context as context
    from carrara.workflows.calls import later as later
    from carrara.workflows.define import llm as llm
    from carrara.workflows.define import step as step
    from carrara.workflows.define import workflow as workflow
    from carrara.workflows.errors import DefinitionError as DefinitionError
    from carrara.workflows.errors import InputError as InputError
    from carrara.workflows.filling import infill as infill
    from carrara.workflows.filling import refine as refine
    from carrara.workflows.markers import Columns as Columns
    from carrara.workflows.markers import Depth as Depth
    from carrara.workflows.markers import JsonSchema as JsonSchema
    from carrara.workflows.markers import Pattern as Pattern
    from carrara.workflows.plan import plan as plan
    from carrara.workflows.resume import resume as resume
    from carrara.workflows.run import run as run
    from carrara.workflows.run import run_sync as run_sync
    from carrara.workflows.run import session as session
    from carrara.workflows.target import load_workflow as load_workflow
    from carrara.workflows.values import Outline as Outline
    from carrara.workflows.values import OutlineItem as OutlineItem
    from carrara.workflows.values import Table as Table

__version__ = "0.1.0"

_HOME = {
    "CarraraError": "engines.errors",
    "Choice": "engines.contract",
    "Column": "engines.contract",
    "Columns": "workflows.markers",
    "DefinitionError": "workflows.errors",
    "Depth": "workflows.markers",
    "Handle": "runtime.handle",
    "Hole": "engines.contract",
    "InputError": "workflows.errors",
    "JsonSchema": "workflows.markers",
    "Message": "engines.request",
    "Outline": "workflows.values",
    "OutlineItem": "workflows.values",
    "Pattern": "workflows.markers",
    "Policy": "runtime.routing.policy",
    "Regex": "engines.contract",
    "RunError": "runtime.errors",
    "RunResult": "runtime.run",
    "StepError": "runtime.errors",
    "Table": "workflows.values",
    "context": "runtime.run",
    "infill": "workflows.filling",
    "later": "workflows.calls",
    "llm": "workflows.define",
    "load_workflow": "workflows.target",
    "plan": "workflows.plan",
    "refine": "workflows.filling",
    "resume": "workflows.resume",
    "run": "workflows.run",
    "run_sync": "workflows.run",
    "session": "workflows.run",
    "step": "workflows.define",
    "workflow": "workflows.define",
}

__all__ = [
    "CarraraError",
    "Choice",
    "Column",
    "Columns",
    "DefinitionError",
    "Depth",
    "Handle",
    "Hole",
    "InputError",
    "JsonSchema",
    "Message",
    "Outline",
    "OutlineItem",
    "Pattern",
    "Policy",
    "Regex",
    "RunError",
    "RunResult",
    "StepError",
    "Table",
    "__version__",
    "context",
    "infill",
    "later",
    "llm",
    "load_workflow",
    "plan",
    "refine",
    "resume",
    "run",
    "run_sync",
    "session",
    "step",
    "workflow",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'carrara' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"carrara.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
