# ruff: noqa: E501
"""Each rule for Markdown: what it mends, and the sound text beside it that it leaves alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from carrara.runtime.repair import repair, repair_text
from carrara.runtime.repair.json_text.mend import REASONS

HEAD = "| a | b | c |\n|---|---|---|\n"

TABLES = [
    ("delim_missing", "| a | b |\n| 1 | 2 |\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
    ("delim_short", "| a | b |\n|---|\n| 1 | 2 |\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
    ("delim_long", "| a | b |\n|:-:|---|---|\n| 1 | 2 |\n", "| a | b |\n|:-:|---|\n| 1 | 2 |\n"),
    ("delim_joined", "| a | b | |---|---|\n| 1 | 2 |\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
    ("delim_garbled", "| a | b |\n|—|=|\n| 1 | 2 |\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
    ("delim_garbled", "| a | b |\n|:--+--:|\n| 1 | 2 |\n", "| a | b |\n| :-- | --: |\n| 1 | 2 |\n"),
    ("delim_first", "|---|---|\n| a | b |\n| 1 | 2 |\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
    ("delim_misplaced", "| a | b |\n| 1 | 2 |\n|---|---|\n| 3 | 4 |\n", "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n"),
    ("delim_repeated", "| a | b |\n|---|---|\n|---|---|\n| 3 | 4 |\n", "| a | b |\n|---|---|\n| 3 | 4 |\n"),
    ("rows_merged", HEAD + "| 1 | 2 | 3 || 4 | 5 | 6 |\n", HEAD + "| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n"),
    ("rows_merged", HEAD + "| 1 | 2 | 3 | | 4 | 5 | 6 |\n", HEAD + "| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n"),
    ("collapsed", "|a|b||---|---||1|2||3|4|\n", "|a|b|\n|---|---|\n|1|2|\n|3|4|\n"),
    ("row_split", HEAD + "| 1 | 2\n| 3 |\n", HEAD + "| 1 | 2 | 3 |\n"),
    ("row_split", HEAD + "| 1 | 2 | 3\nmore |\n", HEAD + "| 1 | 2 | 3 more |\n"),
    ("blank_inside", "a | b\n\n--- | ---\n1 | 2\n3 | 4\n", "a | b\n--- | ---\n1 | 2\n3 | 4\n"),
    ("text_glued", HEAD + "| 1 |  | 3 | So it was done.\n", HEAD + "| 1 |  | 3 |\n\nSo it was done.\n"),
    ("blank_inside", HEAD + "| 1 | 2 | 3 |\n\n| 4 | 5 | 6 |\n", HEAD + "| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n"),
    ("prefix_glued", "See: | a | b |\n|---|---|\n| 1 | 2 |\n", "See:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"),
    ("pipe_unescaped_code", HEAD + "| 1 | `x | y` | 3 |\n", HEAD + "| 1 | `x \\| y` | 3 |\n"),
    ("pipe_unescaped", HEAD + "| 1 | P(x | y) | 3 |\n", HEAD + "| 1 | P(x \\| y) | 3 |\n"),
    ("pipe_doubled", HEAD + "| 1 || 2 | 3 |\n", HEAD + "| 1 | 2 | 3 |\n"),
    ("pipe_dropped", "| abc | de |\n| --- | -- |\n| x   | y  |\n| z     w  |\n", "| abc | de |\n| --- | -- |\n| x   | y  |\n| z   | w  |\n"),
    ("pipe_swapped", HEAD + "| 1 ｜ 2 | 3 |\n", HEAD + "| 1 | 2 | 3 |\n"),
    ("indent_drift", HEAD + "    | 1 | 2 | 3 |\n", HEAD + "| 1 | 2 | 3 |\n"),
    ("header_repeated", HEAD + "| 1 | 2 | 3 |\n" + HEAD + "| 4 | 5 | 6 |\n", HEAD + "| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n"),
    ("row_fragment_dup", HEAD + "| one | tw\n| one | two | three |\n", HEAD + "| one | two | three |\n"),
    ("cell_repeated", HEAD + "| 1 | two | two | 3 |\n", HEAD + "| 1 | two | 3 |\n"),
    ("cell_repeated", HEAD + "| 1 | two thr| two three | 3 |\n", HEAD + "| 1 | two three | 3 |\n"),
    ("row_split", HEAD + "| 1 | 2 | 3\n|\n| 4 | 5 | 6 |\n", HEAD + "| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n"),
    ("delim_garbled", "| a | b |\n+ --- + --- +\n| 1 | 2 |\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
    ("text_glued", "| a | b |\n|---|---|\n| yes | yes | So it is.\n", "| a | b |\n|---|---|\n| yes | yes |\n\nSo it is.\n"),
    ("text_below", HEAD + "| 1 | 2 | 3 |\nSo it is.\n", HEAD + "| 1 | 2 | 3 |\n\nSo it is.\n"),
    ("text_glued", HEAD + "| 1 | 2 | 3 | So it is.\n", HEAD + "| 1 | 2 | 3 |\n\nSo it is.\n"),
    ("grid_table", "+--+--+\n| a | b |\n+==+==+\n| 1 | 2 |\n+--+--+\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
    ("tabs_for_pipes", "a\tb\n1\t2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
    ("tabs_for_pipes", "a\tb\tc\n1\t2\tx\n3\n4\ty\n", "| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | x |\n| 3 |  |  |\n|  | 4 | y |\n"),
    ("tabs_for_pipes", "a\tb\n1\n2\n", "| a | b |\n| --- | --- |\n| 1 |  |\n| 2 |  |\n"),
    ("outer_pipe", "a | b | c\n--- | --- | ---\n1 | 2 | 3\n| 5 | 6\n7 | 8 | 9\n", "a | b | c\n--- | --- | ---\n1 | 2 | 3\n| | 5 | 6\n7 | 8 | 9\n"),
    ("outer_pipe", "a | b | c\n--- | --- | ---\n1 | 2 | 3\n5 | 6 |\n7 | 8 | 9\n", "a | b | c\n--- | --- | ---\n1 | 2 | 3\n5 | 6 | |\n7 | 8 | 9\n"),
    ("cells_missing", HEAD + "| 1 | 2 |\n", HEAD + "| 1 | 2 |  |\n"),
    ("mask_left", HEAD + "| 1 | <|mask|><|mask|> | 3 |\n", HEAD + "| 1 |  | 3 |\n"),
]  # fmt: skip

LISTS = [
    ("child_underindent", "1. a\n  - b\n2. c\n", "1. a\n   - b\n2. c\n"),
    ("child_underindent", "10. a\n  1. b\n  2. c\n11. d\n", "10. a\n    1. b\n    2. c\n11. d\n"),
    ("child_underindent", "- a\n - b\n- c\n - d\n - e\n", "- a\n  - b\n- c\n  - d\n  - e\n"),
    ("child_underindent", "- a\n   - b\n - c\n- d\n - e\n    - f\n - g\n", "- a\n  - b\n  - c\n- d\n  - e\n  - f\n  - g\n"),
    ("child_underindent", "- a\n    - b\n- c\n - d\n", "- a\n    - b\n- c\n  - d\n"),
    ("missing_space", "* 1\n-2\n• 3\n", "* 1\n* 2\n* 3\n"),
    ("missing_space", "* a\n  + x\n  -yes\n* b\n  -no\n  + v\n", "* a\n  + x\n  + yes\n* b\n  - no\n  - v\n"),
    ("missing_space", "- 4\n  - x\n-5\n  - y\n", "- 4\n  - x\n- 5\n  - y\n"),
    ("over_indent", "- a\n      - b\n        c\n- d\n", "- a\n  - b\n    c\n- d\n"),
    ("marker_mix", "- a\n* b\n- c\n", "- a\n- b\n- c\n"),
    ("marker_mix", "1. a\n- b\n3. c\n", "1. a\n2. b\n3. c\n"),
    ("delim_mix", "1. a\n2) b\n3. c\n", "1. a\n2. b\n3. c\n"),
    ("missing_space", "- apple\n-banana\n", "- apple\n- banana\n"),
    ("missing_space", "1.a\n2. b\n", "1. a\n2. b\n"),
    ("numbering", "1. a\n2. b\n2. c\n", "1. a\n2. b\n3. c\n"),
    ("numbering", "2. a\n2. b\n3. c\n", "1. a\n2. b\n3. c\n"),
    ("numbering", "2. a\n1. b\n3. c\n", "1. a\n2. b\n3. c\n"),
    ("inline_glued_ordered", "1. a 2. b\n3. c\n", "1. a\n2. b\n3. c\n"),
    ("inline_glued_task", "- [x] a - [ ] b\n- [ ] c\n", "- [x] a\n- [ ] b\n- [ ] c\n"),
    ("marker_split_newline", "- a\n-\nb\n", "- a\n- b\n"),
    ("task_malformed", "- [ ] a\n- [x]b\n- [] c\n- [x d\n", "- [ ] a\n- [x] b\n- [ ] c\n- [x] d\n"),
    ("cont_underindent", "1. a\n\n b\n2. c\n", "1. a\n\n   b\n2. c\n"),
    ("dup_marker", "1. a\n2. 2. b\n3. c\n", "1. a\n2. b\n3. c\n"),
    ("dup_marker", "- - a\n- b\n", "- a\n- b\n"),
    ("flattened", "1. a\n* b\n* c\n2. d\n", "1. a\n   * b\n   * c\n2. d\n"),
    ("bullet_glyph", "• a\n• b\n", "- a\n- b\n"),
    ("number_glyph", "1. a\n   - x\n   - y\n2 . b\n", "1. a\n   - x\n   - y\n2. b\n"),
    ("number_lost", "1. a\n   - x\n. b\n3. c\n", "1. a\n   - x\n2. b\n3. c\n"),
    ("item_fragment_dup", "- one\n- the sec- the second item\n", "- one\n- the second item\n"),
    ("dup_marker", "- a\n* - b\n- c\n", "- a\n- b\n- c\n"),
    ("task_malformed", "1. [ ] a\n2. [✓] b\n3. [_] c\n", "1. [ ] a\n2. [x] b\n3. [ ] c\n"),
    ("number_glyph", "１．a\n２．b\n", "1. a\n2. b\n"),
    ("item_fragment_dup", "- the first ite\n- the first item here\n", "- the first item here\n"),
    ("mask_left", "- a [MASK] b\n- c\n", "- a b\n- c\n"),
]  # fmt: skip

PAGES = [
    ("fence_unclosed", "Text.\n\n```sh\nls\n", "Text.\n\n```sh\nls\n```\n"),
    ("fence_unclosed", "```py\nx\n\n## Next\n\nText.\n", "```py\nx\n```\n\n## Next\n\nText.\n"),
    ("fence_close_short", "```py\nx\n``\n\ntext\n", "```py\nx\n```\n\ntext\n"),
    ("fence_close_other", "```py\nx\n~~~\n\ntext\n", "```py\nx\n```\n\ntext\n"),
    ("mask_left", "```py\nx\n```<|im_end|>\n\ntext\n", "```py\nx\n```\n\ntext\n"),
    ("heading_mark", "## ## Part\n\nMore.\n", "## Part\n\nMore.\n"),
    ("paragraph_fragment_dup", "one two three four five six seven\n\none two three four five six seven eight.\n", "one two three four five six seven eight.\n"),
    ("fence_open_short", "``py\nx\n```\n\ntext\n", "```py\nx\n```\n\ntext\n"),
    ("fence_close_glued", "```py\nx = 1```\n\ntext\n", "```py\nx = 1\n```\n\ntext\n"),
    ("fence_repeated", "```py\n```py\nx\n```\n", "```py\nx\n```\n"),
    ("fence_glued", "Here: ```py\nx\n```\n\nEnd.\n", "Here:\n\n```py\nx\n```\n\nEnd.\n"),
    ("heading_glued", "Text. ## Part\n\nMore.\n", "Text.\n\n## Part\n\nMore.\n"),
    ("heading_no_space", "##Part\n\nMore.\n", "## Part\n\nMore.\n"),
    ("heading_duplicated", "## Part\n\n## Part\n\nMore.\n", "## Part\n\nMore.\n"),
    ("heading_fragment_dup", "## Part th\n\n## Part three\n\nMore.\n", "## Part three\n\nMore.\n"),
    ("paragraph_fragment_dup", "It was a dark and sto\n\nIt was a dark and stormy night.\n", "It was a dark and stormy night.\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "rule", "broken", "mended"),
    [(kind, *case) for kind, cases in (("table", TABLES), ("list", LISTS), ("mixed", PAGES)) for case in cases],
)  # fmt: skip
def test_a_fault_is_mended_by_its_rule(kind: str, rule: str, broken: str, mended: str) -> None:
    report = repair(broken, kind)
    assert report.text == mended
    assert rule in {part for edit in report.edits for part in edit.rule.split("+")}
    assert repair_text(mended, kind) is mended


@pytest.mark.parametrize(
    "broken",
    [
        "> | a | b |\n> |---|\n> | 1 | 2 |\n",
        "- item\n\n  | a | b |\n  |---|\n  | 1 | 2 |\n",
        "1. x\n   | a | b |\n   |---|\n   | 1 | 2 |\n2. y\n",
    ],
)
def test_tables_in_quotations_and_items_are_mended_where_they_stand(broken: str) -> None:
    assert repair_text(broken, "mixed") == broken.replace("|---|", "|---|---|")


SOUND = [
    "- a\n - b\n- c\n",
    "A | B\n",
    "a | b\n--- | ---\n– | x\n– | y\nz | –\n",
    "- term - dash - dash\n- other\n",
    "| not a table\n",
    "|x| is the absolute value of x.\n",
    "Term: value\nOther: value | more\n",
    "2019 was fine. 3 of 4 agreed.\n",
    "#hashtag is no heading\n",
    "-5 degrees and -x flags\n",
    "1986. A year.\n1990. Another year.\n2001. One more.\n",
    "1. a\n1. b\n1. c\n",
    "10. a\n20. b\n30. c\n",
    "3. a\n2. b\n1. c\n",
    "0. zero\n1. one\n",
    "* a\n\n- b\n",
    "- a\n- \n- c\n",
    "- [ ] open\n- [link](https://example.org)\n",
    "- see [1] and [x](y)\n- [ ] task\n",
    "3. Upgrade from version 4. Then go on.\n4. Done.\n",
    "- `- a` and `1. b`\n- A 2. B\n",
    "Text with `## no heading` and a # sign.\n",
    "C# and F# are languages. Use `#` here.\n",
    "| a | b |\n| - | - |\n| - | - |\n| - | x |\n",
    "| a | b |\n|---|---|\n|  |  |\n| x || \n",
    "| a |\n|---|\n| 1 |\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "| same | same |\n|---|---|\n| same | same |\n| same | same |\n",
    "1. x\n   | a | b |\n   |---|---|\n   | 1 | 2 |\n2. y\n",
    "Fill the [MASK] in this sentence.\n",
    "| token | use |\n|---|---|\n| `[MASK]` | filled in |\n",
    "- Cat\n- Catalogue\n- Add\n- Add more\n",
    "├── a\n│   ├── b\n│   └── c\n└── d\n",
    "    | code | block |\n    |---|\n",
    "<table>\n<tr><td>1 | 2</td></tr>\n- x\n* y\n</table>\n",
    "$$\n|x| + |y|\n$$\n",
    "---\na: [1, 2\nb: - x\n---\n\nText\n",
    "Title\n-----\n\n- a\n",
    "````md\n```py\nx\n```\n````\n",
    "- a\n\n      - code in an item\n",
    "Options:\n- `-v` be loud\n- `-q` be quiet\n",
    "a\n***\nb\n",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["mixed", "auto"])
@pytest.mark.parametrize("text", SOUND)
def test_sound_text_that_looks_odd_is_left_alone(text: str, kind: str) -> None:
    assert repair_text(text, kind) is text


def test_the_documentation_names_every_rule_and_no_other() -> None:
    root = Path(__file__).resolve().parents[3]
    page = (root / "docs/repair.md").read_text(encoding="utf-8")
    part = page[page.index("## What is repaired") : page.index("## What is never done")]
    named = set(re.findall(r"`([a-z_]+)`", part))
    code = "".join(
        path.read_text(encoding="utf-8") for path in (root / "runtime/repair").rglob("*.py")
    )
    assert named - set(re.findall(r'"([a-z_]+)"', code)) == set()
    assert set(REASONS) - named == set()
    tested = {rule for rule, *_ in [*TABLES, *LISTS, *PAGES]}
    assert tested - named == set()
