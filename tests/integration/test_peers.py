"""The detectors of `make peers`, trained and timed by pipelines/peers.py on windows with a known oddity."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipelines.peers import PEERS

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
PYTHON = PROJECT / ".venv-peers" / "bin" / "python"
N_ODD = 60


@pytest.fixture(autouse=True)
def _environment() -> None:
    if not (PROJECT / ".venv-peers" / ".complete").exists():
        pytest.skip("needs .venv-peers, which `make peers` makes")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beats of 160 samples and two leads; of the test windows the last N_ODD are twice as wide."""
    rng = np.random.default_rng(5)
    time = np.linspace(-0.39, 0.5, 160)

    def beats(n: int, width_s: float) -> np.ndarray:
        r_wave = np.exp(-((time / width_s) ** 2)) + 0.2 * np.exp(-(((time - 0.25) / 0.06) ** 2))
        leads = np.stack([r_wave, -0.5 * r_wave], axis=-1) * rng.normal(1, 0.1, (n, 1, 1))
        return (leads + rng.normal(0, 0.03, (n, 160, 2))).astype(np.float32)

    path = tmp_path_factory.mktemp("peers") / "windows.npz"
    test = np.concatenate([beats(200, 0.02), beats(N_ODD, 0.04)])
    np.savez(path, train=beats(1500, 0.02), test=test)
    return path


def _run(windows: Path, *out: Path, peers: str = "", seeds: str = "3") -> subprocess.CompletedProcess[str]:
    command = [PYTHON, PROJECT / "pipelines" / "peers.py", "--data", *[windows] * len(out), "--out", *out]
    options = ["--seed", *seeds.split(), *(["--peers", peers] if peers else [])]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)


def test_every_peer_ranks_the_odd_beats_first(windows: Path, tmp_path: Path) -> None:
    done = _run(windows, tmp_path / "scores.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "scores.npz") as scores:
        assert len(scores.files) == 4 * len(PEERS)
        for peer in PEERS:
            score = scores[f"{peer}_score"]
            assert (score.shape, score.dtype) == ((200 + N_ODD,), np.float32)
            auc = (score[-N_ODD:, None] > score[:200]).mean()
            assert auc > 0.95, peer
            assert scores[f"{peer}_train_seconds"] > 0
            assert scores[f"{peer}_windows_per_second"] > 100
        parameters = {peer: int(scores[f"{peer}_parameters"]) for peer in PEERS}
    # Convolutions 25,456, dense 640-8 and 8-640, transposed convolutions 25,394; the VAE has a second latent layer.
    assert parameters["outlier_ae"] == 25_456 + 5_128 + 5_760 + 25_394
    assert parameters["outlier_vae"] == parameters["outlier_ae"] + 5_128
    assert 40_000 < parameters["autoencoder"] < 50_000
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(PEERS)


def test_same_seed_same_scores_in_a_job_of_its_own_and_after_another(windows: Path, tmp_path: Path) -> None:
    other, after, alone = (tmp_path / f"{name}.npz" for name in ("other", "after", "alone"))
    assert _run(windows, other, after, peers="pca,iforest", seeds="4 3").returncode == 0
    assert _run(windows, alone, peers="pca,iforest", seeds="3").returncode == 0
    runs = []
    for path in (after, alone, other):
        with np.load(path) as scores:
            runs.append({key: scores[key] for key in scores.files})
    assert set(runs[0]) == {
        f"{peer}_{what}"
        for peer in ("pca", "iforest")
        for what in ("score", "train_seconds", "windows_per_second", "parameters")
    }
    for peer in ("pca", "iforest"):
        np.testing.assert_array_equal(runs[0][f"{peer}_score"], runs[1][f"{peer}_score"])
    assert (runs[0]["iforest_score"] != runs[2]["iforest_score"]).any()


def test_bad_input_leaves_earlier_scores_alone(tmp_path: Path) -> None:
    (tmp_path / "scores.npz").write_bytes(b"earlier")
    np.savez(tmp_path / "bad.npz", train=np.ones((5, 16, 2)), test=np.ones((5, 16, 2)))
    done = _run(tmp_path / "bad.npz", tmp_path / "scores.npz", peers="pca")
    assert done.returncode == 3
    assert done.stderr.startswith("error: `train` in ")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "scores.npz").read_bytes() == b"earlier"
