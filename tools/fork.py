"""Write another owner and name everywhere: `make fork REPO=me/mine`."""

import re
import sys
from pathlib import Path

from notebooks import rewrite

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = [
    "*.md", "*.toml", "*.cff", "*.yml", ".github/**/*.yml",
    "notebooks/*.ipynb", "notebooks/*.md", "pixelhelpers/**/*.py",
]  # fmt: skip


def main() -> None:
    new = "".join(sys.argv[1:])
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        sys.exit(f"expected owner/name as on GitHub, got {new!r}: make fork REPO=me/mine")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    old = re.search(r'^Repository = "https://github.com/([^"]+)"', project, re.MULTILINE)[1]
    pattern = rf"(?<![\w.-]){re.escape(old)}(?![\w-])"
    paths = sorted({path for files in PATTERNS for path in ROOT.glob(files)})
    count = sum(rewrite(path, pattern, new) for path in paths)
    print(f"{old} → {new} in {count} files")


if __name__ == "__main__":
    main()
