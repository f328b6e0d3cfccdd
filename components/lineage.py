"""What made a model: the code's digest and revision."""

import hashlib
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parent.parent


def code_digest() -> str:
    """Of the code that decides what a model is (components, contract): sixteen hex digits."""
    digest = hashlib.sha256()
    for path in [*sorted((_ROOT / "components").glob("*.py")), _ROOT / "configs" / "contract.py"]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def git_revision() -> str:
    """The checkout's commit, or "unknown" outside one."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
