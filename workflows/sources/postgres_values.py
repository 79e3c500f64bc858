"""Values of PostgreSQL that Python has no room for: they stand in their row as what is wrong with them, so that only
who asks for one fails. The driver would end the whole query."""

from __future__ import annotations

from typing import Any

from carrara.workflows.sources.record import NoRoom

_KINDS = (
    "date", "timestamp", "timestamptz", "time", "timetz",  # infinity, years before 1 or after 9999, 24:00
    "interval",  # more than 999,999,999 days
    "json", "jsonb",  # numbers of thousands of digits, too deeply nested
)  # fmt: skip


def load_what_fits(connection: Any) -> None:
    """Make this connection of psycopg give NoRoom for values that it cannot load, also within arrays."""
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    def careful(usual: type[Any], kind: str) -> type[Loader]:
        class Careful(Loader):
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._load = usual(oid, context).load

            def load(self, data: Any) -> Any:
                try:
                    return self._load(data)
                except (connection.DataError, ValueError, OverflowError, RecursionError) as error:
                    return NoRoom(kind, " ".join(str(error).split())[:200])

        return Careful

    for kind in _KINDS:
        oid = connection.adapters.types[kind].oid
        usual = connection.adapters.get_loader(oid, Format.TEXT)
        if usual is not None:
            connection.adapters.register_loader(oid, careful(usual, kind))


__all__ = ["load_what_fits"]
