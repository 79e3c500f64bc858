"""Pipelines in YAML: the same workflows as in Python, declared. See `docs/yaml.md` for the language.

from carrara.workflows.yaml import load
pipeline = load("cookbook.yaml")
result = await carrara.run(pipeline.workflow, text=recipe)
"""

from carrara.workflows.yaml.dump import dumps
from carrara.workflows.yaml.load import Pipeline, check, load, loads
from carrara.workflows.yaml.mistakes import Mistake, PipelineError

__all__ = ["Mistake", "Pipeline", "PipelineError", "check", "dumps", "load", "loads"]
