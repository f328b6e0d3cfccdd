"""Finds a Python on this machine: on PATH, then among pyenv's versions, else the version that uv is to download.

An executable is asked what it is, because shims and links say little. Runs on any Python >= 3.8.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

NEEDS_COMPILER = ("3.13",)  # pyedflib has no wheel for it
MAY_HAVE_PIP = ("3.13", "3.12", "3.11", "3.10", "3.9", "3.8")


class Interpreter(NamedTuple):
    path: str
    version: str
    headers: bool = True  # whether C can be compiled for it

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


_PROBE = """
import ctypes, os, platform, ssl, sys, sysconfig, zlib
usable = platform.python_implementation() == "CPython" and sys.maxsize > 2**32 and not sys.abiflags
print(getattr(sys, "_base_executable", None) or sys.executable if usable else "")
print("%d.%d.%d" % sys.version_info[:3])
print(os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
"""


def probe(path: str) -> Optional[Interpreter]:
    """Returns the interpreter that answers at `path`, or None: broken, a shim of nothing, or not one with wheels."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = answer.stdout.decode().splitlines()
    if answer.returncode or len(lines) != 3 or not lines[0]:
        return None
    return Interpreter(lines[0], lines[1], lines[2] == "True")


def places(minors: Sequence[str], path: str, pyenv_root: Path) -> Iterator[Tuple[str, str]]:
    """Yields (executable, where it is) of Pythons that may be one of `minors`: PATH first, then pyenv's versions."""
    folders = [Path(folder) for folder in path.split(os.pathsep) if folder]
    for name in [f"python{minor}" for minor in minors] + ["python3", "python"]:
        for folder in folders:
            if os.access(str(folder / name), os.X_OK):
                yield str(folder / name), "on PATH"
    for minor in minors:
        for version in sorted((pyenv_root / "versions").glob(minor + ".*"), key=_numbers, reverse=True):
            if os.access(str(version / "bin" / "python"), os.X_OK):
                yield str(version / "bin" / "python"), "of pyenv"


def _numbers(version: Path) -> List[int]:
    return [int(part) if part.isdigit() else -1 for part in version.name.split(".")]


def find_python(
    pythons: Sequence[str],
    candidates: Iterable[Tuple[str, str]],
    compiler: bool,
    ask: Callable[[str], Optional[Interpreter]] = probe,
) -> Tuple[str, str]:
    """Returns what uv is to make the environment from, a path or a version to download, and a line that says so.

    Args:
        pythons: the versions that will do, the preferred one first.
        candidates: executables that may do, the preferred one first, with where they are.
        compiler: whether there is a C compiler, which one of the Pythons needs.
        ask: asks an executable what it is.
    """
    passed_over = ""
    for executable, where in candidates:
        found = ask(executable)
        if found and found.minor in pythons:
            if found.minor not in NEEDS_COMPILER or (compiler and found.headers):
                return found.path, f"{found.version} ({found.path}, {where}){passed_over}"
            passed_over = f" ({found.path} is passed over: it needs gcc and Python's headers, for pyedflib)"
    download = next(minor for minor in pythons if compiler or minor not in NEEDS_COMPILER)
    return download, f"{download} that uv downloads{passed_over}"


def choose_python(pythons: Sequence[str]) -> Tuple[str, str]:
    """Returns what `find_python` does, for this machine."""
    compiler = bool(shutil.which("cc") or shutil.which("gcc"))
    return find_python(pythons, _places_here(pythons), compiler)


def pythons_with_pip() -> List[str]:
    """Returns this machine's interpreters that may have a pip."""
    return [sys.executable] + [python for python, _ in _places_here(MAY_HAVE_PIP)]


def _places_here(minors: Sequence[str]) -> Iterator[Tuple[str, str]]:
    pyenv_root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return places(minors, os.environ.get("PATH", ""), pyenv_root)
