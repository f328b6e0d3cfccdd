"""What pipelines/peers.py says of a file that is not what it asks for; the peers themselves are not needed for it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import peers

pytestmark = pytest.mark.unit

GOOD = np.ones((3, 16, 2), np.float32)


def test_windows_are_read_as_they_were_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "windows.npz", train=GOOD, test=2 * GOOD[:1])
    train, test = peers.read_windows(tmp_path / "windows.npz")
    assert (train == 1).all()
    assert train.shape == (3, 16, 2)
    assert (test == 2).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": GOOD}, "test is not a file"),
        ({"train": GOOD.astype(np.float64), "test": GOOD}, "`train` .* is float64 3x16x2, not float32"),
        ({"train": GOOD, "test": GOOD[:, :, 0]}, "`test` .* is float32 3x16, not float32"),
        ({"train": GOOD[:0], "test": GOOD}, "`train` .* is float32 0x16x2"),
        ({"train": GOOD, "test": GOOD * np.nan}, "`test` .* not finite"),
        ({"train": GOOD, "test": GOOD[:, :8]}, r"differ .*\(3, 16, 2\), \(3, 8, 2\)"),
        ({"train": np.array([object()]), "test": GOOD}, "no npz file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "windows.npz", **arrays)
    with pytest.raises(peers.PeersError, match=message) as raised:
        peers.read_windows(tmp_path / "windows.npz")
    assert "\n" not in str(raised.value)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(peers.PeersError, match=r"missing\.npz"):
        peers.read_windows(tmp_path / "missing.npz")
    for content in (b"", b"PK\x03\x04 no zip after all", b"text"):
        (tmp_path / "damaged.npz").write_bytes(content)  # empty, cut off, something else
        with pytest.raises(peers.PeersError, match=r"damaged\.npz is no npz file$"):
            peers.read_windows(tmp_path / "damaged.npz")


def test_unknown_peer_names_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--data", "d", "--out", "o", "--peers", "pca,knn"])
    with pytest.raises(SystemExit) as stopped:
        peers.main()
    assert stopped.value.code == 2
    assert "knn: there are outlier_vae, outlier_ae, iforest, pca, autoencoder" in capsys.readouterr().err
