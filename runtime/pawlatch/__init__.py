"""pawlatch: from a folder of photographs to a door that opens for one animal.

This package is the device side: numpy, OpenCV and LiteRT, nothing heavier. Training lives in `pawlatch_train`, conversion
and its proof in `pawlatch_convert`.
"""

__version__ = "0.1.0"
