"""A version's `score` signature as a LiteRT (TensorFlow Lite) model, and running one window at a time."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs import contract
from configs.errors import ModelUnavailableError
from serving.model_client import FloatArray, Scores
from serving.subgraphs import upstream

_LARGE = 4096  # weights of a matrix that is worth dividing

REPRESENTATIVE = 512  # windows that int8 ranges are taken from, evenly spread over those there are

#: What is done to a model to make it smaller.
KINDS = ("float32", "float16", "dynamic", "int8")

#: Operations that int8 exports compute in 8 bits: the layers. What is measured of a window is the small difference from
#: its reconstruction, on a scale of decades; in 8 bits it would be lost, so all else stays in floating point.
INT8_OPS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")

Signature = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Frozen:
    """A function of one window with its weights as constants.

    Attributes:
        function: TensorFlow's concrete function.
        flops: floating point operations a window.
        parameters: weights in it.
    """

    function: Any
    flops: int
    parameters: int


def freeze(signature: Signature, shapes: Mapping[str, tuple[int | None, ...]]) -> Frozen:
    """Makes weights constants and the batch one window."""
    return _measured(constant(signature, shapes, batch=1))


def constant(signature: Signature, shapes: Mapping[str, tuple[int | None, ...]], *, batch: int | None) -> Any:
    """A signature as a concrete function without variables, for so many windows at once; None: for any number."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = {name: tf.TensorSpec((batch, *shape[1:]), tf.float32, name) for name, shape in shapes.items()}
    return convert_variables_to_constants_v2(tf.function(lambda **raw: signature(**raw)).get_concrete_function(**specs))


def _measured(frozen: Any) -> Frozen:
    import tensorflow as tf

    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    profile = tf.compat.v1.profiler.profile(frozen.graph, cmd="op", options=options.build())
    constants = [
        tf.make_ndarray(operation.get_attr("value"))
        for operation in frozen.graph.get_operations()
        if operation.type == "Const" and operation.outputs[0].dtype == tf.float32
    ]
    sizes = [values.size for values in constants if not _says_which(values)]
    return Frozen(frozen, int(profile.total_float_ops), sum(size for size in sizes if size > 1))


def _says_which(values: Any) -> bool:
    """Whether it is a matrix of zeros and ones: it says which lead a column is of, and nobody learnt it."""
    return values.ndim == 2 and bool(np.isin(values, (0.0, 1.0)).all()) and bool(values.any())


def low_rank(frozen: Frozen, share: float) -> Frozen:
    """The same function, each large matrix the product of two narrow ones, as wide as `share` of the weights allows.

    The products are the best there are of their rank (Eckart and Young 1936), the same rank for each matrix: windows of
    ECG vary in few directions, so little is lost.

    Raises:
        ModelUnavailableError: it has no large matrices, or too many other weights.
    """
    import tensorflow as tf

    graph = frozen.function.graph.as_graph_def()
    nodes = {node.name: node for node in graph.node}
    matrices = {
        node.name: tf.make_ndarray(nodes[constant].attr["value"].tensor)
        for node in graph.node
        if node.op == "MatMul"
        and not (node.attr["transpose_a"].b or node.attr["transpose_b"].b)
        and (constant := _constant_of(nodes, node.input[1])) is not None
    }
    matrices = {name: matrix for name, matrix in matrices.items() if matrix.size >= _LARGE}
    others = frozen.parameters - sum(matrix.size for matrix in matrices.values())
    rank = int((share * frozen.parameters - others) // max(sum(sum(m.shape) for m in matrices.values()), 1))
    if not matrices or rank < 1:
        raise ModelUnavailableError("low_rank export", "the model has no large matrices", "Leave it out.")
    for name, matrix in matrices.items():
        u, sizes, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
        root = np.sqrt(sizes[:rank])
        node = nodes[name]
        narrow = graph.node.add()
        narrow.CopyFrom(node)
        narrow.name = f"{name}/narrow"
        for target, values, suffix in ((narrow, u[:, :rank] * root, "in"), (node, root[:, None] * v[:rank], "out")):
            constant = graph.node.add(name=f"{name}/{suffix}", op="Const")
            constant.attr["dtype"].type = tf.float32.as_datatype_enum
            constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values.astype(np.float32)))
            target.input[1] = constant.name
        node.input[0] = narrow.name
    graph = upstream(graph, [tensor.name for tensor in (*frozen.function.inputs, *frozen.function.outputs)])
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    find = imported.graph.as_graph_element
    function = imported.prune(
        [find(tensor.name) for tensor in frozen.function.inputs], [find(t.name) for t in frozen.function.outputs]
    )
    return _measured(function)


def _constant_of(nodes: Mapping[str, Any], name: str) -> str | None:
    """The constant that a node's input is, through identities."""
    node = nodes.get(name.split(":")[0])
    while node is not None and node.op == "Identity":
        node = nodes.get(node.input[0].split(":")[0])
    return str(node.name) if node is not None and node.op == "Const" else None


def convert(frozen: Frozen, kind: str, examples: Mapping[str, FloatArray]) -> bytes:
    """Converts to a LiteRT model.

    Args:
        kind: one of KINDS.
        examples: windows that int8 ranges are taken from.

    Raises:
        ModelUnavailableError: an operation of the model has no counterpart.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen.function])
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        order = [tensor.name.split(":")[0] for tensor in frozen.function.inputs]
        n = len(examples[contract.SAMPLES])
        rows = np.unique(np.linspace(0, n - 1, min(REPRESENTATIVE, n)).astype(int))
        converter.representative_dataset = lambda: ([examples[name][i : i + 1] for name in order] for i in rows)
        # The layers alone: see INT8_OPS.
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS,
        ]  # fmt: skip
    try:
        return bytes(_quietly(lambda: _convert_int8(converter, frozen) if kind == "int8" else converter.convert()))
    except Exception as error:
        if "debug mode" in str(error):  # what the debugger says when nothing was quantised
            raise ModelUnavailableError(f"{kind} export", "it has no operation with an int8 form") from error
        wrong = next((line for line in str(error).splitlines() if "error" in line), str(error).splitlines()[0])
        raise ModelUnavailableError(f"{kind} export", f"cannot be converted ({wrong[:200]})", "Train again.") from error


def _convert_int8(converter: Any, frozen: Frozen) -> bytes:
    """The layers in int8, weights by channel where LiteRT can; the rest in floating point.

    A layer's matrix was a variable; other products of matrices are part of what is measured.
    """
    import tensorflow as tf
    from tensorflow.lite.python.schema_py_generated import BuiltinOperator

    others = [name for name in vars(BuiltinOperator) if name.isupper() and name not in INT8_OPS]
    products = [node for node in frozen.function.graph.get_operations() if node.type == "MatMul"]
    measured = [node.name for node in products if not node.inputs[1].op.name.endswith("ReadVariableOp")]
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=others, denylisted_nodes=measured)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


class LiteModel:
    """Runs a LiteRT model, one window a call.

    Attributes:
        load_s: seconds until the first window could be asked.
    """

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        started = time.perf_counter()
        self._interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self.load_s = time.perf_counter() - started
        self._inputs = {
            detail["name"].split(":")[0].removeprefix("serving_default_"): detail["index"]
            for detail in self._interpreter.get_input_details()
        }
        self._outputs = output_order(self._interpreter.get_output_details())

    def score(self, inputs: Mapping[str, FloatArray]) -> tuple[Scores, list[float]]:
        """Scores n windows; returns also the seconds each took.

        Raises:
            ModelUnavailableError: an operation of it fails.
        """
        n = len(inputs[contract.SAMPLES])
        answer: dict[str, list[Any]] = {name: [] for name in self._outputs}
        took = []
        for i in range(n):
            started = time.perf_counter()
            for name, index in self._inputs.items():
                self._interpreter.set_tensor(index, inputs[name][i : i + 1])
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise ModelUnavailableError("LiteRT export", f"cannot be run ({str(error)[:200]})") from error
            found = {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
            took.append(time.perf_counter() - started)
            for name, value in found.items():
                answer[name].append(np.atleast_1d(value)[0])
        arrays = {name: np.asarray(values) for name, values in answer.items()}
        return Scores.from_answer(arrays), took


def output_order(details: list[dict[str, Any]]) -> dict[str, int]:
    """Names of the outputs: a frozen function gives them in the alphabetical order of their names."""
    names = sorted((contract.SCORE, contract.VERDICT, contract.LEAD))
    return {name: int(detail["index"]) for name, detail in zip(names, details, strict=True)}


def _quietly(action: Callable[[], Any]) -> Any:
    """The converter writes to standard error from C++; that is no news to the user."""
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        return action()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
