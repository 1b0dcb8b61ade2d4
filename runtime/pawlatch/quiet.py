"""Keep native libraries from talking over us."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what libraries write to stderr. Their C++ writes to file descriptor 2, past sys.stderr and logging.

    What goes wrong inside arrives as an exception, so nothing is lost by it.
    """
    root = logging.getLogger()
    handlers, disabled = root.handlers[:], root.manager.disable
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            logging.disable(disabled)
            root.handlers[:] = handlers  # ONNX Runtime's logging.warning() installs one
