"""Which way each weight is rounded, and what each bias adds, so that a layer's output stays what it was.

Rounding to the nearest integer is best for a weight alone, not for the sum it goes into. Here the weights of an output are
rounded one after the other, and what one rounding adds on the calibration photos the weights still to come take back. Then the
bias takes back the mean error that is left. Layer by layer, each on what the integer layers before it really give.

Sources: E. Frantar, S. Ashkboos, T. Hoefler and D. Alistarh, "GPTQ" (ICLR 2023), the solver; M. Nagel et al., "Up or Down?
Adaptive Rounding for Post-Training Quantization" (ICML 2020), the aim, which they reach by gradient descent in minutes;
M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), 4.2, the bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pawlatch.image import Image
from pawlatch_convert.graph import Graph, Operator, Stage

ROWS = 48  # places of a photo that a layer is looked at
DAMPING = 0.1  # of the mean second moment, added to each: photos of other days differ from those of calibration
HIGHEST = 127

Floats = NDArray[np.float64]


def round_weights(unrounded: Graph, rounded: Graph, photos: Sequence[Image]) -> None:
    """Round the weights of `rounded`, an int8 file made of the float file `unrounded`, anew, and correct its biases.

    Scales and zero points stay. Operators that stayed float are passed over.
    """
    before, after = Stage(unrounded, photos), Stage(rounded, photos)
    for k, (real, integer) in enumerate(zip(unrounded.convolutions(), rounded.convolutions(), strict=True)):
        kernel, bias = unrounded.weights(real)
        true_mean, _ = _seen(before.advance(real), kernel.shape, real, seed=k)
        mean, samples = _seen(after.advance(integer), kernel.shape, real, seed=k)
        scales = rounded.scale(integer.inputs[1])[0]
        if not len(scales):
            continue
        by_channel = real.kind == "DEPTHWISE_CONV_2D"
        weights = _as_rows(kernel, by_channel=by_channel).astype(np.float64)
        per_row = np.broadcast_to(scales, len(weights))
        chosen = _rounded(weights, per_row, samples.astype(np.float64), by_channel=by_channel)
        off = (_output(weights, true_mean, by_channel=by_channel)
               - _output(chosen * per_row[:, np.newaxis], mean, by_channel=by_channel))
        rounded.set_constant(integer.inputs[1], _as_kernel(chosen, kernel.shape, by_channel=by_channel).astype(np.int8))
        steps = rounded.scale(integer.inputs[2])[0]
        rounded.set_constant(integer.inputs[2], np.rint((bias + off) / steps).astype(np.int32))


def windows(pixels: NDArray[np.float32], kernel_shape: Sequence[int], operator: Operator) -> NDArray[np.float32]:
    """What the kernel meets at each place of maps (1, h, w, c), zero padding included: a view (rows, columns, c, kh, kw)."""
    if operator.kind == "FULLY_CONNECTED":
        return pixels.reshape(-1, 1, pixels.shape[-1], 1, 1)
    size, stride = kernel_shape[1:3], (operator.options.strideH, operator.options.strideW)
    maps = pixels[0]
    if operator.options.padding == 0:  # SAME
        wanted = [max((-(-n // step) - 1) * step + k - n, 0) for n, k, step in zip(maps.shape, size, stride, strict=False)]
        maps = np.pad(maps, (*((more // 2, more - more // 2) for more in wanted), (0, 0)))
    return sliding_window_view(maps, size, (0, 1))[:: stride[0], :: stride[1]]


def _seen(photos: Iterable[NDArray[np.float32]], kernel_shape: Sequence[int], operator: Operator, *,
          seed: int) -> tuple[Floats, NDArray[np.float32]]:
    """The mean window (taps, c) over all places of all photos, and windows (n, taps, c) of some."""
    rng, means, samples = np.random.default_rng(seed), [], []
    for pixels in photos:
        views = windows(pixels, kernel_shape, operator)
        rows, columns, channels = views.shape[:3]
        places = rng.choice(rows * columns, min(ROWS, rows * columns), replace=False)
        samples.append(views[places // columns, places % columns].transpose(0, 2, 3, 1).reshape(len(places), -1, channels))
        means.append(views.mean(axis=(0, 1), dtype=np.float64).transpose(1, 2, 0).reshape(-1, channels))
    return np.mean(means, axis=0), np.concatenate(samples)


def gptq(weights: Floats, scales: Floats, moments: Floats) -> Floats:
    """Integers (b, n, k), -127..127, for weights (b, n, k) in steps of `scales` (b, n).

    `moments` (b, k, k) = Σ x xᵀ of what the n outputs of each of the b blocks have in common as inputs. Weights whose inputs
    are strongest are rounded first; each error is spread over those that remain by the inverse of `moments`, whose Cholesky
    factor holds all the conditional inverses at once.
    """
    size = moments.shape[-1]
    strength = np.einsum("bii->bi", moments)
    moments = moments + np.eye(size) * np.maximum(DAMPING * strength.mean(axis=1), 1e-12)[:, np.newaxis, np.newaxis]
    order = np.argsort(-strength, axis=1, kind="stable")
    sorted_moments = np.take_along_axis(np.take_along_axis(moments, order[:, :, np.newaxis], 1), order[:, np.newaxis], 2)
    factor = np.linalg.cholesky(np.linalg.inv(sorted_moments)).swapaxes(1, 2)
    left = np.take_along_axis(weights, order[:, np.newaxis], 2)
    chosen = np.empty_like(left)
    for j in range(size):
        chosen[..., j] = np.clip(np.rint(left[..., j] / scales), -HIGHEST, HIGHEST)
        error = (left[..., j] - chosen[..., j] * scales) / factor[:, j, j, np.newaxis]
        left[..., j:] -= error[..., np.newaxis] * factor[:, np.newaxis, j, j:]
    back = np.empty_like(chosen)
    np.put_along_axis(back, np.broadcast_to(order[:, np.newaxis], chosen.shape), chosen, 2)
    return back


def _rounded(weights: Floats, scales: Floats, samples: Floats, *, by_channel: bool) -> Floats:
    """Integers (n, k) for weights (n, k) that met `samples` (places, taps, c)."""
    if by_channel:  # each channel meets its own inputs alone
        met = samples.transpose(2, 1, 0)
        return gptq(weights[:, np.newaxis], scales[:, np.newaxis], met @ met.swapaxes(1, 2))[:, 0]
    rows = samples.reshape(len(samples), -1)
    return np.asarray(gptq(weights[np.newaxis], scales[np.newaxis], (rows.T @ rows)[np.newaxis])[0])


def _output(weights: Floats, mean: Floats, *, by_channel: bool) -> Floats:
    """The mean output (n,) of weights (n, k) for a mean window (taps, c)."""
    return np.asarray((weights * mean.T).sum(axis=1) if by_channel else weights @ mean.reshape(-1))


def _as_rows(kernel: NDArray[np.float32], *, by_channel: bool) -> NDArray[np.float32]:
    """A kernel as (outputs, what each is the sum over)."""
    return kernel.reshape(-1, kernel.shape[-1]).T if by_channel else kernel.reshape(len(kernel), -1)


def _as_kernel(rows: Floats, shape: Sequence[int], *, by_channel: bool) -> Floats:
    return (rows.T if by_channel else rows).reshape(shape)
