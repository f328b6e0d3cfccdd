"""Makes `.venv`, the environment everything here runs in. Called by `make setup`, needs nothing but a Python >= 3.8.

    python3 constraints/setup.py [--quiet]

Which TFX a machine can run is decided by its C library (docs/adr/0001-two-software-stacks.md), so this picks the
stack, finds a Python for it, gets uv from PyPI into `.venv-tools`, and installs exactly what the lock files beside this
file name, hashes checked. A second run has nothing to do; a run after an interrupted one starts the environment anew
from uv's cache. Indexes, mirrors and certificates that pip is configured with are handed to uv, and written nowhere.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from find_python import NEEDS_COMPILER, choose_python, pythons_with_pip
from get_uv import SetupError, ready_uv, run, say

ROOT = Path(__file__).resolve().parent.parent


class Stack(NamedTuple):
    """A TFX release with the lock files and the Pythons it has wheels for, the preferred one first."""

    tfx: str
    pythons: Tuple[str, ...]

    def locks(self, root: Path) -> List[Path]:
        return [root / "constraints" / name for name in (f"tfx-{self.tfx}.txt", f"tfx-{self.tfx}-dev.txt")]


NEW = Stack("1.21", ("3.13", "3.12", "3.11"))
OLD = Stack("1.16", ("3.11",))
NEW_NEEDS_GLIBC = (2, 38)
OLD_NEEDS_GLIBC = (2, 34)


# --- which stack --------------------------------------------------------------------------------------


def choose_stack(system: str, machine: str, libc: str) -> Tuple[Stack, str]:
    """Returns the stack for a machine and why, given `uname`'s system and machine and e.g. "glibc 2.36".

    Raises:
        SetupError: TFX has no wheels for such a machine.
    """
    name, _, version = libc.partition(" ")
    glibc = tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()
    if system != "Linux" or machine != "x86_64" or glibc < OLD_NEEDS_GLIBC:
        this = f"{system} {machine} {libc or 'without glibc'}"
        oldest = _dotted(OLD_NEEDS_GLIBC)
        raise SetupError(
            f"TFX has wheels for Linux on x86-64 with glibc {oldest} or newer only, and this is {this}. "
            "Build Dockerfile.pipeline with `docker build --platform linux/amd64` instead."
        )
    if glibc >= NEW_NEEDS_GLIBC:
        return NEW, f"this machine's glibc is {version}, at least {_dotted(NEW_NEEDS_GLIBC)}"
    return OLD, f"this machine's glibc is {version}, and newer TFX needs {_dotted(NEW_NEEDS_GLIBC)}"


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)


def machine_libc() -> str:
    """Returns e.g. "glibc 2.36", or "" where the C library is another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


# --- the environment ------------------------------------------------------------------------------------------------


def fingerprint(root: Path, name: str, locks: Iterable[Path]) -> str:
    """Returns the digest of all that an environment is made from: lock files, and where it is (its scripts hold that).

    Args:
        root: the project's folder.
        name: what it is for.
        locks: the lock files.
    """
    digest = hashlib.sha256(f"{root}\n{name}\n".encode())
    for lock in locks:
        digest.update(lock.read_bytes())
    return digest.hexdigest()


def is_ready(venv: Path, wanted: str) -> bool:
    """True when `venv` was finished for the fingerprint `wanted` and its Python has not moved since."""
    python = venv / "bin" / "python"
    try:
        stamped = (venv / ".complete").read_text()
    except OSError:
        return False
    return os.access(str(python), os.X_OK) and stamped == _stamp(python, wanted)


def _stamp(python: Path, wanted: str) -> str:
    return f"{wanted}\n{os.path.realpath(str(python))}\n"


def install(uv: str, environ: Mapping[str, str], venv: Path, python: str, hint: str, locks: Sequence[Path]) -> None:
    """Makes `venv` anew with what is locked. It counts as complete after `finish`.

    Args:
        uv: from `ready_uv`.
        environ: what to run it in.
        venv: the environment's folder.
        python: from `choose_python`.
        hint: which Python to install where that one cannot be had.
        locks: the lock files.

    Raises:
        SetupError: says which step failed and what to do.
    """
    no_python = f"Install Python {hint} (from your distribution, or with pyenv) and run again"
    run([uv, "venv", "--quiet", "--clear", "--python", python, str(venv)], environ, no_python)
    say("installing what is locked in " + " and ".join(f"constraints/{lock.name}" for lock in locks))
    again = "Run it again: what was downloaded is kept"
    # Compiled now, on all cores, or every command would: TFX's imports take 30 s from source and 11 s compiled, and
    # where PYTHONDONTWRITEBYTECODE is set, as it is in many containers, they would never be compiled.
    sync = [uv, "pip", "sync", "--python", str(venv / "bin" / "python"), "--require-hashes", "--compile-bytecode"]
    run([*sync, *map(str, locks)], environ, again)


def finish(venv: Path, wanted: str, what: str, load: str) -> str:
    """Marks `venv` as complete for the fingerprint `wanted` if `what` loads; returns what the code `load` printed last.

    Raises:
        SetupError: it does not load.
    """
    say(f"checking that {what} loads")
    environ = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    python = venv / "bin" / "python"
    answer = subprocess.run([str(python), "-W", "ignore", "-c", load], capture_output=True, env=environ)
    if answer.returncode:
        last = (answer.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise SetupError(f"everything is installed but {what} does not load: {last}")
    (venv / ".complete").write_text(_stamp(python, wanted))
    return answer.stdout.decode().strip().splitlines()[-1]


_LOAD = """
import platform, tensorflow, tensorflow_data_validation, tfx.version
print(f"Python {platform.python_version()}, TFX {tfx.version.__version__}, TensorFlow {tensorflow.__version__}")
"""


def build(root: Path, stack: Stack, reason: str) -> None:
    """Makes `.venv` anew for `stack`.

    Raises:
        SetupError: says which step failed and what to do.
    """
    started = time.monotonic()
    python, what = choose_python(stack.pythons)
    say(f"TFX {stack.tfx} on Python {what}, because {reason}")
    uv, environ = ready_uv(root, pythons_with_pip())
    choice = " or ".join(f"{m} with gcc and its headers" if m in NEEDS_COMPILER else m for m in stack.pythons)
    install(uv, environ, root / ".venv", python, choice, stack.locks(root))
    versions = finish(root / ".venv", fingerprint(root, stack.tfx, stack.locks(root)), "TFX", _LOAD)
    say(f"ready in {time.monotonic() - started:.0f} s: .venv with {versions}")


@contextlib.contextmanager
def alone(tools: Path) -> Iterator[None]:
    """Lets one setup of this folder run at a time; a second one waits."""
    tools.mkdir(exist_ok=True)
    with open(str(tools / "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another setup of this folder is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(root: Path, venv: Path, wanted: str, make: Callable[[], None]) -> bool:
    """Calls `make` unless `venv` is complete for the fingerprint `wanted`; returns whether it did.

    Raises:
        SetupError: it could not be made.
    """
    if is_ready(venv, wanted):
        return False
    with alone(root / ".venv-tools"):
        if not is_ready(venv, wanted):
            make()
    return True


def guarded(main: Callable[[], None]) -> int:
    """Runs `main`; returns the exit code, and says in one line what is wrong if something is."""
    if tuple(int(part) for part in platform.python_version_tuple()[:2]) < (3, 8):
        print(f"[setup] error: this is Python {platform.python_version()}; run it with 3.8 or newer", file=sys.stderr)
        return 1
    try:
        main()
    except SetupError as error:
        print(f"[setup] error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[setup] stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes .venv for this machine; instant when nothing has changed.")
    parser.add_argument("--quiet", action="store_true", help="print nothing when there is nothing to do")
    quiet = parser.parse_args().quiet
    stack, reason = choose_stack(platform.system(), platform.machine(), machine_libc())
    wanted = fingerprint(ROOT, stack.tfx, stack.locks(ROOT))
    if not ensure(ROOT, ROOT / ".venv", wanted, lambda: build(ROOT, stack, reason)) and not quiet:
        say(f"nothing to do: .venv holds TFX {stack.tfx} as locked, because {reason}")
    if not quiet:
        say("next: `make demo` runs everything on real ECG, `make test` the tests, `make help` lists the rest")


if __name__ == "__main__":
    sys.exit(guarded(main))
