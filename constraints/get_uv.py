"""Gets uv, and makes it use the indexes, mirrors and certificates that pip is configured with (uv reads no pip.conf).

uv is pinned with hashes in tools.txt and comes from PyPI into `.venv-tools`. pip is needed for that alone. What pip is
configured with is handed to uv through its environment and written nowhere. Runs on any Python >= 3.8.
"""

import ast
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

OLDEST_PIP = (20, 0)  # older ones do not know the tag of uv's wheel


class SetupError(Exception):
    """What is wrong and what to do, in one line."""


def say(line: str) -> None:
    print(f"[setup] {line}", flush=True)


def run(command: Sequence[str], environ: Mapping[str, str], hint: str) -> None:
    """Runs a command whose messages the user sees.

    Raises:
        SetupError: it failed; `hint` says what to do.
    """
    code = subprocess.run(list(command), env=dict(environ)).returncode
    if code:
        verb = " ".join(word for word in command[1:3] if not word.startswith("-"))
        raise SetupError(f"`{Path(command[0]).name} {verb}` failed ({code}), its message is above. {hint}.")


def ready_uv(root: Path, pythons: Iterable[str]) -> Tuple[str, Dict[str, str]]:
    """Returns a uv and the environment to run it in: `PIP_FIND_LINKS` in it is pip's setting, which uv does not read.

    Args:
        root: the project's folder.
        pythons: interpreters that may have a pip, or may be able to make themselves one.

    Raises:
        SetupError: there is no way to get one.
    """
    tools = root / ".venv-tools"
    tools.mkdir(exist_ok=True)
    pip = find_pip(pythons, tools)
    config = subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE).stdout.decode() if pip else ""
    uv = install_uv(tools, root / "constraints" / "tools.txt", pip)
    settings = pip_settings(config, os.environ)
    links = {"PIP_FIND_LINKS": settings.get("find-links", "")}
    return uv, {**os.environ, **uv_environment(settings, os.environ), **links}


def find_pip(pythons: Iterable[str], tools: Path) -> Optional[List[str]]:
    """Returns the command of a pip: of the first Python that has one, else of one that can make itself one."""
    tried = list(dict.fromkeys(pythons))
    for python in tried:
        if _pip_version([python, "-m", "pip"]) >= OLDEST_PIP:
            return [python, "-m", "pip"]
    for python in tried:
        home = tools / "pip"
        made = subprocess.run(
            [python, "-m", "venv", "--clear", str(home)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        command = [str(home / "bin" / "python"), "-m", "pip"]
        if made.returncode == 0 and _pip_version(command) >= OLDEST_PIP:
            return command
    return None


def _pip_version(command: Sequence[str]) -> Tuple[int, ...]:
    try:
        answer = subprocess.run([*command, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return (0,)
    words = answer.stdout.decode().split()  # "pip 23.0.1 from ..."
    numbers = words[1].split(".") if answer.returncode == 0 and len(words) > 1 else []
    return tuple(int(part) for part in numbers if part.isdigit()) or (0,)


def pip_settings(config_list: str, environ: Mapping[str, str]) -> Dict[str, str]:
    """Returns pip's settings by bare name, from the lines of `pip config list` and the environment, which wins."""
    settings = {}  # type: Dict[str, str]
    for section in ("global", "install", ":env:"):
        for line in config_list.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(section + "."):
                settings[key[len(section) + 1 :]] = str(ast.literal_eval(value))
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def uv_environment(pip: Dict[str, str], environ: Mapping[str, str]) -> Dict[str, str]:
    """Returns the variables that make uv use what pip is configured with; variables already set win.

    Not pip's extra indexes and find-links: all that is locked is public, and uv would take a file from the first place
    that has the version, though another has the wheel for this platform.
    """
    wanted = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    return {name: value for name, value in wanted.items() if value and not environ.get(name)}


def install_uv(tools: Path, pin: Path, pip: Optional[List[str]]) -> str:
    """Returns the uv that `pin` names, installing it under `tools` the first time; without a pip, the one on PATH.

    Raises:
        SetupError: there is no way to get one.
    """
    home = tools / f"uv-{hashlib.sha256(pin.read_bytes()).hexdigest()[:12]}"
    uv = home / "bin" / "uv"
    if uv.exists():
        return str(uv)
    if pip is None:
        found = shutil.which("uv")
        if found:
            say(f"no Python here has pip: using {found} instead of the pinned uv")
            return found
        raise SetupError(
            "no Python here has pip or can make itself one, and there is no uv. Install one and run again: "
            "`apt install python3-venv` (Debian, Ubuntu), `dnf install python3-pip` (Fedora, RHEL), or uv itself."
        )
    say(f"getting uv (pinned in constraints/{pin.name})")
    partial = tools / "uv.partial"
    shutil.rmtree(str(partial), ignore_errors=True)
    options = ["--target", str(partial), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    # A user-wide `user = true` or `require-virtualenv = true` is meant for other installs than one into a folder.
    environ = dict(os.environ, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_ROOT_USER_ACTION="ignore")
    run([*pip, "install", "--quiet", "--no-input", *options, "-r", str(pin)], environ, "uv could not be installed")
    os.replace(str(partial), str(home))
    return str(uv)
