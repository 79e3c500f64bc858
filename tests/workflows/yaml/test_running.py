"""What pipelines do when they run: through the real runtime, with a scripted engine."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines.request import Request, Rule
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import StepError
from carrara.runtime.events import Event, StepFinished, StepSkipped
from carrara.workflows.errors import DefinitionError, InputError, RenderError
from carrara.workflows.values import Outline, Table
from carrara.workflows.yaml import Pipeline

Load = Callable[..., Pipeline]
Run = Callable[..., Any]

TOOLS = """
from carrara import llm, step, workflow

calls = []

def count(items):
    return len(items)

async def twice(n: int) -> int:
    return 2 * n

def fail(x):
    raise ValueError(f"no {x}")

def same(**values):
    calls.append(values)
    return values

@step(retries=2)
def often(x):
    calls.append(x)
    if len(calls) < 3:
        raise OSError("not yet")
    return len(calls)

@llm
def ask(question: str) -> str:
    \"\"\"Q: {{ question }}\"\"\"

@workflow
async def both(x: str) -> str:
    return await ask(x) + "/" + await ask(x + x)

@workflow
def unawaited(x: str):
    return [ask(x), ask(x + x)]

not_callable = 3

class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y
"""
FILES = {"tools.py": TOOLS}


def echo(request: Request) -> str:
    """The user's words, without what is said about the form of the answer."""
    return f"<{request.messages[-1].content.splitlines()[0]}>"


def value(run: Run, text: str, reply: Any = echo, **inputs: Any) -> Any:
    return run(text, FILES, reply, **inputs).value


# ---------------------------------------------------------------- values and templates


def test_a_reference_alone_keeps_its_type_and_other_text_becomes_text(run_text: Run) -> None:
    found = value(
        run_text,
        """
        inputs: {n: int, xs: [str], day: date}
        steps:
          a: {python: "./tools.py:twice", with: {n: "{{ n }}"}}
        outputs:
          number: "{{ a }}"
          named: "{{ steps.a + inputs.n }}"
          text: "a is {{ a }}"
          list: "{{ xs }}"
          day: "{{ day }}"
          both: {number: "{{ a }}", text: "{{ a }}!", constant: [1, "{{ n }}"]}
          braces: "no { braces }"
        """,
        n=3,
        xs=["x"],
        day="2026-01-31",
    )
    assert found == {
        "number": 6,
        "named": 9,
        "text": "a is 6",
        "list": ["x"],
        "day": datetime.date(2026, 1, 31),
        "both": {"number": 6, "text": "6!", "constant": [1, 3]},
        "braces": "no { braces }",
    }


def test_without_outputs_the_steps_at_the_ends_are_given(run_text: Run) -> None:
    found = value(run_text, "steps:\n  a: {llm: a}\n  b: {llm: '{{ a }}'}\n  c: {llm: c}\n")
    assert found == {"b": "<<a>>", "c": "<c>"}


def test_the_order_of_steps_in_the_file_does_not_matter(run_text: Run) -> None:
    found = value(
        run_text, "steps:\n  b: {llm: 'b {{ a }}'}\n  a: {llm: a}\noutputs: {b: '{{ b }}'}\n"
    )
    assert found == {"b": "<b <a>>"}


def test_typed_answers_arrive_as_typed_values(run_text: Run, any_answer: Any) -> None:
    found = value(
        run_text,
        """
        types: {Part: {name: str, n: int?}}
        steps:
          parts: {llm: a, returns: [Part]}
          table: {llm: a, returns: {table: {item: str, n: int}}}
          list: {llm: a, returns: {outline: {depth: 2}}}
          sure: {llm: a, returns: bool}
          name: {llm: "{{ parts[0].name }} {{ table[0].item }} {{ list[1].text }}"}
        outputs: {parts: "{{ parts }}", table: "{{ table }}", list: "{{ list }}", sure: "{{ sure }}"}
        """,
        any_answer,
    )
    assert (found["parts"][0].name, found["parts"][0].n) == ("x", None)
    assert isinstance(found["table"], Table)
    assert found["table"].records() == [{"item": "1", "n": 1}]
    assert isinstance(found["list"], Outline)
    assert found["sure"] is True


def test_independent_steps_run_side_by_side(load_text: Load) -> None:
    pipeline = load_text(
        "steps:\n  a: {llm: a}\n  b: {llm: b}\n  c: {llm: 'c {{ a }} {{ b }}'}\noutputs: {c: '{{ c }}'}\n"
    )

    async def main() -> None:
        together = asyncio.Event()

        async def reply(request: Request) -> str:
            if engine.in_flight == 2:
                together.set()
            await together.wait()
            return echo(request)

        engine = ScriptedEngine("ar", reply)
        result = await carrara.run(pipeline.workflow, engines={"ar": engine})
        assert result.value == {"c": "<c <a> <b>>"}
        assert engine.most_in_flight == 2

    asyncio.run(asyncio.wait_for(main(), 20))


def test_the_system_message_and_settings_reach_the_engine(load_text: Load) -> None:
    pipeline = load_text(
        """
        inputs: {who: str}
        steps:
          a:
            system: You serve {{ who }}.
            llm: |
              Greet
                {{ who }}
            max_tokens: 7
            max_steps: 3
            rule: {name: klass, drift: 0.05}
            temperature: 0.5
            top_p: 0.9
            seed: 4
            stop: "."
            examples:
              - {inputs: {who: Bo}, answer: Hi Bo}
        """
    )
    engine = ScriptedEngine("ar", ["Hi Al"])
    carrara.run_sync(pipeline.workflow, who="Al", engines={"ar": engine})
    (request,) = engine.requests
    assert [(m.role, m.content) for m in request.messages] == [
        ("system", "You serve Al."),
        ("user", "Greet\n  Bo"),
        ("assistant", "Hi Bo"),
        ("user", "Greet\n  Al"),
    ]
    assert (request.limits.max_tokens, request.limits.max_steps) == (7, 3)
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.seed) == (
        0.5,
        0.9,
        4,
    )
    assert request.stop == (".",)
    assert request.rule == Rule("klass", {"drift": 0.05})


def test_a_step_asks_the_engine_that_it_names(load_text: Load) -> None:
    pipeline = load_text(
        "steps:\n  a: {llm: a, engine: ar}\n  b: {llm: b, engine: auto}\n"
        "  c: {llm: c, engine: verified}\n"
    )
    engines = {name: ScriptedEngine(name, echo) for name in ("diffusion", "ar", "verified")}
    carrara.run_sync(pipeline.workflow, engines=engines)
    asked = {name: [r.messages[-1].content for r in e.requests] for name, e in engines.items()}
    assert asked == {"diffusion": ["b"], "ar": ["a"], "verified": ["c"]}


# ---------------------------------------------------------------- inputs


def test_inputs_are_converted_defaults_filled_in_and_optional_ones_left_out(run_text: Run) -> None:
    found = value(
        run_text,
        """
        types: {P: {name: str}}
        inputs: {p: P, n: {type: int, default: 2}, x: str?}
        steps: {s: {llm: "{{ p.name }} {{ n }} {{ x or 'nothing' }}"}}
        """,
        p={"name": "bo"},
    )
    assert found == {"s": "<bo 2 nothing>"}


def test_an_input_of_another_type_is_refused_by_name(run_text: Run) -> None:
    with pytest.raises(InputError, match=r"input 'n' of pipeline 'p': .*valid integer"):
        value(run_text, "inputs: {n: int}\nsteps: {s: {llm: '{{ n }}'}}\n", n="many")


def test_an_unknown_or_missing_input_is_refused(run_text: Run) -> None:
    text = "inputs: {text: str}\nsteps: {s: {llm: '{{ text }}'}}\n"
    with pytest.raises(TypeError, match=r"p\(text\): .*Did you mean 'text'"):
        value(run_text, text, txt="x")
    with pytest.raises(TypeError, match="missing a required argument"):
        value(run_text, text)


# ---------------------------------------------------------------- for_each


def test_for_each_gives_a_list_in_order_and_the_next_one_goes_over_it(run_text: Run) -> None:
    found = value(
        run_text,
        """
        inputs: {xs: [str], tone: str}
        steps:
          a: {for_each: xs, as: x, limit: 2, llm: "{{ tone }} {{ x }}"}
          b: {for_each: "{{ a }}", llm: "b {{ item }}"}
          n: {python: "./tools.py:count", with: {items: "{{ b }}"}}
        outputs: {b: "{{ b }}", n: "{{ n }}"}
        """,
        xs=["1", "2", "3"],
        tone="sad",
    )
    assert found == {"b": ["<b <sad 1>>", "<b <sad 2>>", "<b <sad 3>>"], "n": 3}


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ("xs | reverse | list", ["<2>", "<1>"]),
        ("\"{{ ['7', xs[0]] }}\"", ["<7>", "<1>"]),
        ("[a, '{{ xs[1] }}']", ["<a>", "<2>"]),
        ("range(2)", ["<0>", "<1>"]),
        ("[]", []),
    ],
)
def test_for_each_takes_expressions_and_lists(run_text: Run, items: str, found: list[str]) -> None:
    text = (
        f"inputs: {{xs: [str]}}\nsteps:\n  s:\n    for_each: {items}\n    llm: '{{{{ item }}}}'\n"
    )
    assert value(run_text, text, xs=["1", "2"]) == {"s": found}


def test_for_each_goes_over_a_field_of_a_value(run_text: Run, any_answer: Any) -> None:
    found = value(
        run_text,
        """
        steps:
          r: {llm: r, returns: {parts: {list: {name: str}, min_items: 3}}}
          s: {for_each: "{{ r.parts }}", as: part, llm: "{{ part.name }}"}
        outputs: {s: "{{ s }}"}
        """,
        any_answer,
    )
    assert found == {"s": ["a text"] * 3}


def test_for_each_over_something_else_than_a_list_fails_and_says_so(run_text: Run) -> None:
    with pytest.raises(StepError, match="cannot be mapped over a str"):
        value(
            run_text,
            "inputs: {x: any}\nsteps: {s: {for_each: '{{ x.y }}', llm: hi}}\n",
            x={"y": "ab"},
        )


def test_a_python_step_and_a_used_pipeline_go_over_items_too(run_text: Run) -> None:
    text = """
        inputs: {xs: [int]}
        steps:
          a: {for_each: xs, as: x, python: "./tools.py:twice", with: {n: "{{ x + 1 }}"}}
          b: {for_each: xs, as: x, use: inner.yaml, with: {text: "no {{ x }}"}}
        """
    inner = "inputs: {text: str}\nsteps: {s: {llm: '{{ text }}'}}\noutputs: {out: '{{ s }}'}\n"
    found = run_text(text, {**FILES, "inner.yaml": inner}, echo, xs=[1, 2]).value
    assert found == {"a": [4, 6], "b": [{"out": "<no 1>"}, {"out": "<no 2>"}]}


# ---------------------------------------------------------------- when

BRANCH = """
inputs: {topic: str}
steps:
  a: {when: "topic == 'a'", llm: a}
  needs: {llm: "needs {{ a }}"}
  needs_too: {llm: "too {{ needs }}"}
  asks: {llm: "asks {% if a %}{{ a }}{% else %}nobody{% endif %}"}
  asks_by_default: {python: "./tools.py:same", with: {x: "{{ a or 'default' }}"}}
  other: {when: "{{ not a }}", llm: other}
outputs:
  values: ["{{ a }}", "{{ needs }}", "{{ needs_too }}", "{{ asks }}", "{{ other }}"]
  default: "{{ asks_by_default.x }}"
"""


def test_a_step_whose_condition_holds_runs(run_text: Run) -> None:
    assert value(run_text, BRANCH, topic="a") == {
        "values": ["<a>", "<needs <a>>", "<too <needs <a>>>", "<asks <a>>", None],
        "default": "<a>",
    }


def test_a_skipped_step_is_null_and_takes_along_what_cannot_do_without_it(run_text: Run) -> None:
    events: list[Event] = []
    result = run_text(BRANCH, FILES, echo, {"listeners": [events.append]}, topic="b")
    assert result.value == {
        "values": [None, None, None, "<asks nobody>", "<other>"],
        "default": "default",
    }
    skipped = {e.path: e.reason for e in events if isinstance(e, StepSkipped)}
    assert skipped == {
        "p/a": "its condition does not hold: topic == 'a'",
        "p/needs": "step 'a' was skipped",
        "p/needs_too": "step 'needs' was skipped",
    }


@pytest.mark.parametrize(
    ("prompt", "runs"),
    [
        ("{{ a }}", False),
        ("{{ steps.a }}", False),
        ("{{ a.x }}", False),
        ("{{ a | upper }}", False),
        ("{{ a + 'x' }}", False),
        ("{{ a if true else 'x' }}", False),
        ("{{ a or 'x' }}", True),
        ("{{ 'x' or a }}", True),
        ("{{ steps.a or 'x' }}", True),
        ("{{ a | default('x', true) }}", True),
        ("{{ 'x' if a is none else a }}", True),
        ("{{ 'x' if a == none else a }}", True),
        ("{% if not a %}x{% endif %}{{ a }}", True),
        ("{% if a and b %}x{% endif %}y", True),
        ("{% set c = a or 'x' %}{{ c }}", True),
        ("{% if a.x %}x{% endif %}", False),
    ],
)
def test_a_step_is_skipped_with_another_unless_it_asks(
    run_text: Run, prompt: str, runs: bool
) -> None:
    found = run_text(
        f'steps:\n  a: {{when: false, llm: a, returns: any}}\n  b: {{llm: b}}\n  s: {{llm: "{prompt}"}}\n'
        'outputs: {s: "{{ s }}"}\n',
        reply=lambda request: '{"x": 1}' if request.messages[-1].content.startswith("a") else "b",
    )
    assert (found.value["s"] is not None) == runs


def test_when_on_items_leaves_null_in_their_places(run_text: Run) -> None:
    found = value(
        run_text,
        "inputs: {xs: [int]}\nsteps: {s: {for_each: xs, as: x, when: x > 1, llm: '{{ x }}'}}\n",
        xs=[1, 2, 3],
    )
    assert found == {"s": [None, "<2>", "<3>"]}


def test_when_not_on_items_skips_the_whole_list(run_text: Run) -> None:
    text = (
        "inputs: {on: bool, xs: [int]}\nsteps: {s: {for_each: xs, when: on, llm: '{{ item }}'}}\n"
    )
    assert value(run_text, text, xs=[1], on=False) == {"s": None}
    assert value(run_text, text, xs=[1], on=True) == {"s": ["<1>"]}


# ---------------------------------------------------------------- repeat


def test_repeat_stops_when_its_condition_holds(run_text: Run) -> None:
    found = value(
        run_text,
        """
        steps:
          s:
            repeat: {max: 9, until: "{{ s | length > 5 }}"}
            llm: "{% if previous %}{{ previous }}{% else %}x{% endif %}"
        """,
    )
    assert found == {"s": "<<<x>>>"}


def test_repeat_ends_after_its_last_turn(run_text: Run) -> None:
    text = "steps: {s: {repeat: {max: 3}, llm: '{{ previous or 1 }}'}}\n"
    assert value(run_text, text) == {"s": "<<<1>>>"}


def test_until_sees_the_turn_before_and_names_from_outside(run_text: Run) -> None:
    found = value(
        run_text,
        """
        inputs: {most: int}
        steps:
          s:
            repeat: {max: 9, until: "previous and steps.s | length >= most"}
            llm: "{{ previous or '' }}x"
        """,
        most=4,
    )
    assert found == {"s": "<<x>x>"}


def test_each_item_has_its_own_turns(run_text: Run) -> None:
    found = value(
        run_text,
        """
        inputs: {xs: [str]}
        steps:
          s:
            for_each: xs
            as: x
            when: x != 'no'
            repeat: {max: 5, until: "s | length > 6"}
            llm: "{{ previous or x }}"
        """,
        xs=["a", "no", "abcd"],
    )
    assert found == {"s": ["<<<a>>>", None, "<<abcd>>"]}


def test_a_used_pipeline_is_repeated(run_text: Run) -> None:
    inner = "inputs: {text: str}\nsteps: {s: {llm: '{{ text }}'}}\noutputs: {out: '{{ s }}'}\n"
    text = """
        steps:
          s:
            repeat: {max: 5, until: "s.out | length > 4"}
            use: inner.yaml
            with: {text: "{{ previous.out if previous else 'x' }}"}
        """
    assert run_text(text, {"inner.yaml": inner}, echo).value == {"s": {"out": "<<x>>"}}


# ---------------------------------------------------------------- python


def test_a_function_may_be_sync_async_a_class_a_step_an_llm_or_a_workflow(run_text: Run) -> None:
    found = value(
        run_text,
        """
        inputs: {x: str}
        steps:
          count: {python: "./tools.py:count", with: {items: [1, "{{ x }}"]}}
          twice: {python: "./tools.py:twice", with: {n: "{{ count }}"}}
          point: {python: "./tools.py:Point", with: {x: "{{ count }}", y: 1}}
          ask: {python: "./tools.py:ask", with: {question: "{{ x }}"}}
          asks: {python: "./tools.py:ask", with: {question: "{{ x }} {{ twice }}"}}
          both: {python: "./tools.py:both", with: {x: "{{ x }}"}}
          plain: {python: "./tools.py:unawaited", with: {x: "{{ x }}"}}
          each: {for_each: [a, b], python: "./tools.py:ask", with: {question: "{{ item }}"}}
        outputs:
          values: ["{{ count }}", "{{ twice }}", "{{ point.x }}"]
          answers: ["{{ ask }}", "{{ asks }}", "{{ both }}", "{{ plain }}", "{{ each }}"]
        """,
        x="x",
    )
    assert found["values"] == [2, 4, 2]
    assert found["answers"] == [
        "<Q: x>",
        "<Q: x 4>",
        "<Q: x>/<Q: xx>",
        ["<Q: x>", "<Q: xx>"],
        ["<Q: a>", "<Q: b>"],
    ]


def test_a_declared_result_is_converted_or_refused(run_text: Run) -> None:
    text = """
        types: {P: {x: int, y: int}}
        steps: {s: {python: "./tools.py:%s", with: {x: 1, y: 2}, returns: P}}
        """
    assert value(run_text, text % "same")["s"].y == 2
    assert value(run_text, text % "Point")["s"].y == 2
    with pytest.raises(StepError, match="not of the declared type"):
        value(run_text, text.replace("P: {x: int", "P: {z: int") % "same")


def test_options_of_a_decorated_step_hold_unless_the_pipeline_gives_its_own(
    load_text: Load,
) -> None:
    text = """
        steps:
          a: {python: "./tools.py:often", with: {x: 1}}
          b: {python: "./tools.py:often", with: {x: 1}, retries: 0, timeout: 2m, concurrency: 1,
              cache: false, inline: true}
          c: {llm: hi, retries: 1, timeout: 0.5, concurrency: 2, cache: false, engine: ar, tags: [x]}
        """
    steps = load_text(text, FILES).workflow.steps
    a, b = (steps[name].options for name in "ab")
    assert (a.retries, a.timeout_s, a.cache) == (2, None, True)
    assert (b.retries, b.timeout_s, b.concurrency, b.cache, b.inline) == (0, 120.0, 1, False, True)
    c = steps["c"].options
    assert (c.retries, c.timeout_s, c.concurrency, c.cache) == (1, 0.5, 2, False)
    assert (c.engine, c.tags) == ("ar", {"x"})


def test_a_failure_names_the_step(run_text: Run) -> None:
    with pytest.raises(StepError, match=r"step 'p/a\[0\]' in run \w+ failed: ValueError: no 1"):
        value(
            run_text,
            "steps:\n  a: {for_each: [1, 2], python: './tools.py:fail', with: {x: '{{ item }}'}}\n",
        )


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (
            "raise RuntimeError('broken')\ndef f(): ...\n",
            "importing './t.py' failed: RuntimeError: broken",
        ),
        ("f = 3\n", "step 'a': './t.py:f' is nothing that can be called"),
        ("if False:\n    def f(): ...\n", "'./t.py' has no 'f'"),
    ],
)
def test_what_only_importing_shows_is_told_before_the_run_begins(
    load_text: Load, tools: str, said: str
) -> None:
    pipeline = load_text("steps: {a: {python: './t.py:f'}}\n", {"t.py": tools})
    with pytest.raises(DefinitionError, match=said):
        pipeline.workflow.prepare()
    with pytest.raises(DefinitionError, match=said):
        carrara.run_sync(pipeline.workflow, engines={})


def test_a_workflow_takes_no_options_of_a_step(load_text: Load) -> None:
    text = "steps: {a: {python: './tools.py:both', with: {x: a}, retries: 1}}\n"
    with pytest.raises(DefinitionError, match="a workflow takes no retries"):
        load_text(text, FILES).workflow.prepare()


def test_validators_refuse_answers_and_may_see_the_inputs(run_text: Run) -> None:
    checks = "def longer(value, least):\n    return len(value) > least\n"
    replies = iter(["x", "long enough"])
    found = run_text(
        "inputs: {least: int}\nsteps: {a: {llm: '{{ least }}', validators: ['./c.py:longer']}}\n",
        {"c.py": checks},
        lambda request: next(replies),
        least=4,
    )
    assert found.value == {"a": "long enough"}


# ---------------------------------------------------------------- use, and Python around it

INNER = """
inputs: {text: str, n: {type: int, default: 2}}
types: {Part: {name: str}}
steps:
  parts: {llm: "{{ text }} {{ n }}", returns: [Part]}
outputs: {parts: "{{ parts }}", items: "{{ [n] }}", text: "{{ text }}"}
"""


def test_a_used_pipeline_gives_its_outputs_by_name(run_text: Run, any_answer: Any) -> None:
    found = run_text(
        """
        steps:
          a: {use: inner.yaml, with: {text: hi}}
          b: {llm: "{{ a.parts[0].name }}"}
        outputs: {b: "{{ b }}", items: "{{ a.items }}", text: "{{ a.text }}"}
        """,
        {"inner.yaml": INNER},
        any_answer,
    )
    assert found.value == {"b": "a text", "items": [2], "text": "hi"}


def test_a_pipeline_is_a_step_of_a_python_workflow(load_text: Load, any_answer: Any) -> None:
    inner = load_text(INNER)

    @carrara.workflow
    async def outer(texts: list[str]) -> list[str]:
        found = inner.workflow.map(texts, n=1)
        one = await inner.workflow(text="one")
        return [each["text"] for each in await found] + [one["text"]]

    engines = {"ar": ScriptedEngine("ar", any_answer)}
    result = carrara.run_sync(outer, ["a", "b"], engines=engines)
    assert result.value == ["a", "b", "one"]


def test_paths_follow_the_names_of_steps(run_text: Run) -> None:
    events: list[Event] = []
    run_text(
        """
        steps:
          a: {llm: a}
          each: {for_each: [x, y], llm: "{{ item }}"}
          inner: {use: inner.yaml, with: {text: hi}}
          maybe: {when: true, llm: m}
        """,
        {"inner.yaml": "inputs: {text: str}\nsteps: {s: {llm: '{{ text }}'}}\n"},
        echo,
        {"listeners": [events.append]},
    )
    paths = {e.path for e in events if isinstance(e, StepFinished)}
    assert paths >= {
        "p/a",
        "p/each[0]",
        "p/each[1]",
        "p/inner",
        "p/inner/s",
        "p/maybe",
        "p/maybe/maybe",
    }


def test_a_pipeline_brings_its_limits_and_policy_along(load_text: Load) -> None:
    pipeline = load_text(
        """
        engines: {ar: {concurrency: 1, tokens_per_min: 600000, requests_per_s: 500}}
        policy:
          name: plain
          rules: [{engines: ar, kinds: [text], reason: plain text}]
          accept: {json: {overall: 0.9}}
          max_attempts: 2
        steps:
          a: {for_each: [1, 2, 3], llm: "{{ item }}"}
        """
    )
    assert pipeline.limits["ar"].concurrency == 1
    assert pipeline.policy is not None
    assert (pipeline.policy.name, pipeline.policy.max_attempts) == ("plain", 2)
    assert pipeline.policy.accepts("json").overall == 0.9
    engines = {name: ScriptedEngine(name, echo) for name in ("diffusion", "ar")}
    result = asyncio.run(pipeline.run(engines=engines))
    assert result.value == {"a": ["<1>", "<2>", "<3>"]}
    assert engines["ar"].most_in_flight == 1
    assert engines["diffusion"].requests == []


def test_a_template_cannot_reach_what_it_must_not(run_text: Run) -> None:
    with pytest.raises(StepError, match=r"SecurityError|is unsafe"):
        value(run_text, "inputs: {x: str}\nsteps: {s: {llm: '{{ x.__class__.__mro__ }}'}}\n", x="a")


def test_text_from_users_is_never_a_template(run_text: Run) -> None:
    found = value(run_text, "inputs: {x: str}\nsteps: {s: {llm: '{{ x }}'}}\n", x="{{ 7 * 7 }}")
    assert found == {"s": "<{{ 7 * 7 }}>"}


def test_an_output_that_cannot_be_worked_out_is_named_with_its_place(
    run_text: Run, tmp_path: Path
) -> None:
    text = """
        name: sums
        inputs: {n: int}
        steps:
          a: {llm: a}
        outputs:
          text: "{{ a }}"
          part: "{{ 1 // n }}"
        """
    with pytest.raises(RenderError) as caught:
        run_text(text, n=0)
    place = f"{tmp_path / 'p.yaml'}:8: output 'part' of pipeline 'sums': '1 // n': "
    assert str(caught.value).startswith(place + "ZeroDivisionError")
