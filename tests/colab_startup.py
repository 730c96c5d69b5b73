"""Makes a kernel look like Colab's; IPython runs this file when the kernel starts (`tests/elsewhere.py`)."""

import os
import sys
import tempfile
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path

sys.modules["google.colab"] = module_from_spec(ModuleSpec("google.colab", loader=None))
os.chdir(tempfile.mkdtemp())  # Colab's /content: no notebook lies there, and no checkout around it

# An editable installation has the checkout on the path: then what the wheel lacks would be found all the same.
installed = Path(os.environ["PYTHONPATH"])
sys.path[:] = [
    path for path in sys.path if Path(path) == installed or not (Path(path) / "pixelhelpers" / "__init__.py").exists()
]


def pip(line: str) -> None:
    """Stands for `%pip`: the set-up cell may install what is installed already, and nothing else."""
    if not line.startswith("install -q git+https://github.com/"):
        raise ValueError(f"the set-up cell asks for something else: {line}")


get_ipython().register_magic_function(pip)  # noqa: F821  (IPython has it)
