"""A notebook by its sections: what each one says, runs and prints."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
HEADING = re.compile(r"^(#+) +(.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@dataclass
class Section:
    """A heading, the text below it, and the sources and printed outputs of the code cells below it."""

    anchor: str
    level: int
    prose: str
    code: list[str]
    printed: str = ""


def anchor(heading: str) -> str:
    """The anchor that JupyterLab gives a heading: its text with dashes for spaces."""
    return re.sub(r"[*`]|\[(.+?)\]\(.+?\)", r"\1", heading).replace(" ", "-")


def printed(cell: dict) -> str:
    """What a code cell printed, in words and tables, without its pictures."""
    texts = ["".join(output.get("text", "")) for output in cell["outputs"]]
    for data in (output.get("data", {}) for output in cell["outputs"]):
        texts += ["".join(data.get("text/plain", "")), re.sub(r'"data:[^"]*"', "", "".join(data.get("text/html", "")))]
    return "\n".join(texts)


@cache
def pieces(path: Path) -> tuple[Section, ...]:
    """A notebook cut at every heading: each piece ends where the next heading stands."""
    found = [Section("", 0, "", [])]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found[-1].code.append(source)
            found[-1].printed += printed(cell)
            continue
        shown = FENCED.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), source)  # a comment in code is no heading
        starts = list(HEADING.finditer(shown))
        ends = [match.start() for match in starts[1:]] + [len(source)] * bool(starts)
        found[-1].prose += source[: starts[0].start() if starts else None] + "\n\n"
        for match, end in zip(starts, ends, strict=True):
            found.append(Section(anchor(match[2]), len(match[1]), source[match.end() : end] + "\n\n", []))
    return tuple(found)


def section(path: Path, name: str) -> Section:
    """The section under an anchor, with the sections inside it."""
    parts = pieces(path)
    start = next(number for number, part in enumerate(parts) if part.anchor == name)
    level = parts[start].level
    inside = [parts[start]]
    for part in parts[start + 1 :]:
        if part.level <= level:
            break
        inside.append(part)
    return joined(inside)


def sections(path: Path) -> list[Section]:
    """The notebook's sections of level two, and before them its opening."""
    groups = []
    for part in pieces(path):
        if part.level <= 2 and not (part.level == 1 and len(groups) == 1):
            groups.append([])
        groups[-1].append(part)
    return [joined(group) for group in groups]


def joined(parts: list[Section]) -> Section:
    first = parts[0]
    return Section(
        first.anchor,
        first.level,
        "".join(part.prose for part in parts),
        [source for part in parts for source in part.code],
        "\n".join(part.printed for part in parts),
    )
