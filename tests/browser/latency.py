"""How soon the studio answers: from letting go of the mouse to the first row on the screen.

    python -m pytest tests/browser/latency.py -s

prints the medians of twenty strokes, with the quartiles, for PixelCNN and PixelCNN++ of clothes. Leave the machine idle
meanwhile. Nothing is asserted about them: another machine has other numbers.
"""

import statistics

import pytest

from tests.browser.test_studio import BOARD, finished, open_cells, stroke

STROKES = 20
CELL = "import pixelhelpers as ph\n\nph.widgets.studio()"
# The page notes when the mouse was let go of, and when the first rows came.
WATCH = """() => {
    const root = document.querySelector('.px');
    let start = null;
    window.waits = [];
    document.addEventListener('pointerup', () => start = performance.now(), true);
    new MutationObserver(() => {
        if (start === null || root.dataset.painting === 'asked') return;
        window.waits.push(performance.now() - start);
        start = null;
    }).observe(root, {attributes: true, attributeFilter: ['data-painting']});
}"""
RUN = """async code => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel, start = performance.now();
    await kernel.requestExecute({code}).done;
    return performance.now() - start;
}"""


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.0f} ms (quartiles {low:.0f} and {high:.0f}, {len(values)} tries)"


@pytest.mark.parametrize("name", ["pixelcnn-fashion-mnist", "plusplus-fashion-mnist"])
def test_how_soon_it_answers(page, lab, folder, name):
    open_cells(page, lab, folder, CELL)
    page.get_by_role("button", name="clear").click()
    page.get_by_label("model").select_option(label=name)
    finished(page)
    page.locator(BOARD).scroll_into_view_if_needed()
    page.evaluate(WATCH)
    others = []
    for number in range(STROKES):
        row = 2 + number % 8
        stroke(page, (row, 8), (row, 18))
        others.append(page.evaluate(RUN, "1 + 1"))
        finished(page)
    waits = page.evaluate("window.waits")
    assert len(waits) == STROKES
    print(f"\n{name}: first row after {quartiles(waits)}; another cell meanwhile after {quartiles(others)}")
