"""The speed of the diffusion engine, beside AR decoding of the same weights and llama.cpp. Prints one JSON object.

    python -m benchmarks.diffusion [--out FILE] [--parts calls chain crowd passes ahead shapes] [--threads 1]
                                   [--rounds 3] [--batches 1 8] [--records 32] [--seconds 240] [--seed 1] [--small]
                                   [--vllm PYTHON]
    python -m benchmarks.diffusion --table FILE

Parts: whole calls (extraction, choice, repair of a draft) by batch; a chain of ten dependent calls; many extractions
at once; denoising passes beside the weight-read floor, for the embedded model and for 8B shapes; free text with one
and with several passes before the host reads one. On a CPU the shapes are divided by eight and llama.cpp (`pip install
xllamacpp`) decodes the same merged weights as GGUF. With --vllm its server is started on the same merged weights by an
interpreter that has it. Every part stops after --seconds: decoders share them evenly, calls without an answer by then
are cancelled and counted. --out is written whenever there is more to write, as a whole, so that a run that is ended
leaves what it has; what no time was left for is named there as left_out, and below the tables. --small is for
tests: the smallest of everything.

    python -m benchmarks.diffusion --parts crowd --seconds 150 --out FILE

asks 256 extractions at once of each decoder and tells how many it answered in its share of 150 seconds, and how many
were in a pass together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.diffusion.passes import Sizes
from benchmarks.diffusion.run import PARTS, Plan, measured, plan_for
from benchmarks.diffusion.tables import tables
from benchmarks.diffusion.timing import Results
from benchmarks.diffusion.work import KINDS
from carrara.engines.local import LocalModel
from carrara.engines.model.device import pick_device

SMALL = Plan(
    sizes=Sizes((1, 2), (16,), (32,), 1, 1),
    scale=64,
    batches=(1, 2),
    rounds=1,
    chain=2,
    records=3,
    part_s=60.0,
    copy_bytes=1 << 20,
    per_sync=(1, 4),
    text_tokens=12,
)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, help="write the JSON here, part by part; what is there stays"
    )
    parser.add_argument("--table", type=Path, help="print the tables of such a file instead")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--model", default="smollm2", help="a name of `carrara models` or a folder")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, help="of one operation on a CPU, of all decoders")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="of calls")
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--records", type=int, help="extractions at once in the crowd")
    parser.add_argument("--seconds", type=float, help="the most that a part may take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--vllm",
        type=Path,
        metavar="PYTHON",
        help="an interpreter that has vLLM: compare with it, too",
    )
    parser.add_argument("--small", action="store_true")
    return parser


def plan(options: argparse.Namespace) -> Plan:
    made = SMALL if options.small else plan_for(pick_device(options.device))
    given = {
        "rounds": options.rounds,
        "records": options.records,
        "part_s": options.seconds,
        "kinds": options.kinds and tuple(options.kinds),
        "batches": options.batches and tuple(options.batches),
    }
    return replace(
        made,
        parts=tuple(options.parts),
        **{name: value for name, value in given.items() if value is not None},
    )


async def run(options: argparse.Namespace, results: Results) -> None:
    local = LocalModel.open(
        options.model, device=options.device, threads=options.threads, quick=True
    )
    async with local:
        await measured(options, plan(options), results, local)


def main() -> None:
    options = arguments().parse_args()
    if options.table is not None:
        print(tables(json.loads(options.table.read_text(encoding="utf-8"))))
        return
    results = Results.at(options.out)
    asyncio.run(run(options, results))
    print(json.dumps(results.found, indent=1))


if __name__ == "__main__":
    main()
