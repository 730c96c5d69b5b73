"""Rows that print as a table and show as one in a notebook: `Table`."""

from collections.abc import Iterator
from html import escape
from typing import ClassVar


class Table(list):
    """A list of rows, each a dict, shown as a table.

    Subclasses say which keys are `COLUMNS`, in which order, and may say in `FORMATS` how to write their values.

    Example:
        >>> class Scores(Table):
        ...     COLUMNS, FORMATS = ("model", "bits"), {"bits": ".2f"}
        >>> Scores([{"model": "gated", "bits": 2.8437}])
        model   bits
        gated   2.84
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ()
    FORMATS: ClassVar[dict[str, str]] = {}

    def _lines(self) -> Iterator[list[str]]:
        yield list(self.COLUMNS)
        for row in self:
            yield [format(row[name], self.FORMATS.get(name, "")) for name in self.COLUMNS]

    def __repr__(self) -> str:
        lines = list(self._lines())
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = ["<" if self and isinstance(self[0][name], str) else ">" for name in self.COLUMNS]
        layout = "   ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
        return "\n".join(layout.format(*line).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head, *body = (
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in line)
            for tag, line in zip(["th"] + ["td"] * len(self), self._lines(), strict=True)
        )
        return "<table>" + "".join(f"<tr>{line}</tr>" for line in (head, *body)) + "</table>"
