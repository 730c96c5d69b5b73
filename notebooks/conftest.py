"""How pytest runs the notebooks: once, as on Colab; every picture must come, and no warning.

nbval runs them. Their kernel knows the package only as an installed wheel (`tests/elsewhere.py`).
In the checkout they run when outputs are stored (`make notebooks`) and in a browser's tests.
"""

import functools
import tempfile
from pathlib import Path

import pytest

from tests import elsewhere


@functools.cache
def installed() -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory()
    elsewhere.install(Path(folder.name))
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """A notebook gets its kernel before its first cell. Other tests keep their environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in elsewhere.environment(Path(installed().name)).items():
            patch.setenv(name, value)
        return (yield)


def pictures(outputs: list) -> int:
    """How many outputs show one. ipywidgets 7 sends a widget without the still that 8 adds."""
    shown = [output.get("data", {}) for output in outputs]
    widget = "application/vnd.jupyter.widget-view+json"
    return sum("<img" in data.get("text/html", "") or widget in data for data in shown)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """nbval sees errors, and compares cells that ask for it; this looks at all others, too."""
    result = yield
    lost = pictures(item.cell.outputs) - pictures(item.test_outputs)
    if lost > 0:
        item.raise_cell_error(f"{lost} of the pictures that are stored did not come")
    for output in item.test_outputs:
        if output.get("name") == "stderr":
            item.raise_cell_error(f"a warning: {output.text}")
    return result
