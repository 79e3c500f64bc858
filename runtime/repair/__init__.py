"""Mending the form of answers: JSON, tables, nested lists, choices. Every change is an edit with its reason.

`check` finds faults, `repair` mends what it can without a model and refuses the rest with the reason; a text
without a fault comes back as the same object. What a text says is never changed: words are compared.
"""

from carrara.runtime.repair.form import KINDS, check, repair, repair_text
from carrara.runtime.repair.report import Certainty, Edit, Problem, RepairReport

__all__ = [
    "KINDS",
    "Certainty",
    "Edit",
    "Problem",
    "RepairReport",
    "check",
    "repair",
    "repair_text",
]
