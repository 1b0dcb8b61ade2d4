"""What can go wrong, as a person should hear of it: the rule, what came instead, and the remedy."""

from __future__ import annotations


class PawlatchError(Exception):
    """Root of everything pawlatch raises on purpose. The command line prints it and exits with status 2."""


class ImageError(PawlatchError, ValueError):
    """A file or array that is not the picture it should be."""


class PhotosError(PawlatchError, ValueError):
    """A folder of photos from which nothing can be learned or measured."""


class ModelCardError(PawlatchError, ValueError):
    """A card (`pawlatch.json`) that is missing, malformed, newer than this program, or at odds with its files."""


class EngineError(PawlatchError, RuntimeError):
    """A model file that no inference engine here can run."""


class CameraError(PawlatchError, OSError):
    """A camera or clip that does not open or gives no frames."""


class LatchError(PawlatchError, OSError):
    """A latch that cannot be driven."""


class JournalError(PawlatchError, OSError):
    """A journal that cannot be written or read; while it cannot be written, no door opens."""


class ConfigError(PawlatchError, ValueError):
    """A setting of the door that is unknown, of the wrong kind, or out of bounds."""


class OutputError(PawlatchError, OSError):
    """A place that cannot be written to, or must not be."""


class ReportError(PawlatchError, ValueError):
    """A measurement that is none, or whose numbers cannot be."""


class WeightsError(PawlatchError, OSError):
    """Backbone weights that cannot be had here."""


class UpdateError(PawlatchError, OSError):
    """Another model that cannot be had, or that nobody vouches for."""


class MissingExtraError(PawlatchError, ImportError):
    """A room of pawlatch whose dependencies are not installed; the message holds the line to type."""
