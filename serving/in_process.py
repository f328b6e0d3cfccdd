"""The SavedModel in this process: the embedded default, and the fastest for batches."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from configs import contract
from configs.errors import ModelUnavailableError
from serving.model_client import Explanation, FloatArray, Scores


class InProcessModelClient:
    """Loads a version's SavedModel; a `serving.model_client.ModelClient`.

    Args:
        directory: of the version, as the Pusher left it; its name is the version's number.
        batch_size: windows a call of the model, at most; bounds memory, never the result.

    Raises:
        ModelUnavailableError: the directory holds no model with this platform's signatures.
    """

    def __init__(self, directory: Path, *, batch_size: int = 1024) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its notes on missing GPUs are no news to the user
        import tensorflow as tf  # here, so that a process that only imports this module stays light

        try:
            self._model: Any = tf.saved_model.load(str(directory))
            self._score = self._model.signatures[contract.SIGNATURE_SCORE]
            self._explain = self._model.signatures[contract.SIGNATURE_DEFAULT]
            self._version = int(directory.name)
        except (OSError, KeyError, ValueError) as error:
            raise ModelUnavailableError(
                f"model {directory}", f"cannot be loaded ({str(error).splitlines()[0]})", "Push it again."
            ) from error
        self._tensor = tf.constant
        self._batch_size = batch_size

    @property
    def model_version(self) -> int:
        return self._version

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        return _scores(self._call(self._score, inputs))

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        answer = self._call(self._explain, inputs)
        return Explanation(
            scores=_scores(answer),
            threshold=answer[contract.THRESHOLD],
            reconstruction=answer[contract.RECONSTRUCTION],
            sample_error=answer[contract.SAMPLE_ERROR],
        )

    def check(self) -> None:
        """A loaded model can always answer."""

    def _call(self, signature: Any, inputs: Mapping[str, FloatArray]) -> dict[str, Any]:
        n = len(inputs[contract.SAMPLES])
        parts = []
        for start in range(0, max(n, 1), self._batch_size):
            batch = {
                name: self._tensor(inputs[name][start : start + self._batch_size]) for name in contract.MODEL_INPUTS
            }
            parts.append({name: value.numpy() for name, value in signature(**batch).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scores(answer: Mapping[str, Any]) -> Scores:
    return Scores(
        score=answer[contract.SCORE],
        verdict=answer[contract.VERDICT].astype(bool),
        lead_slot=answer[contract.LEAD].astype(np.int16),
    )
