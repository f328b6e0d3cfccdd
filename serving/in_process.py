"""The SavedModel in this process: the embedded default, and the fastest for batches."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from configs import contract
from configs.errors import ModelUnavailableError
from serving.model_client import OUTPUTS, Explanation, FloatArray, Scores

FEW = 32  # windows that are calculated sooner than another thread is woken to help
ENOUGH = 256  # windows that a thread's batch should have: one of fewer takes more time for each of them


class InProcessModelClient:
    """Loads a version's SavedModel; a `serving.model_client.ModelClient`.

    Args:
        directory: of the version, as the Pusher left it; its name is the version's number (else the version is 0).
        batch_size: windows a call of the model, at most; bounds memory, never the result.
        warm_up: replay what the version carries for this, so that the first caller does not wait for it.
        threads: that share the batches of one call. A batch is too little work for several threads an operation, which
            is what TensorFlow does by itself: it takes half as much processor time again.

    Raises:
        ModelUnavailableError: the directory holds no model with this platform's signatures.
    """

    def __init__(self, directory: Path, *, batch_size: int = 1024, warm_up: bool = True, threads: int = 1) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its notes on missing GPUs are no news to the user
        import tensorflow as tf  # here, so that a process that only imports this module stays light

        try:
            self._model: Any = tf.saved_model.load(str(directory))
            self._version = int(directory.name) if directory.name.isdecimal() else 0
        except (OSError, LookupError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ModelUnavailableError(
                f"model {directory}", f"cannot be loaded ({(str(error).splitlines() or [''])[0]})", "Push it again."
            ) from error
        for signature in OUTPUTS:
            if signature not in self._model.signatures:
                raise ModelUnavailableError(
                    f"model {directory}", f"signature {signature} is missing", "Push one that this platform trained."
                )
        self._score = self._model.signatures[contract.SIGNATURE_SCORE]
        width = self.input_shapes().get(contract.RR, (None, 0))[-1]
        if width != len(contract.RR_COLUMNS):
            raise ModelUnavailableError(
                f"model {directory}",
                f"takes {width} RR columns, not {len(contract.RR_COLUMNS)}: another release trained it",
                "Train again: python -m pipelines.train",
            )
        self._explain = self._model.signatures[contract.SIGNATURE_DEFAULT]
        self._here = {id(function): _in_this_thread(function) for function in (self._score, self._explain)}
        self._batch_size = batch_size
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model") if threads > 1 else None
        if warm_up:
            self._warm_up(directory)

    @property
    def model_version(self) -> int:
        return self._version

    def score(self, inputs: Mapping[str, FloatArray]) -> Scores:
        return Scores.from_answer(self._call(self._score, inputs))

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        return Explanation.from_answer(self._call(self._explain, inputs))

    def check(self) -> None:
        """A loaded model can always answer."""

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def signatures(self) -> dict[str, tuple[set[str], set[str]]]:
        """Input and output names by signature."""
        return {
            name: (set(signature.structured_input_signature[1]), set(signature.structured_outputs))
            for name, signature in self._model.signatures.items()
        }

    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the raw inputs by name; the batch's size is None."""
        return {name: tuple(spec.shape.as_list()) for name, spec in self._score.structured_input_signature[1].items()}

    @property
    def score_signature(self) -> Any:
        """TensorFlow's function of the `score` signature: what exports are made of."""
        return self._score

    @property
    def weights(self) -> list[Any]:
        """The variables that `score` uses, once each."""
        return list({variable.ref(): variable for variable in self._score.variables}.values())

    def _warm_up(self, directory: Path) -> None:
        from serving.warmup import read_warmup

        for signature, inputs in read_warmup(directory):
            self._model.signatures[signature](**inputs)
            self._call(self._model.signatures[signature], {name: value.numpy() for name, value in inputs.items()})

    def _call(self, signature: Any, inputs: Mapping[str, FloatArray]) -> dict[str, Any]:
        n = len(inputs[contract.SAMPLES])
        here = self._here[id(signature)]
        if 0 < n <= min(FEW, self._batch_size):
            return here(inputs)
        size = self._batch_size
        if self._pool and n:  # as many batches for each thread, of the same size
            turns = -(-n // (self._threads * self._batch_size))
            size = max(-(-n // (turns * self._threads)), min(ENOUGH, self._batch_size))
        batches = [
            {name: inputs[name][start : start + size] for name in contract.MODEL_INPUTS}
            for start in range(0, max(n, 1), size)
        ]
        parts = list(self._pool.map(here, batches)) if self._pool else [_answer(signature, one) for one in batches]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _answer(signature: Any, inputs: Mapping[str, FloatArray]) -> dict[str, Any]:
    """A signature that TensorFlow runs in a pool of its own: operations that need not wait for each other at once."""
    import tensorflow as tf

    return {name: value.numpy() for name, value in signature(**{k: tf.constant(v) for k, v in inputs.items()}).items()}


def _in_this_thread(signature: Any) -> Callable[[Mapping[str, FloatArray]], dict[str, Any]]:
    """A signature that is run by the thread that calls it, operation by operation.

    Called as a function, TensorFlow hands it to a pool of its own and waits, and checks and packs what goes in and out:
    of one window, that takes as long as the operations.
    """
    import tensorflow as tf

    specs = tf.nest.flatten(signature.structured_input_signature)
    names = [spec.name for spec in specs]
    outputs = sorted(signature.structured_outputs)  # as TensorFlow orders what has names
    given = {
        "Tout": [output.dtype for output in signature.outputs], "f": signature,
        "config": "", "config_proto": "", "executor_type": "",
    }  # fmt: skip

    def call(inputs: Mapping[str, FloatArray]) -> dict[str, Any]:
        tensors = [tf.constant(inputs[name]) for name in names]
        values = tf.raw_ops.StatefulPartitionedCall(args=[*tensors, *signature.captured_inputs], **given)
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}

    return call
