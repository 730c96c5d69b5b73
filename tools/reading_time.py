"""How long a notebook takes a reader, estimated from its words, its code cells and its exercises."""

import json
import re
from pathlib import Path

WORDS_A_MINUTE = 150
MINUTES_A_CODE_CELL = 1
MINUTES_AN_EXERCISE = 8  # hints and solution with it: they are not counted as prose

NOT_READ = re.compile(
    r"<details>.*?</details>"
    r"|!\[[^]]*\]\([^)]*\)"  # badges and pictures
    r"|(?<=\])\([^)]*\)"  # where a link leads
    r"|</?[a-z][^>]*>",
    re.DOTALL,
)


def counts(cells: list[dict]) -> tuple[int, int, int]:
    """Words, code cells and exercises."""
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    code = [source for source in code if "give_memory_back" not in source]  # nobody has to read the last cell
    exercises = sum("ph.exercises.check_" in source for source in code)
    return len(re.findall(r"\w[\w'’.,-]*", NOT_READ.sub("", prose))), len(code) - exercises, exercises


def minutes(cells: list[dict]) -> float:
    """What it takes to read, run and solve these cells."""
    words, code, exercises = counts(cells)
    return words / WORDS_A_MINUTE + code * MINUTES_A_CODE_CELL + exercises * MINUTES_AN_EXERCISE


def parts(cells: list[dict]) -> tuple[list[dict], list[dict]]:
    """The cells that everybody reads, and those of sections whose heading has the word "Optional".

    An optional section ends at the next heading of its own level or above, in the middle of a cell or not.
    """
    everybody, optional = [], []
    level = None  # of the optional section that we are in
    for cell in cells:
        pieces = ["".join(cell["source"])]
        if cell["cell_type"] == "markdown":
            pieces = re.split(r"^(?=#+ )", pieces[0], flags=re.MULTILINE)
        for piece in pieces:
            heading = cell["cell_type"] == "markdown" and re.match(r"(#+) .*", piece)
            if heading and (level is None or len(heading[1]) <= level):
                level = len(heading[1]) if "Optional" in heading[0] else None
            (everybody if level is None else optional).append(cell | {"source": piece})
    return everybody, optional


def shown(path: Path) -> tuple[int, int]:
    """What the notebook and README say: minutes for everybody and for optional sections, to the nearest five."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    everybody, optional = (5 * round(minutes(part) / 5) for part in parts(cells))
    return everybody, optional


def table(paths: list[Path]) -> str:
    """A line for each notebook: what was counted, what it is estimated to take, what is shown."""
    lines = [f"{'':32} words  cells  exercises  minutes  shown  optional"]
    for path in paths:
        everybody, _ = parts(json.loads(path.read_text(encoding="utf-8"))["cells"])
        words, code, exercises = counts(everybody)
        rounded, optional = shown(path)
        lines.append(
            f"{path.stem:32} {words:5}  {code:5}  {exercises:9}  {minutes(everybody):7.1f}  {rounded:5}  {optional:8}"
        )
    return "\n".join(lines)
