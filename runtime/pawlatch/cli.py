"""`pawlatch …`: one table of subcommands, each imported only when it is called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from pawlatch import __version__
from pawlatch.errors import PawlatchError


@dataclass(frozen=True)
class Command:
    """Where a subcommand lives: `module:function`, and the extra that its room needs."""

    target: str
    help: str
    extra: str | None = None


COMMANDS = {
    "demo": Command("pawlatch.commands.demo:main", "the whole way on drawn photos, or on yours with --photos", "train,convert"),
    "train": Command("pawlatch_train.cli:main", "a folder of photos to a fine-tuned SavedModel", "train"),
    "convert": Command("pawlatch_convert.cli:main", "a SavedModel to TFLite and ONNX, and the proof", "convert"),
    "classify": Command("pawlatch.commands.photos:classify", "every label's percentage for photos"),
    "evaluate": Command("pawlatch.commands.photos:evaluate", "accuracy on a folder of labelled photos"),
    "frames": Command("pawlatch.commands.clips:frames", "pictures for training out of a clip"),
    "run": Command("pawlatch.commands.door:run", "the door: camera, decision, latch"),
    "replay": Command("pawlatch.commands.replay:replay", "what the door would have done with recorded clips or visits"),
    "events": Command("pawlatch.commands.journal:events", "who came: the journal's visits, and photos of them to train with"),
    "explain": Command("pawlatch.commands.explain:explain", "why the door did what it did at a visit"),
    "report": Command("pawlatch.commands.journal:report", "what the door did, or would have done, before it is armed"),
    "latch": Command("pawlatch.commands.latch:latch", "lock, test or ask the latch from outside"),
    "model": Command("pawlatch.commands.model:model", "another model for the door: pull, push, compare, sign, roll back"),
    "web": Command("pawlatch.commands.web:web", "a token for the door's page"),
    "service": Command("pawlatch.commands.service:service", "the door as a systemd service"),
    "bench": Command("pawlatch.commands.bench:bench", "how fast each variant is here, as ratios of one run"),
    "doctor": Command("pawlatch.commands.doctor:doctor", "is everything well: model, camera, latch, disk, clock"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; exit status 0 is green, 1 a verdict that came out red, 2 bad input or bad use."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"pawlatch {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        return _complain(f"there is no command {arguments[0]!r}; choose one of {', '.join(COMMANDS)}")
    return _run(COMMANDS[arguments[0]], arguments[1:])


def train() -> int:
    """The short form `train`."""
    return main(["train", *sys.argv[1:]])


def convert() -> int:
    """The short form `convert`, since people type `convert --int8 model/`."""
    return main(["convert", *sys.argv[1:]])


def _run(command: Command, arguments: list[str]) -> int:
    try:
        return _load(command)(arguments)
    except PawlatchError as error:
        return _complain(str(error))
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            return _complain(f"cannot write {error.filename or ''}: {error.strerror}; make room or name another place")
        raise
    except KeyboardInterrupt:
        return 130


def _load(command: Command) -> Callable[[list[str]], int]:
    module, function = command.target.split(":")
    try:
        target: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        if command.extra is None or isinstance(error, PawlatchError):
            raise
        raise _missing(command.extra, error) from error
    return target


def _missing(extra: str, error: ImportError) -> PawlatchError:
    return PawlatchError(f'this needs more than a device has ({error.name}); type: pip install "pawlatch[{extra}]"')


def _complain(message: str) -> int:
    print(f"pawlatch: {message}", file=sys.stderr)
    return 2


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "usage: pawlatch COMMAND ...\n\nFrom a folder of photographs to a door that opens for one animal.\n\n"
        f"{rows}\n\n`pawlatch COMMAND --help` tells more; `train` and `convert` are also commands of their own."
    )
