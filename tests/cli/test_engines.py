"""`carrara engines` and `carrara serve` as commands, and engines chosen on the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Server(ThreadingHTTPServer):
    """Speaks a little of the OpenAI wire format; `asked` are the bodies that came, those with the key
    `broken` get a 503. Answers wait until it is `free`."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Answers)
        self.asked: list[Any] = []
        self.broken = ""
        self.free = threading.Event()
        self.free.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.give(200, {"data": [{"id": "tiny", "max_model_len": 2048}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.free.wait()
        if body.get(self.server.broken):
            self.give(503, {"error": {"message": "worker died"}}, {"Retry-After": "0"})
            return
        if self.path != "/v1/chat/completions" or "structured_outputs" in body:
            self.give(404, {"error": {"message": "not here"}})
            return
        text = '{"answer": "glad"}' if "response_format" in body else "Hello!"
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        self.give(200, {"choices": [choice], "model": "tiny"})

    def give(self, status: int, data: Any, more: Mapping[str, str] = {}) -> None:
        raw = json.dumps(data).encode()
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    with Server(port) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def test_a_server_is_probed_and_its_preset_answers_a_run(shell: Any, server: Server) -> None:
    found = shell("engines", "probe", server.url, "--output", "tiny.toml")
    assert (found.code, found.out) == (0, "tiny.toml\n")
    assert "no schemas, but JSON" in found.err
    preset = shell.read("tiny.toml")
    assert 'model = "tiny"' in preset
    assert "context_tokens = 2048" in preset
    assert shell("engines", "probe", server.url, "--output", "tiny.toml").code == 2
    shell.write("carrara.toml", '[engines.tiny]\npreset = "tiny.toml"\nschema = "strict"\n')
    ended = shell("run", "greet.yaml", "--set", "name=Ada", "--engine", "tiny", "-q")
    assert ended.data == {"greeting": "Hello!", "mood": "glad"}
    listed = shell("engines")
    assert "tiny" in listed.out


def test_an_engine_without_a_key_fails_with_what_to_do(shell: Any) -> None:
    ended = shell(
        "run",
        "greet.yaml",
        "--set",
        "name=Ada",
        "--engine",
        "openai",
        "-q",
        env={"OPENAI_API_KEY": ""},
    )
    assert ended.code != 0
    assert "OPENAI_API_KEY" in ended.err
    assert len(ended.errors) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "greet.yaml", "--engine", "opnai"], "Did you mean 'openai'?"),
        (["run", "greet.yaml", "--engine", "diffusion,opnai"], "Did you mean 'openai'?"),
        (
            ["engines", "probe", "http://127.0.0.1:9/v1", "--output", "x.json"],
            "a preset is a .toml file",
        ),
        (
            ["engines", "probe", "http://me:hush@127.0.0.1:9/v1"],
            "base_url holds no user, password or query",
        ),
        (["engines", "probe", "http://127.0.0.1:9/v1?key=hush"], "with key_env"),
        (["engines", "probe", "http://127.0.0.1:99999/v1"], "a port is a number from 1 to 65535"),
        (["engines", "probe", "127.0.0.1:8000/v1"], "it begins with http:// or https://"),
        (["engines", "probe", "http://[::1/v1"], "an IPv6 address stands in brackets"),
        (["engines", "probe", "http://::1/v1"], "an IPv6 address stands in brackets"),
        (["engines", "probe", "http:///v1"], "it names no host"),
        (["engines", "probe", "http://h/v1", "-o", "my box.toml"], "a preset's name has letters"),
        (["engines", "probe", "http://h/v1", "-o", "ar.toml"], "an engine of this process"),
        (["engines", "probe", "http://h/v1", "-o", "greet.yaml/x.toml"], "cannot write"),
        (["engines", "probe", "http://h/v1", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["engines", "probe", "http://h/v1", "--key-env", "sk-hush"], "name of an environment"),
        (["engines", "probe", "http://h/v1", "--key-header", "api-key: hush"], "name of a header"),
        (["serve", "--host", "0.0.0.0"], "set CARRARA_API_KEY"),
        (["serve", "--engine", "opnai"], "Did you mean 'openai'?"),
    ],
)
def test_a_wrong_call_is_told(shell: Any, words: list[str], told: str) -> None:
    ended = shell(*words, env={"CARRARA_API_KEY": ""})
    assert ended.code == 2
    assert told in ended.err
    assert "hush" not in ended.err


OWN = """
name: own
engines:
  mine: {preset: carrara-server, base_url: "URL", model: tiny}
inputs: {text: str}
steps:
  said: {llm: "Say {{ inputs.text }}"}
outputs: {said: "{{ said }}"}
"""


@pytest.mark.parametrize(
    "words",
    [
        ["run", "own.yaml", "--set", "text=x", "-q"],
        ["run", "own.yaml", "--input", "rows.jsonl", "--output", "out.jsonl", "-q"],
        ["run", "own.yaml", "--input", "rows.jsonl", "--dry-run", "-q"],
        ["eval", "own.yaml", "rows.jsonl", "-q"],
        ["plan", "own.yaml"],
    ],
)
def test_an_engine_of_the_pipeline_can_be_named(
    shell: Any, server: Server, words: list[str]
) -> None:
    shell.write("own.yaml", OWN.replace("URL", server.url))
    shell.write("rows.jsonl", '{"text": "x", "gold": "Hello!"}\n')
    ended = shell(*words, "--engine", "mine")
    assert ended.code == 0, ended.err
    assert "mine" in ended.out if words[0] == "plan" else server.asked
    wrong = shell(*words, "--engine", "mime")
    assert wrong.code == 2
    assert "unknown engine 'mime'. Did you mean 'mine'?" in wrong.err


def test_a_job_on_a_dead_server_stops_at_once_and_goes_on_when_it_is_back(shell: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shell.write("own.yaml", OWN.replace("URL", f"http://127.0.0.1:{port}/v1"))
    shell.write("rows.jsonl", '{"text": "x"}\n' * 500)
    words = ["run", "own.yaml", "--engine", "mine", "-i", "rows.jsonl", "-o", "out.jsonl"]
    ended = shell(*words)
    assert ended.code == 1
    assert re.search(r"0 rows in out.jsonl, 0 failed, \d+ begun and still open, ", ended.err)
    assert "stopped early, no engine could answer (start it, or name another" in ended.err
    assert "Is the server running?" in ended.err
    assert "`carrara resume " in ended.err
    (listed,) = shell("runs", "--json").data
    assert (listed["status"], listed["failures"] > 0) == ("interrupted", True)
    assert "no engine could answer" in listed["error"]
    told = shell("report").out
    assert "It stopped early, no engine could answer" in told
    assert f"`carrara resume {listed['run_id']}` goes on from there" in told
    assert "Slowest records" not in told  # all of them are still open
    assert shell("report", "-o", "r.html").code == 0
    assert "stopped early: no engine could answer" in shell.read("r.html")
    assert "it was interrupted, no engine could answer" in shell("show").out
    with serving(port) as server:
        again = shell("resume", "last", "--engine", "mine", "-q")
        assert again.code == 0, again.err
        assert "500 rows in out.jsonl, 0 failed" in again.err
        assert len(server.asked) >= 1
    (listed,) = shell("runs", "--json").data
    assert (listed["status"], listed["failures"]) == ("done", 0)
    assert " in 2 openings, steps of the last: " in shell("show").out


def test_engines_that_cannot_be_opened_are_told_and_not_served(shell: Any, server: Server) -> None:
    keyless = {"OPENAI_API_KEY": ""}
    none = shell("serve", "--engine", "openai", env=keyless)
    assert none.code == 2
    assert none.errors == [line for line in none.errors if "export OPENAI_API_KEY" in line]
    shell.write(
        "carrara.toml",
        f'[engines.tiny]\npreset = "ollama"\nbase_url = "{server.url}"\nmodel = "tiny"\n',
    )
    command = [sys.executable, "-m", "carrara", "serve", "--port", "0"]
    command += ["--engine", "openai", "--engine", "tiny"]
    child = subprocess.Popen(
        command,
        cwd=shell.folder,
        env={**shell.environment, **keyless},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert child.stderr is not None
        told = []
        while "serving openai, tiny" not in (line := child.stderr.readline()):
            assert line, told
            told.append(line)
        assert "openai: not open: engine 'openai' needs a key" in told[0]
    finally:
        os.kill(child.pid, signal.SIGINT)
        child.wait(timeout=60)
        child.stderr.close()


def test_a_wrong_configuration_is_told_once(shell: Any) -> None:
    shell.write("carrara.toml", '[engines.x]\npreset = "opnai"\n')
    ended = shell("run", "greet.yaml", "--set", "name=Ada", "--engine", "x")
    assert ended.code == 2
    assert "carrara.toml: engines.x: no preset is called 'opnai'" in ended.err
    listed = shell("engines")
    assert (listed.code, listed.errors) == (2, ended.errors)


def test_serving_forwards_to_an_engine_and_ends_by_ctrl_c(shell: Any, server: Server) -> None:
    port = _to_serve_tiny(shell, server)
    command = [sys.executable, "-m", "carrara", "serve", "--engine", "tiny", "--port", str(port)]
    child = subprocess.Popen(
        command,
        cwd=shell.folder,
        env={**shell.environment, "CARRARA_API_KEY": "a-token-for-clients"},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert child.stderr is not None
        while b"serving tiny" not in (line := child.stderr.readline()):
            assert line, "it ended before it served"
        shell.write("far.toml", f'base_url = "http://127.0.0.1:{port}/v1"\nkey_env = "FAR_KEY"\n')
        shell.write(
            "carrara.toml",
            '[engines.far]\npreset = "far.toml"\nmodel = "tiny"\nschema = "strict"\n',
        )
        wanted = {"FAR_KEY": "a-token-for-clients"}
        words = ("run", "greet.yaml", "--set", "name=Ada", "--engine", "far", "-q")
        ended = _until_up(shell, words, wanted)
        assert ended.data == {"greeting": "Hello!", "mood": "glad"}
        assert shell(*words, env={"FAR_KEY": "wrong-wrong-wrong"}).code != 0
    finally:
        os.kill(child.pid, signal.SIGINT)
        child.wait(timeout=60)
        child.stderr.close()
    assert server.asked


def test_ctrl_c_tells_of_answers_under_way_and_does_not_wait_for_ever(
    shell: Any, server: Server
) -> None:
    port = _to_serve_tiny(shell, server)
    server.free.clear()
    child = subprocess.Popen(
        [sys.executable, "-m", "carrara", "serve", "--engine", "tiny", "--port", str(port)],
        cwd=shell.folder,
        env=shell.environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    asked = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(asked)}\r\n\r\n"
    try:
        with _connected(port) as client:
            client.sendall(head.encode() + asked)
            while not server.asked:
                time.sleep(0.02)
            os.kill(child.pid, signal.SIGINT)
            told = child.communicate(timeout=60)[1]
        assert "stopping: the answer under way may go on for 5 s" in told
        assert "interrupted" in told
    finally:
        server.free.set()
        child.kill()
        child.wait()


def _to_serve_tiny(shell: Any, server: Server) -> int:
    """A port that is free; the engine `tiny` is configured."""
    shell.write(
        "carrara.toml",
        f'[engines.tiny]\npreset = "ollama"\nbase_url = "{server.url}"\nmodel = "tiny"\n',
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _connected(port: int) -> socket.socket:
    """A connection to a server that is starting."""
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError("nothing listens")


def _until_up(shell: Any, words: tuple[str, ...], env: dict[str, str]) -> Any:
    """The server binds its port just after it has told so."""
    for _ in range(20):
        ended = shell(*words, env=env)
        if "Is the server running?" not in ended.err:
            return ended
    return ended


@pytest.mark.parametrize(
    "words", [["--engine", "tiny, small"], ["--engine", "tiny", "--engine", "small"]]
)
def test_calibrate_takes_candidates_with_commas_or_one_by_one(
    shell: Any, server: Server, words: list[str]
) -> None:
    table = f'preset = "ollama"\nbase_url = "{server.url}"\nmodel = "tiny"\nschema = "strict"\n'
    shell.write("carrara.toml", f"[engines.tiny]\n{table}[engines.small]\n{table}")
    shell.write(
        "mood.yaml",
        'inputs: {name: str}\nsteps:\n  mood: {llm: "{{ name }}?", returns: {one_of: [glad, sad]}}\n',
    )
    rows = [{"name": f"n{number}", "gold": "glad"} for number in range(20)]
    shell.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    call = ("calibrate", "mood.yaml", "rows.jsonl", "--target", "accuracy=1", "--holdout", "0")
    ended = shell(*call, *words)
    assert ended.code == 0, ended.err
    assert "tiny -> small" in ended.out
    assert "- tiny\n" in shell.read("policy.yaml") or "- small\n" in shell.read("policy.yaml")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "rows.jsonl"], "rows.jsonl is the file of the rows; it is not replaced"),
        (["-o", "mood.yaml"], "mood.yaml is the file of the workflow; it is not replaced"),
        (["--plot", "x.yaml"], "cannot draw x.yaml: a picture's name ends with .png"),
        (["--plot", "rows.jsonl/x.png"], "cannot write rows.jsonl/x.png: "),
        (["--plot", "x.png", "-o", "x.png"], "--plot and --output are both x.png"),
    ],
)
def test_calibrate_refuses_places_before_it_asks(
    shell: Any, server: Server, words: list[str], told: str
) -> None:
    table = f'preset = "ollama"\nbase_url = "{server.url}"\nmodel = "tiny"\nschema = "strict"\n'
    shell.write("carrara.toml", f"[engines.tiny]\n{table}[engines.small]\n{table}")
    shell.write(
        "mood.yaml",
        'inputs: {name: str}\nsteps:\n  mood: {llm: "{{ name }}?", returns: {one_of: [glad, sad]}}\n',
    )
    rows = [{"name": f"n{number}", "gold": "glad"} for number in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    shell.write("rows.jsonl", text)
    call = ("calibrate", "mood.yaml", "rows.jsonl", "--target", "accuracy=1", "--holdout", "0")
    ended = shell(*call, "--engine", "tiny,small", *words)
    assert (ended.code, len(ended.errors)) == (2, 1), ended.err
    assert told in ended.errors[0]
    assert shell.read("rows.jsonl") == text
    assert not server.asked


def test_calibrate_names_the_candidates_that_it_misses(shell: Any) -> None:
    call = ("calibrate", "greet.yaml", "rows.jsonl", "--target", "accuracy=1", "--engine")
    one = shell(*call, "ar")
    assert (one.code, one.errors) == (
        2, ["error: calibration compares at least two engines: --engine ar,ANOTHER"]
    )  # fmt: skip
    assert "Did you mean 'openai'?" in shell(*call, "ar,opnai").err


def test_a_preset_goes_into_no_folder_and_an_ipv6_address_names_a_file(shell: Any) -> None:
    (shell.folder / "box.toml").mkdir()
    folder = shell("engines", "probe", "http://h/v1", "-o", "box.toml", "--force")
    assert (folder.code, "box.toml is a folder" in folder.err) == (2, True)
    down = shell("engines", "probe", "http://[::1]:9/v1")
    assert (down.code, len(down.errors)) == (1, 1)
    assert "engine '1': no connection to http://[::1]:9/v1" in down.err


def test_what_a_busy_server_does_not_tell_is_named_and_left_out(shell: Any, server: Server) -> None:
    server.broken = "logprobs"
    found = shell("engines", "probe", server.url, "--output", "tiny.toml")
    assert (found.code, found.out) == (0, "tiny.toml\n")
    assert "not found out, and not in the preset: logprobs" in found.err
    assert "--output tiny.toml --force" in found.err
    preset = shell.read("tiny.toml")
    assert "# logprobs: unknown: status 503" in preset
    assert "\nlogprobs" not in preset
