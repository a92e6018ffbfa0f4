"""Rows that a query selects: from a database by its SQLAlchemy URL, or from files through DuckDB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchkit.disk import reading
from batchkit.errors import InputError, MissingExtra

_ROWS = 1000
TABLE = "rows"
"""What a query calls the file that is read."""


def select(source: str, query: str) -> Iterator[dict[str, Any]]:
    """What `query` selects from a database (`postgresql://…`, `sqlite:///…`) or a file (as table `rows`), streamed.

    Raises InputError in the database's words, without the URL, and MissingExtra without the extra `sql`.
    """
    return _from_database(source, query) if "://" in source else _from_file(Path(source), query)


def _from_database(url: str, query: str) -> Iterator[dict[str, Any]]:
    try:
        import sqlalchemy
    except ImportError:
        raise _missing() from None
    scheme = url.partition(":")[0]
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)  # none is kept open behind this
        with engine.connect().execution_options(stream_results=True, yield_per=_ROWS) as connection:
            found = connection.execute(sqlalchemy.text(query.replace(":", "\\:")))
            names = list(found.keys())
            _unique(names)
            for row in found:
                yield dict(zip(names, row, strict=True))
    except ImportError as error:
        raise MissingExtra(
            f"{scheme} needs its driver: {error}", hint="pip install the driver beside batchkit"
        ) from None
    except sqlalchemy.exc.ArgumentError:
        raise InputError(f"{scheme}://… is no database URL", hint="postgresql://USER:PASSWORD@HOST/DB") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise InputError(f"{scheme}: {said}", hint="check --sql") from None


def _from_file(path: Path, query: str) -> Iterator[dict[str, Any]]:
    try:
        import duckdb
    except ImportError:
        raise _missing() from None
    with reading(path), path.open("rb"):
        pass
    # What takes the time is to hand the rows over one by one; each further thread keeps tens of megabytes ready for it.
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        try:
            # DuckDB takes *, ? and [ for a pattern of names; a class of one character is that character.
            name = re.sub(r"[*?\[]", r"[\g<0>]", str(path)).replace("'", "''")
            database.execute(f"CREATE VIEW {TABLE} AS SELECT * FROM '{name}'")
            found = database.execute(query)
            if found is None:  # as of a comment
                raise InputError("the query is empty", hint=f"such as select * from {TABLE}")
            names = [column[0] for column in found.description or ()]
            _unique(names)
            while rows := found.fetchmany(_ROWS):
                for row in rows:
                    yield dict(zip(names, row, strict=True))
        except duckdb.Error as error:
            raise InputError(f"{path}: {str(error).splitlines()[0]}", hint=f"the table is called {TABLE}") from None


def _unique(names: list[str]) -> None:
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the query names {', '.join(doubled)} more than once", hint="give columns names with AS")


def _missing() -> MissingExtra:
    return MissingExtra("rows of a query need the extra 'sql'", hint="pip install '.[sql]' in the checkout")
