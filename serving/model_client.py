"""The one interface to a model, whoever asks and wherever the model runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from configs.errors import ModelUnavailableError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """What the `score` signature says of n windows: score float32 (n,), verdict bool (n,), lead slot int16 (n,)."""

    score: FloatArray
    verdict: npt.NDArray[np.bool_]
    lead_slot: npt.NDArray[np.int16]


@dataclass(frozen=True)
class Explanation:
    """What `serving_default` says of n windows, beside the scores.

    Attributes:
        scores: as `ModelClient.score` gives them.
        threshold: float32 (n,).
        reconstruction: float32 (n, window_samples, leads), millivolts.
        sample_error: float32 (n, window_samples, leads), in units of normal beats' spread.
    """

    scores: Scores
    threshold: FloatArray
    reconstruction: FloatArray
    sample_error: FloatArray


class ModelClient(Protocol):
    """Scores windows with one model version. Safe to share between threads."""

    @property
    def model_version(self) -> int: ...

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        """Scores n windows given as raw inputs (`configs.contract.MODEL_INPUTS`).

        Raises:
            ModelUnavailableError: the model cannot be reached.
        """
        ...

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        """Scores n windows and says where they differ from what the model expects.

        Raises:
            ModelUnavailableError: the model cannot be reached.
        """
        ...

    def check(self) -> None:
        """Asks whether the model can answer.

        Raises:
            ModelUnavailableError: it cannot.
        """
        ...


def version_dir(models_dir: Path, model_name: str, model_version: int) -> Path:
    """Where a pushed version is.

    Raises:
        ModelUnavailableError: it is not there.
    """
    path = models_dir / model_name / str(model_version)
    if not (path / "saved_model.pb").is_file():
        raise ModelUnavailableError(
            f"model version {model_version}", f"is not in {path}", "Train again, or put the version's folder back."
        )
    return path
