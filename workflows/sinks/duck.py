"""Tables of DuckDB files; rows go there as Arrow tables, nested lists as lists of structs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import CarraraError
from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.sinks.arrow import INSTALL, need_pyarrow, schema_of, table_of, with_utc
from carrara.workflows.sinks.exact import Form, as_double, has_room, in_utc, within_places
from carrara.workflows.sinks.held import Lock
from carrara.workflows.sinks.lines import check_still
from carrara.workflows.sinks.shape import KEY, PLACES, Shape
from carrara.workflows.sinks.sink import KEPT
from carrara.workflows.sinks.tables import RefusedValues, TableSink
from carrara.workflows.sinks.typed_rows import Row, TypedRows
from carrara.workflows.sources.duck import is_sqlite, quoted, said, sqlite_meant

if TYPE_CHECKING:
    import duckdb

_ROWS = "carrara_rows"
_IN_UTC = "TIMESTAMP WITH TIME ZONE"
_WIDER = {
    "BIGINT": ("HUGEINT", "DOUBLE"),
    "DOUBLE": (),
    "TIMESTAMP": (_IN_UTC,),
    "DATE": ("TIMESTAMP",),
}
"""Types of columns that take values of another type, beside it."""

_PLACES = re.compile(r"DECIMAL\(38,\s*(\d+)\)")
_LOOSE_KEY = re.compile(rf'[(,]\s*"?{KEY}"? VARCHAR COLLATE ("?[\w.]+)', re.IGNORECASE)
"""In the statement by which a table was made: how its keys are compared, where not letter by letter."""


class DuckTable(TableSink):
    """A table in the DuckDB file `path`, which no other process may have open meanwhile."""

    def __init__(
        self,
        path: Path,
        name: str,
        failed: Path,
        rows: TypedRows,
        *,
        lock: Lock,
        flat: bool = False,
    ) -> None:
        need_pyarrow("a DuckDB table")
        try:
            import duckdb  # noqa: F401 - asked for before anything runs
        except ImportError as error:
            raise CarraraError(f"DuckDB tables need the package duckdb: {INSTALL}") from error
        super().__init__(f"duckdb:///{path}#{name}", failed, rows, lock=lock, flat=flat)
        self._path = path
        self._parts = name.split(".")
        self._schema = schema_of(rows.columns)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._opened: os.stat_result

    @property
    def _table(self) -> str:
        return ".".join(map(quoted, self._parts))

    def _open(self) -> None:
        import duckdb

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file() and is_sqlite(self._path):
                raise PlaceError(sqlite_meant(self._path, ".".join(self._parts)))
            self._connection = duckdb.connect(str(self._path))
            columns = ", ".join(
                f"{quoted(name)} {_type(shape)}" + (" PRIMARY KEY" if name == KEY else "")
                for name, shape in self._rows.columns.items()
            )
            if self._is_there():
                self._check(columns)
            else:
                self._connection.execute(f"CREATE TABLE {self._table} ({columns})")
            self._opened = self._path.stat()
        except duckdb.Error as error:
            raise PlaceError(f"{self.shown}: {said(error)}") from error
        except OSError as error:
            raise PlaceError(f"{self.shown}: {error.strerror}") from error

    def _is_there(self) -> bool:
        return bool(self._asked(
            "SELECT 1 FROM information_schema.tables WHERE table_name = ? AND table_schema = ?",
            *self._names,
        ))  # fmt: skip

    @property
    def _names(self) -> tuple[str, str]:
        """The table and its schema."""
        return self._parts[-1], self._parts[0] if len(self._parts) > 1 else "main"

    def _asked(self, query: str, *values: Any) -> list[Any]:
        assert self._connection is not None
        return self._connection.execute(query, list(values)).fetchall()

    def _check(self, columns: str) -> None:
        """Raises PlaceError where rows do not fit the table that is there."""
        self._asked(f"CREATE OR REPLACE TEMP TABLE carrara_wanted ({columns})")
        wanted = {row[0]: row[1] for row in self._asked("DESCRIBE temp.carrara_wanted")}
        self._asked("DROP TABLE temp.carrara_wanted")
        there = {row[0]: row for row in self._asked(f"DESCRIBE {self._table}")}
        wrong = []
        forms: dict[str, Form] = {}
        for name, kind in wanted.items():
            if name not in there:
                wrong.append(f"it has no column {name!r}")
            elif not _fits(kind, there[name][1], self._rows.columns[name]):
                wrong.append(f"its column {name!r} is {there[name][1]}, the rows have {kind}")
            elif (form := _form(kind, there[name][1])) is not None:
                forms[name] = form
        wrong += [
            f"its column {name!r} must be given and the rows have none"
            for name, (_, _, null, _, default, *_) in there.items()
            if name not in wanted and null == "NO" and default is None
        ]
        unique = self._asked(
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE table_name = ? AND schema_name = ?"
            " AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')",
            *self._names,
        )
        if KEY in there and [KEY] not in [list(names) for (names,) in unique]:
            wrong.append(f"its column {KEY!r} is neither its primary key nor unique")
        made = self._asked(
            "SELECT sql FROM duckdb_tables() WHERE table_name = ? AND schema_name = ?", *self._names
        )
        loose = _LOOSE_KEY.search(made[0][0]) if made else None
        if loose is not None:
            wrong.append(
                f"its column {KEY!r} has the collation {loose[1]}, to which keys that differ are the same"
            )
        if wrong:
            raise PlaceError(
                f"{self.shown}: the table is there and does not fit: {'; '.join(wrong)}. "
                "Name another table, or change this one."
            )
        self._forms = forms
        moments = [name for name, kind in there.items() if kind[1] == _IN_UTC and name in wanted]
        self._schema = with_utc(self._schema, moments)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        import duckdb

        assert self._connection is not None
        try:
            self._connection.begin()
            try:
                yield
                self._connection.commit()
            except BaseException:
                with suppress(duckdb.Error):  # where the disk is full, DuckDB has ended it already
                    self._connection.rollback()
                raise
        except (duckdb.DataError, duckdb.IntegrityError) as error:
            raise RefusedValues(said(error)) from error
        except duckdb.Error as error:
            raise OutputError(f"cannot write {self.shown}: {said(error)}. {KEPT}") from error

    def _upsert(self, rows: Sequence[Row]) -> None:
        assert self._connection is not None
        names = [*self._rows.columns]
        listed = ", ".join(map(quoted, names))
        replaced = ", ".join(f"{quoted(n)} = excluded.{quoted(n)}" for n in names if n != KEY)
        then = f"DO UPDATE SET {replaced}" if replaced else "DO NOTHING"
        self._connection.register(_ROWS, table_of(rows, self._rows.columns, self._schema))
        self._connection.execute(
            f"INSERT INTO {self._table} ({listed}) SELECT {listed} FROM {_ROWS} "
            f"ON CONFLICT ({quoted(KEY)}) {then}"
        )
        self._connection.unregister(_ROWS)  # where it failed, the next rows take its place

    def _delete(self, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        where = f"DELETE FROM {self._table} WHERE {quoted(KEY)} IN (SELECT unnest(?))"
        return int(self._asked(where, list(keys))[0][0])

    def finish(self) -> None:
        """Write what is held, and find out whether the file is still there: DuckDB would not notice."""
        super().finish()
        check_still(self._path, self._opened, self.shown)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _type(shape: Shape) -> str:
    match shape.kind:
        case "integer":
            return "BIGINT"
        case "number":
            return "DOUBLE"
        case "decimal":
            return f"DECIMAL(38, {PLACES if shape.places is None else shape.places})"
        case "boolean" | "date" | "time":
            return shape.kind.upper()
        case "datetime":
            return "TIMESTAMP"
        case "list" if shape.item is not None:
            return f"{_type(shape.item)}[]"
        case "object":
            return f"STRUCT({', '.join(f'{quoted(n)} {_type(part)}' for n, part in shape.fields)})"
        case _:
            return "VARCHAR"


def _fits(ours: str, theirs: str, shape: Shape) -> bool:
    if ours == theirs or theirs in _WIDER.get(ours, ()):
        return True
    places = _PLACES.fullmatch(theirs)
    return shape.kind == "decimal" and places is not None and has_room(shape, int(places[1]))


def _form(ours: str, theirs: str) -> Form | None:
    """How values stand in a column of another type that fits, None where as they are."""
    if theirs == _IN_UTC:
        return in_utc
    if ours == "BIGINT" and theirs == "DOUBLE":
        return as_double
    places = _PLACES.fullmatch(theirs)
    return None if places is None or ours == theirs else within_places(int(places[1]))


__all__ = ["DuckTable"]
