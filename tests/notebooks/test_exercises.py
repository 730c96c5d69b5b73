"""Every exercise in a notebook: its solution passes its check, its empty stub is not solved yet.

An exercise is a code cell with a line `ph.exercises.check_…(answer)`, the stub in that cell or in the
code cell before it, and the `<details>` in the prose that follows. What the reader pastes is run as
the reader would run it: with the imports of the notebook and nothing else from it.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CALL = re.compile(r"^ph\.exercises\.(check_\w+)\(.*\)$", re.MULTILINE)
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass
class Exercise:
    name: str  # of the notebook and of the check
    imports: list[ast.stmt]  # all that the notebook has imported so far
    stub: list[ast.stmt]  # the statements that bind what is checked, as given
    calls: list[str]  # lines that check: there should be one
    solution: str  # the code in <details>, joined


def plain(source: str) -> ast.Module:
    """Parses a cell, without the lines that only IPython understands."""
    return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.MULTILINE))


def imports(cells) -> list[ast.stmt]:
    return [
        statement
        for cell in cells
        for statement in plain(cell.source).body
        if isinstance(statement, ast.Import | ast.ImportFrom)
    ]


def bound(statement: ast.stmt) -> set[str]:
    """Names the variables, functions and classes that a statement binds."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    nodes = ast.walk(statement)
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def bindings(cells, call: str) -> list[ast.stmt]:
    """Finds the statements that bind what a call checks."""
    checked = {node.id for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Name)} - {"ph"}
    statements = [statement for cell in cells for statement in plain(cell.source).body]
    return [statement for statement in statements if bound(statement) & checked]


def exercises(path: Path) -> list[Exercise]:
    cells = nbformat.read(path, as_version=4).cells
    found = []
    for k, cell in enumerate(cells):
        if cell.cell_type != "code" or "ph.exercises.check_" not in cell.source:
            continue
        before = [c for c in cells[: k + 1] if c.cell_type == "code"]
        prose = ""
        for following in cells[k + 1 :]:
            if following.cell_type == "code":
                break
            prose += following.source + "\n"
        calls = [match[0] for match in CALL.finditer(cell.source)]
        check = CALL.search(cell.source)
        found.append(
            Exercise(
                name=f"{path.stem}-{check[1] if check else f'cell {k}'}",
                imports=imports(before),
                stub=bindings(before[-2:], calls[0]) if calls else [],
                calls=calls,
                solution="\n".join(code for part in DETAILS.findall(prose) for code in PYTHON.findall(part)),
            )
        )
    return found


EXERCISES = [exercise for path in PATHS for exercise in exercises(path)]


@pytest.fixture(params=EXERCISES, ids=lambda exercise: exercise.name)
def exercise(request):
    return request.param


def run(statements: list[ast.stmt], names: dict, what: str) -> None:
    try:
        exec(compile(ast.Module(statements, []), f"<{what}>", "exec"), names)
    except NameError as error:
        pytest.fail(f"{what}: {error}. It may use the notebook's imports, nothing else from it.")
    except Exception as error:
        pytest.fail(f"{what} raised {type(error).__name__}: {error}")


def verdict(exercise: Exercise, answer: list[ast.stmt], what: str, capsys) -> str:
    """Runs imports, answer and check; gives what the check prints."""
    names = {"__name__": "__main__"}
    what = f"{what} of {exercise.name}"
    run(exercise.imports, names, f"imports before {exercise.name}")
    run(answer, names, what)
    capsys.readouterr()
    run(ast.parse(exercise.calls[0]).body, names, f"check after the {what}")
    return capsys.readouterr().out.strip()


def test_a_cell_checks_one_answer(exercise):
    assert len(exercise.calls) == 1, "one line, from its beginning: ph.exercises.check_…(answer)"


def test_the_solution_passes(exercise, capsys):
    assert exercise.solution, "no ```python block in <details> between this cell and the next"
    said = verdict(exercise, ast.parse(exercise.solution).body, "solution", capsys)
    assert said.startswith("✓"), f"the solution gets: {said or '(nothing printed)'}"


def test_the_stub_is_not_solved_yet(exercise, capsys):
    assert exercise.stub, f"what {exercise.calls[0]} checks is bound neither here nor a cell before"
    said = verdict(exercise, exercise.stub, "stub", capsys)
    assert said.startswith("✎ Not solved yet"), f"the empty stub gets: {said or '(nothing)'}"
