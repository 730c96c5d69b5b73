"""Open the series in JupyterLab, in a copy of your own, `my-notebooks/`, which git does not track.

python tools/lab.py [...]      copy what is missing there, and open it (further words go to JupyterLab)
python tools/lab.py --update   fetch the newest series with git, and copy what is new
python tools/lab.py --copy     copy only

A notebook whose cells you have changed is yours: nothing writes to it again. Its newer version comes beside it, as
`….new.ipynb`. One that you have only run is replaced. Standard library only.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERIES, MINE = ROOT / "notebooks", ROOT / "my-notebooks"
COPIED = ".copied.json"  # in MINE: what each file held when it was copied
FIRST = "00_start_here.ipynb"


def content(path: Path) -> str:
    """A hash of what a person writes: the cells of a notebook without their outputs, or the whole of another file."""
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            cells = [[cell["cell_type"], "".join(cell["source"])] for cell in json.loads(data)["cells"]]
            data = json.dumps(cells).encode()
        except (ValueError, KeyError, TypeError):
            pass  # not whole: somebody's own
    return hashlib.sha256(data).hexdigest()


def names(name: str) -> Iterator[str]:
    """Where a file of the series may go: its own name, and those beside it."""
    path = Path(name)
    yield name
    for number in count(1):
        yield f"{path.stem}.new{number if number > 1 else ''}{path.suffix}"


def series_name(name: str) -> str:
    """The file of the series that a name in the copy belongs to."""
    return re.sub(r"\.new\d*(\.\w+)$", r"\1", name)


def bring(series: Path = SERIES, mine: Path = MINE) -> list[str]:
    """Copies what is missing or new; says what it did, a line for each file."""
    mine.mkdir(exist_ok=True)
    try:
        copied = dict(json.loads((mine / COPIED).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        copied = {}  # then all that differs from the series counts as the learner's
    said = []
    for source in sorted([*series.glob("*.ipynb"), *series.glob("*.md")]):
        wanted = content(source)
        for name in names(source.name):
            target = mine / name
            here = content(target) if target.exists() else None
            if here == wanted or (here is not None and copied.get(name) == wanted):
                copied[name] = wanted
                break  # it is there, perhaps with answers in it by now
            if here is None or here == copied.get(name):
                part = target.with_name(f".{name}.part")
                shutil.copyfile(source, part)
                os.replace(part, target)
                copied[name] = wanted
                said.append(f"{name}: {'new' if here is None else 'brought up to date'}")
                if name != source.name:
                    said[-1] += f"; {source.name} holds what you wrote and stays as it is"
                break
    for name in sorted(copied):
        target = mine / name
        if not (series / series_name(name)).exists() and target.exists() and content(target) == copied[name]:
            target.unlink()  # the series has it no longer, and nobody wrote into it
            said.append(f"{name}: no longer in the series")
    part = mine / f"{COPIED}.part"
    kept = {name: hash for name, hash in sorted(copied.items()) if (mine / name).exists()}
    part.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    os.replace(part, mine / COPIED)
    return said


def keep_work_in_the_series(series: Path = SERIES, mine: Path = MINE) -> list[str]:
    """Copies notebooks that were changed in the series itself, which git would not overwrite; gives their names."""
    changed = git("diff", "--name-only", "HEAD", "--", "notebooks").split()
    for path in map(ROOT.joinpath, changed):
        if path.exists():
            free = (f"{path.stem}.mine{number or ''}{path.suffix}" for number in count())
            shutil.copyfile(path, mine / next(name for name in free if not (mine / name).exists()))
    return changed


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def update() -> None:
    """Fetches the newest series and copies it; stops with a word where git cannot."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        sys.exit(f"update: {ROOT} was not cloned with git: download the series anew, and move my-notebooks there.")
    MINE.mkdir(exist_ok=True)
    if changed := keep_work_in_the_series():
        sys.exit(
            f"update: {', '.join(changed)} changed in the series itself, which git would not overwrite. What stands "
            "there is now in my-notebooks, too, as ….mine.ipynb. Give the series back its own "
            "(git checkout HEAD -- notebooks) and update again."
        )
    try:
        before = git("rev-parse", "HEAD")
        git("pull", "--ff-only", "--quiet")
        needs = git("diff", "--name-only", before.strip(), "HEAD", "--", "pyproject.toml", "environment.yml")
    except subprocess.CalledProcessError:
        sys.exit("update: git could not fetch the series; its message stands above. Nothing was changed.")
    subprocess.run([sys.executable, __file__, "--copy"], check=True)  # by the rules of the new version
    if needs:
        print(
            "What the series needs may have changed: run the command that installed it again (`make` does so itself)."
        )


def environment() -> dict[str, str]:
    """The variables with which JupyterLab finds what we set (`labconfig/`) and add to it (`labextensions/`)."""
    paths = ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH")
    ours = str(ROOT / "tools" / "jupyter")
    return os.environ | {name: os.pathsep.join(filter(None, [ours, os.environ.get(name)])) for name in paths}


def open_lab(words: list[str]) -> None:
    """Starts JupyterLab on the copy, without its offer of news; links from notebook to notebook arrive."""
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/{MINE.name}/{FIRST}"]
    # JupyterLab refuses to run as root unless told to. Root is what containers and rented GPU machines give; the server
    # still listens on localhost only and still asks for its token.
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    sys.exit(subprocess.call([*command, *words], cwd=ROOT, env=environment()))


def main(words: list[str]) -> None:
    if words == ["--update"]:
        update()
        return
    for line in bring():
        print(f"my-notebooks: {line}", flush=True)
    if words != ["--copy"]:
        try:
            open_lab(words)
        except KeyboardInterrupt:  # Ctrl-C is how a server is ended
            pass


if __name__ == "__main__":
    main(sys.argv[1:])
