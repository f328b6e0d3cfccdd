"""`make setup`: which stack and Python a machine gets, how uv is had, when the environment counts as complete."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "constraints"))

import find_python as finding  # noqa: E402
import get_uv  # noqa: E402  (run as scripts from constraints/, which is no package)
import setup as bootstrap  # noqa: E402
import setup_peers  # noqa: E402

pytestmark = pytest.mark.unit

LOCKS = [lock.name for stack in (bootstrap.NEW, bootstrap.OLD) for lock in stack.locks(ROOT)]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)(?: ; ([^\\]+?))? \\$", re.MULTILINE)


# --- which stack, which Python --------------------------------------------------------------------------------------


@given(minor=st.integers(34, 99))
def test_stack_follows_the_c_library(minor: int) -> None:
    stack, reason = bootstrap.choose_stack("Linux", "x86_64", f"glibc 2.{minor}")
    assert stack.tfx == ("1.21" if minor >= 38 else "1.16")
    assert f"2.{minor}" in reason


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("Linux", "x86_64", ""),
        ("Linux", "x86_64", "musl"),
        ("Linux", "x86_64", "glibc 2.31"),
        ("Linux", "x86_64", "glibc 2.4"),  # numbers, not text
        ("Linux", "aarch64", "glibc 2.41"),
        ("Darwin", "arm64", ""),
    ],
)
def test_machines_without_wheels_are_told_about_the_image(system: str, machine: str, libc: str) -> None:
    with pytest.raises(bootstrap.SetupError, match=rf"{system} {machine}.*Dockerfile\.pipeline"):
        bootstrap.choose_stack(system, machine, libc)


def _find(
    stack: bootstrap.Stack, machine: dict[str, finding.Interpreter | None], compiler: bool = True
) -> tuple[str, str]:
    return finding.find_python(stack.pythons, [(path, "on PATH") for path in machine], compiler, machine.__getitem__)


def test_first_usable_python_is_taken_and_named() -> None:
    machine = {
        "/shims/python3.13": None,  # a shim of a version that is not there
        "/usr/bin/python3": finding.Interpreter("/usr/bin/python3.10", "3.10.12"),
        "/opt/python": finding.Interpreter("/opt/python3.12", "3.12.1"),
        "/other/python": finding.Interpreter("/other/python3.13", "3.13.2"),
    }
    assert _find(bootstrap.NEW, machine) == ("/opt/python3.12", "3.12.1 (/opt/python3.12, on PATH)")


@pytest.mark.parametrize(("compiler", "headers"), [(False, True), (True, False), (False, False)])
def test_python_without_a_pyedflib_wheel_needs_a_compiler_and_headers(compiler: bool, headers: bool) -> None:
    newest = finding.Interpreter("/usr/bin/python3.13", "3.13.5", headers)
    python, what = _find(bootstrap.NEW, {"a": newest}, compiler)
    assert python == ("3.13" if compiler else "3.12")  # uv's own Pythons have headers
    assert "/usr/bin/python3.13 is passed over" in what
    older = finding.Interpreter("/usr/bin/python3.12", "3.12.3", False)
    assert _find(bootstrap.NEW, {"a": newest, "b": older}, compiler)[0] == "/usr/bin/python3.12"


def test_without_any_python_uv_downloads_one() -> None:
    assert _find(bootstrap.OLD, {})[0] == "3.11"
    assert _find(bootstrap.NEW, {})[0] == "3.13"


def _executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def test_path_comes_before_pyenv_and_newer_patches_first(tmp_path: Path) -> None:
    for folder in ("bin/python3", "bin/python3.11", *(f"pyenv/versions/3.11.{n}/bin/python" for n in (2, 9, 10))):
        _executable(tmp_path / folder, "exit 0\n")
    (tmp_path / "pyenv/versions/3.11.99").mkdir()  # an installation that was broken off
    (tmp_path / "bin/python").write_text("not executable")
    found = list(finding.places(("3.12", "3.11"), f"/nowhere::{tmp_path}/bin", tmp_path / "pyenv"))
    assert [(str(Path(path).relative_to(tmp_path)), where) for path, where in found] == [
        ("bin/python3.11", "on PATH"),
        ("bin/python3", "on PATH"),
        ("pyenv/versions/3.11.10/bin/python", "of pyenv"),
        ("pyenv/versions/3.11.9/bin/python", "of pyenv"),
        ("pyenv/versions/3.11.2/bin/python", "of pyenv"),
    ]


def test_probe_asks_the_interpreter_itself(tmp_path: Path) -> None:
    answer = finding.probe(sys.executable)
    assert answer is not None
    assert answer.version == platform.python_version()
    assert not answer.path.startswith(sys.prefix) or sys.prefix == sys.base_prefix  # never a virtual environment's
    assert finding.probe(str(_executable(tmp_path / "shim", "echo no such version >&2; exit 127\n"))) is None
    assert finding.probe(str(_executable(tmp_path / "other", "echo hello\n"))) is None
    assert finding.probe(str(tmp_path / "missing")) is None


# --- pip and uv -----------------------------------------------------------------------------------------------------

HAS_PIP = '[ "$2" = pip ] && echo "pip 23.0.1 from /somewhere (python 3.11)"\n'
OLD_PIP = '[ "$2" = pip ] && echo "pip 9.0.3 from /somewhere (python 3.6)" || exit 1\n'
BARE = "exit 1\n"
MAKES_PIP = (
    '[ "$2" = venv ] || exit 1\nmkdir -p "$4/bin"\n'
    'printf "#!/bin/sh\\necho pip 24.0 from here\\n" > "$4/bin/python"\nchmod +x "$4/bin/python"\n'
)


def test_pip_is_taken_where_there_is_one(tmp_path: Path) -> None:
    pythons = [str(_executable(tmp_path / name, s)) for name, s in (("a", BARE), ("b", OLD_PIP), ("c", HAS_PIP))]
    assert get_uv.find_pip(pythons, tmp_path) == [str(tmp_path / "c"), "-m", "pip"]


def test_python_without_pip_makes_itself_one(tmp_path: Path) -> None:
    pythons = [str(_executable(tmp_path / name, s)) for name, s in (("a", BARE), ("b", MAKES_PIP))]
    assert get_uv.find_pip(pythons, tmp_path / "tools") == [str(tmp_path / "tools/pip/bin/python"), "-m", "pip"]
    assert get_uv.find_pip(pythons[:1], tmp_path / "tools") is None


def test_without_pip_the_uv_on_path_is_used_or_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = ROOT / "constraints" / "tools.txt"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(get_uv.SetupError, match="apt install python3-venv"):
        get_uv.install_uv(tmp_path, pin, None)
    uv = _executable(tmp_path / "uv", "exit 0\n")
    assert get_uv.install_uv(tmp_path, pin, None) == str(uv)


def test_pip_configuration_reaches_uv_but_not_its_extra_places() -> None:
    config = "\n".join(
        [
            "global.index-url='https://mirror.example/simple'",
            "install.index-url='https://team.example/simple'",
            "global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'",
            ":env:.cert='/etc/ca.pem'",
            "global.trusted-host='mirror.example'",
        ]
    )
    settings = get_uv.pip_settings(
        config, {"PIP_FIND_LINKS": "/wheels /more", "PIP_TIMEOUT": "", "HOME": "/home/someone"}
    )
    assert get_uv.uv_environment(settings, {"SSL_CERT_FILE": "/mine.pem"}) == {
        "UV_DEFAULT_INDEX": "https://team.example/simple",
        "UV_INSECURE_HOST": "mirror.example",
    }
    assert get_uv.uv_environment(get_uv.pip_settings("", {}), {}) == {}


@pytest.mark.parametrize("holds_it", [True, False])
def test_cpu_build_of_torch_comes_from_pips_links_or_its_own_index(tmp_path: Path, holds_it: bool) -> None:
    asked = tmp_path / "asked"
    script = f'echo "$UV_FIND_LINKS $(cat)" > {asked}\nexit {0 if holds_it else 1}\n'
    uv = _executable(tmp_path / "uv", script)
    environ = setup_peers.with_cpu_torch(str(uv), {"PIP_FIND_LINKS": "/wheels /more"}, "numpy\ntorch==2.13.0+cpu \\\n")
    assert asked.read_text() == "/wheels,/more torch==2.13.0+cpu\n"
    assert environ.get("UV_FIND_LINKS") == ("/wheels,/more" if holds_it else None)
    assert environ.get("UV_TORCH_BACKEND") == (None if holds_it else "cpu")


def test_what_is_set_for_uv_decides_where_torch_comes_from() -> None:
    for mine in ({"UV_TORCH_BACKEND": "cu130"}, {"UV_FIND_LINKS": "/mine"}):
        given = {"PIP_FIND_LINKS": "/wheels", **mine}
        assert setup_peers.with_cpu_torch("/no/uv", given, "torch==2.13.0+cpu") == given
    assert setup_peers.with_cpu_torch("/no/uv", {}, "torch==2.13.0+cpu") == {"UV_TORCH_BACKEND": "cpu"}


# --- when the environment counts as complete ------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of constraints/ beside a `.venv` that is finished for this machine's stack."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "constraints", root / "constraints", ignore=shutil.ignore_patterns("__pycache__"))
    stack, _ = bootstrap.choose_stack(platform.system(), platform.machine(), bootstrap.machine_libc())
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(os.path.realpath(sys.executable))
    wanted = bootstrap.fingerprint(root, stack.tfx, stack.locks(root))
    (root / ".venv" / ".complete").write_text(f"{wanted}\n{os.path.realpath(python)}\n")
    return root


def _is_ready(project: Path) -> bool:
    stack, _ = bootstrap.choose_stack(platform.system(), platform.machine(), bootstrap.machine_libc())
    return bootstrap.is_ready(project / ".venv", bootstrap.fingerprint(project, stack.tfx, stack.locks(project)))


def test_second_setup_does_nothing(project: Path) -> None:
    command = [sys.executable, str(project / "constraints" / "setup.py")]
    loud = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "nothing to do" in loud.stdout
    assert "make demo" in loud.stdout
    quiet = subprocess.run([*command, "--quiet"], capture_output=True, text=True, timeout=30, check=True)
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_peers_have_an_environment_and_a_stamp_of_their_own(project: Path) -> None:
    venv, locks = project / ".venv-peers", [project / "constraints" / "peers.txt"]
    wanted = bootstrap.fingerprint(project, "peers", locks)
    assert not bootstrap.is_ready(venv, wanted)
    shutil.copytree(project / ".venv", venv, symlinks=True)
    assert not bootstrap.is_ready(venv, wanted)
    (venv / ".complete").write_text(f"{wanted}\n{os.path.realpath(venv / 'bin' / 'python')}\n")
    command = [sys.executable, str(project / "constraints" / "setup_peers.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "nothing to do" in done.stdout
    assert _is_ready(project)


@pytest.mark.parametrize("damage", ["interrupted", "lock changed", "python gone", "moved"])
def test_incomplete_or_outdated_environment_is_made_anew(project: Path, tmp_path: Path, damage: str) -> None:
    assert _is_ready(project)
    if damage == "interrupted":
        (project / ".venv" / ".complete").unlink()
    elif damage == "lock changed":
        for lock in LOCKS:
            with (project / "constraints" / lock).open("a") as text:
                text.write("# one more\n")
    elif damage == "python gone":
        (project / ".venv" / "bin" / "python").unlink()
        (project / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    else:
        shutil.copytree(project, tmp_path / "elsewhere", symlinks=True)
        project = tmp_path / "elsewhere"
    assert not _is_ready(project)


# --- the lock files -------------------------------------------------------------------------------------------------


def _pins(name: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for match in PIN.finditer((ROOT / "constraints" / name).read_text()):
        pins.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return pins


@pytest.mark.parametrize("name", [*LOCKS, "peers.txt", "tools.txt"])
def test_locks_pin_every_package_with_hashes_and_name_no_index(name: str) -> None:
    text = (ROOT / "constraints" / name).read_text()
    blocks = [block for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE) if block.strip()]
    assert len(blocks) >= 1
    for block in blocks:
        assert PIN.match(block), block.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("stack", [bootstrap.NEW, bootstrap.OLD], ids=lambda stack: stack.tfx)
def test_locks_hold_what_the_project_asks_for(stack: bootstrap.Stack) -> None:
    runtime, dev = (_pins(lock.name) for lock in stack.locks(ROOT))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for pins, requirements in ((runtime, project["dependencies"] + extras["pipeline"]), (dev, extras["dev"])):
        for requirement in map(Requirement, requirements):
            versions = pins[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), requirement
    assert runtime["tfx"] == {f"{stack.tfx}.0"}
    shared = runtime.keys() & dev.keys()
    assert {name: dev[name] for name in shared} == {name: runtime[name] for name in shared}
    assert not {"pytest", "mypy", "ruff"} & runtime.keys()  # the image carries no tools


def test_lock_of_the_peers_holds_what_they_ask_for() -> None:
    pins = _pins("peers.txt")
    lines = (ROOT / "constraints" / "peers.in").read_text().splitlines()
    for requirement in (Requirement(line.partition(" #")[0]) for line in lines if line[:1].isalpha()):
        (version,) = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement
    assert pins["torch"] == {"2.13.0+cpu"}
    assert not [name for name in pins if name.startswith(("nvidia-", "cuda-"))]
    assert not {"opencv-python", "tensorflow"} & pins.keys()  # their leaner stand-ins are there


def test_reference_image_installs_the_newer_stack() -> None:
    dockerfile = (ROOT / "Dockerfile.pipeline").read_text()
    assert f"constraints/tfx-{bootstrap.NEW.tfx}.txt" in dockerfile
    minor = re.search(r"FROM python:(3\.\d+)-", dockerfile)
    assert minor is not None
    assert minor[1] == bootstrap.NEW.pythons[0]


def test_overridden_farmhash_returns_the_same_fingerprints() -> None:
    """Values of pyfarmhash 0.3.2, which TFDV asks for, on text as TFDV gives it (constraints/overrides.txt)."""
    import farmhash  # of the pipeline's environment

    expected = {
        "": (11160318154034397263, 3696677242),
        "MLII": (16027442074110288869, 409484701),
        "recording 100, lead V5: \u00e9": (1309555636793766845, 2365362052),
        "x" * 1000: (1913056456708076064, 1495674210),
    }
    for text, (hash_64, hash_32) in expected.items():
        assert farmhash.fingerprint64(text) == hash_64
        assert farmhash.fingerprint32(text) == hash_32


# --- make -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here (as in the reference image)")
def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE)) - {"environment"}
    answer = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in answer.stdout.splitlines()} == targets
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets | {"environment"}
