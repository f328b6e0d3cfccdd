"""Makes `.venv-peers`, which holds the detectors the benchmark compares with. Called by `make peers`.

    python3 constraints/setup_peers.py

They have an environment of their own so that they burden nobody who does not compare: alibi-detect asks for a NumPy
below 2 and a TensorFlow other than TFX's, PyOD's AutoEncoder for PyTorch. Made as setup.py makes `.venv`: from a lock
file, hashes checked, nothing to do when it is complete. One Python on every machine, so that figures compare.

PyTorch on PyPI is the build for CUDA, with gigabytes of libraries that a CPU has no use for. The CPU build lies on
PyTorch's own index, which uv knows. Without it the wheel comes from a folder: PIP_FIND_LINKS=FOLDER.
"""

import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Mapping

from find_python import choose_python, pythons_with_pip
from get_uv import ready_uv, say
from setup import (
    ROOT,
    choose_stack,
    ensure,
    fingerprint,
    finish,
    guarded,
    install,
    machine_libc,
)

#: The newest that alibi-detect and all it needs have wheels for, and TFX of either stack runs on.
PYTHON = "3.11"
TARGET = ("--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_34")
LOCK = Path("constraints") / "peers.txt"

_LOAD = """
import platform, alibi_detect, alibi_detect.od, pyod.models.auto_encoder, pyod.version, tensorflow, torch
print(f"Python {platform.python_version()}, alibi-detect {alibi_detect.__version__}, PyOD {pyod.version.__version__}, "
      f"TensorFlow {tensorflow.__version__}, PyTorch {torch.__version__}")
"""


def with_cpu_torch(uv: str, environ: Mapping[str, str], requirements: str) -> Dict[str, str]:
    """Returns `environ` with what makes uv find PyTorch's CPU build; what is set for uv already wins.

    Where pip is configured to find links and the build is among them, it comes from there, else from PyTorch's index.

    Args:
        uv: from `ready_uv`.
        environ: from `ready_uv`.
        requirements: text with a line that pins torch.
    """
    if environ.get("UV_FIND_LINKS") or environ.get("UV_TORCH_BACKEND"):
        return dict(environ)
    pin = re.search(r"^torch==\S+", requirements, re.MULTILINE)
    links = environ.get("PIP_FIND_LINKS", "").split()
    if pin and links:
        found = {**environ, "UV_FIND_LINKS": ",".join(links)}
        look = [uv, "pip", "compile", "-", "--quiet", "--no-deps", "--no-index", *TARGET]
        answer = subprocess.run(
            look, input=pin[0].encode(), env=found, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if answer.returncode == 0:
            return found
    return {**environ, "UV_TORCH_BACKEND": "cpu"}


def build(root: Path) -> None:
    """Makes `.venv-peers` anew.

    Raises:
        SetupError: says which step failed and what to do.
    """
    started = time.monotonic()
    venv, lock = root / ".venv-peers", root / LOCK
    python, what = choose_python([PYTHON])
    say(f"the peers on Python {what}")
    uv, environ = ready_uv(root, pythons_with_pip())
    install(uv, with_cpu_torch(uv, environ, lock.read_text()), venv, python, PYTHON, [lock])
    versions = finish(venv, fingerprint(root, "peers", [lock]), "what it holds", _LOAD)
    say(f"ready in {time.monotonic() - started:.0f} s: .venv-peers with {versions}")


def main() -> None:
    choose_stack(platform.system(), platform.machine(), machine_libc())  # where TFX has no wheels, the peers have none
    if not ensure(ROOT, ROOT / ".venv-peers", fingerprint(ROOT, "peers", [ROOT / LOCK]), lambda: build(ROOT)):
        say("nothing to do: .venv-peers holds the peers as locked")


if __name__ == "__main__":
    sys.exit(guarded(main))
