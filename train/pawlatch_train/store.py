"""Arrays on disk: what is computed once for each photo and read in batches, so that 5,000 photos fit into little memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


class ArrayFile:
    """Rows of one shape and dtype in a file, appended in order and read by number.

    Rows are read with `pread` rather than mapped: pages of a mapped file count as the process's own memory.
    """

    def __init__(self, path: Path, row_shape: Sequence[int], dtype: DTypeLike) -> None:
        self.path, self.row_shape, self.dtype = path, tuple(row_shape), np.dtype(dtype)
        self._row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._rows = os.fstat(self._file).st_size // self._row_bytes

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (n, *row_shape) at the end; whole rows alone count, should the disk fill up amid one."""
        data = memoryview(np.ascontiguousarray(rows, self.dtype).tobytes())
        at = self._rows * self._row_bytes
        while data:
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written
        self._rows += len(rows)

    def take(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The rows of these numbers: (n, *row_shape)."""
        taken = np.empty((len(rows), *self.row_shape), self.dtype)
        for target, row in zip(taken, rows, strict=True):
            if not 0 <= row < self._rows:
                raise IndexError(f"row {row} of {self._rows}")
            target[...] = np.frombuffer(os.pread(self._file, self._row_bytes, int(row) * self._row_bytes), self.dtype).reshape(
                self.row_shape)
        return taken

    def close(self) -> None:
        """Close the file; it may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
