"""Mending the form of answers: JSON, tables, nested lists, pages, choices. Every change is an edit with its reason.

`check` finds faults, `repair` mends what it can without a model, `arepair` also fills holes by a diffusion engine and
asks an AR engine for what is left; a text without a fault comes back as the same object. What a text says is never
changed: words are compared.
"""

from carrara.runtime.repair.ask import arepair
from carrara.runtime.repair.form import KINDS, check, repair, repair_text
from carrara.runtime.repair.policy import RepairPolicy
from carrara.runtime.repair.report import (
    Certainty,
    Edit,
    Hole,
    Problem,
    RepairFailed,
    RepairReport,
)
from carrara.runtime.repair.stream import RepairStream

__all__ = [
    "KINDS",
    "Certainty",
    "Edit",
    "Hole",
    "Problem",
    "RepairFailed",
    "RepairPolicy",
    "RepairReport",
    "RepairStream",
    "arepair",
    "check",
    "repair",
    "repair_text",
]
