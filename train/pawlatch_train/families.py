"""The networks of keras.applications that are backbones, each with the scaling it was trained with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pawlatch_train.keras import keras
from pawlatch_train.layers import SCALING

DEFAULT_SIZE = 224
STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications/"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB in 0..1
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)  # 0..255


@dataclass(frozen=True)
class Family:
    """A network of keras.applications."""

    build: Callable[[Any, float | None], Any]  # pixels, width -> model from pixels to maps
    imagenet_file: str  # what Keras calls it, with {width} and {size} to be filled in
    url: str  # the folder from which Keras downloads it
    fine_tune_at: str  # the first block that gives maps of a sixteenth of the side
    widths: tuple[float, ...] = ()  # for which there are ImageNet weights; empty: it comes in one width
    sizes: tuple[int, ...] = (DEFAULT_SIZE,)  # likewise


def build_family(name: str, *, width: float | None, size: int) -> Any:
    """A keras.Model of this family with random weights, from pixels (n, size, size, 3) to maps (n, size/32, size/32, c)."""
    built = BACKBONES[name].build(keras.Input((size, size, 3), name="image"), width)
    _number_afresh(built)
    return keras.Model(built.inputs, built.output, name=name if width is None else f"{name}_{width}")


def _number_afresh(model: Any) -> None:
    """Names that Keras made up count on from whatever was built before; let them count from zero in every model."""
    seen: dict[str, int] = {}
    for layer in model.layers:
        made_up = re.fullmatch(r"(tf\.[\w.]*?[a-z_]|re_lu|multiply|rescaling|normalization)(?:_\d+)?", layer.name)
        if made_up:
            count = seen.get(made_up[1], 0)
            layer._name = f"{made_up[1]}_{count}" if count else made_up[1]
            seen[made_up[1]] = count + 1


# --- how pixels 0..255 are scaled ---


def plus_minus_one(pixels: Any) -> Any:
    """To -1..1, as for the MobileNets."""
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=f"{SCALING}to_plus_minus_one")(pixels)


def unit(pixels: Any) -> Any:
    """To 0..1, as for TF-Hub's modules."""
    return keras.layers.Rescaling(1 / 255, name=f"{SCALING}to_unit")(pixels)


def caffe(pixels: Any) -> Any:
    """RGB to BGR and the means off, as a fixed 1x1 convolution: one integer operator on a small board, where a flip of
    channels would be three."""
    return keras.layers.Conv2D(
        3, 1, name=f"{SCALING}caffe_bgr", trainable=False,
        kernel_initializer=keras.initializers.Constant(np.eye(3, dtype=np.float32)[::-1].tolist()),
        bias_initializer=keras.initializers.Constant([-mean for mean in CAFFE_MEAN_BGR]),
    )(pixels)


def normalizations(model: Any) -> list[Any]:
    """EfficientNet's own scaling: the layer with the statistics of ImageNet's pixels; other families have none."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]


def set_variance(normalization: Any, variance: ArrayLike) -> None:
    """Give a Normalization layer ImageNet's means and this variance (3,), of RGB in 0..1."""
    normalization.set_weights([np.asarray(IMAGENET_MEAN), np.asarray(variance), normalization.get_weights()[2]])
    normalization.finalize_state()


# --- the families ---


def _mobilenet_v2(pixels: Any, width: float | None) -> Any:
    return keras.applications.MobileNetV2(input_tensor=plus_minus_one(pixels), alpha=width, include_top=False, weights=None)


def _mobilenet_v3_small(pixels: Any, width: float | None) -> Any:
    return keras.applications.MobileNetV3Small(input_tensor=pixels, alpha=width, include_top=False, weights=None)


def _mobilenet_v3_large(pixels: Any, width: float | None) -> Any:
    return keras.applications.MobileNetV3Large(input_tensor=pixels, alpha=width, include_top=False, weights=None)


def _efficientnet_b0(pixels: Any, width: float | None) -> Any:
    model = keras.applications.EfficientNetB0(input_tensor=pixels, include_top=False, weights=None)
    for normalization in normalizations(model):
        set_variance(normalization, np.square(IMAGENET_STD))
    return model


def _vgg16(pixels: Any, width: float | None) -> Any:
    return keras.applications.VGG16(input_tensor=caffe(pixels), include_top=False, weights=None)


BACKBONES: dict[str, Family] = {
    "mobilenet_v2": Family(
        _mobilenet_v2, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}_no_top.h5", f"{STORAGE}mobilenet_v2/",
        "block_6", widths=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4), sizes=(96, 128, 160, 192, 224),
    ),
    "mobilenet_v3_small": Family(
        _mobilenet_v3_small, "weights_mobilenet_v3_small_224_{width}_float_no_top_v2.h5", f"{STORAGE}mobilenet_v3/",
        "expanded_conv_3", widths=(0.75, 1.0),
    ),
    "mobilenet_v3_large": Family(
        _mobilenet_v3_large, "weights_mobilenet_v3_large_224_{width}_float_no_top_v2.h5", f"{STORAGE}mobilenet_v3/",
        "expanded_conv_6", widths=(0.75, 1.0),
    ),
    "efficientnet_b0": Family(
        _efficientnet_b0, "efficientnetb0_notop.h5", "https://storage.googleapis.com/keras-applications/", "block4a",
    ),
    "vgg16": Family(
        _vgg16, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", f"{STORAGE}vgg16/", "block5",
    ),
}
