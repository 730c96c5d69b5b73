"""What the benchmarks measured, wherever the package is installed: `list_records`, `record`, and a `record_file`."""

import json
from pathlib import Path
from typing import Any

from .errors import require

_PACKAGE = Path(__file__).parent


def _folder() -> Path:
    """An installed package has a copy; a checkout has the benchmarks themselves."""
    copied = _PACKAGE / "records"
    return copied if copied.is_dir() else _PACKAGE.parent / "benchmarks"


def list_records() -> list[str]:
    """Lists the names of the benchmarks that have been measured.

    Example:
        >>> "compare" in list_records()
        True
    """
    return sorted(path.stem for path in _folder().glob("*.json"))


def record(name: str) -> dict[str, Any]:
    """Reads what a benchmark measured: the record that `benchmarks/<name>.py` wrote.

    Arguments:
        name: one of `list_records()`.

    Raises:
        ValueError: for another name.

    Example:
        >>> sorted(record("shifted")["weights"])
        ['mask', 'rows above', 'up and left']
    """
    require(name in list_records(), f"no record is called {name!r}; there are: {', '.join(list_records())}.")
    return json.loads(record_file(f"{name}.json").read_text(encoding="utf-8"))


def record_file(name: str) -> Path:
    """Gives the path of a file that a benchmark wrote, such as its picture.

    Arguments:
        name: of the file.

    Raises:
        ValueError: when there is none.

    Example:
        >>> record_file("minutes.png").name
        'minutes.png'
    """
    path = _folder() / name
    require(path.is_file(), f"no benchmark wrote {name!r}; there are: {', '.join(list_records())}.")
    return path
