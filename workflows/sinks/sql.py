"""Tables of SQLite and PostgreSQL, by SQLAlchemy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from carrara.engines.errors import CarraraError
from carrara.runtime.database_url import INSTALL, driver_url, said, shown_url
from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.sinks.held import taken
from carrara.workflows.sinks.shape import KEY, Kind, Misfit, Shape
from carrara.workflows.sinks.sink import KEPT, Fields
from carrara.workflows.sinks.tables import Prepared, TableSink
from carrara.workflows.sinks.typed_rows import Row, TypedRows, as_text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_KEYS_AT_ONCE = 500


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
        lock: Path | None,
        flat: bool = False,
    ) -> None:
        try:
            import sqlalchemy
        except ImportError as error:
            raise CarraraError(f"SQL tables need the package SQLAlchemy: {INSTALL}") from error
        super().__init__(f"{shown_url(url)}#{name}", failed, rows, lock=lock, flat=flat)
        self._url = url
        try:
            self._engine = sqlalchemy.create_engine(driver_url(url), json_serializer=_json)
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
        self._as_text: Mapping[str, Callable[[Any], str | None]] = {}
        self._open_json: tuple[str, ...] = ()

    def prepare(self, fields: Fields) -> Prepared:
        key, rows = super().prepare(fields)
        for row in rows:
            for name in self._open_json:
                _refuse_number(row[name], name)
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
                self._hold(sqlalchemy)
                self._table = self._made_or_checked(sqlalchemy)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise PlaceError(f"{self.shown}: {said(error, self._url)}") from error
        except OSError as error:
            raise PlaceError(f"{self.shown}: {error.strerror}") from error

    def _hold(self, sqlalchemy: Any) -> None:
        """Keep the table of a server to this job until the connection ends; of a file that is done by `lock`."""
        if self._is_sqlite:
            return
        assert self._connection is not None
        schema = self._schema or self._connection.scalar(sqlalchemy.func.current_schema())
        name = hashlib.sha256(f"carrara {schema}.{self._name}".encode()).digest()
        number = int.from_bytes(name[:8], signed=True)
        if not self._connection.scalar(sqlalchemy.func.pg_try_advisory_lock(number)):
            raise PlaceError(taken(self.shown))

    def _made_or_checked(self, sqlalchemy: Any) -> Table:
        assert self._connection is not None
        schema = self._schema or None
        inspector = sqlalchemy.inspect(self._connection)
        if inspector.has_table(self._name, schema=schema):
            table: Table = sqlalchemy.Table(
                self._name, sqlalchemy.MetaData(), schema=schema, autoload_with=self._connection
            )
            self._check(sqlalchemy, table, inspector)
            return table
        columns = [
            sqlalchemy.Column(name, self._type(sqlalchemy, shape), primary_key=name == KEY)
            for name, shape in self._rows.columns.items()
        ]
        made: Table = sqlalchemy.Table(self._name, sqlalchemy.MetaData(), *columns, schema=schema)
        made.create(self._connection)
        if self._is_sqlite:
            self._as_text = self._texts(("decimal", "json"))
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

    def _texts(self, kinds: Collection[Kind]) -> Mapping[str, Callable[[Any], str | None]]:
        """How values of these kinds become text, by column."""
        found = {n: shape.kind for n, shape in self._rows.columns.items() if shape.kind in kinds}
        is_open = {name: self._is_sqlite and kind == "json" for name, kind in found.items()}
        return {name: as_text if is_open[name] else _text for name in found}

    def _check(self, sqlalchemy: Any, table: Any, inspector: Any) -> None:
        """Raises PlaceError where rows do not fit the table that is there."""
        ours = self._rows.columns
        wrong = [f"it has no column {name!r}" for name in ours if name not in table.c]
        texts = []
        for name, shape in ours.items():
            if name not in table.c:
                continue
            kind = table.c[name].type
            if isinstance(kind, sqlalchemy.String) and shape.kind != "text":
                texts.append(name)  # a column of text takes everything, as CSV does
            elif not isinstance(kind, _takes(sqlalchemy, shape)):
                wrong.append(f"its column {name!r} is {kind}, the rows have {shape.kind}")
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
        if wrong:
            raise PlaceError(
                f"{self.shown}: the table is there and does not fit: {'; '.join(wrong)}. "
                "Name another table, or change this one."
            )
        self._as_text = {n: f for n, f in self._texts(get_args(Kind)).items() if n in texts}
        self._open_json = tuple(
            n for n, s in ours.items() if self._is_sqlite and s.kind == "json" and n not in texts
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        import sqlalchemy

        assert self._connection is not None
        try:
            with self._connection.begin():
                yield
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise OutputError(
                f"cannot write {self.shown}: {said(error, self._url)}. {KEPT}"
            ) from error

    def _upsert(self, rows: Sequence[Row]) -> None:
        from sqlalchemy.dialects import postgresql, sqlite

        assert self._connection is not None
        texts = self._as_text
        if texts:
            rows = [{**row, **{n: written(row[n]) for n, written in texts.items()}} for row in rows]
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


def _takes(sqlalchemy: Any, shape: Shape) -> tuple[type, ...]:
    """The types of columns that take values of a shape."""
    match shape.kind:
        case "text":
            return (sqlalchemy.String, sqlalchemy.Uuid)
        case "integer":
            return (sqlalchemy.Integer, sqlalchemy.Numeric, sqlalchemy.Float)
        case "number" | "decimal":
            return (sqlalchemy.Numeric, sqlalchemy.Float)
        case "boolean":
            return (sqlalchemy.Boolean,)
        case "date":
            return (sqlalchemy.Date,)
        case "datetime":
            return (sqlalchemy.DateTime,)
        case "time":
            return (sqlalchemy.Time,)
        case _:
            return (sqlalchemy.JSON,)


def _refuse_number(value: Any, name: str) -> None:
    """Raises Misfit where a column of SQLite that is called JSON would make another number of it."""
    is_whole_float = isinstance(value, float) and value.is_integer()
    if is_whole_float or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise Misfit(
            f"{name}: SQLite would change the number {value!r} in a column of the type JSON; make it TEXT"
        )


def _text(value: Any) -> str | None:
    """A value in a column of text."""
    if value is None or isinstance(value, str):
        return value
    return _json(value) if isinstance(value, bool | int | float | list | dict) else _part(value)


def _json(value: Any) -> str:
    return json.dumps(value, default=_part)


def _part(value: Any) -> str:
    """A date or a decimal as text."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


__all__ = ["SqlTable"]
