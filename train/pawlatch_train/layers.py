"""A backbone as a list of layers: where it can be cut, what fine-tuning would train, and the table that says so.

Layers are numbered as keras.applications numbers them, so that "from layer 100 on" of a tutorial means the same layer here:
the scaling that we put in front (named `scale_...`) has no number and is never trained.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pawlatch_train.features import BackboneError
from pawlatch_train.keras import keras, tf

SCALING = "scale_"  # what the names of our own scaling layers begin with
_BLOCK = re.compile(r"(?:block_?\d+[a-z]?|(?:conv\d+_)?block\d+|expanded_conv(?:_\d+)?|mixed\d+|Conv_?1|stem|top)(?=[_/]|$)")
_AUGMENTATION = (
    keras.layers.RandomBrightness, keras.layers.RandomContrast, keras.layers.RandomFlip, keras.layers.RandomRotation,
    keras.layers.RandomTranslation, keras.layers.RandomZoom,
)  # pass pictures on as they are once training is over; we bring our own
_INDEX = re.compile(r"-?\d+")


def cut_points(model: Any) -> list[str]:
    """Names of the layers through which everything passes on its way, in order; the last gives the model's output.

    A layer is one if no tensor jumps over it (an articulation point), and if it gives one tensor in one place of the model.
    """
    nodes = _nodes(model)
    position = {id(tensor): i for i, node in enumerate(nodes) for tensor in tf.nest.flatten(node.outputs)}
    reach = list(range(len(nodes)))  # how far the tensors of each node are still needed
    for i, node in enumerate(nodes):
        for tensor in node.keras_inputs:
            reach[position[id(tensor)]] = i
    for tensor in model.outputs:
        reach[position[id(tensor)]] = len(nodes)
    uses = [node.layer for node in nodes]
    names, furthest = [], 0
    for i, node in enumerate(nodes):
        single = uses.count(node.layer) == 1 and len(tf.nest.flatten(node.outputs)) == 1
        if furthest <= i and single and not node.is_input:
            names.append(str(node.layer.name))
        furthest = max(furthest, reach[i])
    return names


def split_model(model: Any, name: str | None) -> tuple[Any | None, Any]:
    """Cut `model` behind the layer `name` into (stem, upper), which share its layers; None: no stem, all of it is upper.

    stem: what `model` takes -> output of the layer; upper: that -> what `model` gives.

    Raises:
        BackboneError: there is no such layer, or other tensors pass it by.
    """
    if name is None:
        return None, model
    require_cut_point(model, name)
    tensor = output_of(model, name)
    stem = keras.Model(model.inputs, tensor, name=f"{model.name}_stem")
    if tensor is model.output:
        same = keras.Input(tensor.shape[1:], dtype=tensor.dtype)
        return stem, keras.Model(same, same, name=f"{model.name}_upper")
    return stem, keras.Model(tensor, model.output, name=f"{model.name}_upper")


def trainable_from(
    model: Any, fine_tune_at: int | str | None, *, freeze: Sequence[str] = (), batch_norm_frozen: bool = True
) -> list[Any]:
    """The layers that fine-tuning would train: those with weights from `fine_tune_at` on.

    Args:
        fine_tune_at: an index (54), a layer ("block_13_expand"), a block ("block_13"), a pattern ("block_1[3-6]_*": from its
            first match on), or None or "none" for nothing.
        freeze: layers, blocks, patterns or indices that stay frozen all the same.
        batch_norm_frozen: leave out batch normalization; a few dozen photos are no population to take statistics of.

    Raises:
        BackboneError: nothing has this name; the message names what is near.
    """
    if fine_tune_at is None or fine_tune_at == "none":
        return []
    layers = numbered(model)
    first = _matches(layers, fine_tune_at, option="--fine-tune-at")[0]
    frozen = {index for pattern in freeze for index in _matches(layers, pattern, option="--freeze")}
    return [
        layer
        for index, layer in enumerate(layers)
        if index >= first and index not in frozen and trainable_weights(layer)
        and not (batch_norm_frozen and isinstance(layer, keras.layers.BatchNormalization))
    ]


def cut_before(model: Any, trainable: Sequence[Any]) -> str | None:
    """The last cut point that has no trainable layer at or before it; None where that is the very beginning."""
    trained = {id(layer) for layer in trainable}
    cuts, best = set(cut_points(model)), None
    for node in _nodes(model):
        if id(node.layer) in trained:
            return best
        if node.layer.name in cuts:
            best = str(node.layer.name)
    return best


def list_layers(model: Any, trainable: Sequence[Any]) -> str:
    """The table of `pawlatch train --layers`: blocks, and in them index, name, type, output shape, parameters, and whether
    fine-tuning would train it; a star marks the cut points. At most 100 columns."""
    trained = {id(layer) for layer in trainable}
    cuts, index_of = set(cut_points(model)), {id(layer): index for index, layer in enumerate(numbered(model))}
    lines = [f"{'index':>5} {'layer (* may be cut behind it)':<41} {'type':<18} {'output':<11} {'parameters':>10}"]
    block = None
    for node in _nodes(model):
        layer = node.layer
        if (new := block_of(layer.name)) and new != block:
            block = new
            lines.append(f"{block}:")
        star = "*" if layer.name in cuts else " "
        parameters = f"{layer.count_params():,}" if layer.count_params() else "-"
        state = "" if parameters == "-" else "trained" if id(layer) in trained else "frozen"
        lines.append(
            f"{index_of.get(id(layer), '-'):>5} {_short(layer.name, 39)} {star} {_short(type(layer).__name__, 18)} "
            f"{_short(_shape(node.outputs), 11)} {parameters:>10} {state}".rstrip()
        )
    weights = {id(weight): weight for layer in trainable for weight in trainable_weights(layer)}
    would = sum(_size(weight) for weight in weights.values())
    total = model.count_params()
    lines.append(f"{len(index_of)} layers, {total:,} parameters: {would:,} would be trained, {total - would:,} stay frozen")
    return "\n".join(lines)


def numbered(model: Any) -> list[Any]:
    """The model's layers without our own scaling: the list whose indices people know from Keras."""
    return [layer for layer in model.layers if not layer.name.startswith(SCALING)]


def block_of(name: str) -> str | None:
    """The block that a layer's name says it belongs to: "block_13" for "block_13_expand"."""
    return found[0] if (found := _BLOCK.match(name)) else None


def trainable_weights(layer: Any) -> list[Any]:
    """The weights that training may change, whether the layer is frozen at present or not."""
    if getattr(layer, "_signature", None):  # a hub.KerasLayer around a bare signature cannot be trained
        return []
    return [weight for weight in layer.weights if weight.trainable]


def output_of(model: Any, name: str) -> Any:
    """The tensor of a layer within this model; `layer.output` is that of the first model it was ever part of."""
    return next(node.outputs for node in _nodes(model) if node.layer.name == name)


def require_cut_point(model: Any, name: str) -> None:
    """Refuse to cut where there is no layer `name`, or where tensors pass it by.

    Raises:
        BackboneError: the message names what could be cut.
    """
    cuts = cut_points(model)
    if name in cuts:
        return
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise BackboneError(f"{model.name} has no layer {name!r}{_near(name, cuts)}; --layers lists them")
    after = next((cut for cut in cuts if cut in names[names.index(name):]), cuts[-1])
    raise BackboneError(f"{model.name} cannot be cut behind {name}: other layers pass it by; the next that can is {after}")


def flatten(model: Any, pixels: Any) -> list[Any]:
    """Lay out `model` anew on the tensor `pixels`, what is nested in it as single layers, without its augmentation.

    Weights are shared.

    Returns:
        The model's outputs.

    Raises:
        BackboneError: it is no network of layers (subclassed), or takes more than one picture.
        ValueError: a layer cannot take this size.
    """
    nodes, used = _nodes(model), model._tensor_usage_count
    if len(model.inputs) != 1:
        raise BackboneError(f"a backbone takes one picture, but {model.name} has {len(model.inputs)} inputs")
    first = str(id(model.inputs[0]))
    held = {first: [pixels] * used[first]}
    for node in nodes:
        if node.is_input:
            continue
        args, kwargs = node.map_arguments(held)
        if _is_network(node.layer):
            outputs = flatten(node.layer, args[0])
        elif isinstance(node.layer, _AUGMENTATION):
            outputs = [args[0]]
        else:
            outputs = tf.nest.flatten(node.layer(*args, **kwargs))
        for key, new in zip(node.flat_output_ids, outputs, strict=True):
            held[key] = [new] * used[key]
    return [held[str(id(tensor))][0] for tensor in model.outputs]


def _is_network(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and bool(getattr(layer, "_is_graph_network", False))


def _nodes(model: Any) -> list[Any]:
    """Where layers are called in this model, inputs first.

    Raises:
        BackboneError: it is not a functional or built Sequential model.
    """
    if not _is_network(model):
        raise BackboneError(f"{model.name} is no functional or built Sequential Keras model, and cannot be taken apart")
    return list(_by_depth(model))


def _by_depth(model: Any) -> Iterator[Any]:
    order = {id(layer): index for index, layer in enumerate(model.layers)}  # Sequential leaves its input out
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from sorted(model._nodes_by_depth[depth], key=lambda node: order.get(id(node.layer), -1))


def _matches(layers: Sequence[Any], wanted: int | str, *, option: str) -> list[int]:
    """Indices of the layers that are meant, at least one."""
    names = [layer.name for layer in layers]
    if isinstance(wanted, int) or _INDEX.fullmatch(wanted):
        index = int(wanted)
        if not -len(names) <= index < len(names):
            raise BackboneError(f"{option} must be an index below {len(names)}, got {index}; --layers lists them")
        return [index % len(names)]
    for fits in (
        lambda name: name == wanted,
        lambda name: name.startswith((f"{wanted}_", f"{wanted}/")),
        lambda name: fnmatchcase(name, wanted),
    ):
        if found := [index for index, name in enumerate(names) if fits(name)]:
            return found
    blocks = [block for name in names if (block := block_of(name))]
    raise BackboneError(
        f"{option} {wanted!r} is no layer, block, pattern or index of this backbone{_near(wanted, blocks + names)}; "
        "--layers lists them"
    )


def _near(wanted: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(wanted, list(dict.fromkeys(names)), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _shape(outputs: Any) -> str:
    return ", ".join("x".join(str(n or "?") for n in tensor.shape[1:]) or "scalar" for tensor in tf.nest.flatten(outputs))


def _short(text: str, width: int) -> str:
    return f"{text if len(text) <= width else text[: width - 1] + '…':<{width}}"


def _size(weight: Any) -> int:
    return int(tf.size(weight))
