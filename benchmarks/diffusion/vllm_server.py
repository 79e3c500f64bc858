"""vLLM's server on the weights that are measured, started by an interpreter that has vLLM and ended afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.diffusion.decoders import Ours, Told
from benchmarks.diffusion.work import Ask
from carrara.engines.errors import CarraraError
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.preset import presets
from carrara.engines.weights import store
from carrara.engines.weights.folder_export import export_folder

STARTED_S = 600.0
"""It compiles the model first; minutes on two busy cores."""

CONTEXT_TOKENS = 1024


class Vllm:
    """vLLM by HTTP, with its grammar, scheduler and prefix cache. Its own processes are what takes processor time."""

    def __init__(self, engine: RemoteEngine, session: int) -> None:
        self.name = "vllm"
        self._asked = Ours(self.name, engine)
        self._session = session

    async def answer(self, ask: Ask) -> Told:
        return await self._asked.answer(ask)

    def cpu_s(self) -> float:
        return time.process_time() + _cpu_s_of_session(self._session)

    def made(self) -> None:
        return None


@asynccontextmanager
async def vllm(
    python: Path, model: str, adapter: Path | None, dtype: str, threads: int, slots: int
) -> AsyncIterator[Vllm]:
    """A server on loopback in a session of its own, computing in `dtype`; on a CPU it has `threads` cores.

    Raises:
        RuntimeError: it ended or was not ready in time; names its log, which then stays.
    """
    with tempfile.TemporaryDirectory(prefix="carrara-vllm-") as name:
        folder = Path(name) / "model"
        await asyncio.to_thread(export_folder, store.ensure(model), folder, adapter)
        port, log = _free_port(), Path(tempfile.gettempdir()) / "carrara-vllm.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *_command(python, folder, dtype, port, slots),
                env=os.environ | _environment(threads),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            preset = presets()["vllm-server"].but(
                {"base_url": f"http://127.0.0.1:{port}/v1", "concurrency": slots}, "benchmark"
            )
            async with RemoteEngine("vllm", preset) as engine:
                await _ready(engine, process, log)
                yield Vllm(engine, process.pid)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
                await process.wait()
        log.unlink(missing_ok=True)


def _command(python: Path, folder: Path, dtype: str, port: int, slots: int) -> list[str]:
    structured = '{"backend": "xgrammar", "disable_any_whitespace": true}'
    return [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
        *(
            "--served-model-name",
            "model",
            "--dtype",
            dtype,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ),
        *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", str(slots)),
        *("--structured-outputs-config", structured),
    ]


def _environment(threads: int) -> dict[str, str]:
    return {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}" if threads > 1 else "0",
    }


async def _ready(engine: RemoteEngine, process: asyncio.subprocess.Process, log: Path) -> None:
    end = time.monotonic() + STARTED_S
    ask = Ask("choose", "Answer with one word.")
    while time.monotonic() < end and process.returncode is None:
        try:
            await engine.complete(ask.request(drafted=False))
            return
        except CarraraError:
            await asyncio.sleep(1.0)
    raise RuntimeError(f"vLLM's server did not get ready; see {log}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _cpu_s_of_session(session: int) -> float:
    """Processor seconds that the living processes of a session have taken so far (Linux: /proc/PID/stat)."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:  # state, ppid, pgrp, session, …, utime, stime
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
