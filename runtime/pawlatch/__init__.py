"""pawlatch: from a folder of photographs to a door that opens for one animal.

This package is the device side: numpy, OpenCV and LiteRT, nothing heavier. Training lives in `pawlatch_train`, conversion
and its proof in `pawlatch_convert`.

What a loop of one's own needs can be had from here by name; `examples/own_loop.py` is such a loop.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# What is wrong with a file or camera is said by our own errors. OpenCV and its FFmpeg read these when they are loaded.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pawlatch.camera import open_camera
    from pawlatch.classify import Classifier
    from pawlatch.decide import policy_from_card
    from pawlatch.door import Door
    from pawlatch.errors import PawlatchError
    from pawlatch.image import read_image
    from pawlatch.latch import RecordingLatch, open_latch
    from pawlatch.loop import Watch
    from pawlatch.overlay import ClipWriter

__all__ = ["Classifier", "ClipWriter", "Door", "PawlatchError", "RecordingLatch", "Watch", "open_camera", "open_latch",
           "policy_from_card", "read_image"]

_MODULES = {
    "Classifier": "classify", "ClipWriter": "overlay", "Door": "door", "PawlatchError": "errors", "RecordingLatch": "latch",
    "Watch": "loop", "open_camera": "camera", "open_latch": "latch", "policy_from_card": "decide",
    "read_image": "image",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: `pawlatch latch lock` needs none of it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
