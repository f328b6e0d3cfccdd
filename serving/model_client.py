"""The one interface to a model, whoever asks and wherever the model runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from configs import contract

FloatArray = npt.NDArray[np.float32]

#: What each signature that clients call must give at least.
OUTPUTS = {
    contract.SIGNATURE_SCORE: (contract.SCORE, contract.VERDICT, contract.LEAD),
    contract.SIGNATURE_DEFAULT: (
        contract.SCORE, contract.VERDICT, contract.LEAD, contract.THRESHOLD, contract.PARTS,
        contract.RECONSTRUCTION, contract.SAMPLE_ERROR,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """What the `score` signature says of n windows: score float32 (n,), verdict bool (n,), lead slot int16 (n,)."""

    score: FloatArray
    verdict: npt.NDArray[np.bool_]
    lead_slot: npt.NDArray[np.int16]

    @classmethod
    def from_answer(cls, answer: Mapping[str, npt.NDArray[Any]]) -> "Scores":
        """From a signature's outputs by name."""
        return cls(
            score=answer[contract.SCORE].astype(np.float32, copy=False),
            verdict=answer[contract.VERDICT].astype(bool),
            lead_slot=answer[contract.LEAD].astype(np.int16),
        )


@dataclass(frozen=True)
class Explanation:
    """What `serving_default` says of n windows, beside the scores.

    Attributes:
        scores: as `ModelClient.score` gives them.
        threshold: float32 (n,).
        parts: float32 (n, 3), what each of `contract.PART_NAMES` adds to the measure that the score ranks.
        reconstruction: float32 (n, window_samples, leads), millivolts.
        sample_error: float32 (n, window_samples, leads), in units of normal beats' spread.
    """

    scores: Scores
    threshold: FloatArray
    parts: FloatArray
    reconstruction: FloatArray
    sample_error: FloatArray

    @classmethod
    def from_answer(cls, answer: Mapping[str, npt.NDArray[Any]]) -> "Explanation":
        """From a signature's outputs by name."""
        return cls(
            scores=Scores.from_answer(answer),
            threshold=answer[contract.THRESHOLD].astype(np.float32, copy=False),
            parts=answer[contract.PARTS].astype(np.float32, copy=False),
            reconstruction=answer[contract.RECONSTRUCTION].astype(np.float32, copy=False),
            sample_error=answer[contract.SAMPLE_ERROR].astype(np.float32, copy=False),
        )


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

    def close(self) -> None:
        """Gives back connections; the client is not used after it."""
        ...
