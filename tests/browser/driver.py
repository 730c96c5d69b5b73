"""What the tests in a browser do on a page of JupyterLab: wait for its kernel, run cells."""

import time

TOKEN = "newcomer"
SECOND = 1000  # playwright counts milliseconds
# Before there is a session, the kernel's indicator says "idle", too.
READY = """async path => {
    const widget = window.jupyterapp?.shell.currentWidget, session = widget?.sessionContext;
    if (!session || widget.context.path !== path) return false;
    await session.ready;
    return session.session?.kernel?.connectionStatus === 'connected' && session.session.kernel.status === 'idle'
        && widget.content.widgets.every(cell => !cell.isPlaceholder());
}"""
# The page keeps the promise: one that only the test waits for may be collected while cells run.
EXECUTE = """command => {
    window.finished = undefined;
    window.run = window.jupyterapp.commands.execute(command);
    window.run.then(success => window.finished = Boolean(success), () => window.finished = false);
}"""


def open_notebook(page, lab: str, name: str) -> None:
    page.goto(f"{lab}/lab/tree/{name}?token={TOKEN}&reset")
    wait_until_ready(page, name)


def wait_until_ready(page, name: str) -> None:
    for _ in range(240):
        if page.evaluate(READY, name):
            return
        time.sleep(0.5)
    raise AssertionError("the kernel did not start, or not all cells were drawn")


def execute(page, command: str) -> None:
    page.evaluate(EXECUTE, command)
    page.wait_for_function("window.finished !== undefined", timeout=600 * SECOND)
    assert page.evaluate("window.finished"), "a cell failed"
