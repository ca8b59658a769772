"""Leasing, migrating and querying the DuckDB file.

DuckDB lets one process write a file while no other has it open, so the file is held only for as long as one transaction
(`lease`) or one query (`read`). Both wait for each other with jitter, and say in one line which process is in the way when
their patience ends. Within one process a re-entrant lock per file does the same for threads.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import WarehouseError
from factory.private import FILE_MODE, private_folder
from factory.resources import shipped

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_GATES: dict[str, _Gate] = {}
_GATES_GUARD = threading.Lock()


def migrations() -> list[tuple[int, str, str]]:
    """The numbered migrations as `(version, name, sql)`, in order."""
    found = []
    for path in sorted((shipped("warehouse") / "migrations").glob("[0-9]*.sql")):
        number, _, name = path.stem.partition("_")
        found.append((int(number), name, path.read_text(encoding="utf-8")))
    return found


class Warehouse:
    """One DuckDB file (or memory) that holds everything a pipeline knows.

    Example:
        >>> warehouse = Warehouse.memory()
        >>> with warehouse.lease() as db:
        ...     _ = db.execute("INSERT INTO labels VALUES (0, 'ham', 'an honest message', true)")
        >>> warehouse.query("SELECT name FROM labels")
        [('ham',)]
    """

    def __init__(self, path: Path | None, *, patience_s: float = 60.0) -> None:
        """Use `Warehouse.open` or `Warehouse.memory`.

        Args:
            path: The DuckDB file, or None for memory.
            patience_s: How long to wait for another process that has the file open, in seconds.

        Attributes:
            linger_s: For how long a query leaves the file open for the next one, in seconds. A run sets it while it looks at what
                is done already (opening costs some 10 ms); meanwhile nothing else in this process may open the file by itself.
        """
        self.path = path
        self.patience_s = patience_s
        self.linger_s = 0.0
        self._gate = _gate_for(path)
        self._lock = self._gate.lock
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._depth = 0
        if path is None:
            self._connection = connect(":memory:")
            _migrate(self._connection, "memory")

    @classmethod
    def open(cls, path: str | Path, *, patience_s: float = 60.0) -> Warehouse:
        """Open a warehouse file, create it if there is none, and apply the migrations it lacks.

        Raises:
            WarehouseError: The file is of a newer version, no DuckDB file, locked by another process, or not writable.
        """
        path = Path(path).absolute()
        warehouse = cls(path, patience_s=patience_s)
        try:
            private_folder(path.parent)
        except OSError as error:
            raise WarehouseError(f"the folder cannot be made: {error.strerror}", where=path.parent) from error
        if not warehouse._is_current():
            with warehouse._held(write=True) as db:
                _migrate(db, path)
        return warehouse

    @classmethod
    def memory(cls) -> Warehouse:
        """A warehouse that lives as long as this object."""
        return cls(None)

    @property
    def gold_path(self) -> Path | None:
        """The file of the `test` and `reference` gold. Only `factory.evaluation.stage` may open it."""
        return None if self.path is None else self.path.with_suffix(".gold.duckdb")

    @property
    def folder(self) -> Path | None:
        """The folder beside the warehouse file, for artefacts (models, vectors, reports)."""
        return None if self.path is None else self.path.parent

    @contextmanager
    def lease(self, *, memory: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the file for one write transaction: committed on leaving, rolled back on an exception.

        A lease inside a lease of the same thread joins it. Never keep one across a call to a model.

        Args:
            memory: The most that DuckDB may take until the file is closed, its checkpoint included, as in `256MB`; None
                leaves it 80% of the machine's memory. Of no effect inside another lease and on a warehouse in memory.
        """
        with self._held(write=True) as db:
            if self._depth > 1:
                yield db
                return
            if memory is not None and self.path is not None:
                db.execute(f"SET memory_limit = '{memory}'")
            db.execute("BEGIN")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            try:
                db.execute("COMMIT")
            except Exception as error:
                raise self._explain(error) from error

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the file for reading. Inside a lease of the same thread this is the lease's own connection."""
        with self._held(write=False) as db:
            yield db

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of one query."""
        return self._asked(lambda db: db.execute(sql, parameters).fetchall())

    def arrow(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> pa.Table:
        """One query's result as an Arrow table (columns stay columns; for whole splits of moderate size)."""
        return self._asked(lambda db: db.sql(sql, params=parameters).to_arrow_table())

    def scalar(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row, or None if there is no row."""
        rows = self.query(sql, parameters)
        return rows[0][0] if rows else None

    def _asked(self, ask: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
        """Ask once, and again where the file became shorter under us.

        Seen once in many thousand openings on a busy machine, beside a writer in another process. The likely cause: POSIX drops
        a process's locks on a file with any of its handles, so a handle that is closed late takes the next one's lock with it.
        """
        import duckdb

        tries = 3
        while True:
            try:
                with self.read() as db:
                    return ask(db)
            except duckdb.IOException as error:
                tries -= 1
                if not tries or self._depth > 0 or "Could not read enough bytes" not in str(error):
                    raise
            with self._lock:
                self._gate.close()
            time.sleep(0.02)

    # ------------------------------------------------------------------------------------------------------------------
    @contextmanager
    def _held(self, *, write: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._connection is not None and (self.path is None or self._depth > 0):
                self._depth += 1
                try:
                    yield self._connection
                finally:
                    self._depth -= 1
                return
            if write or not self.linger_s:
                self._gate.close()
                connection = self._connect(write)
            else:
                connection = self._gate.reader(self.path, self.linger_s, lambda: self._connect(False))
            self._connection, self._depth = connection, 1
            try:
                yield connection
            finally:
                self._connection, self._depth = None, 0
                connection.close()
                self._gate.used_at = time.monotonic()

    def let_go(self) -> None:
        """Close the file if a query left it open, and leave it open no more."""
        self.linger_s = 0.0
        with self._lock:
            self._gate.close()

    def _connect(self, write: bool) -> duckdb.DuckDBPyConnection:
        import duckdb

        assert self.path is not None
        deadline = time.monotonic() + self.patience_s
        pause = 0.005
        while True:
            try:
                return connect(str(self.path), read_only=not write)
            except duckdb.Error as error:
                if not _is_lock_conflict(error) or time.monotonic() > deadline:
                    raise self._explain(error) from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 1.5, 0.25)

    def _is_current(self) -> bool:
        """Whether the file exists and has every migration and the views of this version."""
        assert self.path is not None
        if not self.path.exists():
            return False
        with self._held(write=False) as db:
            return _applied(db, self.path) == _wanted()

    def _explain(self, error: Exception) -> WarehouseError:
        text = " ".join(str(error).split())
        if _is_lock_conflict(error):
            holder = re.search(r"held in (.+?) \(PID (\d+)\)", text)
            who = f"process {holder[2]} ({holder[1]})" if holder else "another process"
            return WarehouseError(
                f"the warehouse is in use by {who}",
                where=self.path,
                fix="Wait until it has ended, or stop it, and run again",
            )
        lowered = text.lower()
        if "no space left" in lowered or "disk quota" in lowered:
            return WarehouseError(
                "the disk is full", where=self.path, fix="Free some space and run again; nothing is lost"
            )
        if "permission denied" in lowered or "read-only file system" in lowered or "cannot open file" in lowered:
            return WarehouseError(
                f"the file cannot be opened: {os.strerror(13) if 'permission' in lowered else text.split(': ', 1)[-1]}",
                where=self.path,
                fix="Choose a warehouse in a folder where you may write",
            )
        if "not a valid duckdb database file" in lowered:
            return WarehouseError("this is no DuckDB file", where=self.path, fix="Name another file as the warehouse")
        return WarehouseError(text, where=self.path)


def connect(path: str, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that never draws a progress bar: on stdout it would stand between a `--json` object and its reader.

    Raises:
        duckdb.Error: As `duckdb.connect` does.
    """
    import duckdb

    file = Path(path)
    is_new = path != ":memory:" and not file.exists()
    connection = duckdb.connect(path, read_only=read_only)
    if is_new:
        file.chmod(FILE_MODE)
    connection.execute("SET enable_progress_bar = false")
    return connection


def insert(db: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, Any] | pa.Table) -> int:
    """Append rows to a table by column name, in one statement.

    Args:
        db: A connection from `Warehouse.lease`.
        table: The table's name.
        columns: Column name to a list, an Arrow array or a numpy array, all of one length; or an Arrow table. Columns that
            are not named take their default.

    Returns:
        The number of rows.
    """
    import pyarrow as pa

    rows = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    if rows.num_rows == 0:
        return 0
    db.register("incoming_rows", rows)
    try:
        names = ", ".join(f'"{name}"' for name in rows.column_names)
        db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM incoming_rows")
    finally:
        db.unregister("incoming_rows")
    return int(rows.num_rows)


def next_no(db: duckdb.DuckDBPyConnection, table: str, column: str, *, first: int = 1) -> int:
    """The number after the largest in use, or `first`."""
    ((largest,),) = db.execute(f"SELECT max({column}) FROM {table}").fetchall()
    return first if largest is None else int(largest) + 1


class _Gate:
    """One for each file and process: the lock of its threads, and the read-only database that a query left open for the next."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.used_at = 0.0
        self._open: duckdb.DuckDBPyConnection | None = None
        self._state: tuple[int, int, int] | None = None
        self._closed = threading.Event()

    def reader(
        self, path: Path | None, linger_s: float, connect: Callable[[], duckdb.DuckDBPyConnection]
    ) -> duckdb.DuckDBPyConnection:
        """A connection to the open database, or to a new one that stays open until nobody has used it for a while."""
        assert path is not None
        if self._open is not None and _state_of(path) != self._state:
            self.close()
        if self._open is None:
            self._open, self._state = connect(), _state_of(path)
            self.used_at = time.monotonic()
            self._closed = threading.Event()
            threading.Thread(target=self._close_when_idle, args=(self._closed, linger_s), daemon=True).start()
        return self._open.cursor()

    def close(self) -> None:
        """Close what is open; the caller holds the lock."""
        if self._open is not None:
            self._open.close()
            self._open = None
            self._closed.set()

    def _close_when_idle(self, closed: threading.Event, linger_s: float) -> None:
        """Knows the connection by its event alone: one that a sleeping thread still held at the end would be told as a leak."""
        while not closed.wait(linger_s):
            with self.lock:
                if not closed.is_set() and time.monotonic() - self.used_at >= linger_s:
                    self.close()


def close_all() -> None:
    """Close every file that is still open between two queries."""
    for gate in list(_GATES.values()):
        with gate.lock:
            gate.close()


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Which file this is and when it was changed, or None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _gate_for(path: Path | None) -> _Gate:
    if path is None:
        return _Gate()
    with _GATES_GUARD:
        return _GATES.setdefault(str(path.absolute()), _Gate())


def _is_lock_conflict(error: Exception) -> bool:
    text = str(error)
    return "lock" in text.lower() and ("conflicting" in text.lower() or "could not set lock" in text.lower())


def _views() -> str:
    return (shipped("warehouse") / "views.sql").read_text(encoding="utf-8")


def _wanted() -> tuple[int, str]:
    import hashlib

    return migrations()[-1][0], hashlib.sha256(_views().encode()).hexdigest()


def _applied(db: duckdb.DuckDBPyConnection, where: Path | str) -> tuple[int, str]:
    """The newest migration in the file (0 for an empty one) and the digest of its views."""
    tables = {row[0] for row in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "migrations" not in tables:
        if tables:
            raise WarehouseError(
                "this DuckDB file was not made by the factory", where=where, fix="Name another file as the warehouse"
            )
        return 0, ""
    version, digest = db.execute(
        "SELECT max(version), (SELECT max(digest) FROM view_digest) FROM migrations"
    ).fetchall()[0]
    newest = migrations()[-1][0]
    if version > newest:
        raise WarehouseError(
            f"the file is of warehouse version {version}, and this program knows versions up to {newest}",
            where=where,
            fix="Install a newer label-factory",
        )
    return int(version), str(digest)


def _migrate(db: duckdb.DuckDBPyConnection, where: Path | str) -> None:
    version, digest = _applied(db, where)
    wanted_version, wanted_digest = _wanted()
    if (version, digest) == (wanted_version, wanted_digest):
        return
    db.execute("BEGIN")
    try:
        if version == 0:
            db.execute(
                "CREATE TABLE migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL,"
                " applied_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP)"
            )
            db.execute("CREATE TABLE view_digest (digest VARCHAR NOT NULL)")
        for number, name, sql in migrations():
            if number > version:
                db.execute(sql)
                db.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, name])
        db.execute(_views())
        db.execute("DELETE FROM view_digest")
        db.execute("INSERT INTO view_digest VALUES (?)", [wanted_digest])
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
