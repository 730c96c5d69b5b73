"""The package as Colab has it: built, installed outside the checkout, beside Colab's IPython and ipywidgets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Colab's, and what they need that newer ones do not. The rest is the environment's own.
COLAB = [
    "ipywidgets==7.7.1", "ipykernel==6.17.1", "ipython==7.34.0",
    "backcall", "decorator", "ipython-genutils", "nest-asyncio", "pickleshare",
]  # fmt: skip


def pip_install(folder: Path, *what: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    patience = ["--retries", "0", "--timeout", "10"]  # without a network the answer comes soon
    command += [*patience, "--target", folder, *what]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def install(folder: Path) -> None:
    """Builds the wheel and installs it there; and Colab's own versions, where pip can have them.

    They run on Linux, like Colab, and up to its Python. Elsewhere, without a network, and where pip is told to keep
    other versions (the lowest ones, say) the environment's own IPython and ipywidgets are used.
    """
    result = pip_install(folder, str(ROOT))
    if result.returncode:
        raise RuntimeError(f"the wheel could not be built and installed:\n{result.stderr}")
    startup = folder / "colab" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "colab_startup.ipy", startup)
    if sys.platform == "linux" and sys.version_info < (3, 14):
        pip_install(folder, *COLAB)


def environment(folder: Path) -> dict[str, str]:
    """What a process needs in `os.environ` to find only what `install` put there, and to take itself for Colab."""
    return {
        "PYTHONPATH": str(folder),
        "IPYTHONDIR": str(folder / "colab"),
        "PIXELHELPERS_DATA": os.environ.get("PIXELHELPERS_DATA", str(ROOT / "data")),  # not downloaded once more
    }
