# ruff: noqa: E501
"""Sound documents to damage: tables, lists, JSON and whole pages, with what makes each of them hard."""

from __future__ import annotations

CLEAN: tuple[tuple[str, str], ...] = (
    ("table", "| Port | Ships | Note |\n| :--- | ---: | --- |\n| Lome | 12 | calm |\n| Tema | 7 |  |\n| Cotonou | 31 | `a \\| b` |\n"),
    ("table", "Name|Year\n---|---\nAda|1843\nGrace|1952\n"),
    ("table", "| 港口 | 船舶    | Größe   |\n| ---- | ------- | ------- |\n| 上海 | twelve  | large   |\n| 天津 | seven   | [a](b)  |\n"),
    ("table", "> | q | r |\n> |---|---|\n> | 1 | 2 |\n> | 3 | 4 |\n"),
    ("list", "1. Warm the oven\n   - to 200 degrees\n   - with the tray inside\n2. Knead the dough\n\n   It should be smooth.\n3. Bake\n"),
    ("list", "- [x] write\n- [ ] check\n  - [x] numbers\n  - [ ] names\n- [ ] send\n"),
    ("list", "* fruit\n    * apple\n        1) red\n        2) green\n    * pear\n* bread\n"),
    ("list", "9. nine\n10. ten\n    ```sh\n    make - all | tee log\n    ```\n11. eleven\n"),
    ("json", '{"name": "Ada", "born": 1815, "fields": ["maths", "engines"], "notes": {"alive": false, "rank": null}}'),
    ("json", '[\n  {\n    "id": 1,\n    "text": "said \\"yes\\", twice",\n    "tags": ["a", "b"]\n  },\n  {\n    "id": 2,\n    "text": "line\\nbreak",\n    "tags": []\n  }\n]\n'),
    ("json", '{"a": {"b": {"c": [[1, 2.5e3], [-4]]}}, "url": "https://example.org/a//b", "中": "：，"}'),
    ("mixed", "# Harbour report\n\nShips came in early. See `a | b` below.\n\n## Figures\n\n| day | ships |\n|---|---|\n| Mon | 3 |\n| Tue | 5 |\n\n```python\nx = {1: 'a'}\n| not | a table |\n```\n\n## Tasks\n\n- paint the pier\n- mend the crane\n  1. order parts\n  2. call Sam\n\nEnd.\n"),
    ("mixed", "---\ntitle: Notes\ntags: [a, b]\n---\n\nIntro text.\n\n> A quote\n> - with an item\n\n<div>\n| raw | html |\n</div>\n\n$$\n|x| - |y|\n$$\n\n1. one\n2. two\n"),
    ("mixed", "Title\n=====\n\n* a\n\n  second paragraph\n\n* b\n\n~~~md\n1. x\n  - y\n~~~\n\n    indented | code\n    - here\n\nLast words.\n"),
)  # fmt: skip
