"""What is said about wrong pipelines: mistakes.txt holds a table of them; here are those that do not fit in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from carrara.workflows.errors import DefinitionError
from carrara.workflows.plan import plan
from carrara.workflows.yaml import PipelineError, check, load, loads

Mistakes = Callable[..., list[str]]

BESIDE = {
    "other.yaml": """\
        inputs: {text: str, n: {type: int, default: 1}}
        steps:
          s: {llm: "{{ text }} {{ n }}"}
        outputs: {text: "{{ s }}"}
        """,
    "tool.py": """\
        raise RuntimeError("a check must not import this")

        def count(text, least=1):
            return 1

        def check(value):
            return True

        def near(value, txt, other=1):
            return True
        """,
}


def cases() -> list[tuple[str, str, list[str]]]:
    text = (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8")
    found = re.findall(r"^=== (.*)\n((?:.*\n)*?)>>>\n((?:.+\n)+)", text, re.MULTILINE)
    return [(title, yaml, said.splitlines()) for title, yaml, said in found]


@pytest.mark.parametrize(("yaml", "said"), [pytest.param(y, s, id=t) for t, y, s in cases()])
def test_every_mistake_is_told_with_its_place(
    yaml: str, said: list[str], mistakes_in: Mistakes
) -> None:
    assert mistakes_in(yaml, BESIDE) == said


def test_the_table_is_read_whole() -> None:
    text = (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8")
    assert len(cases()) == text.count("\n=== ") > 90


def test_a_file_with_many_mistakes_tells_them_all_in_order_of_place(mistakes_in: Mistakes) -> None:
    yaml = """\
        nam: x
        inputs: {text: string, class: str}
        types:
          A: B
          B: [A]
        steps:
          recipe:
            llm: |
              Extract
              {{ txt }} and {{ inputs.foo }}
            engin: ar
            retries: -1
            timeout: 3x
          summary:
            llm: "sum {{ recipe }} {{ recipe | uper }}"
            returns: {title: str, n: integr}
            engine: diffuson
          count:
            python: nowhere:count
            with: {a: "{{ count }}"}
          other:
            use: foo.yaml
        outputs: {x: "{{ sumary }}"}
        """
    assert mistakes_in(yaml) == [
        "p.yaml:1:1: unknown key 'nam' in the pipeline. Did you mean 'name'?",
        "p.yaml:2:16: unknown type 'string' in input 'text'. Did you mean 'str'?",
        "p.yaml:2:24: 'class' is a reserved word, choose another name",
        "p.yaml:4:3: type 'A' stands for itself. Only the fields of an object can refer back",
        "p.yaml:10:10: unknown name 'txt' in step 'recipe'. Did you mean 'text'?",
        "p.yaml:10:31: unknown input 'foo' in step 'recipe'. Known: class, text",
        "p.yaml:11:5: unknown key 'engin' in step 'recipe'. Did you mean 'engine'?",
        "p.yaml:12:14: 'retries' of step 'recipe' must be at least 0, not -1",
        "p.yaml:13:14: 'timeout' of step 'recipe': '3x' is no duration. Write seconds, or text like "
        "'30s', '2m', '1h30m', '500ms'",
        "p.yaml:15:40: bad template: no filter named 'uper', in step 'summary'. Did you mean 'upper'?",
        "p.yaml:16:30: unknown type 'integr' in step 'summary'. Did you mean 'int'?",
        "p.yaml:17:13: unknown engine 'diffuson' in step 'summary'. Did you mean 'diffusion'?",
        "p.yaml:19:13: there is no module 'nowhere'. Install it, or write './file.py:count' for a file "
        "beside the pipeline",
        "p.yaml:20:19: step 'count' refers to itself. With 'repeat', 'previous' is the value of the turn "
        "before",
        "p.yaml:22:10: there is no file 'foo.yaml' beside the pipeline",
        "p.yaml:23:18: unknown name 'sumary' in output 'x'. Did you mean 'summary'?",
    ]


def test_mistakes_of_a_used_pipeline_are_told_with_its_file(mistakes_in: Mistakes) -> None:
    found = mistakes_in(
        "steps:\n  a: {use: inner.yaml}\n  b: {llm: '{{ c }}'}\n",
        {"inner.yaml": "steps:\n  x: {llm: hi, engin: ar}\n"},
    )
    assert found == [
        "inner.yaml:2:16: unknown key 'engin' in step 'x'. Did you mean 'engine'?",
        "p.yaml:3:16: unknown name 'c' in step 'b'. Known: a",
    ]


def test_pipelines_that_use_each_other_are_told_as_a_circle(mistakes_in: Mistakes) -> None:
    found = mistakes_in(
        "steps:\n  a: {use: inner.yaml}\n", {"inner.yaml": "steps:\n  x: {use: p.yaml}\n"}
    )
    assert found == [
        "inner.yaml:2:12: pipelines use each other in a circle: p.yaml -> inner.yaml -> p.yaml"
    ]


def test_a_function_in_a_file_with_a_syntax_error_is_told(mistakes_in: Mistakes) -> None:
    found = mistakes_in(
        "steps:\n  a: {python: './tool.py:f'}\n", {"tool.py": "def f(:\n    pass\n"}
    )
    assert found == ["p.yaml:2:15: './tool.py' cannot be read, line 1: invalid syntax"]


def test_a_binary_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"steps:\n  a: \xff\xfe")
    assert [str(m)[len(str(tmp_path)) + 1 :] for m in check(tmp_path / "p.yaml")] == [
        "p.yaml:2:1: not UTF-8 text: byte 0xff cannot be read"
    ]


def test_a_control_character_is_told() -> None:
    with pytest.raises(PipelineError, match=r"pipeline.yaml:2:14: .*U\+0000 is not allowed"):
        loads('steps:\n  a: {llm: "h\x00i"}\n')


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"p.yaml: cannot read the file: No such file"):
        load(tmp_path / "p.yaml")


def test_a_file_that_grows_by_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(PipelineError, match="more than 100,000 parts, aliases counted"):
        loads("\n".join(lines))


def test_a_file_that_nests_without_end_is_refused() -> None:
    with pytest.raises(PipelineError, match="nested too deeply"):
        loads("steps: " + "[" * 600 + "]" * 600)


def test_the_error_is_a_definition_error_that_holds_each_mistake() -> None:
    with pytest.raises(DefinitionError) as caught:
        loads("nam: x\nsteps:\n  a: {llm: hi, tag: x}\n")
    error = caught.value
    assert isinstance(error, PipelineError)
    assert [(m.line, m.column) for m in error.mistakes] == [(1, 1), (3, 16)]
    assert (error.file, error.line, error.column) == ("pipeline.yaml", 1, 1)
    assert str(error).count("\n") == 1


def test_a_good_file_has_no_mistakes_and_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("raise RuntimeError\ndef f(x): ...\n")
    (tmp_path / "p.yaml").write_text("steps:\n  a: {python: './tool.py:f', with: {x: 1}}\n")
    assert check(tmp_path / "p.yaml") == ()
    assert len(plan(load(tmp_path / "p.yaml").workflow).steps) == 1


def test_a_name_that_the_caller_knows_as_an_engine_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("steps:\n  a: {llm: hi, engine: big}\n")
    assert load(tmp_path / "p.yaml", engines=["big"]).workflow.name == "p"
    with pytest.raises(PipelineError, match="unknown engine 'big'"):
        load(tmp_path / "p.yaml")


def test_merge_keys_share_options() -> None:
    pipeline = loads(
        "steps:\n"
        "  a: &common {llm: hi, retries: 2, engine: ar}\n"
        "  b:\n    <<: *common\n    retries: 3\n"
        "  c:\n    <<: [*common]\n    llm: ho\n"
    )
    steps = {step.name: step for step in pipeline.definition.steps}
    assert [(steps[n].retries, steps[n].engine) for n in "abc"] == [(2, "ar"), (3, "ar"), (2, "ar")]
