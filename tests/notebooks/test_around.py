"""The page around PixelCNN: its code runs and prints what the page shows."""

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "notebooks" / "around_pixelcnn.md").read_text(encoding="utf-8")


def test_the_code_prints_what_stands_below_it():
    blocks = re.findall(r"```python\n(.+?)```\n+```text\n(.+?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python") == 1
    for code, shown in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "around_pixelcnn.md", "exec"), {})
        assert out.getvalue() == shown


def test_the_heirs_have_a_year_an_order_a_count_and_a_place_where_it_was_counted():
    table = PAGE.partition("## Today's heirs")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.+\|$", table, re.MULTILINE)[3:]]
    assert len(rows) >= 5
    for row in rows:
        assert len(row) == 6 and all(row)
        assert "](https://github.com/" in row[0] and re.fullmatch(r"20\d\d", row[1]) and re.search(r"\d", row[4])
