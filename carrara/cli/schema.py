"""`carrara schema`: the JSON Schema of pipeline files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carrara.cli.outcome import usage


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file.")
    ] = None,
) -> None:
    """Print the JSON Schema of YAML pipelines. Editors use it for completion and checks.

    Begin a pipeline with `# yaml-language-server: $schema=FILE` to turn it on.
    """
    from carrara.workflows.yaml.schema import schema_text

    text = schema_text()
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise usage(f"--output: cannot write {output}: {error.strerror}") from error
