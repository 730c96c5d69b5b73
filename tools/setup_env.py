"""Make .venv and install the project in it; `make lab` and `make test` start with this.

Standard library only, and no syntax that an old Python cannot read: "too old" is said in words.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "installed-from.txt")
EXTRAS = "notebooks,test,tensorboard"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
GIGABYTES = {"CPU": 2, "CUDA": 9}  # at the peak, with the wheels not yet deleted

with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
    PROJECT = file.read().decode("utf-8")
OLDEST = tuple(int(n) for n in re.search(r'requires-python = ">=(\d+)\.(\d+)', PROJECT).groups())


def say(text):
    sys.stdout.write("setup: " + text + "\n")
    sys.stdout.flush()


def stop(text):
    sys.exit("setup: " + text)


if sys.version_info < OLDEST:
    stop(
        "Python %d.%d or newer is needed, and %s is Python %d.%d. Install a newer one"
        " (https://www.python.org/downloads) and name it: make lab PYTHON=/path/to/python3"
        % (OLDEST + (sys.executable,) + tuple(sys.version_info[:2]))
    )

import glob  # noqa: E402  (an old Python has been sent away by now)
import hashlib  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402


def fingerprint():
    """What .venv is made from: this folder and the part of pyproject.toml that pip reads."""
    made_from = ROOT + "\n" + PROJECT.split("\n[tool.")[0]
    return hashlib.sha256(made_from.encode("utf-8")).hexdigest()


def venv_can(code):
    try:
        return subprocess.call([PYTHON, "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def up_to_date():
    if not os.path.exists(STAMP):
        return False
    with open(STAMP) as file:
        return file.read() == fingerprint() and venv_can("pass")


def make_venv():
    if venv_can("import sys, pip; sys.exit(sys.version_info < %r)" % (OLDEST,)):
        return
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        stop(
            "%s cannot make virtual environments: its venv module is incomplete. On Debian and"
            " Ubuntu: sudo apt install python%d.%d-venv; then run the command again."
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )
    say("making .venv with Python %s" % sys.version.split()[0])
    # A .venv that runs but has no pip is somebody's own: it gets pip and keeps what it has.
    venv.create(VENV, with_pip=True, clear=not venv_can("pass"))


def pip(*arguments):
    return subprocess.call([PYTHON, "-m", "pip"] + list(arguments), cwd=ROOT) == 0


def require_space(build):
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES[build]:
        stop(
            "not enough disk space in %s: PyTorch's %s build and the rest need about %s GB,"
            " %.1f GB are free. Make room, then run the command again." % (ROOT, build, GIGABYTES[build], free)
        )


def wants_cpu_wheels():
    """On Linux the default wheels bring CUDA along: without an NVIDIA GPU, 5 GB for nothing."""
    has_gpu = os.path.exists("/proc/driver/nvidia") or shutil.which("nvidia-smi")
    settings = subprocess.check_output([PYTHON, "-m", "pip", "config", "list"]).decode()
    chose_index = re.search(r"\.(index-url|no-index)=", settings)  # then pip is left to it
    return sys.platform == "linux" and not has_gpu and not chose_index


def install_cpu_torch():
    """Install PyTorch from its own index; False when that index does not have it for us."""
    require_space("CPU")
    say("no NVIDIA GPU found; looking for PyTorch's CPU build at %s" % CPU_WHEELS)
    wheels = ["--index-url", CPU_WHEELS] + re.findall(r'"(torch(?:vision)?[<>=][^"]*)"', PROJECT)
    look = [PYTHON, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--report", "-"]
    look += ["--retries", "0", "--timeout", "5", "--disable-pip-version-check"]
    # A source in the user's own settings may answer instead, with other builds.
    try:
        report = json.loads(subprocess.check_output(look + wheels, stderr=subprocess.DEVNULL))
    except subprocess.CalledProcessError:
        return False
    found = [package["metadata"]["version"] for package in report["install"]]
    has_cpu_build = bool(found) and all(version.endswith("+cpu") for version in found)
    return has_cpu_build and pip("install", *wheels)


def install():
    pip("install", "--quiet", "pip>=23")  # the one in Python 3.10.0 knows too little
    if not glob.glob(os.path.join(VENV, "lib", "*", "site-packages", "torch")):
        if not wants_cpu_wheels():
            require_space("CUDA" if sys.platform == "linux" else "CPU")
        elif not install_cpu_torch():
            require_space("CUDA")
            say("no CPU build to be had there; taking the default one (%s GB)" % GIGABYTES["CUDA"])
    if not pip("install", "--editable", ".[%s]" % EXTRAS):
        stop(
            "pip could not install the project; its message stands above. Running the command"
            " again goes on from here. If it found no matching torch: PyTorch has wheels for 64-bit"
            " Linux, Windows and Apple silicon; elsewhere use conda (README)."
        )


def main():
    if up_to_date():
        return
    started = time.time()
    make_venv()
    install()
    with open(STAMP, "w") as file:
        file.write(fingerprint())
    say("done in %d s" % (time.time() - started))


if __name__ == "__main__":
    main()
