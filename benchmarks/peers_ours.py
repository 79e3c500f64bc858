"""Carrara as a plug-in of the peers harness: copy this file to `systems/ours.py` there.

Each node of the DAG is a step of its own, as a user would write it, so that latencies are learned by
step. "ours" keeps nothing, "ours-journal" has every output durable before its successor starts. The one
instance learns latencies from run to run, as a journal does between processes.
"""

import tempfile
from pathlib import Path

from systems.base import System

from carrara.runtime.ranking import Estimates
from carrara.runtime.run import execute, submit
from carrara.runtime.step import RunOptions, StepSpec


class Ours(System):
    def __init__(self):
        self.limit_on = None  # the harness sets it where a case has a limit of its own
        self.journal = None

    def build(self, dag, work):
        def step(i):
            async def body(inputs):
                return await work(i, inputs)

            return StepSpec(f"n{i}", body, fingerprint=f"n{i}", returns=int)

        self.estimates = Estimates()
        return [step(i) for i in range(dag.n)]

    async def run(self, steps, dag):
        async def workflow():
            handles = []
            for step, sources in zip(steps, dag.preds, strict=True):
                handles.append(submit(step, ([handles[p] for p in sources],), {}))
            return handles[-1]

        options = RunOptions(concurrency=self.limit_on or RunOptions().concurrency)
        result = await execute(
            workflow, name="dag", options=options, journal=self.journal, estimates=self.estimates
        )
        return result.value


class OursJournal(Ours):
    persists = True

    def setup(self):
        from carrara.runtime.journal.sqlite import SqliteJournal

        self.folder = tempfile.TemporaryDirectory()
        self.journal = SqliteJournal(Path(self.folder.name) / "journal.db")

    def teardown(self):
        self.journal.close()
        self.folder.cleanup()


VARIANTS = {"ours": Ours, "ours-journal": OursJournal}
