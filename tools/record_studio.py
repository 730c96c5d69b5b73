"""Record the studio as .github/studio.gif: a collar is drawn, the model makes the shirt, a pixel is asked.

python tools/record_studio.py     needs Fashion-MNIST, Chromium, and the extra `browser`
"""

import base64
import io
import queue
import shutil
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import pixelhelpers as ph
from pixelhelpers.widgets.live import SCRIPT
from pixelhelpers.widgets.studio import Studio

GIF = Path(__file__).resolve().parents[1] / ".github" / "studio.gif"
# The studio in a page of its own: in place of the notebook's kernel stands `toKernel`, which Python answers.
PAGE = """<body style="margin: 8px 12px; background: white"><script type="module">
const ears = [], text = await (await fetch("studio.js")).text();
const studio = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
const b64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const un64 = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
window.fromKernel = (message, buffers) => ears.forEach((ear) => ear(message, buffers.map(un64)));
const facts = await window.facts();
const model = {
  get: (name) => (name === "kind" ? "studio" : facts),
  send: (message, _, buffers = []) => window.toKernel(message, buffers.map(b64)),
  on: (_, ear) => ears.push(ear),
  off: () => {},
};
studio.default.render({ model, el: document.body });
</script></body>"""
STROKES = [
    [(2, 7), (2, 10)],
    [(4, 5), (4, 11)],
    [(2, 17), (2, 20)],
    [(4, 16), (4, 22)],
    [(6, 4), (6, 23)],
]


class Recorder:
    """A page with the studio, and what was seen of it: pictures, each with how long it is shown, in milliseconds."""

    def __init__(self, page, desk: Studio):
        self.page, self.desk, self.told, self.frames = page, desk, queue.Queue(), []
        desk.tell = lambda message, buffers=(): self.told.put((message, buffers))
        page.expose_function("facts", lambda: desk.facts)
        page.expose_function(
            "toKernel", lambda message, buffers: desk.hear(message, list(map(base64.b64decode, buffers)))
        )
        page.route("http://studio/", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.route("http://studio/studio.js", lambda route: route.fulfill(path=SCRIPT))
        page.goto("http://studio/")
        page.locator("canvas.draws").wait_for()

    def see(self, milliseconds: int) -> None:
        picture = Image.open(io.BytesIO(self.page.screenshot()))
        self.frames.append((picture.convert("RGB"), milliseconds))

    def hear(self, until: str, milliseconds: int = 0) -> None:
        """Passes on what the desk tells, until it says this; with a time it takes a picture of each message."""
        while True:
            message, buffers = self.told.get(timeout=120)
            assert message["say"] != "trouble", message["text"]
            parts = [base64.b64encode(buffer).decode() for buffer in buffers]
            self.page.evaluate("([message, parts]) => fromKernel(message, parts)", [message, parts])
            if milliseconds and message["say"] != "begun":
                self.see(milliseconds)
            if message["say"] == until:
                return

    def settle(self) -> None:
        """Waits until nothing is painted any more, and passes on what was told meanwhile."""
        time.sleep(0.2)
        with self.desk.drawings.running:
            self.told.put(({"say": "settled"}, ()))
        self.hear("settled")

    def stroke(self, pixels: list[tuple[int, int]]) -> None:
        box = self.page.locator("canvas.draws").bounding_box()
        spots = [
            (box["x"] + (c + 0.5) * box["width"] / 28, box["y"] + (r + 0.5) * box["height"] / 28) for r, c in pixels
        ]
        self.page.mouse.move(*spots[0])
        self.page.mouse.down()
        self.see(90)
        for spot in spots[1:]:
            self.page.mouse.move(*spot, steps=8)
            self.see(90)
        self.page.mouse.up()
        self.page.wait_for_timeout(50)

    def save(self, path: Path) -> None:
        pictures = [picture.quantize(80, dither=Image.Dither.NONE) for picture, _ in self.frames]
        times = [milliseconds for _, milliseconds in self.frames]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)


def main() -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    desk = Studio(images=ph.load_images(fallback=False))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 940, "height": 560})
        recorder = Recorder(page, desk)
        page.get_by_label("model").select_option("plusplus-fashion-mnist")
        recorder.settle()
        page.get_by_label("class").select_option("Shirt")
        page.get_by_label("line at row").fill("8")
        page.get_by_role("button", name="clear").click()
        recorder.settle()
        recorder.see(600)
        for pixels in STROKES[:-1]:
            recorder.stroke(pixels)
            recorder.settle()
        recorder.stroke(STROKES[-1])
        recorder.hear("done", 100)
        recorder.see(2000)
        page.get_by_label("completion 3", exact=True).click(position={"x": 60, "y": 90})
        page.wait_for_timeout(50)
        recorder.hear("seen")
        recorder.see(3000)
        browser.close()
    recorder.save(GIF)
    print(f"{GIF}: {len(recorder.frames)} pictures, {GIF.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
