"""A job whose workers are objects of this process, which may be lost at any moment: rows are those of a job without."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.engines.errors import CarraraError, EngineFailed, EngineRefused, LoadingError
from carrara.engines.facts import EngineFacts, Price
from carrara.engines.request import Completion, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.budget import Spending
from carrara.runtime.routing.policy import Budget, Policy, Rule
from carrara.runtime.routing.policy import Price as RoutedPrice
from carrara.workflows.cluster import far_job
from carrara.workflows.cluster.dispatch import CULPRIT_AFTER, SUSPECT_AFTER
from carrara.workflows.cluster.engine_host import EngineHost
from carrara.workflows.cluster.far_engine import ReplicaLost
from carrara.workflows.cluster.plan import OnRay, Part, shared
from carrara.workflows.cluster.pool import MOST_FRUITLESS, Pool, WorkerLost
from carrara.workflows.cluster.worker import Worker
from carrara.workflows.job import Job, JobResult, Until, run_job
from carrara.workflows.run import session

FACTS = EngineFacts()

FLOW = """
from decimal import Decimal
from typing import TypedDict

from carrara import llm, step, workflow


class Said(TypedDict):
    said: str
    length: int


@llm(engine="script")
def say(text: str) -> str:
    '''Say {{ text }}'''


@step(inline=True)
def count(text: str) -> int:
    if text == "t3":
        raise ValueError("not this one")
    return len(text)


@workflow
async def talk(text: str) -> Said:
    return {"said": await say(text), "length": await count(text)}


@workflow
async def priced(price: Decimal, rate: float) -> dict[str, Decimal | float]:
    return {"price": price, "rate": rate}
"""


class Replica:
    """An engine host, in this process. `lose` ends it; the next call finds a new one."""

    def __init__(self, part: Part, loses: Callable[[], bool]) -> None:
        self._part = part
        self._loses = loses
        self._host = EngineHost(part)

    async def call(self, method: str, *words: str) -> Any:
        host = self._host
        found = await getattr(host, method)(*words)
        if method == "complete" and host is self._host and self._loses():
            self._host = EngineHost(self._part)
            await host.close()
        if host is not self._host:  # whatever was under way in it is gone with it
            raise ReplicaLost("gone")
        return found


class Link:
    def __init__(
        self, worker: Worker, loses: Callable[[], bool], stillborn: bool, starts: bool
    ) -> None:
        self.worker = worker
        self._loses = loses
        self._starts = starts
        self._gone = asyncio.Event()
        if stillborn:
            self._gone.set()

    async def ready(self) -> None:
        if not self._starts:
            await asyncio.get_running_loop().create_future()
        self._check()

    async def put(self, chunk: list[str]) -> None:
        self._check()
        await self.worker.put(chunk)

    async def take(self) -> list[str]:
        taken = asyncio.ensure_future(self.worker.take())
        gone = asyncio.ensure_future(self._gone.wait())
        await asyncio.wait((taken, gone), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if self._gone.is_set() or self._loses():
            taken.cancel()
            self._gone.set()
            await self.worker.close()
        self._check()
        return await taken

    def _check(self) -> None:
        if self._gone.is_set():
            raise WorkerLost("process 1 was killed")

    def end(self) -> None:
        self._gone.set()


class Here:
    """A cluster in this process. `loses` decides at each step whether the worker, or engine, is lost now."""

    def __init__(
        self,
        workers: int,
        loses: Callable[[], bool],
        stillborn: bool = False,
        most: int | None = None,
        has_engines: bool = True,
    ) -> None:
        """Where `most` is given, so many workers start; they are lost, and there is no room for another."""
        self.workers = workers
        self._loses = loses
        self._stillborn = stillborn
        self._most = most
        self._has_engines = has_engines
        self.links: list[Link] = []
        self._replicas: list[Replica] = []
        self._part: Part | None = None

    async def begin(self, part: Part) -> None:
        self._part = part
        self._replicas = [Replica(part, self._loses) for _ in range(2)]

    def worker(self, number: int, spent: Spending) -> Link:
        assert self._part is not None
        worker = Worker(replace(self._part, workers=self.workers), number, self._replicas, spent)
        starts, loses = True, self._loses
        if self._most is not None:
            starts, loses = len(self.links) < self._most, lambda: True
        self.links.append(Link(worker, loses, self._stillborn, starts))
        return self.links[-1]

    async def engines(self) -> None:
        if not self._has_engines:
            await asyncio.get_running_loop().create_future()

    async def room(self) -> str:
        return "CPUs: 2 in the cluster, 0 free"

    async def end(self) -> None:
        for link in self.links:
            await link.worker.close()
        for replica in self._replicas:
            await replica._host.close()


def script() -> dict[str, ScriptedEngine]:
    async def reply(request: Request) -> str:
        await asyncio.sleep(0)
        text = request.messages[-1].content.split()[-1]
        if text == "t5":
            raise EngineRefused("never this", engine="script")
        return text.upper()

    return {"script": ScriptedEngine("script", reply, facts=FACTS)}


async def done_here(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    cluster: Here | None,
    *,
    window: int = 4,
    trust: bool = False,
    run_id: str | None = None,
    policy: Policy | None = None,
    until: Until = Until(),  # noqa: B008 - frozen
    workflow: str = "talk",
    **patience: float,
) -> JobResult:
    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    def pool_of(job: Job, opened: Any, workflow: Any, on: OnRay, policy: Any) -> Pool:
        assert cluster is not None
        part = far_job.part_of(job, opened, workflow, on, policy)
        returns = workflow.returns
        return Pool(cluster, part, returns, window=window, chunk=2, sleep=no_wait, **patience)

    monkeypatch.setattr(far_job, "pool_of", pool_of)
    target, source = f"{flow_in(folder)}:{workflow}", str(folder / "in.jsonl")
    job = Job(target, source, str(folder / "out.jsonl"), concurrency=window, trust=trust)
    on = None if cluster is None else OnRay(engines=lambda: script())
    engines: Any = script() if cluster is None else ("script",)
    async with session(journal=folder / "journal.db", engines=engines, policy=policy) as opened:
        return await run_job(job, opened, on=on, run_id=run_id, until=until)


def flow_in(folder: Path) -> Path:
    """Two files of one name would be one module."""
    return folder / f"flow_{blake2b(str(folder).encode(), digest_size=8).hexdigest()}.py"


def write(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    flow_in(folder).write_text(FLOW)
    rows = (json.dumps({"id": f"r{n}", "text": f"t{n}"}) + "\n" for n in range(count))
    (folder / "in.jsonl").write_text("".join(rows))


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_rows_are_those_of_a_job_without_a_cluster_whatever_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "here", 20)
    asyncio.run(done_here(tmp_path / "here", monkeypatch, None))
    rows = lines(tmp_path / "here" / "out.jsonl")
    assert [row["key"] for row in rows] == [f"r{n}" for n in range(20) if n not in (3, 5)]
    count = 0

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 6))
    def check(seed: int, workers: int, window: int) -> None:
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        write(folder, 20)
        chance = random.Random(seed)
        # Fewer than make a culprit of a record that was there each time.
        left = [SUSPECT_AFTER + CULPRIT_AFTER - 1]

        def loses() -> bool:
            if left[0] and chance.random() < 0.2:
                left[0] -= 1
                return True
            return False

        cluster = Here(workers, loses)
        found = asyncio.run(done_here(folder, monkeypatch, cluster, window=window))
        assert lines(folder / "out.jsonl") == rows
        failed = {row["key"]: row for row in lines(folder / "out.failed.jsonl")}
        assert sorted(failed) == ["r3", "r5"]
        assert "not this one" in failed["r3"]["error"]
        assert failed["r3"]["step"] == "talk (job)/record[3]/talk/count"
        assert (found.done, found.failed) == (18, 2)

    check()


def test_trust_and_timeline_know_what_happened_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carrara.runtime.journal.reading import Reader

    for name, cluster in (("far", Here(2, lambda: False)), ("near", None)):
        write(tmp_path / name, 8)
        asyncio.run(done_here(tmp_path / name, monkeypatch, cluster, trust=True))
    far, near = tmp_path / "far", tmp_path / "near"
    assert lines(far / "out.trust.jsonl") == lines(near / "out.trust.jsonl")
    told = []
    for folder in (far, near):
        with Reader.open(folder / "journal.db") as reader:
            events = reader.timeline(reader.find("last").run_id)
        numbers = {(getattr(e, "path", ""), getattr(e, "node", 0)) for e in events}
        told.append(Counter((type(e).__name__, getattr(e, "path", "")) for e in events))
        paths = [path for path, _ in numbers if "/record[" in path]
        assert len(paths) == len(set(paths)), "two nodes of one path, or two numbers of one node"
    assert told[1] - told[0] == Counter(), "something is known here that is not known of there"
    extra = {name for name, _ in told[0] - told[1]}  # of inline steps, which are not recorded here
    assert extra <= {"StepReady", "StepStarted", "StepFinished"}


def test_decimals_reach_the_workers_with_all_their_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = ["12345678901234567890.12", "0.1234567890123456789", "1.10", "1e400", "7"]
    for folder in (tmp_path / "here", tmp_path / "there"):
        write(folder, 0)
        rows = [f'{{"id": "{n}", "price": {n}, "rate": 0.10}}\n' for n in numbers]
        (folder / "in.jsonl").write_text("".join(rows))
        cluster = Here(2, lambda: False) if folder.name == "there" else None
        done = done_here(folder, monkeypatch, cluster, workflow="priced")
        assert asyncio.run(done).done == len(numbers)
    found = lines(tmp_path / "there" / "out.jsonl")
    assert found == lines(tmp_path / "here" / "out.jsonl")
    assert [Decimal(row["value"]["price"]) for row in found] == [Decimal(n) for n in numbers]
    assert {row["value"]["rate"] for row in found} == {0.1}


def test_a_job_goes_on_on_a_cluster_where_it_began_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 8)
    first = asyncio.run(done_here(tmp_path, monkeypatch, None))
    cluster = Here(1, lambda: False)
    again = asyncio.run(done_here(tmp_path, monkeypatch, cluster, run_id=first.run_id))
    assert (again.reused, again.done, again.failed) == (6, 6, 2)


def test_workers_that_never_live_end_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 8)
    cluster = Here(2, lambda: False, stillborn=True)
    with pytest.raises(CarraraError, match=r"no worker stays alive .*process 1 was killed"):
        asyncio.run(done_here(tmp_path, monkeypatch, cluster))
    assert len(cluster.links) <= 4 * MOST_FRUITLESS
    assert not lines(tmp_path / "out.failed.jsonl"), "no record is to blame"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the job tells of the wait for its cluster."""
    return [each.getMessage() for each in caplog.records if each.name.endswith(".arrival")]


@pytest.mark.parametrize("most", [0, 2], ids=["from the beginning", "after all were lost"])
def test_a_job_whose_workers_do_not_start_tells_so_and_ends(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 8)
    cluster = Here(2, lambda: False, most=most)
    job = done_here(tmp_path, monkeypatch, cluster, tell_s=0.05, start_s=0.2)
    with pytest.raises(CarraraError, match=r"no worker has started within 0.2 s. .* 0 free"):
        asyncio.run(asyncio.wait_for(job, 60))
    assert len(cluster.links) == most + 2
    (told,) = warnings_of(caplog)
    assert "no worker has started within 0.05 s. CPUs: 2 in the cluster, 0 free" in told
    assert not lines(tmp_path / "out.failed.jsonl"), "no record is to blame"


def test_a_job_whose_engines_do_not_start_tells_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(request: Request) -> str:
        await asyncio.sleep(0.1)
        return request.messages[-1].content

    engines = {"script": ScriptedEngine("script", slow)}
    monkeypatch.setattr(sys.modules[__name__], "script", lambda: engines)
    write(tmp_path, 2)
    cluster = Here(1, lambda: False, has_engines=False)
    found = asyncio.run(done_here(tmp_path, monkeypatch, cluster, tell_s=0.02, start_s=0.05))
    assert found.done == 2
    (told,) = warnings_of(caplog)
    assert "no process with engines has started within 0.02 s" in told


def test_what_a_cluster_has_is_told_beside_what_is_asked_for() -> None:
    on = OnRay(workers=3, replicas=2, cpus=0.5, gpus=1)
    assert on.room({"CPU": 2.0, "GPU": 1.0}, {"CPU": 0.25}) == (
        "CPUs: 2 in the cluster, 0.25 free, 0.5 asked for by each of 3 workers; "
        "GPUs: 1 in the cluster, 0 free, 1 asked for by each of 2 processes with engines"
    )


def test_a_replica_that_is_lost_each_time_fails_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carrara.workflows.cluster.far_engine import MOST_LOST, Replicas

    class Dead:
        asked = 0

        async def call(self, method: str, *words: str) -> Any:
            if method == "ready":
                return True
            Dead.asked += 1
            raise ReplicaLost("gone")

    async def ask() -> None:
        replicas = Replicas([Dead()], sleep=lambda _: asyncio.sleep(0))
        try:
            await replicas.call("complete", "e", "{}")
        finally:
            await replicas.close()

    with pytest.raises(EngineFailed, match=f"{MOST_LOST} processes with engines were lost"):
        asyncio.run(ask())
    assert Dead.asked == MOST_LOST


def test_the_router_of_a_worker_knows_what_it_would_know_beside_the_engine() -> None:
    from carrara.workflows.cluster.far_engine import FarEngine, Replicas
    from carrara.workflows.cluster.wire import description_of

    facts = EngineFacts("cpu", Price(1.0, 0.5, 2.0, "2026-01"), {"choice": 0.25})
    near = ScriptedEngine("e", ["x"], can=["schema"], facts=facts)

    class Host:
        async def call(self, method: str, *words: str) -> Any:
            assert (method, words) == ("describe", ("e",))
            return json.dumps(description_of(near))

    async def told() -> tuple[Any, ...]:
        async with FarEngine("e", Replicas([Host()])) as far:
            return far.can, far.facts

    assert asyncio.run(told()) == (near.can, facts)


def test_a_job_costs_on_a_cluster_what_it_costs_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carrara.runtime.journal.reading import Reader
    from carrara.runtime.report import report

    def cost(folder: Path, cluster: Here | None) -> float:
        write(folder, 8)
        asyncio.run(done_here(folder, monkeypatch, cluster))
        with Reader.open(folder / "journal.db") as reader:
            return report(reader.timeline(reader.find("last").run_id)).cost

    monkeypatch.setattr(sys.modules[__name__], "FACTS", EngineFacts(price=Price(3.0, None, 5.0)))
    near, far = cost(tmp_path / "near", None), cost(tmp_path / "far", Here(2, lambda: False))
    assert far == pytest.approx(near)
    assert far > 0


@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize("by", ["policy", "until", "tokens"])
def test_workers_together_keep_a_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, loses: bool
) -> None:
    """A call costs 30 cents at most: a prompt of two tokens by estimate, an answer of 28."""
    asked: list[str] = []

    def engines() -> dict[str, ScriptedEngine]:
        def reply(request: Request) -> Completion:
            asked.append(request.messages[-1].content)
            return Completion("fine", usage=Usage(2, 0, 18))

        return {"script": ScriptedEngine("script", reply)}

    monkeypatch.setattr(sys.modules[__name__], "script", engines)
    monkeypatch.setattr(
        sys.modules[__name__], "FLOW", FLOW.replace("(engine=", "(max_tokens=28, engine=")
    )
    write(tmp_path, 40)
    price = {"script": RoutedPrice(1e4, 1e4)}
    budget = {"policy": Budget(cost=4.0), "until": Budget(), "tokens": Budget(tokens=400)}[by]
    policy = Policy("priced", (Rule(("script",)),), prices=price, budget=budget)
    until = Until(cost=4.0) if by == "until" else Until()
    chance, left = random.Random(1), [1]

    def lost() -> bool:
        gone = loses and bool(left[0]) and len(asked) > 4 and chance.random() < 0.5
        left[0] -= gone
        return gone

    job = {"policy": policy, "until": until, "window": 2}
    first = asyncio.run(done_here(tmp_path, monkeypatch, Here(2, lost), **job))  # type: ignore[arg-type]
    assert "budget" in first.stopped
    assert first.failed <= 1, "t3 fails for its own reason"
    assert first.done > 0
    # What a lost worker had under way is paid for and not told.
    assert len(asked) * 0.2 <= 4.0 + loses * 2 * 0.2
    cluster = Here(1, lambda: False)
    again = asyncio.run(done_here(tmp_path, monkeypatch, cluster, run_id=first.run_id))
    assert (again.done, again.reused) == (39, first.done)


def test_a_replica_opens_only_the_engines_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[str] = []

    class Entered(ScriptedEngine):
        async def _begin(self) -> None:
            entered.append(self.name)

    def engines() -> dict[str, ScriptedEngine]:
        return {name: Entered(name, lambda _: "fine") for name in ("script", "idle")}

    monkeypatch.setattr(sys.modules[__name__], "script", engines)
    write(tmp_path, 4)
    asyncio.run(done_here(tmp_path, monkeypatch, Here(1, lambda: False)))
    assert set(entered) == {"script"}


def test_an_engine_that_a_replica_cannot_open_leaves_the_others_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(ScriptedEngine):
        async def _begin(self) -> None:
            raise LoadingError("the weights are gone")

    write(tmp_path, 1)

    def engines() -> dict[str, ScriptedEngine]:
        return {"script": ScriptedEngine("script", ["fine"]), "gone": Gone("gone")}

    async def asked() -> None:
        part = Part(f"{flow_in(tmp_path)}:talk", "", "r", engines=engines)
        host = EngineHost(part)
        with pytest.raises(LoadingError, match="the weights are gone"):
            await host.describe("gone")
        assert json.loads(await host.describe("script"))["fingerprint"] == "scripted"
        with pytest.raises(EngineRefused, match="no engine is called 'none'"):
            await host.describe("none")
        await host.close()

    asyncio.run(asked())


def test_limits_are_shared_among_the_workers() -> None:
    assert shared(EngineLimits(8, 10.0, None), 4) == EngineLimits(2, 2.5, None)
    assert shared(EngineLimits(2, None, 100.0), 4) == EngineLimits(1, None, 25.0)


@pytest.mark.parametrize(
    ("on", "resources", "sized"),
    [
        (OnRay(), {"CPU": 4.0}, (4, 1, 0.0)),
        (OnRay(), {"CPU": 64.0, "GPU": 8.0}, (64, 8, 1.0)),
        (OnRay(gpus=0.25), {"CPU": 8.0, "GPU": 2.0}, (8, 8, 0.25)),
        (OnRay(gpus=2), {"CPU": 8.0, "GPU": 8.0}, (8, 4, 2)),
        (OnRay(workers=3, replicas=5), {"CPU": 8.0}, (3, 5, 0.0)),
        (OnRay(cpus=0.5), {"CPU": 2.0}, (4, 1, 0.0)),
    ],
)
def test_a_job_fits_its_cluster(on: OnRay, resources: Any, sized: Any) -> None:
    found = on.sized(resources)
    assert (found.workers, found.replicas, found.gpus) == sized


def test_what_cannot_be_had_on_a_cluster_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 2)
    job = Job(f"{flow_in(tmp_path)}:talk", str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"))

    async def refused(**settings: Any) -> None:
        async with session(journal=tmp_path / "j.db", **settings) as opened:
            await run_job(job, opened, on=OnRay(engines=script))

    for settings_, said in (
        ({"engines": script()}, "objects of this process"),
        ({"engines": ("script",), "record": tmp_path / "c.jsonl"}, "neither recorded nor replayed"),
    ):
        with pytest.raises(CarraraError, match=said):
            asyncio.run(refused(**settings_))
    with pytest.raises(CarraraError, match="ray://HOST"):
        OnRay("spark")
