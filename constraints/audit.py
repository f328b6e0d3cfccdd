"""Lists what is installed (SBOM, CycloneDX 1.6), and asks PyPI which of it has known vulnerabilities. `make audit`.

    .venv/bin/python constraints/audit.py [--sbom-only]

The SBOMs are made from the lock files, without a network: build/sbom/NAME.cdx.json. The audit asks PyPI's JSON
API, which a mirror need not have; what could not be audited it says, and ends with code 5.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from get_uv import SetupError, ready_uv, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-audit"
LOCK = ROOT / "constraints" / "audit.txt"
LOCKS = ("tfx-1.21", "tfx-1.16", "api")
FOUND, UNANSWERED = 3, 5


def main() -> int:
    uv, environ = ready_uv(ROOT, [sys.executable])
    if not (VENV / "bin" / "pip-audit").exists():
        make = ["venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)]
        fill = ["pip", "install", "--quiet", "--require-hashes", "--python", str(VENV), "-r", str(LOCK)]
        for command in (make, fill):
            if subprocess.run([uv, *command], env=environ).returncode:
                raise SetupError(f"{VENV.name} could not be made, see above")
    folder = ROOT / "build" / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    for name in LOCKS:
        file = folder / f"{name}.cdx.json"
        options = [
            "requirements",
            str(ROOT / "constraints" / f"{name}.txt"),
            "--pyproject",
            str(ROOT / "pyproject.toml"),
        ]
        options += ["--mc-type", "application", "--sv", "1.6", "--of", "JSON", "-o", str(file)]
        if subprocess.run(
            [str(VENV / "bin" / "cyclonedx-py"), *options], env=environ, stderr=subprocess.DEVNULL
        ).returncode:
            raise SetupError(f"{file.name} could not be made, see above")
        say(f"{file.relative_to(ROOT)}: {len(json.loads(file.read_text())['components'])} components")
    return 0 if "--sbom-only" in sys.argv else audit(environ)


def audit(environ: Mapping[str, str]) -> int:
    """Asks for each lock; 0 all were audited and nothing is known, 3 something is, 5 not all could be audited."""
    worst = 0
    for name in LOCKS:
        lock = ROOT / "constraints" / f"{name}.txt"
        command = [str(VENV / "bin" / "pip-audit"), "-r", str(lock), "--no-deps", "--disable-pip", "-f", "json",
                   "--progress-spinner", "off", "--timeout", "15"]  # fmt: skip
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            say(f"{name}: not audited, PyPI's JSON API does not answer here ({last[:200]})")
            worst = max(worst, UNANSWERED)
            continue
        skipped = [p["name"] for p in answer["dependencies"] if "skip_reason" in p]  # a mirror without the JSON API
        known = [(p["name"], p["version"], v["id"]) for p in answer["dependencies"] for v in p.get("vulns", [])]
        for package, version, vulnerability in known:
            say(f"{name}: {package} {version} has {vulnerability}")
        audited = len(answer["dependencies"]) - len(skipped)
        say(f"{name}: {audited} packages audited, {len(known)} known vulnerabilities; {len(skipped)} not audited")
        worst = max(worst, UNANSWERED if skipped else 0, FOUND if known else 0)
    if worst == UNANSWERED:
        say("What was not audited may have vulnerabilities: PyPI's JSON API has no answer here (a mirror lacks it).")
        say("Run `make audit` where PyPI itself can be reached. The bills of materials are complete.")
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(f"[setup] {error}")
