"""Labelled rows for `carrara adapt`: prompts and answers of a data folder, each with the contract of its answer.

python -m benchmarks.training_mix DATA OUT.jsonl [--only TASK=ROWS ...] [--most TASK=ROWS ...] [--seed N]

DATA holds mix/train.jsonl.xz with `task`, `prompt`, `response` and `src` a line. A task's contract is that of
examples/tasks/TASK.yaml; where a row asks for other fields, in another order, or for a table or list of its own, the
contract is read off its answer. Rows whose licence is not confirmed are left out, and so are answers that do not hold
to their contract; both are counted. --cookbook adds rows made by program from those of recipes and ingredients, for two
steps of examples/cookbook (`cookbook_rows`), --made so many each with other labels and other names of fields
(`benchmarks.training_made`), --receipts so many receipts made by program (`benchmarks.training_receipts`).
--whole-lists names all labels of a choice where a row's prompt lists some of them (four fifths of banking77), as the
task's pipeline does. --only names the tasks that are read, and how many rows of each at most; --most those that are
written, with what is made by program.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.training_made import made_rows, schema_of
from benchmarks.training_receipts import only_step, receipt_rows
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Table, Text, to_data
from carrara.engines.errors import CarraraError
from carrara.workflows.yaml.compile import core_of
from carrara.workflows.yaml.definition import Ask
from carrara.workflows.yaml.load import load

EXAMPLES = Path(__file__).parent.parent / "examples"
TASKS, COOKBOOK = EXAMPLES / "tasks", EXAMPLES / "cookbook" / "cookbook.yaml"
NEVER = frozenset(("function_call",))
UNCONFIRMED = ("zzzDavid/ICDAR-2019-SROIE",)
SELF_INSTRUCT, CONFIRMED_PARTS = "yizhongw/self-instruct", ("quoref", "quartz")


def main() -> None:
    arguments = _arguments()
    wanted = dict(map(_pair, arguments.only))
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    rows = []
    contracts: dict[str, Contract | None] = {}
    for row in _shuffled(arguments.data, arguments.seed):
        task = row["task"]
        if task in NEVER or (wanted and counts[task] >= int(wanted.get(task, 0))):
            continue
        if not is_licensed(row.get("src", "")):
            skipped["licence not confirmed"] += 1
            continue
        if task not in contracts:
            contracts[task] = task_contract(task)
        found = with_contract(row, contracts[task])
        if found is None:
            skipped[f"{task}: does not hold to its contract"] += 1
            continue
        counts[task] += 1
        rows.append(with_whole_list(found) if arguments.whole_lists else found)
    if arguments.cookbook:
        made = list(cookbook_rows(rows))
        counts.update(row["task"] for row in made)
        rows += made
    if arguments.made:
        made = list(made_rows(rows, arguments.made, arguments.seed))
        counts.update(row["task"] for row in made)
        rows += made
    if arguments.receipts:
        made = list(receipt_rows(arguments.receipts, arguments.seed))
        counts.update(row["task"] for row in made)
        rows += made
    random.Random(arguments.seed).shuffle(rows)
    if arguments.most:
        rows = list(first_of(rows, {k: int(v) for k, v in map(_pair, arguments.most)}))
        counts = Counter(row["task"] for row in rows)
    with arguments.out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(json.dumps({"rows": len(rows), "tasks": counts, "skipped": skipped}, indent=2))


def first_of(rows: Iterable[dict[str, Any]], most: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The first rows of each task that has a number in `most`, that many of it."""
    taken: Counter[str] = Counter()
    for row in rows:
        if taken[row["task"]] < most.get(row["task"], 0):
            taken[row["task"]] += 1
            yield row


def is_licensed(source: str) -> bool:
    """Whether a row may be trained on, by where it comes from."""
    if source.startswith(UNCONFIRMED):
        return False
    return not source.startswith(SELF_INSTRUCT) or source.endswith(CONFIRMED_PARTS)


def task_contract(task: str) -> Contract | None:
    """The contract of the one step of examples/tasks/TASK.yaml, None if there is no such pipeline."""
    path = TASKS / f"{task}.yaml"
    if not path.is_file():
        return None
    return only_step(path).contract


def with_contract(row: Mapping[str, Any], contract: Contract | None) -> dict[str, Any] | None:
    """The row with its contract and its answer as a value; None if no contract suits it."""
    response = row["response"]
    base = {"prompt": row["prompt"], "task": row["task"], "src": row.get("src", "")}
    for candidate in _candidates(response, contract):
        try:
            value = candidate.parse(response)
        except CarraraError:
            continue
        if isinstance(candidate, Text):
            return {**base, "response": response}
        return {**base, "response": value, "contract": to_data(candidate)}
    return None


def with_whole_list(row: dict[str, Any]) -> dict[str, Any]:
    """The row with all options of its choice in the line of its prompt that begins with `Labels:`, if it has one."""
    options = row.get("contract", {}).get("options")
    if not options:
        return row
    labels = "Labels: " + ", ".join(options)
    return {**row, "prompt": re.sub(r"(?m)^Labels: .*$", lambda _: labels, row["prompt"])}


COURSES = {
    "soup": r"soup|chowder|broth|stew|gazpacho|ramen|borscht",
    "salad": r"salad|slaw",
    "drink": r"smoothie|coffee|tea|juice|lemonade|cocktail|drink|lassi|milkshake|eggnog|punch",
    "dessert": r"cake|cookies?|pie|pudding|brownies?|ice cream|mousse|tiramisu|muffins?|crumble|tart|fudge|sorbet",
    "main": r"chicken|beef|pork|pasta|curry|lasagna|risotto|salmon|steak|pizza|chili|meatballs|tofu|shrimp|goulash",
}
"""Words of a recipe's title that tell its course; a title with words of two courses tells nothing."""


def cookbook_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows for the steps `quantities` and `course` of examples/cookbook, in its own wording.

    Tables of item and quantity come from the parsed lines of ingredient_list. Courses come from recipe_nested, by the
    words of the title (`COURSES`): silver labels, only where the words agree.
    """
    pipeline = load(COOKBOOK).definition
    steps = {
        step.name: core_of(step, pipeline) for step in pipeline.steps if isinstance(step.does, Ask)
    }
    seen: set[str] = set()
    for row in rows:
        if row["task"] == "ingredient_list":
            lines = row["prompt"].rsplit("Text:\n", 1)[-1].split("\n")
            dish = {"ingredients": [{"group": None, "items": lines}]}
            table = [_item_and_quantity(parsed) for parsed in row["response"]["ingredients"]]
            yield _step_row(steps["quantities"], {"dish": dish}, table, "ingredient_table", row)
        elif row["task"] == "recipe_nested" and "Text:\n" in row["prompt"]:
            text = row["prompt"].rsplit("Text:\n", 1)[-1]
            title = text.split("\n", 1)[0].lower()
            told = [name for name, words in COURSES.items() if re.search(rf"\b({words})\b", title)]
            if len(told) == 1 and title not in seen:
                seen.add(title)
                yield _step_row(
                    steps["course"], {"page": {"text": text}}, told[0], "recipe_course", row
                )


def _item_and_quantity(parsed: Mapping[str, Any]) -> dict[str, str | None]:
    item = ", ".join(filter(None, (parsed["name"], parsed["preparation"])))
    return {
        "item": item,
        "quantity": " ".join(filter(None, (parsed["quantity"], parsed["unit"]))) or None,
    }


def _step_row(
    step: Any, inputs: Mapping[str, Any], answer: Any, task: str, row: Mapping[str, Any]
) -> dict[str, Any]:
    messages = step.prompt.build(inputs, step.answer)
    said = [{"role": message.role, "content": message.content} for message in messages]
    contract = to_data(step.contract)
    return {
        "messages": said,
        "task": task,
        "src": row["src"],
        "response": answer,
        "contract": contract,
    }


def _candidates(response: str, contract: Contract | None) -> Iterator[Contract]:
    if isinstance(contract, Json):
        fitted = _for_keys(contract, response)
        yield fitted or contract
        return
    if isinstance(contract, Choice):
        yield contract
        return
    if response.startswith("|"):
        header = response.split("\n", 1)[0].strip().strip("|").split("|")
        try:
            yield Table(tuple(Column(name.strip()) for name in header))
        except CarraraError:
            return
        return
    if response.startswith("- "):
        yield Outline(max_depth=4)
    if response[:1] in "[{":
        try:
            yield Json.of(schema_of(json.loads(response)))
        except ValueError:
            return
    yield Text()


def _for_keys(contract: Json, response: str) -> Json | None:
    """The contract with the answer's keys in the answer's order, where these are not its own."""
    try:
        value = json.loads(response)
    except ValueError:
        return None
    schema = contract.schema
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return None
    if list(value) == list(properties):
        return None
    if not value.keys() <= properties.keys():
        return Json.of(schema_of(value))
    kept = {key: properties[key] for key in value}
    return Json.of({**schema, "properties": kept, "required": list(kept)})


def _shuffled(folder: Path, seed: int) -> list[dict[str, Any]]:
    with lzma.open(folder / "mix" / "train.jsonl.xz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(seed).shuffle(rows)
    return rows


def _pair(entry: str) -> tuple[str, str]:
    task, _, rows = entry.partition("=")
    return task, rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", default=[], metavar="TASK=ROWS")
    parser.add_argument("--most", action="append", default=[], metavar="TASK=ROWS")
    parser.add_argument("--cookbook", action="store_true")
    parser.add_argument("--made", type=int, default=0, metavar="ROWS")
    parser.add_argument("--whole-lists", action="store_true")
    parser.add_argument("--receipts", type=int, default=0, metavar="ROWS")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
