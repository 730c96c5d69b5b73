"""Write a release's number everywhere, and which version of the series its notebooks install on Colab.

python tools/release.py 0.2.0   what is unreleased becomes 0.2.0; on Colab its notebooks install the tag v0.2.0
python tools/release.py main    once the tag is set: the notebooks install the branch main again
"""

import datetime
import re
import sys

from notebooks import FOLDER, rewrite

ROOT = FOLDER.parent


def install_on_colab(version: str) -> None:
    """Writes a tag or branch into every set-up cell: the address that pip gets, and the comment above it."""
    kind = "branch" if version == "main" else "tag"
    for path in sorted(FOLDER.glob("*.ipynb")):
        rewrite(path, r"the package comes from GitHub, \w+ [\w.]+", f"the package comes from GitHub, {kind} {version}")
        rewrite(path, r"(%pip install -q git\+https://github\.com/[\w./-]+)@[\w.]+", rf"\g<1>@{version}")


def number(version: str) -> None:
    """Writes the version wherever it stands."""
    today = datetime.date.today().isoformat()
    rewrite(ROOT / "CHANGELOG.md", r"(?m)^## .* \(unreleased\)$", f"## {version}")
    rewrite(ROOT / "pyproject.toml", r'(?m)^version = ".*"', f'version = "{version}"')
    rewrite(ROOT / "pixelhelpers" / "__init__.py", r'__version__ = ".*"', f'__version__ = "{version}"')
    rewrite(ROOT / "CITATION.cff", r"(?m)^version: .*", f"version: {version}")
    rewrite(ROOT / "CITATION.cff", r"(?m)^date-released: .*", f"date-released: {today}")


def main() -> None:
    version = "".join(sys.argv[1:])
    if version == "main":
        install_on_colab(version)
        print("on Colab the notebooks install main")
        return
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        sys.exit(f"expected a version such as 0.2.0, or main, got {version!r}: make release VERSION=0.2.0")
    if " (unreleased)\n" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        sys.exit("nothing to release: no heading of CHANGELOG.md ends with (unreleased)")
    number(version)
    install_on_colab(f"v{version}")
    print(f"this is {version}: make test, commit, git tag v{version}, then make release VERSION=main")


if __name__ == "__main__":
    main()
