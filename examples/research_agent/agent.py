"""An agent loop with two local tools: search in a folder of text files, and a calculator.

The model picks the next tool, the tool's answer joins the notes, and the loop goes on until the model is
ready to answer or its turns are used up. Branches and loops are plain Python.

    carrara run examples/research_agent/agent.py:research --output out/research
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from carrara import Pattern, llm, step, workflow

HERE = Path(__file__).parent
MAX_TURNS = 4
OPERATIONS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


@step
def search(question: str, folder: str) -> list[str]:
    """The three sentences of the folder's files that share the most words with the question."""
    wanted = _words(question)
    texts = [file.read_text(encoding="utf-8") for file in sorted(Path(folder).glob("*.txt"))]
    sentences = [found for text in texts for found in re.split(r"(?<=\.)\s+", text.strip())]
    sentences.sort(key=lambda sentence: -len(wanted & _words(sentence)))
    return [sentence for sentence in sentences[:3] if wanted & _words(sentence)]


@step
def read_rows(path: str) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@step
def calculate(expression: str) -> float:
    """The value of an arithmetic expression; nothing but numbers and + - * / ( ) is computed.

    Raises:
        ValueError: the expression is something else.
    """
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(f"{expression!r} cannot be computed: {error}") from error


@llm(tags=["reasoning"], max_tokens=8)
def next_move(question: str, notes: list[str]) -> Literal["search", "calculate", "answer"]:
    """You research a question step by step. Choose the next move: search (if no note helps yet), calculate
    (if the notes hold the numbers and something must still be computed) or answer (if the notes hold it).

    Question: {{ question }}
    Notes:
    {% for note in notes %}
    - {{ note }}
    {% else %}
    (none)
    {% endfor %}"""


@llm(tags=["reasoning"], max_tokens=24)
def expression(
    question: str, notes: list[str]
) -> Annotated[str, Pattern(r"[0-9.]{1,8}( [-+*/] [0-9.]{1,8}){1,2}")]:
    """Write the arithmetic that answers the question, with the numbers from the notes, such as 4 * 250.

    Question: {{ question }}
    Notes:
    {% for note in notes %}
    - {{ note }}
    {% endfor %}"""


@llm(tags=["reasoning"], max_tokens=12)
def final_answer(question: str, notes: list[str]) -> Annotated[str, Pattern(r"[0-9][0-9.,]{0,9}")]:
    """Answer the question with a number taken from the notes.

    Question: {{ question }}
    Notes:
    {% for note in notes %}
    - {{ note }}
    {% endfor %}"""


@workflow
async def answer_one(question: str, folder: str) -> dict[str, Any]:
    """One question: turns of search and calculation, then the answer."""
    notes: list[str] = []
    moves: list[str] = []
    for _ in range(MAX_TURNS):
        move = await next_move(question, notes)
        if move in moves or (move != "search" and not notes):
            move = (
                "answer" if notes else "search"
            )  # the same tool on the same notes finds nothing new
        moves.append(move)
        if move == "search":
            notes += await search(question, folder)
        elif move == "calculate":
            sum_up = await expression(question, notes)
            try:
                notes.insert(0, f"{sum_up} = {await calculate(sum_up):g}")
            except ValueError as error:
                notes.append(str(error))
        else:
            break
    return {"answer": await final_answer(question, notes), "moves": moves, "notes": notes}


@workflow
async def research(
    questions: str = str(HERE / "questions.jsonl"), folder: str = str(HERE / "library")
) -> dict[str, Any]:
    """All questions of a file, each an agent of its own, side by side; with the share answered right."""
    rows = await read_rows(questions)
    handles = [answer_one(row["question"], folder) for row in rows]
    found = [{"id": row["id"], **await handle} for row, handle in zip(rows, handles, strict=True)]
    right = [_number(f["answer"]) == _number(r["answer"]) for f, r in zip(found, rows, strict=True)]
    return {"answers": found, "score": {"questions": len(rows), "right": sum(right)}}


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z0-9]+", text.lower()) if len(word) > 2}


def _value(node: ast.AST) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op, operand) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(operand))
    raise ValueError(f"only numbers and + - * / are computed, found {ast.unparse(node)!r}")


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").rstrip("."))
    except ValueError:
        return None
