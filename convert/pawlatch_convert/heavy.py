"""The heavy dependencies: imported when first needed, and kept from talking over us."""

from __future__ import annotations

import importlib
import os
from typing import Any

from pawlatch.errors import MissingExtraError
from pawlatch.quiet import quiet

_PROJECTS = {"tensorflow": "TensorFlow", "onnx": "ONNX", "onnxruntime": "ONNX Runtime"}


def heavy(module: str) -> Any:
    """Import a module of the `convert` extra in silence.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingExtraError(
            f'convert needs {_PROJECTS.get(package, package)}; type: pip install "pawlatch[convert]"'
        ) from error
