"""pawlatch: from a folder of photographs to a door that opens for one animal.

This package is the device side: numpy, OpenCV and LiteRT, nothing heavier. Training lives in `pawlatch_train`, conversion
and its proof in `pawlatch_convert`.
"""

import os

# What is wrong with a file or camera is said by our own errors. OpenCV and its FFmpeg read these when they are loaded.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

__version__ = "0.1.0"
