"""When the bare int8 file decides otherwise: what to try next, in order, each rung measured, up to the first that is good.

The first three rungs give a file of integers alone and cost the device nothing. The fourth leaves the layers that lose most
in float, the fifth trains the weights anew with the rounding in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image
from pawlatch_convert.graph import Graph, Operator, Runner
from pawlatch_convert.qat import fine_tune
from pawlatch_convert.ranges import Range, estimate, observe, quantize
from pawlatch_convert.recipes import Converter, with_extremes
from pawlatch_convert.rewrite import equalize
from pawlatch_convert.rounding import round_weights

ROUNDING_PHOTOS = 50
FLOAT_LAYERS = (1, 2, 4, 8)  # the cheapest set that passes is looked for in these sizes
ROUNDING_COST = 40.0  # passes of one photo through the float graph that rounding takes for each photo it looks at
TUNING_COST = 10.0  # and fine-tuning, for each photo of each epoch; tracing comes on top
TRACING_S = 8.0
FEW_TUNING_PHOTOS = 300


@dataclass(frozen=True)
class Rung:
    """One thing to try: its name, what it does, about how long it takes, and how the file is made."""

    name: str
    what: str
    cost_s: float
    make: Callable[[], bytes]
    float_layers: tuple[str, ...] = ()  # what it leaves in float

    @property
    def is_integer(self) -> bool:
        """Whether its file computes in integers alone."""
        return not self.float_layers


@dataclass(frozen=True)
class Noise:
    """A layer's error: of all photos, Σ (float − int8)² / Σ float², and by how much more than its own input had."""

    layer: str
    output: float
    added: float

    @property
    def signal_to_noise_db(self) -> float:
        """10 log₁₀ of signal over noise."""
        return float(-10 * np.log10(max(self.output, 1e-12)))


class Ladder:
    """Makes the rungs of one float .tflite file, each from what those before it made.

    Args:
        float_tflite: the file.
        photos: fitted calibration photos, class-balanced, uint8 (H, W, 3).
        tuning: photos to fine-tune with, for the last rung; without any there is none.
    """

    def __init__(self, float_tflite: bytes, photos: Sequence[Image], *, tuning: Sequence[Image] = (),
                 progress: Callable[[str], None] = lambda line: None) -> None:
        self._graph, self._photos, self._tuning, self._progress = Graph(float_tflite), with_extremes(photos), tuning, progress
        self._few = self._photos[:: max(1, len(self._photos) // ROUNDING_PHOTOS)][:ROUNDING_PHOTOS]
        self._epochs = 6 if len(tuning) <= FEW_TUNING_PHOTOS else 3
        self._ranges: dict[int, Range] = {}
        self._careful: bytes | None = None  # the file of the rung "rounded"
        self._pass_s = 0.01  # of one photo through the float graph, until it is measured
        self.noise: list[Noise] = []  # of the last integer file, the noisiest first

    def rungs(self, *, may_be_mixed: Callable[[], bool]) -> Iterator[Rung]:
        """In order; whoever iterates makes each before the next. `may_be_mixed`: whether floats would be welcome by then."""
        n, rounding_s = len(self._photos), self.rounding_s()
        yield Rung("calibration", f"ranges from {n} photos without the wildest tenth", 2 * n * self._pass_s, self._calibrated)
        yield Rung("equalized", "channels of the linear streams brought to one range", 3 * n * self._pass_s, self._equalized)
        yield Rung("rounded", "weights rounded for the sum they go into, biases corrected", rounding_s, self._rounded)
        if self._careful is not None and may_be_mixed():  # None: this graph cannot be rounded so
            self.noise = layer_noise(self._graph, Graph(self._careful), self._few)
            told = (f"{_shortened([entry.layer])} {entry.signal_to_noise_db:.1f} dB" for entry in self.noise[:4])
            self._progress(f"the noisiest layers, signal to noise: {', '.join(told)}")
            worst = [entry.layer for entry in sorted(self.noise, key=lambda entry: -entry.added)]
            for count in (count for count in FLOAT_LAYERS if count < len(worst)):
                layers = tuple(worst[:count])
                yield Rung("selective", f"{count} of {len(worst)} layers left in float: {_shortened(layers)}", rounding_s,
                           partial(self._rounded, layers), layers)
        if self._tuning:
            cost_s = TRACING_S + TUNING_COST * self._epochs * len(self._tuning) * self._pass_s
            yield Rung("qat", f"weights fine-tuned for {self._epochs} epochs with the rounding in sight", cost_s, self._tuned)

    def rounding_s(self) -> float:
        """About how long rounding takes here, from one photo's way through the float graph."""
        run, pixels = Runner(self._graph.to_bytes()), self._photos[0][np.newaxis].astype(np.float32)
        run(pixels)  # which sets up caches and threads
        start = perf_counter()
        run(pixels)
        self._pass_s = max(1e-3, perf_counter() - start)
        return ROUNDING_COST * len(self._few) * self._pass_s

    def carefully_rounded(self) -> bytes:
        """The file of the third rung at once."""
        self._equalized()
        return self._rounded()

    def _calibrated(self) -> bytes:
        self._ranges = estimate(observe(self._graph, self._photos), "percentile")
        return quantize(self._graph, self._ranges)

    def _equalized(self) -> bytes:
        equalize(self._graph, self._few)
        return self._calibrated()

    def _rounded(self, float_layers: Sequence[str] = ()) -> bytes:
        rounded = Graph(quantize(self._graph, self._ranges, keep_float=float_layers))
        round_weights(self._graph, rounded, self._few)
        data = rounded.to_bytes()
        if not float_layers:
            self._careful = data
        return data

    def _tuned(self) -> bytes:
        
        fine_tune(self._graph, self._ranges, self._tuning, epochs=self._epochs, progress=self._progress)
        return quantize(self._graph, self._ranges)


class OnnxLadder:
    """The one rung of an ONNX file: the integers of the careful .tflite file carried over."""

    def __init__(self, converter: Converter, photos: Sequence[Image]) -> None:
        self._converter, self._photos = converter, photos

    def rungs(self, *, may_be_mixed: Callable[[], bool]) -> Iterator[Rung]:
        """As `Ladder.rungs`; nothing is left in float."""
        careful = Ladder(self._converter.float_tflite, self._photos)
        yield Rung("carried", "weights and biases rounded as in the rung 'rounded' of TFLite", careful.rounding_s(),
                   lambda: self._converter.integer_onnx(careful.carefully_rounded()))


def layer_noise(unrounded: Graph, rounded: Graph, photos: Sequence[Image]) -> list[Noise]:
    """The error of every convolution's output, and what it added to its input's, the noisiest output first."""
    pairs = list(zip(unrounded.convolutions(), rounded.convolutions(), strict=True))
    before, after = (_Tap(graph, [pair[i] for pair in pairs]) for i, graph in enumerate((unrounded, rounded)))
    error, signal = np.zeros((len(pairs), 2)), np.zeros((len(pairs), 2))
    for photo in photos:
        for k, (true, seen) in enumerate(zip(before(photo), after(photo), strict=True)):
            for i in (0, 1):  # input, output
                error[k, i] += float(((true[i] - seen[i]) ** 2).sum())
                signal[k, i] += float((true[i] ** 2).sum())
    share = error / np.maximum(signal, 1e-12)
    names = [unrounded.name(operator.outputs[0]) for operator, _ in pairs]
    found = [Noise(name, float(share[k, 1]), float(share[k, 1] - share[k, 0])) for k, name in enumerate(names)]
    return sorted(found, key=lambda noise: -noise.output)


class _Tap:
    """First input and output of some operators, as real numbers, photo by photo."""

    def __init__(self, graph: Graph, operators: Sequence[Operator]) -> None:
        self._graph = graph
        self._ends = [(operator.inputs[0], operator.outputs[0]) for operator in operators]
        inside = {tensor for operator in graph.operators for tensor in operator.outputs}
        self._tensors = sorted({tensor for pair in self._ends for tensor in pair} & inside)
        self._run = Runner(graph.part(0, len(graph.operators), graph.inputs, self._tensors))
        self._dtype = graph.dtype(graph.inputs[0])

    def __call__(self, photo: Image) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        pixels: NDArray[Any] = photo[np.newaxis].astype(self._dtype)
        made = dict(zip(self._tensors, self._run(pixels), strict=True)) | {self._graph.inputs[0]: pixels}
        return [(self._graph.real(first, made[first]), self._graph.real(last, made[last])) for first, last in self._ends]


def _shortened(layers: Sequence[str]) -> str:
    """Names of layers as a person knows them: the last part but one of `.../block_1_project/Conv2D`."""
    short = [name.split(";")[0].split("/")[-2] if "/" in name else name for name in layers]
    return ", ".join(short[:4]) + (f" and {len(short) - 4} more" if len(short) > 4 else "")
