"""Write another owner and name everywhere: `make fork REPO=me/mine`."""

import json
import re
import sys
from pathlib import Path

from notebooks import source_hash

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = [
    "*.md", "*.toml", "*.cff", "*.yml", ".github/**/*.yml",
    "notebooks/*.ipynb", "notebooks/*.md", "pixelhelpers/**/*.py",
]  # fmt: skip


def rewrite(path: Path, old: str, new: str) -> bool:
    """Replace `old` by `new`. Fresh outputs stay fresh: no result depends on the name."""
    text = path.read_text(encoding="utf-8")
    changed = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w-])", new, text)
    if path.suffix == ".ipynb" and changed != text:
        before, after = source_hash(json.loads(text)), source_hash(json.loads(changed))
        changed = changed.replace(f'"source_hash": "{before}"', f'"source_hash": "{after}"')
    if changed != text:
        path.write_text(changed, encoding="utf-8", newline="\n")
    return changed != text


def main() -> None:
    new = "".join(sys.argv[1:])
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        sys.exit(f"expected owner/name as on GitHub, got {new!r}: make fork REPO=me/mine")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    old = re.search(r'^Repository = "https://github.com/([^"]+)"', project, re.MULTILINE)[1]
    paths = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})
    count = sum(rewrite(path, old, new) for path in paths)
    print(f"{old} → {new} in {count} files")


if __name__ == "__main__":
    main()
