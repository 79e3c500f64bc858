"""Tables of SQLite and PostgreSQL, by SQLAlchemy."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import CarraraError
from carrara.runtime.database_url import INSTALL, driver_url, said, shown_url
from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.sinks.held import Lock, taken
from carrara.workflows.sinks.shape import KEY, Misfit, Shape
from carrara.workflows.sinks.sink import KEPT, Fields
from carrara.workflows.sinks.sql_columns import (
    UnfitColumn,
    as_json,
    form_of,
    key_faults,
    text_form,
)
from carrara.workflows.sinks.tables import Prepared, RefusedValues, TableSink
from carrara.workflows.sinks.typed_rows import Row, TypedRows

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_KEYS_AT_ONCE = 500
_BUSY_S = 30
"""How long a shard waits for a SQLite file while others write it."""

_RAISED = "P0001"
"""PostgreSQL: RAISE EXCEPTION in a trigger."""


# What psycopg remarks while it gives up a batch is told as the reason of a failed record, or of the job's end.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class SqlTable(TableSink):
    """A table behind `url`; nested values lie in JSON columns, decimals in NUMERIC. In SQLite decimals are text, and so
    is what may be anything: SQLite would make a number of its own of each number in a column that is called JSON."""

    def __init__(
        self,
        url: str,
        name: str,
        failed: Path,
        rows: TypedRows,
        *,
        lock: Lock | None,
        flat: bool = False,
        shard: str = "",
    ) -> None:
        try:
            import sqlalchemy
        except ImportError as error:
            raise CarraraError(f"SQL tables need the package SQLAlchemy: {INSTALL}") from error
        super().__init__(f"{shown_url(url)}#{name}", failed, rows, lock=lock, flat=flat)
        self._url = url
        self._shard = shard
        try:
            self._engine = sqlalchemy.create_engine(
                driver_url(url), json_serializer=as_json, connect_args=_waiting(url, shard)
            )
        except ImportError as error:
            raise CarraraError(
                f"{self.shown} needs the package {error.name!r}: {INSTALL}"
            ) from error
        except sqlalchemy.exc.ArgumentError as error:
            raise PlaceError(f"{self.shown}: not a database URL: {said(error, url)}") from error
        self._schema, _, self._name = name.rpartition(".")
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._table: Table
        self._connection: Connection | None = None

    def prepare(self, fields: Fields) -> Prepared:
        key, rows = super().prepare(fields)
        if not self._is_sqlite:
            for row in rows:
                for name, value in row.items():
                    if "\x00" in (value if isinstance(value, str) else ""):
                        raise Misfit(
                            f"{name} holds a NUL character, which PostgreSQL does not take"
                        )
        return key, rows

    def _open(self) -> None:
        import sqlalchemy

        try:
            if self._is_sqlite and self._engine.url.database:
                Path(self._engine.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._engine.connect()
            with self._connection.begin():
                self._hold(sqlalchemy.func)
                self._table = self._made_or_checked(sqlalchemy)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise PlaceError(f"{self.shown}: {said(error, self._url)}") from error
        except OSError as error:
            raise PlaceError(f"{self.shown}: {error.strerror}") from error

    def _hold(self, functions: Any) -> None:
        """Keep the table of a server to this job, or to this shard and others, until the connection ends; of a file
        that is done by `lock`. Until the transaction ends no other shard looks whether the table is there."""
        assert self._connection is not None
        if self._is_sqlite:
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        schema = self._schema or self._connection.scalar(functions.current_schema())
        table = f"carrara {schema}.{self._name}"
        takes = [functions.pg_try_advisory_lock(_number(table))]
        if self._shard:
            takes = [
                functions.pg_try_advisory_lock_shared(_number(table)),
                functions.pg_try_advisory_lock(_number(f"{table} {self._shard}")),
            ]
        if not all(map(self._connection.scalar, takes)):
            raise PlaceError(taken(self.shown))
        self._connection.scalar(functions.pg_advisory_xact_lock(_number(f"{table} made")))

    def _made_or_checked(self, sqlalchemy: Any) -> Table:
        assert self._connection is not None
        schema = self._schema or None
        inspector = sqlalchemy.inspect(self._connection)
        if inspector.has_table(self._name, schema=schema):
            table: Table = sqlalchemy.Table(
                self._name, sqlalchemy.MetaData(), schema=schema, autoload_with=self._connection
            )
            self._check(table, inspector)
            return table
        columns = [
            sqlalchemy.Column(name, self._type(sqlalchemy, shape), primary_key=name == KEY)
            for name, shape in self._rows.columns.items()
        ]
        made: Table = sqlalchemy.Table(self._name, sqlalchemy.MetaData(), *columns, schema=schema)
        made.create(self._connection)
        if self._is_sqlite:
            texts = {n: s for n, s in self._rows.columns.items() if s.kind in ("decimal", "json")}
            self._forms = {name: text_form(shape, is_sqlite=True) for name, shape in texts.items()}
        return made

    def _type(self, sqlalchemy: Any, shape: Shape) -> Any:
        match shape.kind:
            case "text":
                return sqlalchemy.Text()
            case "integer":
                return sqlalchemy.BigInteger()
            case "number":
                return sqlalchemy.Double()
            case "decimal":
                return sqlalchemy.Text() if self._is_sqlite else sqlalchemy.Numeric()
            case "boolean":
                return sqlalchemy.Boolean()
            case "date":
                return sqlalchemy.Date()
            case "datetime":
                return sqlalchemy.DateTime()
            case "time":
                return sqlalchemy.Time()
            case "json" if self._is_sqlite:
                return sqlalchemy.Text()
            case _:
                return sqlalchemy.JSON(none_as_null=True)

    def _check(self, table: Any, inspector: Any) -> None:
        """Raises PlaceError where rows do not fit the table that is there."""
        ours = self._rows.columns
        wrong = [f"it has no column {name!r}" for name in ours if name not in table.c]
        forms = {}
        for name, shape in ours.items():
            if name not in table.c:
                continue
            try:
                form = form_of(table.c[name], shape, is_sqlite=self._is_sqlite)
            except UnfitColumn:
                kind = table.c[name].type.compile(dialect=self._engine.dialect)
                wrong.append(f"its column {name!r} is {kind}, the rows have {shape.told}")
                continue
            if form is not None:
                forms[name] = form
        wrong += [
            f"its column {column.name!r} must be given and the rows have none"
            for column in table.c
            if column.name not in ours
            and not (column.nullable or column.server_default is not None or column.identity)
            and column is not table.autoincrement_column
        ]
        unique = [[column.name for column in table.primary_key.columns]]
        unique += [
            found["column_names"]
            for found in inspector.get_unique_constraints(self._name, schema=self._schema or None)
        ]
        if KEY in table.c and [KEY] not in unique:
            wrong.append(f"its column {KEY!r} is neither its primary key nor unique")
        elif KEY in table.c:
            wrong += key_faults(self._connection, table, is_sqlite=self._is_sqlite)
        if wrong:
            raise PlaceError(
                f"{self.shown}: the table is there and does not fit: {'; '.join(wrong)}. "
                "Name another table, or change this one."
            )
        self._forms = forms

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        import sqlalchemy

        assert self._connection is not None
        try:
            with self._connection.begin():
                yield
        except sqlalchemy.exc.SQLAlchemyError as error:
            if _is_refusal(error):
                raise RefusedValues(said(error, self._url)) from error
            raise OutputError(
                f"cannot write {self.shown}: {said(error, self._url)}. {KEPT}"
            ) from error

    def _upsert(self, rows: Sequence[Row]) -> None:
        from sqlalchemy.dialects import postgresql, sqlite

        assert self._connection is not None
        insert: Any = (sqlite if self._is_sqlite else postgresql).insert(self._table)
        replaced = {name: insert.excluded[name] for name in self._rows.columns if name != KEY}
        if replaced:
            insert = insert.on_conflict_do_update(index_elements=[KEY], set_=replaced)
        else:
            insert = insert.on_conflict_do_nothing(index_elements=[KEY])
        self._connection.execute(insert, list(rows))

    def _delete(self, keys: Sequence[str]) -> int:
        assert self._connection is not None
        gone = 0
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            found = self._table.c[KEY].in_(keys[start : start + _KEYS_AT_ONCE])
            gone += self._connection.execute(self._table.delete().where(found)).rowcount
        return gone

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()


def _waiting(url: str, shard: str) -> dict[str, Any]:
    """Options of a connection: beside other shards a file is often locked, for a moment."""
    return {"timeout": _BUSY_S} if shard and url.startswith("sqlite") else {}


def _number(name: str) -> int:
    """What stands for a name among the advisory locks of a server."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def _is_refusal(error: Exception) -> bool:
    """Whether the fault is with the values that were written: too large or too long, against a constraint, or a trigger
    does not take them."""
    import sqlalchemy

    of_values = (sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError)
    code = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, of_values) or code == _RAISED


__all__ = ["SqlTable"]
