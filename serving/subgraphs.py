"""The autoencoders inside a version's frozen graph: where each begins and ends, and putting others in their place."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.errors import ModelUnavailableError

#: Scopes that Keras gives to the layers of an autoencoder: its name (`components.fitting`), perhaps with a number.
_SCOPE = re.compile(r"(?:^|/)(morphology|context)(?:_\d+)?/")


@dataclass(frozen=True)
class Autoencoder:
    """Where an autoencoder stands in a graph.

    Attributes:
        name: "morphology" or "context".
        entries: tensors that it reads, (batch, W, L) each: the window, and the template where it knows one.
        exit: tensor that it gives, (batch, W, L).
        parameters: weights in it.
        narrowest: width of its bottleneck.
    """

    name: str
    entries: tuple[str, ...]
    exit: str
    parameters: int
    narrowest: int


def find_autoencoders(function: Any) -> list[Autoencoder]:
    """The autoencoders of a frozen function.

    Raises:
        ModelUnavailableError: it has none that can be told by their names.
    """
    operations = function.graph.get_operations()
    entries: dict[str, list[str]] = {}
    exits: dict[str, list[str]] = {}
    weights: dict[str, dict[str, int]] = {}
    widths: dict[str, list[int]] = {}
    for operation in operations:
        inside = _scope(operation)
        for tensor in operation.inputs:
            of = _scope(tensor.op)
            if inside is None and of is not None and tensor.op.type != "Const":
                exits.setdefault(of, []).append(tensor.name)
            if inside is None or (tensor.op.type == "Const" and of is not None):
                continue
            constant = _constant(tensor)
            if constant is not None:
                weights.setdefault(inside, {})[constant.name] = int(np.prod(constant.outputs[0].shape.as_list()))
            elif of is None:
                entries.setdefault(inside, []).append(tensor.name)
        if inside is not None and operation.type == "MatMul":
            widths.setdefault(inside, []).append(int(operation.outputs[0].shape[-1]))

    def in_order(name: str) -> tuple[str, ...]:
        """The window first: the template is what the decoded difference is added to."""
        last = {tensor.name for tensor in function.graph.get_tensor_by_name(exits[name][0]).op.inputs}
        return tuple(sorted(dict.fromkeys(entries[name]), key=lambda entry: entry in last))

    found = [
        Autoencoder(name, in_order(name), exits[name][0], sum(weights[name].values()), min(widths[name]))
        for name in widths
        if len(set(exits.get(name, ()))) == 1 and name in entries and name in weights
    ]
    if not found:
        raise ModelUnavailableError("model", "has no autoencoders that can be told by their names", "Leave it out.")
    return found


def ends_of(function: Any, parts: Sequence[Autoencoder]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A TensorFlow function from raw inputs to what the autoencoders read and give, by the tensors' names."""
    import tensorflow as tf

    wanted = [name for part in parts for name in (*part.entries, part.exit)]
    graph = upstream(function.graph.as_graph_def(), wanted)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def ends(raw: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(wanted, _import(graph, function, raw, {}, wanted), strict=True))

    return ends  # type: ignore[no-any-return,unused-ignore]


def with_others(
    function: Any, others: Mapping[Autoencoder, Callable[[list[Any]], Any]], outputs: Sequence[str]
) -> Callable[..., dict[str, Any]]:
    """The same signature with other functions in the place of autoencoders: each gets the entries, gives the exit.

    Args:
        function: frozen, of any batch size.
        outputs: names of what it gives, in its order.
    """
    entries = [name for part in others for name in part.entries]
    before = upstream(function.graph.as_graph_def(), entries)
    after = function.graph.as_graph_def()
    exits = {part.exit.split(":")[0] for part in others}
    for node in after.node:
        if node.name in exits:
            dtype = node.attr["T"].type
            node.op = "Placeholder"
            del node.input[:]
            node.attr.clear()
            node.attr["dtype"].type = dtype
    given = [tensor.name for tensor in function.outputs]
    after = upstream(after, given)

    def signature(**raw: Any) -> dict[str, Any]:
        read = dict(zip(entries, _import(before, function, raw, {}, entries), strict=True))
        exchanged = {part.exit: other([read[name] for name in part.entries]) for part, other in others.items()}
        return dict(zip(outputs, _import(after, function, raw, exchanged, given), strict=True))

    return signature


def _scope(operation: Any) -> str | None:
    match = _SCOPE.search(operation.name)
    return match.group(1) if match else None


def _constant(tensor: Any) -> Any:
    """The floating point constant that a tensor is, through identities; None where it is none."""
    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return operation if operation.type == "Const" and operation.outputs[0].dtype.is_floating else None


def upstream(graph: Any, names: Sequence[str]) -> Any:
    """The part of a frozen graph that tensors depend on; without control inputs, which keep replaced weights alive."""
    import tensorflow as tf

    for node in graph.node:
        data = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(data)
    return tf.compat.v1.graph_util.extract_sub_graph(graph, [name.split(":")[0] for name in names])


def _import(graph: Any, function: Any, raw: Mapping[str, Any], exchanged: Mapping[str, Any], wanted: Any) -> list[Any]:
    import tensorflow as tf

    there = {node.name for node in graph.node}
    inputs = {tensor.name: raw[tensor.name.split(":")[0]] for tensor in function.inputs}
    mapped = {name: value for name, value in {**inputs, **exchanged}.items() if name.split(":")[0] in there}
    return list(tf.graph_util.import_graph_def(graph, input_map=mapped, return_elements=list(wanted), name=""))
