"""`python -m serving.validation`: can a model be served? Loads it in this fresh process and asks it stored examples.

The job of TFX's InfraValidator, which needs Docker; this needs a process. `components.infra_validation` runs it before
the Pusher, so that a model that cannot be served never reaches the folder that model servers watch.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from configs import cli, contract
from configs.errors import EcgError, NotBlessedError
from serving.model_client import OUTPUTS, FloatArray, ModelClient

TOLERANCE = 1e-5  # absolute and relative: a window alone and in a batch
LATENCY_CALLS = 100


@dataclass
class Report:
    """What was seen of a model; `failures` has a line for each reason not to serve it.

    Attributes:
        windows: examples it was asked.
        load_s: seconds to load it, TensorFlow itself not counted.
        p50_ms, p99_ms: of `score` on one window.
    """

    windows: int = 0
    load_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    failures: list[str] = field(default_factory=list)


def main(
    directory: Annotated[Path, typer.Argument(help="Folder of the SavedModel.")],
    examples: Annotated[
        list[Path], typer.Option(help="TFRecord files (gzip) with tf.Examples of windows; may be given again.")
    ],
    max_load_s: Annotated[float, typer.Option(help="Seconds it may take to load.")] = 60.0,
    max_latency_ms: Annotated[float, typer.Option(help="p99 it may take for one window.")] = 250.0,
    windows: Annotated[int, typer.Option(min=2, help="Examples to ask it.")] = 32,
    warmup_for: Annotated[
        str | None, typer.Option(help="When it passes, write warm-up requests into it, for this served name.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was seen here.")] = None,
) -> None:
    """Load a model, ask it stored examples, and say whether it can be served.

    Exit codes: 0 it can, 4 it cannot.
    """
    report = Report()
    shapes = _validate(report, directory, examples, windows, max_load_s, max_latency_ms)
    if not report.failures and shapes is not None and warmup_for is not None:
        from serving.warmup import drawn_windows, write_warmup

        write_warmup(directory, warmup_for, drawn_windows(shapes, windows))
    cli.write_json(json_file, asdict(report))
    if report.failures:
        raise NotBlessedError(str(directory), "cannot be served:\n  " + "\n  ".join(report.failures))
    cli.note(f"{directory}: loaded in {report.load_s:.1f} s, one window takes {report.p99_ms:.1f} ms (p99)")


def _validate(
    report: Report, directory: Path, files: Sequence[Path], n: int, max_load_s: float, max_latency_ms: float
) -> dict[str, tuple[int | None, ...]] | None:
    """Fills the report; returns the shapes of the model's inputs, when it got that far."""
    from serving.in_process import InProcessModelClient

    report.failures += missing_files(directory)
    if report.failures:
        return None
    report.failures += weights_not_finite(directory)
    started = time.perf_counter()
    try:
        client = InProcessModelClient(directory)
    except EcgError as error:
        report.failures.append(error.problem)
        return None
    report.load_s = time.perf_counter() - started
    if report.load_s > max_load_s:
        report.failures.append(f"takes {report.load_s:.1f} s to load, {max_load_s:g} s are allowed")
    if wrong := wrong_signatures(client.signatures()):
        report.failures += wrong
        return None
    shapes = client.input_shapes()
    inputs = read_examples(files, shapes, n)
    report.windows = len(inputs[contract.SAMPLES])
    if report.windows == 0:
        report.failures.append(f"there are no examples in {', '.join(map(str, files)) or 'no file'}")
        return None
    report.failures += wrong_answers(client, inputs)
    report.p50_ms, report.p99_ms = latency_ms(client, inputs)
    if report.p99_ms > max_latency_ms:
        report.failures.append(
            f"takes {report.p99_ms:.1f} ms for one window (p99 of {LATENCY_CALLS}), {max_latency_ms:g} ms are allowed"
        )
    return shapes


def missing_files(directory: Path) -> list[str]:
    """What a SavedModel names and does not hold."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    graph = directory / "saved_model.pb"
    if not graph.is_file():
        return ["saved_model.pb is missing"]
    try:
        saved = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    except DecodeError:
        return ["saved_model.pb is damaged"]
    needed = [f"assets/{asset.filename}" for meta in saved.meta_graphs for asset in meta.asset_file_def]
    needed.append("variables/variables.index")
    return [f"{name} is missing" for name in needed if not (directory / name).is_file()]


def weights_not_finite(directory: Path) -> list[str]:
    """Weights with a value that is not a number, or not finite."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
        found = []
        for name, kind in reader.get_variable_to_dtype_map().items():
            if kind.is_floating and not np.isfinite(reader.get_tensor(name)).all():
                found.append(f"weights {name.removesuffix('/.ATTRIBUTES/VARIABLE_VALUE')} are not finite")
        return sorted(found)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return [f"its variables cannot be read: {str(error).splitlines()[0]}"]


def wrong_signatures(found: Mapping[str, tuple[set[str], set[str]]]) -> list[str]:
    """How signatures differ from the contract; `found` has input and output names by signature."""
    lines = []
    for signature, outputs in OUTPUTS.items():
        has_inputs, has_outputs = found.get(signature, (set(), set()))
        if signature not in found:
            lines.append(f"signature {signature} is missing")
        elif has_inputs != set(contract.MODEL_INPUTS):
            lines.append(f"signature {signature}: its inputs are {', '.join(sorted(has_inputs)) or 'none'}")
        elif missing := set(outputs) - has_outputs:
            lines.append(f"signature {signature}: it has no output {', '.join(sorted(missing))}")
    return lines


def wrong_answers(client: ModelClient, inputs: Mapping[str, FloatArray]) -> list[str]:
    """What is wrong with what it says of n windows: not finite, another shape, or a score that depends on the batch."""
    n = len(inputs[contract.SAMPLES])
    try:
        explained = client.explain(inputs)
        together = client.score(inputs)
        alone = np.concatenate([client.score(_rows(inputs, i, i + 1)).score for i in range(n)])
    except Exception as error:  # noqa: BLE001 - whatever a graph raises, the model cannot be served
        return [f"it fails on stored examples: {str(error).splitlines()[0]}"]
    lines = []
    if together.score.shape != (n,) or explained.reconstruction.shape != inputs[contract.SAMPLES].shape:
        lines.append("its answers do not have the shape of the contract")
    elif not (np.isfinite(together.score).all() and np.isfinite(explained.reconstruction).all()):
        lines.append(f"{int((~np.isfinite(together.score)).sum())} of {n} stored examples get no finite score")
    elif not np.allclose(alone, together.score, atol=TOLERANCE, rtol=TOLERANCE):
        worst = float(np.abs(alone - together.score).max())
        lines.append(f"a window alone scores differently than in a batch, by up to {worst:.2g}")
    elif not np.array_equal(together.verdict, together.score >= explained.threshold):
        lines.append("its verdicts are not those of its threshold")
    return lines


def latency_ms(client: ModelClient, inputs: Mapping[str, FloatArray]) -> tuple[float, float]:
    """p50 and p99 of `score` on one window, in milliseconds."""
    n = len(inputs[contract.SAMPLES])
    took = []
    for call in range(LATENCY_CALLS):
        one = _rows(inputs, call % n, call % n + 1)
        started = time.perf_counter()
        client.score(one)
        took.append((time.perf_counter() - started) * 1000)
    return float(np.percentile(took, 50)), float(np.percentile(took, 99))


def read_examples(files: Sequence[Path], shapes: Mapping[str, Sequence[int | None]], n: int) -> dict[str, FloatArray]:
    """Raw inputs of the first n windows in files of tf.Examples: float32 (at most n, ...) by name."""
    import tensorflow as tf

    spec = {
        name: tf.io.FixedLenFeature([int(np.prod([size or 1 for size in shape[1:]]))], tf.float32)
        for name, shape in shapes.items()
    }
    records = tf.data.TFRecordDataset([str(file) for file in files], compression_type="GZIP").take(n).batch(n)
    for batch in records:
        parsed: dict[str, Any] = tf.io.parse_example(batch, spec)
        return {name: parsed[name].numpy().reshape(-1, *shape[1:]) for name, shape in shapes.items()}
    return {name: np.zeros((0, *[size or 1 for size in shape[1:]]), np.float32) for name, shape in shapes.items()}


def _rows(inputs: Mapping[str, FloatArray], start: int, stop: int) -> dict[str, FloatArray]:
    return {name: values[start:stop] for name, values in inputs.items()}


if __name__ == "__main__":
    cli.run(main)
