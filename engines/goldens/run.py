"""All cases of one golden folder, and the line that sums them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from carrara.engines.errors import CarraraError
from carrara.engines.goldens.decode import check_decode
from carrara.engines.goldens.folder import Case, Differs, Folder, Malformed, Skip, read_folder
from carrara.engines.goldens.forward import check_forward
from carrara.engines.model.load import load_model


@dataclass(slots=True)
class Summary:
    """`failures` and `skips` map cases to reasons; a folder that cannot be read fails as a whole."""

    folder: str
    family: str | None = None
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, object]:
        return asdict(self)


Check = Callable[[Case], None]


def run_folder(path: Path) -> Summary:
    """Run every case of the folder. Nothing is raised: what goes wrong is in the summary."""
    summary = Summary(str(path))
    try:
        folder = read_folder(path)
        summary.family = folder.family
        forward, decode = _checks(folder)
    except CarraraError as error:
        return _failed(summary, str(error))
    except Exception as error:  # a crash in one folder says nothing about the others
        return _failed(summary, f"{path}: {type(error).__name__}: {error}")
    for cases, check in ((folder.forward, forward), (folder.decode, decode)):
        for case in cases:
            _run(case, check, summary)
    return summary


def _failed(summary: Summary, reason: str) -> Summary:
    """The summary of a folder that fails as a whole."""
    summary.failed, summary.failures["folder"] = 1, reason
    return summary


def _checks(folder: Folder) -> tuple[Check, Check]:
    """How forward and decoding cases of the folder are checked."""
    if folder.family == "diffusion_gemma":
        from carrara.engines.goldens.gemma import gemma_checks

        return gemma_checks(folder)
    model = load_model(folder.path, torch.float32, "cpu")
    return (
        lambda case: check_forward(model, case),
        lambda case: check_decode(model, case, folder.facts),
    )


def _run(case: Case, check: Check, summary: Summary) -> None:
    try:
        check(case)
    except Skip as reason:
        summary.skipped += 1
        summary.skips[case.name] = str(reason)
    except (Differs, Malformed) as reason:
        summary.failed += 1
        summary.failures[case.name] = str(reason)
    except Exception as error:  # a crash in one case says nothing about the others
        summary.failed += 1
        summary.failures[case.name] = f"{type(error).__name__}: {error}"
    else:
        summary.passed += 1
