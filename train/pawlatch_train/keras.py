"""TensorFlow and tf_keras, imported in this one place.

tf_keras (Keras 2) rather than Keras 3: `hub.KerasLayer`, `MultiWorkerMirroredStrategy` with `fit`, and
quantization-aware training (tfmot) accept nothing else.
"""

from __future__ import annotations

import os

from pawlatch.errors import MissingExtraError
from pawlatch.quiet import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

try:
    with quiet():
        import tensorflow as tf
        import tf_keras as keras

        tf.config.list_physical_devices()  # it complains of missing GPUs here, rather than amid our progress
except ImportError as error:
    raise MissingExtraError(
        f'training needs TensorFlow and tf_keras ({error.name} is missing); type: pip install "pawlatch[train]"'
    ) from error

tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]
