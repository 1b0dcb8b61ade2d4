"""Models that others trained: whatever of a SavedModel or a Keras file takes one picture, as a frozen graph."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import MissingExtraError, ModelCardError, PawlatchError
from pawlatch.quiet import quiet
from pawlatch_convert.heavy import heavy

DEFAULT_SIZE_HW = (224, 224)
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")

# what may stand between the last layer's product and the scores
_PASSED = {"Identity", "Softmax", "Sigmoid", "BiasAdd", "Add", "AddV2", "Reshape", "Squeeze"}


@dataclass(frozen=True, eq=False)
class Graph:
    """A foreign model, its weights constants: `function` takes (batch, H, W, 3), or a batch of any size where it is None.

    `takes_bytes` says that it wants uint8; otherwise it wants float32, in units that the graph does not tell.
    """

    kind: str
    function: Any
    output_names: tuple[str, ...]
    size_hw: tuple[int, int]
    batch: int | None
    takes_bytes: bool
    is_size_assumed: bool

    def run(self, pixels: NDArray[np.uint8], scale: Callable[[Any], Any]) -> list[NDArray[np.float32]]:
        """Every output for `pixels` (n, H, W, 3), brought to the graph's range by `scale`."""
        tf, step = heavy("tensorflow"), self.batch or 32
        batches = (pixels[at : at + step].astype(np.float32) for at in range(0, len(pixels), step))
        parts = [self.function(tf.constant(scale(batch))) for batch in batches]
        return [np.concatenate([part[i].numpy() for part in parts]).astype(np.float32) for i in range(len(self.output_names))]

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Each output's shape for one picture, run and not inferred: (1, k) of class scores."""
        black = np.zeros((1, *self.size_hw, 3), np.uint8)
        return [values.shape for values in self.run(black, lambda picture: picture)]

    def embedding(self, output: int) -> Any | None:
        """The tensor (batch, d) or (batch, 1, 1, d) that enters the last dense layer before an output, if there is one."""
        tensor = self.function.outputs[output]
        while tensor.op.type in _PASSED:
            tensor = max(tensor.op.inputs, key=lambda value: value.shape.rank or 0)  # a bias has fewer axes
        if tensor.op.type not in {"MatMul", "Conv2D"}:
            return None
        features = tensor.op.inputs[0]
        is_flat = features.shape.rank == 2 or (features.shape.rank == 4 and features.shape.as_list()[1:3] == [1, 1])
        return features if is_flat and features.shape[-1] else None

    def logits(self, output: int) -> Any:
        """What enters the softmax of an output; the output itself where there is none."""
        last = tensor = self.function.outputs[output]
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        return tensor.op.inputs[0] if tensor.op.type == "Softmax" else last


def load_graph(model: Path, *, size_hw: tuple[int, int] | None = None) -> Graph:
    """Load a SavedModel's folder or a Keras file.

    Args:
        model: a folder with saved_model.pb, or a `.keras` or `.h5` file of Keras 2 or 3.
        size_hw: the input size where the graph takes any; 224 x 224 by default.

    Raises:
        ModelCardError: it is neither, it is damaged, or it does not take one RGB picture.
        MissingExtraError: what it needs is not installed.
    """
    kind, call, spec = _from_folder(model) if model.is_dir() else _from_file(model)
    dims = _checked(spec, model)
    own_hw = (dims[1], dims[2])
    if size_hw and any(side not in {None, want} for side, want in zip(own_hw, size_hw, strict=True)):
        raise ModelCardError(f"{model} takes pictures of {_by(own_hw)} pixels, not {_by(size_hw)}; leave out the size")
    chosen = size_hw or DEFAULT_SIZE_HW
    shape_hw = (own_hw[0] or chosen[0], own_hw[1] or chosen[1])
    tf = heavy("tensorflow")
    takes_bytes = spec.dtype == tf.uint8
    try:
        with quiet():
            function, names = _frozen(call, tf.TensorSpec((dims[0], *shape_hw, 3), spec.dtype))
    except Exception as error:  # a graph that cannot be traced raises what it likes
        raise ModelCardError(f"{model} cannot be traced with pictures of {_by(shape_hw)} pixels: {_gist(error)}") from error
    return Graph(kind, function, names, shape_hw, dims[0], takes_bytes, is_size_assumed=None in own_hw and size_hw is None)


def _from_folder(folder: Path) -> tuple[str, Callable[[Any], Any], Any]:
    tf = heavy("tensorflow")
    try:
        with quiet():
            loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # protobuf, tf.errors and custom objects alike
        raise ModelCardError(f"{folder} is no SavedModel that TensorFlow can read ({_gist(error)}); copy it again") from error
    if loaded.signatures:
        name = "serving_default" if "serving_default" in loaded.signatures else next(iter(loaded.signatures))
        return "a SavedModel", *_signature(loaded, name, folder)
    return "a SavedModel of a TF-Hub style module", *_callable(loaded, folder)


def _signature(loaded: Any, name: str, folder: Path) -> tuple[Callable[[Any], Any], Any]:
    signature = loaded.signatures[name]
    inputs = signature.structured_input_signature[1]
    ((key, spec),) = _only(inputs, folder).items()

    def call(pixels: Any, _alive: Any = loaded) -> Any:  # the variables live as long as `loaded` does
        return signature(**{key: pixels})

    return call, spec


def _callable(loaded: Any, folder: Path) -> tuple[Callable[[Any], Any], Any]:
    """A module's `__call__`, of whose traces the one for inference is taken."""
    traces = getattr(getattr(loaded, "__call__", None), "concrete_functions", [])  # noqa: B004 - a property is wanted
    for trace in traces:
        arguments, keywords = trace.structured_input_signature
        tensors = {str(i): value for i, value in enumerate((*arguments, *keywords.values())) if hasattr(value, "shape")}
        if True in [value for value in (*arguments, *keywords.values()) if isinstance(value, bool)]:  # training=True
            continue
        ((_, spec),) = _only(tensors, folder).items()

        def call(pixels: Any, arguments: Any = arguments, keywords: Any = keywords) -> Any:
            given = [pixels if hasattr(value, "shape") else value for value in arguments]
            named = {key: pixels if hasattr(value, "shape") else value for key, value in keywords.items()}
            return loaded(*given, **named)

        return call, spec
    raise ModelCardError(f"{folder} has neither a signature nor a call for inference; export it with model.export")


def _only(inputs: dict[str, Any], model: Path) -> dict[str, Any]:
    if len(inputs) != 1:
        raise ModelCardError(
            f"expected one input, the picture, but {model} takes {', '.join(inputs) or 'none'}; export it with the others "
            "fixed inside"
        )
    return inputs


def _from_file(path: Path) -> tuple[str, Callable[[Any], Any], Any]:
    """A whole model that `model.save` wrote, loaded by the Keras that wrote it."""
    try:
        generation = _keras_generation(path)
        keras = _keras(generation, path)
        with quiet():
            loaded = keras.models.load_model(str(path), compile=False)
    except (MissingExtraError, ModelCardError):
        raise
    except Exception as error:  # custom layers, lambdas and damaged files each raise their own
        raise ModelCardError(
            f"{path} cannot be loaded ({_gist(error)}); copy it again, or export it where its code is: model.export('folder')"
        ) from error
    if not getattr(loaded, "inputs", None):
        raise ModelCardError(f"{path} does not say what it takes; export it where it was trained: model.export('folder')")
    spec = next(iter(_only({value.name: value for value in loaded.inputs}, path).values()))
    tf = heavy("tensorflow")
    return f"a Keras {generation} file", lambda pixels: loaded(pixels, training=False), tf.TensorSpec(spec.shape, spec.dtype)


def _keras_generation(path: Path) -> int:
    """2 or 3, as the file says; an .h5 without a version is from before 3.

    Raises:
        ModelCardError: no whole Keras file, or weights alone.
    """
    if path.suffix == ".keras":
        try:
            with zipfile.ZipFile(path) as archive:
                return int(str(json.loads(archive.read("metadata.json"))["keras_version"]).split(".")[0])
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ModelCardError(f"{path} is not a whole .keras file ({_gist(error)}); copy it again") from error
    try:
        with heavy("h5py").File(path) as file:
            if "model_config" not in file.attrs:
                raise ModelCardError(f"{path} holds weights alone, without their graph; save the whole model: model.save(...)")
            version = file.attrs.get("keras_version", b"2")
    except OSError as error:
        raise ModelCardError(f"{path} is not a whole .h5 file ({_gist(error)}); copy it again") from error
    return 3 if str(version.decode() if isinstance(version, bytes) else version).startswith("3") else 2


def _keras(generation: int, path: Path) -> Any:
    if generation == 3:
        os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is imported
        return heavy("keras")
    try:
        return heavy("tf_keras")
    except MissingExtraError as error:
        raise MissingExtraError(f"{path} was written by Keras 2; type: pip install tf_keras") from error


def _checked(spec: Any, model: Path) -> list[int | None]:
    """The input's (batch, height, width, 3)."""
    dims: list[int | None] = spec.shape.as_list() if spec.shape.rank is not None else []
    if len(dims) == 4 and dims[1] == 3 and dims[3] != 3:
        raise ModelCardError(
            f"{model} takes {spec.shape}, its colours before its rows (NCHW), and a camera gives (1, H, W, 3); export it "
            "with channels last"
        )
    if len(dims) != 4 or dims[3] not in {None, 3} or spec.dtype.name not in {"float32", "uint8"}:
        raise ModelCardError(
            f"expected a model of RGB pictures, float32 or uint8 (1, H, W, 3), but {model} takes {spec.dtype.name} "
            f"{spec.shape}; export one that takes pictures"
        )
    if dims[0] not in {None, 1}:
        raise ModelCardError(f"{model} takes {dims[0]} pictures at a time, and a camera gives one; export it with a free batch")
    return dims


def _frozen(call: Callable[[Any], Any], spec: Any) -> tuple[Any, tuple[str, ...]]:
    """`call` with constants for variables, of float32 whatever the spec's dtype, and its outputs' names in order."""
    tf = heavy("tensorflow")
    from tensorflow.python.eager.wrap_function import function_from_graph_def
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names: list[str] = []

    def listed(pixels: Any) -> list[Any]:
        outputs = dict(_named(call(pixels)))
        names[:] = outputs
        return [tf.identity(value) for value in outputs.values()]

    frozen = convert_variables_to_constants_v2(tf.function(listed, input_signature=[spec]).get_concrete_function())
    if spec.dtype == tf.uint8:
        definition = _floats_for_bytes(frozen.graph.as_graph_def(), frozen.inputs[0].op.name)
        frozen = function_from_graph_def(definition, [frozen.inputs[0].name], [value.name for value in frozen.outputs])
    return frozen, tuple(names)


def _named(outputs: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(outputs, "items"):
        yield from outputs.items()
        return
    values = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    yield from ((f"output_{i}", value) for i, value in enumerate(values))


def _floats_for_bytes(graph: Any, input_name: str) -> Any:
    """The graph with a float32 input for its uint8 one: its first act, the cast to float, falls away.

    A cast is a float island to TFLite. Where the bytes are used in another way, they are cast back to what they were.
    """
    tf = heavy("tensorflow")
    bytes_type, float_type = tf.uint8.as_datatype_enum, tf.float32.as_datatype_enum
    next(node for node in graph.node if node.name == input_name).attr["dtype"].type = float_type
    bytes_names, users = [input_name], []
    for name in bytes_names:  # grows: calls that were inlined leave identities
        for node in graph.node:
            if not any(source.split(":")[0] == name for source in node.input):
                continue
            if node.op == "Identity":
                bytes_names.append(node.name)
            elif node.op == "Cast" and node.attr["DstT"].type == float_type:
                node.op = "Identity"
                node.attr.clear()
            else:
                users.append((node, name))
                continue
            node.attr["T"].type = float_type
    for node, name in users:
        back = graph.node.add(name=f"{node.name}/{name.split('/')[-1]}/bytes", op="Cast", input=[name])
        back.attr["SrcT"].type, back.attr["DstT"].type = float_type, bytes_type
        node.input[:] = [back.name if source.split(":")[0] == name else source for source in node.input]
    return graph


def _by(size_hw: tuple[int | None, ...]) -> str:
    return "×".join(str(side or "any") for side in reversed(size_hw))


def _gist(error: Exception) -> str:
    """The first line that says something."""
    if isinstance(error, PawlatchError):
        return str(error)
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]
