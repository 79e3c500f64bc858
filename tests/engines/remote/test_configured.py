"""Engines are named in carrara.toml, in a pipeline or by a preset's own name; what is wrong is told with its place."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines import registry
from carrara.engines.errors import LoadingError
from carrara.engines.facts import Price
from carrara.engines.remote.configured import defined
from carrara.engines.remote.preset import Preset, presets, read_preset
from carrara.engines.remote.probe import preset_text
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.yaml import dumps, load, loads


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable in ("CARRARA_CONFIG", "OPENAI_API_KEY", "MINE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def configure(text: str) -> None:
    Path("carrara.toml").write_text(text)


def standing(name: str) -> registry.Availability:
    return next(one for one in registry.availability() if one.name == name)


def test_every_preset_is_an_engine_and_says_what_it_lacks() -> None:
    named = {one.name for one in registry.availability()}
    assert set(presets()) <= named
    assert {
        "openai",
        "anthropic",
        "gemini",
        "mercury",
        "sglang",
        "ollama",
        "llamacpp-server",
    } <= named
    assert not standing("openai").ok
    assert "OPENAI_API_KEY is not set" in standing("openai").line
    assert "export OPENAI_API_KEY" in standing("openai").fix
    assert "no model is named" in standing("gemini-diffusion").line


def test_the_page_on_engines_names_every_engine_and_every_key_of_a_preset() -> None:
    page = (Path(__file__).parents[3] / "docs" / "engines.md").read_text()
    for name in (*registry.KINDS, *presets()):
        assert f"`{name}`" in page, name
    for key in fields(Preset):
        assert key.name in ("name", "title", "checked") or f"`{key.name}`" in page, key.name


def test_a_key_in_the_environment_makes_a_service_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-12345678")
    assert standing("openai").ok
    assert "sk-12345678" not in standing("openai").line


def test_an_engine_of_the_configuration_is_opened_by_its_name() -> None:
    configure('[engines.fast]\npreset = "vllm-server"\nmodel = "m"\nbase_url = "http://box:9/v1"\n')
    engine = registry.open_engines(["fast"])["fast"]
    assert engine.name == "fast"
    assert "m at http://box:9/v1" in engine.health().line
    assert standing("fast").ok
    assert registry.known("fast") == "fast"


def test_a_local_server_that_is_not_up_says_so(net: Any) -> None:
    async def up() -> registry.Availability:
        async with net.Server([net.stall]) as server:
            configure(f'[engines.near]\npreset = "ollama"\nbase_url = "{server.url}"\n')
            assert (await asyncio.to_thread(standing, "near")).ok
            await server.met.wait()  # a server that closes drops what it is just accepting
        return standing("near")

    found = asyncio.run(up())
    assert (found.ok, found.line.startswith("nothing listens at http://127.0.0.1:")) == (
        False,
        True,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[engines.x]\npreset = 'opnai'",
            r"carrara.toml: engines.x: no preset is called 'opnai'. Did you mean",
        ),
        (
            "[engines.x]\npreset = 'openai'\nmodle = 'm'",
            "unknown key 'modle'. Did you mean 'model'",
        ),
        ("[engines.x]\npreset = 'openai'\nmodel = 3", "model takes str, got 3"),
        ("[engines.x]\npreset = 'openai'\nstream = 1", "stream takes bool"),
        ("[engines.x]\npreset = 'openai'\nschema = 'all'", "schema is one of none, object"),
        ("[engines.x]\npreset = 'openai'\nprice = {input = 'x'}", "price.input is a number"),
        ("[engines.x]\npreset = 'openai'\ntimeouts = {all = 1}", "timeouts holds connect_s"),
        ("[engines.x]\npreset = 'openai'\nheaders = 3", "headers is a table"),
        ("[engines.x]\npreset = 'openai'\napi_key = 'sk'", "a key does not belong into a file"),
        ("[engines.x]\npreset = 3", "preset is a name"),
        *(
            (
                f"[engines.x]\npreset = 'openai'\nheaders = {{ {name} = 'secret' }}",
                f"engines.x: headers: {name}: a key does not belong into a file; name a variable with key_env",
            )
            for name in (
                "authorization",
                "Authorization",
                "X-API-Key",
                "api-key",
                "X-Auth-Token",
                "Cookie",
                "X-Client-Secret",
                "Ocp-Apim-Subscription-Key",
                "apikey",
            )
        ),
        *(
            (
                f"[engines.x]\npreset = 'openai'\nbody = {{ {field} = 'secret' }}",
                f"engines.x: body: {field.rpartition('.')[2]}: a key does not belong into a file",
            )
            for field in ("api_key", "apiKey", "access_token", "extra.headers.Authorization")
        ),
        *(
            (
                f"[engines.x]\npreset = 'openai'\nbody = {{ {field} = 3 }}",
                f"engines.x: body: {field}: each call says that itself",
            )
            for field in ("model", "messages", "max_tokens", "max_completion_tokens", "stream")
        ),
        (
            "[engines.x]\npreset = 'openai'\nkey_header = 'X-Gate'\nheaders = { x-gate = 'secret' }",
            "engines.x: headers: X-Gate: a key does not belong into a file",
        ),
        (
            "[engines.x]\npreset = 'openai'\nkey_header = 'api-key: sk-123'",
            "key_header is the name of a header, such as api-key",
        ),
        ("[engines.x]\npreset = 'openai'\nkey_header = 'Host'", "Host says something else"),
        (
            "[engines.x]\npreset = 'openai'\nkey_env = 'sk-123'",
            "key_env is the name of an environment variable",
        ),
        ("[engines.x]\npreset = 'openai'\nheaders = {a = 3}", "headers: a takes a string"),
        *(
            (
                f"[engines.x]\npreset = 'openai'\nheaders = {{a = \"{value}\"}}",
                "engines.x: headers: a: the value of a header is one line of plain ASCII",
            )
            for value in ("b\\nc", "b\\r", "ü")
        ),
        (
            "[engines.x]\npreset = 'openai'\nheaders = {'a b' = 'c'}",
            "engines.x: headers: 'a b' is no name of a header",
        ),
        *(
            (f"[engines.'{name}']\npreset = 'openai'", f"no engine can be called '{name}'")
            for name in ("auto", "a,z", " a", "")
        ),
        ("[engines.x]\npreset = 'openai'\nconcurrency = 0", "concurrency is at least 1, got 0"),
        ("[engines.x]\npreset = 'openai'\ncontext_tokens = 0", "context_tokens is at least 1"),
        ("[engines.x]\npreset = 'openai'\ntimeouts = {read_s = 0}", "timeouts.read_s is above 0"),
        ("[engines.x]\npreset = 'openai'\nprice = {input = -1}", "price.input is at least 0"),
        ("[engines.x]\npreset = 'openai'\nprice = {as_of = 2026}", "price.as_of is a string"),
        ("[engines.x]\npreset = 'openai'\nbase_url = 'box:80/v1'", "base_url is an http(s) URL"),
        ("[engines.x]\npreset = 'openai'\nbase_url = 'https:///v1'", "base_url is an http(s) URL"),
        ("[engines.x]\npreset = 'openai'\nbase_url = 'http://a b/v1'", "it holds no white space"),
        (
            "[engines.x]\npreset = 'openai'\nbase_url = 'https://me:secret@host/v1'",
            "engines.x: base_url holds no user, password or query",
        ),
        (
            "[engines.x]\npreset = 'openai'\nbase_url = 'https://host/v1?key=secret'",
            "with key_env: https://host/v1",
        ),
        ("[engine.x]\npreset = 'openai'", "carrara.toml: unknown key 'engine'"),
        ("[engines]\nx = 3", "an engine is a table"),
        ("engines = 3", "a table of engines"),
        ("[engines.x", "is no TOML"),
        ("[engines.ar]\npreset = 'openai'", "called 'ar', like one in this process"),
        ("[engines.x]\npreset = 'gone.toml'", "gone.toml: cannot be read"),
    ],
)
def test_a_wrong_configuration_is_told_with_file_engine_and_key(text: str, words: str) -> None:
    configure(text)
    with pytest.raises(LoadingError) as caught:
        registry.kinds_by_name()
    assert words in str(caught.value)
    told = str(caught.value)
    assert "sk" not in told.replace("ask", "")
    assert "secret" not in told
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[local]\nquik = true", "carrara.toml: local: unknown key 'quik'"),
        ("[local]\nquick = 'yes'", "carrara.toml: local.quick is true or false, got 'yes'"),
        ("local = true", "carrara.toml: local: got True: it is a table that holds `quick`"),
    ],
)
def test_how_local_models_compute_is_configured_in_known_words(text: str, words: str) -> None:
    configure(text)
    setting = registry.Setting()
    with pytest.raises(LoadingError) as caught:
        setting.model  # noqa: B018 - the model is named when it is first asked for
    assert words in str(caught.value)


def test_a_configuration_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.kinds_by_name()
    monkeypatch.setenv("CARRARA_CONFIG", "gone.toml")
    with pytest.raises(LoadingError, match=r"gone.toml: there is no such file, and CARRARA_CONFIG"):
        registry.kinds_by_name()


def test_another_model_or_place_has_no_price_unless_one_is_given() -> None:
    def price_of(**changes: Any) -> Any:
        return defined("x", {"preset": "openai", **changes}, "x").price

    asked = presets()["openai"].price
    assert asked is not None
    assert price_of(model="gpt-4o", context_tokens=9) == asked
    assert price_of(model="gpt-4o-mini") is None
    assert price_of(base_url="https://llm.example.com/v1") is None
    assert price_of(model="gpt-4o-mini", price={"input": 0.2}) == Price(0.2)


def test_a_preset_written_is_the_preset_read(here: Path) -> None:
    for known in presets().values():
        path = here / f"{known.name}.toml"
        path.write_text(preset_text(known, "A test."))
        assert read_preset(path) == known


def test_a_preset_file_without_an_address_is_refused(here: Path) -> None:
    (here / "x.toml").write_text('title = "X"\n')
    with pytest.raises(LoadingError, match="needs a base_url"):
        read_preset(here / "x.toml")


PIPELINE = """
name: p
engines:
  fast: {preset: mine.toml, model: m2, key_env: MINE, concurrency: 3}
policy:
  rules: [{engines: [diffusion, fast]}]
steps:
  mood: {llm: "Which?", returns: {one_of: [glad, sad]}}
outputs: {mood: "{{ mood }}"}
"""


def test_a_pipeline_brings_its_own_engine_which_answers_after_diffusion(
    net: Any, here: Path
) -> None:
    (here / "deep").mkdir()
    path = here / "deep" / "p.yaml"
    path.write_text(PIPELINE)

    async def main() -> Any:
        async with net.Server([net.answer(net.chat('"sad"'))]) as server:
            mine = Preset("mine", "Mine", server.url, schema="full", key_required=False)
            (here / "deep" / "mine.toml").write_text(preset_text(mine, "x"))
            pipeline = load(path)
            definitions = pipeline.definition.servers
            plain = replace(pipeline.definition, policy=None)
            assert load(_rewritten(here, dumps(plain))).definition.servers == definitions
            remote = registry.open_engines(["fast"], definitions=definitions)["fast"]
            unsure = ScriptedEngine("diffusion", ["glad"], confidence=0.1)
            result = await carrara.run(
                pipeline.workflow, engines={"diffusion": unsure, "fast": remote}
            )
            return result.value, server.asked[0].body["model"]

    assert asyncio.run(main()) == ({"mood": "sad"}, "m2")


def test_a_pipeline_names_the_header_that_carries_its_key() -> None:
    text = PIPELINE.replace("preset: mine.toml", "preset: openai, key_header: api-key")
    definition = loads(text).definition
    assert definition.servers["fast"]["key_header"] == "api-key"
    assert loads(dumps(definition)).definition.servers == definition.servers


def test_a_pipeline_gives_its_engine_a_price() -> None:
    text = PIPELINE.replace("preset: mine.toml", "preset: openai, price: {input: 0.2, output: 1}")
    path = Path("priced.yaml")
    path.write_text(text)
    pipeline = load(path)
    servers = pipeline.definition.servers
    engine: Any = registry.open_engines(["fast"], definitions=servers)["fast"]
    assert engine.facts.price == Price(0.2, None, 1.0)
    assert loads(dumps(pipeline.definition)).definition.servers == servers


def _rewritten(here: Path, text: str) -> Path:
    path = here / "deep" / "again.yaml"
    path.write_text(text)
    return path


def test_a_step_that_names_a_service_has_it_opened(
    net: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'steps:\n  a: {llm: "Hi", engine: openai}\noutputs: {a: "{{ a }}"}\n'
    (here / "q.yaml").write_text(text)
    monkeypatch.setattr("carrara.workflows.engine_room.DEFAULT_ENGINES", ())

    async def main() -> Any:
        async with net.Server([net.answer(net.chat("Hello"))]) as server:
            mine = presets()["openai"].but({"base_url": server.url, "key_required": False}, "t")
            monkeypatch.setattr(registry, "all_presets", lambda: {"openai": mine})
            async with carrara.session() as session:
                first = await session.run(carrara.load_workflow("q.yaml"))
                return first.value, json.loads(json.dumps(server.asked[0].body))["model"]

    assert asyncio.run(main()) == ({"a": "Hello"}, "gpt-4o")


def test_what_only_sounds_like_a_key_may_be_added_to_every_call() -> None:
    headers = {"anthropic-version": "1", "X-Title": "t", "X-Cache-Key": "a", "X-Author": "me"}
    body = {"prompt_cache_key": "a", "stop_token_ids": [1], "tokenizer": "t", "min_tokens": 3}
    made = defined("x", {"preset": "openai", "headers": headers, "body": body}, "here")
    assert (made.headers, made.body) == (headers, body)
