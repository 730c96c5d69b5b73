"""Run the notebooks, store their outputs, show them as text, estimate a reader's time.

python tools/notebooks.py refresh [03 ...]   run and store the outputs: all, or those that start so
python tools/notebooks.py execute [03 ...]   run and store nothing
python tools/notebooks.py text FILE          print a notebook as text, for git (see `make diff`)
python tools/notebooks.py time               print how long each takes a reader, estimated
"""

import hashlib
import json
import re
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
# Of the kernel, in MB: the most that it ever held, and what it holds now.
MEMORY = """
import psutil, resource, sys
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(peak // 10**6, psutil.Process().memory_info().rss // 10**6)
"""


def source_hash(notebook: dict) -> str:
    """Hash of what was executed: the code cells. Prose may be corrected without a new run."""
    sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def rewrite(path: Path, pattern: str, new: str) -> bool:
    """Replaces a name or an address in a file. Fresh outputs stay fresh: no result depends on it."""
    text = path.read_text(encoding="utf-8")
    changed = re.sub(pattern, new, text)
    if path.suffix == ".ipynb" and changed != text:
        before, after = source_hash(json.loads(text)), source_hash(json.loads(changed))
        changed = changed.replace(f'"source_hash": "{before}"', f'"source_hash": "{after}"')
    if changed != text:
        path.write_text(changed, encoding="utf-8", newline="\n")
    return changed != text


def run(path: Path):
    """The executed notebook, with a record of the run in its metadata. A failing cell raises."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(MEMORY))
    client = nbclient.NotebookClient(
        notebook,
        timeout=180,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    started = time.perf_counter()
    client.execute()
    seconds = round(time.perf_counter() - started)
    peak, rest = map(int, notebook.cells.pop().outputs[0].text.split())
    record = {"seconds": seconds, "peak_memory_mb": peak, "memory_mb_at_rest": rest}
    record["source_hash"] = source_hash(notebook)
    # Which machine ran it, down to the Python version, would change with every run.
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
    }
    notebook.metadata.pixelhelpers = record
    return notebook


def run_all(prefixes: list[str], store: bool) -> None:
    import nbformat
    from nbclient.exceptions import CellExecutionError

    paths = sorted(p for p in FOLDER.glob("*.ipynb") if p.name.startswith(tuple(prefixes or [""])))
    if not paths:
        sys.exit(f"no notebook in {FOLDER} starts with {' or '.join(prefixes) or 'anything'}")
    failed = []
    for path in paths:
        print(f"{path.name:35}", end="", flush=True)
        try:
            notebook = run(path)
        except CellExecutionError as error:
            failed.append(path.name)
            print(f"stopped at an error, nothing stored\n{error}")
            continue
        if store:
            nbformat.write(notebook, path)
        record = notebook.metadata.pixelhelpers
        peak, rest = record["peak_memory_mb"], record["memory_mb_at_rest"]
        print(f"{record['seconds']:4} s, at most {peak:5} MB, at rest {rest:4} MB")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def as_text(notebook: dict) -> str:
    """Sources and text outputs in reading order; a picture becomes its size and a hash."""
    lines = []
    for cell in notebook["cells"]:
        lines += [f"──── {cell['cell_type']}", "".join(cell["source"])]
        for output in cell.get("outputs", []):
            lines.append(f"──── {output['output_type']}")
            if "text" in output:
                lines.append("".join(output["text"]).rstrip())
            elif "data" in output:
                lines += [describe(mime, data) for mime, data in sorted(output["data"].items())]
            else:
                lines.append(f"{output['ename']}: {output['evalue']}")
    return "\n".join(lines) + "\n"


def describe(mime: str, data) -> str:
    text = data if isinstance(data, str) else "".join(data) if isinstance(data, list) else str(data)
    if mime == "text/plain":
        return text
    return f"{mime}, {len(text):,} characters, {hashlib.sha256(text.encode()).hexdigest()[:8]}"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["refresh", *prefixes]:
            run_all(prefixes, store=True)
        case ["execute", *prefixes]:
            run_all(prefixes, store=False)
        case ["text", path]:
            sys.stdout.reconfigure(encoding="utf-8")
            sys.stdout.write(as_text(json.loads(Path(path).read_text(encoding="utf-8"))))
        case ["time"]:
            from reading_time import table

            print(table(sorted(FOLDER.glob("*.ipynb"))))
        case _:
            sys.exit(__doc__)
