"""LangExtract on an OpenAI-compatible server: run by `benchmarks.job_engines` with the python of its own environment.

Takes a JSON file (address, rows, examples, concurrency, max_tokens) and prints JSON: seconds, cpu_s, answers. A field
is an extraction class; the text that was extracted for it is its value, the first one where there are several.
"""

import contextlib
import json
import sys
import time
from importlib.metadata import version

import langextract as lx
from langextract.providers.openai import OpenAILanguageModel
from langextract.providers.schemas.openai import OpenAISchema


def main() -> None:
    asked = json.load(open(sys.argv[1], encoding="utf-8"))  # noqa: SIM115
    fields = list(asked["rows"][0]["gold"])
    examples = [_example(row) for row in asked["examples"]]
    model = OpenAILanguageModel(
        model_id="gpt-4o-mini",  # a name: the server has one model
        api_key="none",
        base_url=f"{asked['address']}/v1",
        temperature=0,
        max_workers=asked["concurrency"],
        openai_schema=OpenAISchema.from_examples(examples),
        max_output_tokens=asked["max_tokens"],
    )
    documents = [
        lx.data.Document(text=row["input"], document_id=row["id"]) for row in asked["rows"]
    ]
    began, cpu = time.perf_counter(), time.process_time()
    error = None
    found = {}
    with contextlib.redirect_stdout(sys.stderr):
        try:
            results = lx.extract(
                text_or_documents=documents,
                prompt_description=f"Extract the fields {', '.join(fields)} in the words of the text.",
                examples=examples,
                model=model,
                max_workers=asked["concurrency"],
                batch_length=asked["concurrency"],
                max_char_buffer=6000,
                resolver_params={"suppress_parse_errors": True},
                show_progress=False,
            )
            for result in results:
                found[result.document_id] = _answer(result, fields)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"[:300]
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    answers = [found.get(row["id"]) for row in asked["rows"]]
    more = {"version": version("langextract"), "error": error}
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "answers": answers, "more": more}))


def _example(row):
    extractions = [
        lx.data.Extraction(extraction_class=name, extraction_text=str(value))
        for name, value in row["gold"].items()
        if value is not None
    ]
    return lx.data.ExampleData(text=row["input"], extractions=extractions)


def _answer(result, fields):
    """None where nothing was extracted: the reply did not parse."""
    answer = dict.fromkeys(fields)
    for one in result.extractions or ():
        if one.extraction_class in answer and answer[one.extraction_class] is None:
            answer[one.extraction_class] = one.extraction_text
    return answer if result.extractions else None


if __name__ == "__main__":
    main()
