"""Install what the tests in a real browser need, Chromium and playwright, which drives it; `make browser` starts so."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome")  # as distributions call it
DEBIAN = Path("/etc/debian_version")


def say(text: str) -> None:
    print(f"browser: {text}", flush=True)


def chromium() -> str | None:
    """The browser's program: the system's own, or else the one that playwright downloaded."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    if find_spec("playwright") is None:
        return None
    code = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    path = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    return path if os.path.exists(path) else None


def missing() -> str | None:
    """What the tests would lack, in words; nothing where all is there."""
    if find_spec("playwright") is None:
        return "playwright is not installed: make browser, or pip install -e '.[browser]'"
    if chromium() is None:
        return "no Chromium here: make browser, or install it with your system's package manager"
    return None


def run(*command: str) -> bool:
    """Runs a command and shows what it says; whether it succeeded."""
    say(" ".join(command))
    try:
        return subprocess.call(command, cwd=ROOT) == 0
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return False


def install_chromium() -> None:
    """By Debian's package manager where we may use it; otherwise playwright downloads its own."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and DEBIAN.exists() and shutil.which("apt-get"):
        packages = ("chromium", "fonts-dejavu-core")
        if run("apt-get", "update", "-qq") and run("apt-get", "install", "-qq", "--no-install-recommends", *packages):
            return
        say("the package manager could not install it; its message stands above")
    with_libraries = ("--with-deps",) if root else ()
    run(sys.executable, "-m", "playwright", "install", *with_libraries, "chromium")


def main() -> None:
    if find_spec("playwright") is None and not run(
        sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[browser]"
    ):
        sys.exit("browser: pip could not install playwright; its message stands above")
    if chromium() is None:
        install_chromium()
    program = chromium()
    if program is None or not run(program, "--version"):
        sys.exit("browser: there is no Chromium that starts; the reason stands above")


if __name__ == "__main__":
    main()
