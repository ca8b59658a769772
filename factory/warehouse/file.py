"""Leasing, migrating and querying the DuckDB file.

DuckDB lets one process write a file while no other has it open, so the file is held only for as long as one transaction
(`lease`) or one query (`read`). Both wait for each other with jitter, and say in one line which process is in the way when
their patience ends. Within one process a re-entrant lock per file does the same for threads.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from factory.errors import WarehouseError
from factory.private import private_folder
from factory.warehouse.migrations import is_current, migrate
from factory.warehouse.turn import Turn, connect, is_lock_conflict, take_turn

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

IDLE_S = 0.05
"""Seconds after which `close_idle` closes a file that a query left open."""


class Warehouse:
    """One DuckDB file (or memory) that holds everything a pipeline knows.

    Example:
        >>> warehouse = Warehouse.memory()
        >>> with warehouse.lease() as db:
        ...     _ = db.execute("INSERT INTO labels VALUES (0, 'ham', 'an honest message', true)")
        >>> warehouse.query("SELECT name FROM labels")
        [('ham',)]
    """

    _files: ClassVar[dict[str, _File]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path | None, *, patience_s: float = 60.0) -> None:
        """Use `Warehouse.open` or `Warehouse.memory`.

        Args:
            path: The DuckDB file, or None for memory.
            patience_s: How long to wait for another process that has the file open, in seconds.
        """
        self.path = path
        self.patience_s = patience_s
        self._keeps_open = False
        if path is None:
            self._file = _File()
            self._file.connection = connect(":memory:")
            migrate(self._file.connection, "memory")
        else:
            with self._guard:
                self._file = self._files.setdefault(os.path.realpath(path), _File())

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
                migrate(db, path)
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
            if self._file.depth > 1:
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
        rows: list[tuple[Any, ...]] = self._asked(lambda db: db.execute(sql, parameters).fetchall())
        return rows

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
                if not tries or self._file.depth > 0 or "Could not read enough bytes" not in str(error):
                    raise
            self.close_idle(0.0)
            time.sleep(0.02)

    # ------------------------------------------------------------------------------------------------------------------
    @contextmanager
    def _held(self, *, write: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        file = self._file
        with file.lock:
            if file.connection is not None:  # in memory, or inside another lease or read of this thread
                file.depth += 1
                try:
                    yield file.connection
                finally:
                    file.depth -= 1
                return
            if write or not self._keeps_open:
                file.close_reader()
                turn = self._connect(write)
                opened: Turn | duckdb.DuckDBPyConnection = turn
                connection = turn.connection
            else:
                if file.reader is None:
                    file.reader = self._connect(write=False)
                opened = connection = file.reader.connection.cursor()
            file.connection, file.depth = connection, 1
            try:
                yield connection
            finally:
                file.connection, file.depth, file.read_at = None, 0, time.monotonic()
                opened.close()

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Let a query leave the file open for the next one, as opening costs some 10 ms.

        Other processes can read meanwhile, and write once `close_idle` was called, as a run does whenever a step tells how far
        it is. A lease closes it too.
        """
        self._keeps_open = True
        try:
            yield
        finally:
            self._keeps_open = False
            self.close_idle(0.0)

    def close_idle(self, idle_s: float = IDLE_S) -> None:
        """Close the file if a query left it open and nobody has asked since.

        Args:
            idle_s: For how many seconds nobody asked.
        """
        file = self._file
        if file.reader is None or not file.lock.acquire(blocking=False):
            return
        try:
            if file.depth == 0 and time.monotonic() - file.read_at >= idle_s:
                file.close_reader()
        finally:
            file.lock.release()

    def _connect(self, write: bool) -> Turn:
        import duckdb

        assert self.path is not None
        try:
            return take_turn(str(self.path), read_only=not write, patience_s=self.patience_s)
        except duckdb.Error as error:
            raise self._explain(error) from error

    def _is_current(self) -> bool:
        """Whether the file exists and has every migration and the views of this version."""
        assert self.path is not None
        if not self.path.exists():
            return False
        with self._held(write=False) as db:
            return is_current(db, self.path)

    def _explain(self, error: Exception) -> WarehouseError:
        text = " ".join(str(error).split())
        if is_lock_conflict(error):
            holder = re.search(r"held in (.+?) \(PID (\d+)\)", text)
            who = f"process {holder[2]} ({holder[1]})" if holder else "another process"
            return WarehouseError(
                f"the warehouse is in use by {who}",
                where=self.path,
                fix="Wait until it has ended, or stop it, and run again",
            )
        lowered = text.lower()
        if "no space left" in lowered or "disk quota" in lowered:
            what, fix = "the disk is full", "Free some space and run again; nothing is lost"
        elif "permission denied" in lowered or "read-only file system" in lowered or "cannot open file" in lowered:
            what = (
                f"the file cannot be opened: {os.strerror(13) if 'permission' in lowered else text.split(': ', 1)[-1]}"
            )
            fix = "Choose a warehouse in a folder where you may write"
        elif "not a valid duckdb database file" in lowered:
            what, fix = "this is not a DuckDB file", "Name another file as the warehouse"
        else:
            return WarehouseError(text, where=self.path)
        return WarehouseError(what, where=self.path, fix=fix)


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
    names = ", ".join(f'"{name}"' for name in rows.column_names)
    db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM incoming_rows")
    db.unregister("incoming_rows")  # not where it fails: that would hide why
    return int(rows.num_rows)


def first_row(result: duckdb.DuckDBPyConnection) -> tuple[Any, ...] | None:
    """The first row of what was executed, or None; the result is read to its end, so that the connection can be used again."""
    rows = result.fetchall()
    return rows[0] if rows else None


def fingerprint(db: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    """How many rows a relation (a table's name, or a query in brackets) has, and two sums over their hashes."""
    sums = "coalesce(bit_xor(hash(t)), 0)::VARCHAR, coalesce(sum(hash(t)), 0)::VARCHAR"
    return [str(value) for value in first_row(db.execute(f"SELECT count(*), {sums} FROM {relation} t")) or ()]


def next_no(db: duckdb.DuckDBPyConnection, table: str, column: str, *, first: int = 1) -> int:
    """The number after the largest in use, or `first`."""
    ((largest,),) = db.execute(f"SELECT max({column}) FROM {table}").fetchall()
    return first if largest is None else int(largest) + 1


class _File:
    """What the warehouses of one file share in a process: one lock, one connection at work, and a reader that was left open."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection: duckdb.DuckDBPyConnection | None = None
        self.depth = 0
        self.reader: Turn | None = None
        self.read_at = 0.0

    def close_reader(self) -> None:
        """Close the reader, if there is one; the caller holds the lock."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None
