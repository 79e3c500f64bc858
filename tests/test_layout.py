"""The three code folders keep their one import name and their order of layers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "engines": {"engines"},
    "runtime": {"runtime", "engines"},
    "workflows": {"workflows", "runtime", "engines"},
}


def imported_modules(path: Path) -> set[str]:
    """Dotted names of every module that the file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layer_imports_only_what_lies_below(layer: str) -> None:
    for path in sorted((ROOT / layer).rglob("*.py")):
        for name in imported_modules(path):
            head, _, rest = name.partition(".")
            assert head not in MAY_IMPORT, f"{path.name} imports plain {name!r}"
            if head == "carrara":
                assert rest.split(".")[0] in MAY_IMPORT[layer], f"{path}: {name}"


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_package_holds_a_link_to_each_folder(layer: str) -> None:
    link = ROOT / "carrara" / layer
    assert link.is_symlink(), (
        f"{link} is no link: run `git config core.symlinks true`, check out again"
    )
    assert link.resolve() == ROOT / layer
