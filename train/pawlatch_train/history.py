"""What happened in training, epoch by epoch and batch by batch, and its two CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pawlatch.errors import OutputError

Stage = Literal["frozen", "fine-tuned"]


class BatchLoss(NamedTuple):
    """The mean loss of one batch, regularization included. `epoch` counts over both stages from 1, `batch` in it from 1."""

    stage: str
    epoch: int
    batch: int
    loss: float


@dataclass
class History:
    """One entry an epoch, both stages in one row of time. Losses in nats, accuracies 0..1.

    A validation value is NaN where there was nothing to validate on.
    """

    stage: list[str] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    batch_loss: list[BatchLoss] = field(default_factory=list)

    def __len__(self) -> int:
        """Finished epochs."""
        return len(self.stage)

    @property
    def turn(self) -> int | None:
        """How many epochs came before fine-tuning; None where there was none."""
        return self.stage.index("fine-tuned") if "fine-tuned" in self.stage else None

    def append(self, stage: Stage, values: Mapping[str, float], batches: Iterable[BatchLoss] = ()) -> None:
        """Add a finished epoch; `values` holds each of `loss` .. `seconds`."""
        self.stage.append(stage)
        for name in VALUES:
            getattr(self, name).append(float(values[name]))
        self.batch_loss.extend(batches)

    def take_up(self, other: History) -> None:
        """Go on from another history, in place of this one's entries."""
        for name in ("stage", *VALUES, "batch_loss"):
            setattr(self, name, list(getattr(other, name)))

    def to_csv(self) -> str:
        """`history.csv`: a row an epoch. Numbers are written so that they read back to the bit."""
        rows = zip(range(1, len(self) + 1), self.stage, *(map(repr, getattr(self, name)) for name in VALUES), strict=True)
        return _csv(COLUMNS, rows)

    def batches_to_csv(self) -> str:
        """`batches.csv`: a row a batch."""
        return _csv(BatchLoss._fields, ((*batch[:3], repr(batch.loss)) for batch in self.batch_loss))

    @classmethod
    def from_csv(cls, epochs: str, batches: str) -> History:
        """The history that `to_csv` and `batches_to_csv` wrote. Batches of an epoch that was not finished are left out.

        Raises:
            OutputError: the text is not theirs.
        """
        history = cls()
        try:
            for row in _rows(epochs, COLUMNS):
                history.stage.append(row[1])
                for name, value in zip(VALUES, row[2:], strict=True):
                    getattr(history, name).append(float(value))
            for stage, epoch, batch, loss in _rows(batches, BatchLoss._fields):
                if int(epoch) <= len(history):
                    history.batch_loss.append(BatchLoss(stage, int(epoch), int(batch), float(loss)))
        except ValueError as error:
            raise OutputError(f"history.csv or batches.csv is not as train wrote it ({error}); train again without --resume"
                              ) from error
        return history


VALUES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
COLUMNS = ("epoch", "stage", *VALUES)


def comparison_table(histories: Mapping[str, History], held_out: Mapping[str, float], *, field: str) -> str:
    """What `--compare field=...` says in a terminal: a line a run, the lowest validation loss first.

    `held_out` is the accuracy 0..1 of each run on photos that chose nothing.
    """
    order = sorted(histories, key=lambda name: _key(_best(histories[name])[0]))
    width = max(len(field), *(len(name) for name in order))
    lines = [f"{field:<{width}}  best valid loss  best valid accuracy  epochs  seconds  held-out accuracy"]
    for name in order:
        history = histories[name]
        loss, accuracy = _best(history)
        lines.append(f"{name:<{width}}  {loss:>15.3f}  {accuracy:>19.3f}  {len(history):>6}  {sum(history.seconds):>7.1f}"
                     f"  {held_out[name]:>17.3f}")
    return "\n".join(lines)


def _best(history: History) -> tuple[float, float]:
    """Lowest validation loss and highest validation accuracy, of whichever epochs."""
    return (min(history.val_loss, key=_key, default=float("nan")),
            max(history.val_accuracy, key=lambda value: -_key(-value), default=float("nan")))


def _key(value: float) -> float:
    return value if value == value else float("inf")  # a run that diverged to NaN comes last


def _csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _rows(text: str, header: tuple[str, ...]) -> list[list[str]]:
    first, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    if tuple(first) != header:
        raise ValueError(f"expected the columns {', '.join(header)}, got {', '.join(first) or 'none'}")
    return rows
