"""`carrara serve`: engines behind the OpenAI wire format."""

from __future__ import annotations

import os
from socket import socket
from typing import Annotated

import typer

from carrara.cli.options import QuickOption
from carrara.cli.outcome import finish, note, usage
from carrara.cli.who import engine_names

TOKEN = "CARRARA_API_KEY"
_GRACE_S = 5
"""How long answers that are under way may go on after Ctrl-C."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="The engines to serve, names of `carrara engines`, with commas between or each with its own --engine.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Weights: a name of `carrara models` or a folder.")
    ] = None,
    quick: QuickOption = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at.", min=0, max=65535)] = 8517,
) -> None:
    """Serve engines as /v1/chat/completions. Clients name an engine as the model; auto is the first that is there.

    Beyond loopback, and wherever CARRARA_API_KEY is set, clients need that token.
    """
    token = os.environ.get(TOKEN, "")
    if host not in _LOOPBACK and not token:
        raise usage(f"to listen at {host} set {TOKEN}: whoever reaches the server could use it")
    finish(_serve(engine_names(engine or ("diffusion", "ar")), model, quick, host, port, token))


async def _serve(
    names: tuple[str, ...], model: str | None, quick: bool | None, host: str, port: int, token: str
) -> None:
    from carrara.engines.errors import LoadingError
    from carrara.runtime.routing.outage_memory import OutageMemory
    from carrara.workflows.engine_room import EngineRoom

    try:
        import uvicorn

        from carrara.engines.serving.app import app_of
    except ImportError as error:
        raise LoadingError(
            f"serving needs the package {error.name!r}: pip install 'carrara[serve]'"
        ) from error

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket] | None = None) -> None:
            if count := len(self.server_state.tasks):
                answers = "the answer" if count == 1 else f"the {count} answers"
                note(
                    f"stopping: {answers} under way may go on for {_GRACE_S} s; Ctrl-C again ends at once"
                )
            await super().shutdown(sockets)

    async with EngineRoom(names, model=model, quick=quick) as room:
        await room.open()
        for one in room.values():
            note(one.health().line)
        app = app_of(room, token, room.open, OutageMemory())
        config = uvicorn.Config(
            app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=_GRACE_S
        )
        note(f"serving {', '.join(room)} at http://{host}:{port}/v1")
        await Server(config).serve()
