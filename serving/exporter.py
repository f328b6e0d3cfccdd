"""Makes each export of a version and runs it: what `serving.export` measures and judges."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs import contract
from configs.errors import ModelUnavailableError
from serving.in_process import InProcessModelClient
from serving.model_client import FloatArray, Scores
from serving.students import distil, prune
from serving.tflite import KINDS, Frozen, LiteModel, constant, convert, freeze, low_rank
from warehouse.store.records import ModelVersion

if TYPE_CHECKING:
    from serving.export import Exported

QUARTER = 0.25  # of the version's parameters: the most that a student may have


class Exporter:
    """Exports of one version.

    Args:
        held_out: windows to run each on.
        examples: windows for int8 ranges, and to teach students with.
    """

    def __init__(
        self,
        directory: Path,
        model: ModelVersion,
        held_out: Mapping[str, FloatArray],
        examples: Mapping[str, FloatArray],
        *,
        epochs: int,
        seed: int,
    ) -> None:
        self._directory = directory
        self._model = model
        self._held_out = held_out
        self._examples = examples
        self._epochs = epochs
        self._seed = seed
        self._client = InProcessModelClient(directory)
        self._shapes = self._client.input_shapes()
        self._frozen = freeze(self._client.score_signature, self._shapes)

    @property
    def flops(self) -> int:
        return self._frozen.flops

    @property
    def parameters(self) -> int:
        return self._frozen.parameters

    def measure_reference(self, row: "Exported", directory: Path) -> Scores:
        """Fills in the SavedModel's own line; returns what it says of the held-out windows."""
        row.bytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        started = time.perf_counter()
        client = InProcessModelClient(directory)
        row.load_ms = (time.perf_counter() - started) * 1000
        took = []
        for i in range(min(300, len(self._held_out[contract.SAMPLES]))):
            one = {name: values[i : i + 1] for name, values in self._held_out.items()}
            started = time.perf_counter()
            client.score(one)
            took.append(time.perf_counter() - started)
        _fill(row, took)
        return client.score(self._held_out)

    def make(self, name: str, folder: Path, row: "Exported") -> tuple[Path, Scores]:
        """Makes an export and runs it on the held-out windows; fills in all but its size and quality.

        Raises:
            ModelUnavailableError: it cannot be made; says why.
        """
        if name == "onnx":
            return self._onnx(folder, row)
        frozen, kind = self._frozen, name
        if name == "pruned":
            frozen, kind = self._pruned(), "float16"
        elif name == "low_rank":
            frozen, kind = low_rank(self._frozen, QUARTER), "float32"
            row.parameters = frozen.parameters
        elif name == "distilled":
            frozen, kind = self._distilled(row), "float32"
        assert kind in KINDS
        path = folder / f"{name}.tflite"
        path.write_bytes(convert(frozen, kind, self._examples))
        model = LiteModel(path)
        found, took = model.score(self._held_out)
        row.load_ms = model.load_s * 1000
        row.flops = frozen.flops
        row.parameters = row.parameters or frozen.parameters
        _fill(row, took)
        return path, found

    def _pruned(self) -> Frozen:
        client = InProcessModelClient(self._directory)  # another copy: its weights are changed
        prune(client.weights)
        return freeze(client.score_signature, self._shapes)

    def _distilled(self, row: "Exported") -> Frozen:
        function = constant(self._client.score_signature, self._shapes, batch=None)
        most = int(QUARTER * self.parameters)
        signature, row.parameters = distil(
            function, self.parameters, most, self._examples, epochs=self._epochs, seed=self._seed
        )
        return freeze(signature, self._shapes)

    def _onnx(self, folder: Path, row: "Exported") -> tuple[Path, Scores]:
        try:
            import onnxruntime
            import tf2onnx
        except ImportError as error:
            raise ModelUnavailableError(
                "ONNX export", f"needs {error.name}, which is not installed here (pip install tf2onnx onnxruntime)"
            ) from error
        path = folder / "model.onnx"
        tf2onnx.convert.from_graph_def(
            self._frozen.function.graph.as_graph_def(),
            input_names=[tensor.name for tensor in self._frozen.function.inputs],
            output_names=[tensor.name for tensor in self._frozen.function.outputs],
            opset=17,
            output_path=str(path),
        )
        started = time.perf_counter()
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        row.load_ms = (time.perf_counter() - started) * 1000
        names = sorted((contract.SCORE, contract.VERDICT, contract.LEAD))
        answers: dict[str, list[Any]] = {name: [] for name in names}
        took = []
        for i in range(len(self._held_out[contract.SAMPLES])):
            started = time.perf_counter()
            found = session.run(
                None,
                {one.name: self._held_out[one.name.split(":")[0]][i : i + 1] for one in session.get_inputs()},
            )
            took.append(time.perf_counter() - started)
            for name, value in zip(names, found, strict=True):
                answers[name].append(np.atleast_1d(value)[0])
        row.flops, row.parameters = self.flops, self.parameters
        _fill(row, took)
        return path, Scores.from_answer({name: np.asarray(values) for name, values in answers.items()})


def _fill(row: "Exported", took: list[float]) -> None:
    row.p50_ms, row.p99_ms = (float(np.percentile(took, p)) * 1000 for p in (50, 99))
    row.windows_per_s = len(took) / sum(took)
