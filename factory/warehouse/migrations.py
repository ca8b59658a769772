"""The schema: numbered migrations, each applied once, and the views, laid anew where they changed (files: warehouse/*.sql)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from factory.errors import WarehouseError
from factory.resources import shipped

if TYPE_CHECKING:
    import duckdb


def migrations() -> list[tuple[int, str, str]]:
    """The numbered migrations as `(version, name, sql)`, in order."""
    found = []
    for path in sorted((shipped("warehouse") / "migrations").glob("[0-9]*.sql")):
        number, _, name = path.stem.partition("_")
        found.append((int(number), name, path.read_text(encoding="utf-8")))
    return found


def is_current(db: duckdb.DuckDBPyConnection, where: Path | str) -> bool:
    """Whether a file has every migration and the views of this version.

    Raises:
        WarehouseError: The file is of a newer version, or was not made by the factory.
    """
    return _applied(db, where) == _wanted()


def _views() -> str:
    return (shipped("warehouse") / "views.sql").read_text(encoding="utf-8")


def _wanted() -> tuple[int, str]:
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


def migrate(db: duckdb.DuckDBPyConnection, where: Path | str) -> None:
    """Apply the migrations that a file lacks, and lay the views, in one transaction.

    Raises:
        WarehouseError: The file is of a newer version, or was not made by the factory.
    """
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
