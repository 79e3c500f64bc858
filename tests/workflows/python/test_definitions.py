"""What is wrong with a definition is said where it is written, before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import carrara
from carrara import DefinitionError, Message, llm, step, workflow
from carrara.runtime.step import StepOptions
from carrara.workflows.answering import Answering
from carrara.workflows.parameters import Parameters
from carrara.workflows.prompt import Prompt
from carrara.workflows.steps import Llm


class Recipe(BaseModel):
    title: str


def line_of(marker: str) -> int:
    lines = inspect.getsource(inspect.getmodule(line_of)).splitlines()  # type: ignore[arg-type]
    return next(n for n, line in enumerate(lines, start=1) if line.endswith(f"# {marker}"))


def no_return_type() -> Callable[..., Any]:
    @llm
    def ask(doc: str):  # type: ignore[no-untyped-def]
        """Say: {{ doc }}"""

    return ask


def no_prompt() -> Callable[..., Any]:
    @llm
    def ask(doc: str) -> str: ...

    return ask


def no_model_type() -> Callable[..., Any]:
    @llm
    def ask(doc: str) -> None:
        """Say: {{ doc }}"""

    return ask


def unknown_type() -> Callable[..., Any]:
    @llm
    def ask(doc: str) -> Recipie:  # type: ignore[name-defined]  # noqa: F821
        """Say: {{ doc }}"""

    return ask


def nameless_inputs() -> Callable[..., Any]:
    @llm
    def ask(*docs: str) -> str:
        """Say: {{ docs }}"""

    return ask


def bad_system() -> Callable[..., Any]:
    @llm(system="You know {{ dok }}.")
    def ask(doc: str) -> str:
        """Say: {{ doc }}"""

    return ask


def bad_repair() -> Callable[..., Any]:
    @llm(repair="escalated")  # type: ignore[call-overload]
    def ask(doc: str) -> str:
        """Say: {{ doc }}"""

    return ask


def bad_number() -> Callable[..., Any]:
    @llm(max_tokens=0)
    def ask(doc: str) -> str:
        """Say: {{ doc }}"""

    return ask


def bad_rule() -> Callable[..., Any]:
    @llm(rule="klas")
    def ask(doc: str) -> str:
        """Say: {{ doc }}"""

    return ask


def bad_validator() -> Callable[..., Any]:
    def grounded(answer: str, document: str) -> bool:
        return answer in document

    @llm(validate=[grounded])
    def ask(doc: str) -> str:
        """Say: {{ doc }}"""

    return ask


def bad_example_answer() -> Callable[..., Any]:
    @llm(examples=[({"doc": "a"}, "b"), ({"doc": "x"}, "c")])
    def ask(doc: str) -> Literal["a", "b"]:
        """Say: {{ doc }}"""

    return ask


def bad_example_input() -> Callable[..., Any]:
    @llm(examples=[({"dok": "a"}, "b")])
    def ask(doc: str) -> Literal["a", "b"]:
        """Say: {{ doc }}"""

    return ask


def bad_retries() -> Callable[..., Any]:
    @step(retries=-1)
    def ask(doc: str) -> str:
        return doc

    return ask


def step_on_a_method() -> Any:
    class Shop:
        @step
        def price(self, name: str) -> int:
            return len(name)

    return Shop


def several_inputs() -> Callable[..., Any]:
    @workflow
    async def every(*docs: str) -> str:
        return docs[0]

    return every


def any_inputs() -> Callable[..., Any]:
    @workflow
    async def every(doc: str, **more: str) -> str:
        return doc

    return every


def positional_input() -> Callable[..., Any]:
    @workflow
    async def every(doc: str, /) -> str:
        return doc

    return every


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (step_on_a_method, r"price: @step cannot be put on a method: nobody would give it 'self'"),
        (several_inputs, r"a workflow's inputs are given by name, and \*docs has none"),
        (any_inputs, r"inputs are given by name, and \*\*more has none"),
        (positional_input, r"inputs are given by name, and doc \(before the '/'\) has none"),
        (no_return_type, "ask: the return type is missing: it says what the model must answer"),
        (no_prompt, "ask: the prompt is missing: write it as the docstring"),
        (no_model_type, "None is not one"),
        (unknown_type, "an annotation is not known: NameError: name 'Recipie' is not defined"),
        (nameless_inputs, r"names its inputs; \*args and \*\*kwargs have no names"),
        (bad_system, "system: the template uses 'dok', .* Did you mean 'doc'?"),
        (bad_repair, "repair='escalated' is none of .* Did you mean 'escalate'?"),
        (bad_number, "max_tokens=0 is out of range"),
        (bad_rule, "unknown commit rule 'klas'. Did you mean 'klass'?"),
        (bad_validator, "validator 'grounded' asks for 'document', which is no input"),
        (bad_example_answer, "example 2: 'c' is no answer of this type"),
        (bad_example_input, "example 1: 'dok' is no input. Did you mean 'doc'?"),
        (bad_retries, "retries=-1 is out of range"),
    ],
)
def test_a_wrong_definition_is_refused_at_its_line(define: Callable[[], Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        define()
    assert str(caught.value).startswith("tests/workflows/python/test_definitions.py:")
    assert caught.value.line is not None
    assert caught.value.line > line_of_function(define)


def line_of_function(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


def test_a_name_that_is_no_parameter_is_found_at_its_line_of_the_docstring() -> None:
    with pytest.raises(DefinitionError) as caught:

        @llm(tags=["a"])
        def ask(doc: str) -> str:
            """
            The first line of the prompt.

            Say: {{ dok }}
            """  # two lines below

    assert caught.value.line == line_of("two lines below") - 1
    assert caught.value.hint == "doc"
    assert "the template uses 'dok', which is not given. Did you mean 'doc'?" in str(caught.value)


def test_a_template_that_does_not_parse_is_found_at_its_line() -> None:
    with pytest.raises(DefinitionError, match="template: ") as caught:

        @llm
        def ask(doc: str) -> str:
            """Say:
            {% for %}"""  # here

    assert caught.value.line == line_of("here")


def test_types_defined_beside_the_function_are_known() -> None:
    class Local(BaseModel):
        name: str

    @llm
    def ask(doc: str) -> list[Local]:
        """Say: {{ doc }}"""

    assert ask.returns == list[Local]


def test_messages_can_be_given_instead_of_a_template() -> None:
    def talk(history: list[Message]) -> list[Message]:
        return [Message("system", "Be short."), *history]

    @llm(messages=talk)
    def reply(history: list[Message]) -> str:
        """Answers in a conversation. {{ this is no template }}"""

    message = Message("user", "hi")
    built = reply.prompt.build({"history": [message]}, reply.answer)
    assert built == (Message("system", "Be short."), message)


def test_a_call_that_does_not_fit_fails_where_it_is_written() -> None:
    @step
    def add(left: int, right: int = 1) -> int:
        return left + right

    assert add(1) == 2
    assert add(1, right=2) == 3
    with pytest.raises(TypeError, match=r"add\(left, right=...\): missing a required argument"):
        add()  # type: ignore[call-overload]
    with pytest.raises(
        TypeError, match=r"unexpected keyword argument 'rigth'. Did you mean 'right'"
    ):
        add(1, rigth=2)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="too many positional arguments"):
        add(1, 2, 3)  # type: ignore[call-overload]


def test_a_definition_keeps_name_and_docstring_of_its_function() -> None:
    @step(name="plus")
    def add(left: int) -> int:
        """Adds."""
        return left

    assert (add.name, add.__name__, add.__doc__) == ("plus", "add", "Adds.")
    assert repr(add) == "<step plus(left)>"
    assert list(inspect.signature(add).parameters) == ["left"]


class TestFingerprints:
    def test_the_same_prompt_in_another_layout_is_the_same_step(self) -> None:
        def one() -> Any:
            @llm(retries=2, timeout_s=3)
            def ask(doc: str) -> Recipe:
                """Say: {{ doc }}"""

            return ask

        def two() -> Any:
            @llm
            def ask(
                doc: str,
            ) -> Recipe:
                """
                Say: {{ doc }}
                """
                ...

            return ask

        assert one().fingerprint == two().fingerprint

    @pytest.mark.parametrize(
        "options",
        [
            {"temperature": 0.5},
            {"seed": 3},
            {"engine": "ar"},
            {"max_tokens": 9},
            {"system": "Be short."},
            {"tags": ["reasoning"]},
            {"validate": [str.isupper]},
            {"repair": "off"},
            {"rule": "credit"},
            {"rule": {"name": "threshold", "threshold": 0.5}},
            {"examples": [({"doc": "a"}, Recipe(title="b"))]},
        ],
    )
    def test_whatever_can_change_the_answer_changes_it(self, options: dict[str, Any]) -> None:
        def ask(doc: str) -> Recipe:
            """Say: {{ doc }}"""
            ...

        assert llm(**options)(ask).fingerprint != llm(ask).fingerprint

    def test_a_default_that_cannot_be_hashed_leaves_the_step_without_one(self) -> None:
        @llm
        def ask(doc: str, thing: object = object()) -> str:
            """Say: {{ doc }}"""
            ...

        assert ask.fingerprint == ""

    def test_a_step_changes_with_its_code(self) -> None:
        def make(number: int) -> Any:
            @step
            def add(left: int) -> int:
                return left + number

            return add

        assert make(1).spec.fingerprint == make(1).spec.fingerprint
        assert make(1).spec.fingerprint != make(2).spec.fingerprint


def test_a_workflow_knows_its_inputs_and_where_it_stands() -> None:
    assert module_workflow.inputs == {"doc": str, "count": int}
    assert module_workflow.source.endswith("test_definitions:module_workflow")

    @workflow
    def local(doc: str) -> str:
        return doc

    assert local.source == ""


@workflow
async def module_workflow(doc: str, count: int = 1) -> str:
    return doc * count


def test_a_step_made_of_parts_is_the_same_as_a_decorated_one() -> None:
    @llm(system="Be short.", max_tokens=64, engine="ar")
    def ask(doc: str, count: int = 2) -> Recipe:
        """Say {{ count }} times: {{ doc }}"""
        ...

    parts = Llm(
        "ask",
        Prompt("Say {{ count }} times: {{ doc }}", "Be short."),
        Parameters.named("doc", "count", types={"doc": str}, defaults={"count": 2}, returns=Recipe),
        answering=Answering(max_tokens=64),
        options=StepOptions(engine="ar"),
    )
    values = {"doc": "a", "count": 2}
    assert parts.fingerprint == ask.fingerprint
    assert parts.contract == ask.contract
    assert parts.prompt.build(values, parts.answer) == ask.prompt.build(values, ask.answer)


def test_parameters_may_be_declared_in_any_order() -> None:
    mixed = Parameters.named("a", "b", defaults={"a": 1})
    assert mixed.bind("x", (), {"b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(TypeError, match=r"x\(a=..., b\): too many positional"):
        mixed.bind("x", (1, 2), {})


def test_a_wrong_step_made_of_parts_is_named() -> None:
    with pytest.raises(
        DefinitionError, match=r"^ask: the template uses 'doc', which is not given$"
    ):
        Llm("ask", Prompt("{{ doc }}"), Parameters.named(returns=str))


@pytest.mark.parametrize("decorator", [step, llm, workflow])
def test_what_is_no_function_is_refused(decorator: Any) -> None:
    with pytest.raises(DefinitionError, match="is for functions; 3 is of type int"):
        decorator(3)
    with pytest.raises(DefinitionError, match="stands above @staticmethod"):
        decorator(staticmethod(len))


def scaled(number: int, by: int = 1) -> int:
    return number * by


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, number: int) -> int:
        return number * self.by

    def times(self, number: int) -> int:
        return number * self.by


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda by: partial(scaled, by=by), "scaled"),
        (lambda by: partial(partial(scaled), by=by), "scaled"),
        (Scale, "Scale"),
        (lambda by: Scale(by).times, "times"),
    ],
    ids=["partial", "nested partial", "object", "bound method"],
)
def test_whatever_can_be_called_becomes_a_step(make: Callable[[int], Any], name: str) -> None:
    double, also, triple = step(make(2)), step(make(2)), step(make(3))
    assert (double.name, double.returns, double.parameters.types["number"]) == (name, int, int)
    assert double.spec.fingerprint == also.spec.fingerprint != triple.spec.fingerprint

    @workflow
    async def both(number: int) -> list[int]:
        return [await double(number), await triple(number)]

    assert carrara.run_sync(both, 5).value == [10, 15]
