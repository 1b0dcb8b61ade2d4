"""`open_camera`: everything that gives frames. Cameras, streams, pipes, clips, folders of pictures and the drawn porch.

A door must act on what is, not on what was: a camera's reader thread keeps the newest frame only, so there is never a
backlog. Clips can be read as a camera would have seen them (paced), or frame by frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol, Self

from pawlatch.clip import Clip, ClipCamera, clip_frames, clip_name, looked_at, open_clip
from pawlatch.errors import CameraError
from pawlatch.frame import CameraOptions, CameraState, Frame
from pawlatch.reader import LiveCamera, PacedCamera

__all__ = ["Camera", "CameraOptions", "CameraState", "Clip", "ClipCamera", "Frame", "LiveCamera", "PacedCamera", "clip_frames",
           "clip_name", "open_camera", "open_clip"]


class Camera(Protocol):
    """Gives frames until its source ends or `stop` is called; a context manager. Live cameras do not end of themselves."""

    fps: float

    @property
    def state(self) -> CameraState:
        """OK, CONNECTING or STALLED: what can be told without looking at pictures. Clips are always OK."""

    def frames(self, idle: Callable[[], object] | None = None) -> Iterator[Frame]:
        """Yield frames; `idle` is called about every tenth of a second in which a live camera gives none."""

    def stop(self) -> None:
        """Make `frames` end at once; safe to call from a signal handler."""

    def close(self) -> None:
        """Stop and give the source back. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


def open_camera(uri: str | None = None, *, options: CameraOptions | None = None, paced: bool = True,
                clock: Callable[[], float] = time.monotonic, wait: bool = False) -> Camera:
    """Open the camera of `options` (or `uri`, which goes before `options.uri`): see `CameraOptions.uri` for what it may be.

    A clip is `paced` by its own time, as a camera would have given it, or else read frame by frame with clip time. With
    `wait`, a live camera that is not there yet is CONNECTING instead of an error.

    Raises:
        CameraError: no such camera or clip, it gives no frame, its address is malformed, or it is live and not `paced`.
    """
    options = options or CameraOptions()
    if uri is not None:
        options = replace(options, uri=uri)
    from pawlatch.live import is_live, live_source  # a replay never needs them

    if is_live(options.uri):
        source = live_source(options)
        if not paced:
            raise CameraError(f"only clips and scenes outrun time, but {source.name} is live; leave out --fast")
        link = None if wait else source.connect()
        return LiveCamera(source.connect, name=source.name, options=options, clock=clock, link=link)
    clip = looked_at(open_clip(options.uri), options)
    if not paced:
        return ClipCamera(clip)
    return PacedCamera(clip.frames, name=options.uri, fps=clip.fps, clock=clock)
