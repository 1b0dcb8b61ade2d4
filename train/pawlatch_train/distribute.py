"""One training on several GPUs or machines, through `tf.distribute`.

Every process runs the same command on the same photos, and computes the frozen stem's features for itself. What is shared is
the fitting: of each batch, every replica takes its own rows, and gradients are summed over all. The rows of a batch do not
depend on how many share it, so two machines train what one would. See docs/many-machines.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import PawlatchError
from pawlatch.files import new_folder, write_atomic
from pawlatch_train.keras import tf

log = logging.getLogger(__name__)

STRATEGIES = ("mirrored", "multiworker", "parameter-server", "tpu")
MEET_S = 600.0  # how long machines may take to come
SEE_OFF_S = 20.0  # and to end
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'

Load = Callable[[NDArray[np.int64], int], tuple[NDArray[Any], ...]]
"""`rows, epoch` -> inputs, targets and perhaps sample weights, each of len(rows); the same on every machine, at any time."""


@dataclass(frozen=True)
class Task:
    """This process's place in TF_CONFIG; tasks count from 0, the chief first."""

    index: int
    addresses: tuple[str, ...]  # host:port of every task


@dataclass(frozen=True)
class Cluster:
    """The processes that train together. Build and compile under `strategy.scope()` what `fit` is to share."""

    strategy: Any  # tf.distribute.Strategy
    index: int = 0
    workers: int = 1
    addresses: tuple[str, ...] = ()  # host:port of each worker, the chief first

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the model."""
        return self.index == 0

    @property
    def replicas(self) -> int:
        """How many parts each batch is cut into."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def role(self) -> str:
        """For messages."""
        return f"{'chief' if self.is_chief else 'worker'} ({self.index + 1} of {self.workers})"


def open_cluster(name: str | None, *, progress: Callable[[str], None]) -> Cluster:
    """The cluster that `--strategy` names; None is this process alone. To be called before TensorFlow computes anything.

    `multiworker` reads TF_CONFIG and returns once all of its machines have come; what follows goes into `hold_together`.

    Raises:
        PawlatchError: it cannot be had here, TF_CONFIG is not what it must be, or another machine did not come.
    """
    config = os.environ.get("TF_CONFIG", "")
    if name == "parameter-server":
        raise PawlatchError(
            "--strategy parameter-server is left out: tf_keras validates no epoch and records no batch under it "
            "(docs/many-machines.md has its errors); use --strategy multiworker, with the same machines as workers"
        )
    if name == "multiworker":
        return _multiworker(read_tf_config(config), progress)
    if config and len(read_tf_config(config).addresses) > 1:
        raise PawlatchError(
            "TF_CONFIG says that several processes train together, which is --strategy multiworker, got "
            f"{f'--strategy {name}' if name else 'no --strategy'}; add it, or unset TF_CONFIG"
        )
    return _one_machine(name, progress)


@contextmanager
def hold_together(cluster: Cluster) -> Iterator[None]:
    """The whole training: it ends on all machines together, and one that is lost on the way is an error on the others.

    Raises:
        PawlatchError: another machine was lost.
    """
    if cluster.workers == 1:
        yield
        return
    with _loss_told(cluster.addresses):
        yield
        from_chief(cluster, [np.zeros(1, np.float32)])  # here all meet: whoever left before would be missed as lost
    if cluster.is_chief:
        # The chief's process holds the service whose loss each of the others would report as an error.
        _until(lambda address: not _answers(address), list(cluster.addresses[1:]), patience_s=SEE_OFF_S)


def read_tf_config(text: str) -> Task:
    """This process's place in a TF_CONFIG of `worker` tasks, or of one `chief` and `worker` tasks.

    Raises:
        PawlatchError: not JSON, no such task, not host:port.
    """
    if not text:
        raise PawlatchError(f"--strategy multiworker reads TF_CONFIG, which is not set; set it to {EXAMPLE}")
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _misconfigured("must be JSON", str(error)) from error
    match config:
        case {"cluster": dict(cluster), "task": {"type": str(kind), "index": int(index)}} if not isinstance(index, bool):
            pass
        case _:
            raise _misconfigured("must have a cluster, and a task with a type and a whole index", text)
    if foreign := sorted(cluster.keys() - {"chief", "worker"}):
        raise _misconfigured("may hold the tasks chief and worker only", ", ".join(foreign))
    if not all(isinstance(tasks, list) and tasks for tasks in cluster.values()) or len(cluster.get("chief", [""])) != 1:
        raise _misconfigured("must list the addresses of each kind of task, and of one chief at most", str(cluster))
    if not 0 <= index < len(cluster.get(kind, [])):
        raise _misconfigured("must name a task of its own cluster", f"{kind} {index}")
    addresses = [*cluster.get("chief", []), *cluster.get("worker", [])]
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise _misconfigured("must give each task as host:port", str(address))
    if len(set(addresses)) < len(addresses):
        raise _misconfigured("must give each task an address of its own", ", ".join(addresses))
    return Task(index + (len(cluster.get("chief", [])) if kind == "worker" else 0), tuple(addresses))


def fit_dataset(cluster: Cluster, load: Load, *, rows: int, batch: int, seed: int, first_epoch: int = 0) -> Any:
    """An endless dataset for `fit(dataset, steps_per_epoch=steps(rows, batch), initial_epoch=first_epoch)`.

    Each epoch takes the rows 0..rows-1 in an order of its own, which follows from the seed and the epoch alone; the last
    batch is filled up from the order's beginning. A replica loads the rows of its own part only.

    Raises:
        PawlatchError: the batch cannot be cut into equal parts.
    """
    if batch % cluster.replicas:
        raise PawlatchError(f"the batch must be a multiple of the {cluster.replicas} replicas that share it, got {batch}; "
                            f"take {steps(batch, cluster.replicas) * cluster.replicas}")
    part = batch // cluster.replicas

    def pipeline(context: Any) -> Any:
        """The parts of this machine's replicas in turn; `context` is a tf.distribute.InputContext."""
        local = cluster.replicas // context.num_input_pipelines
        mine = range(context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local)

        def parts() -> Iterator[tuple[NDArray[Any], ...]]:
            epoch = first_epoch
            while True:
                order = np.random.default_rng((seed, epoch)).permutation(rows)
                for chosen in np.resize(order, (steps(rows, batch), cluster.replicas, part)):
                    for replica in mine:
                        yield load(chosen[replica], epoch)
                epoch += 1

        return _from_generator(parts, load(np.zeros(part, np.int64), first_epoch), part).prefetch(2 * local)

    return cluster.strategy.distribute_datasets_from_function(pipeline)


def judge_dataset(load: Load, *, rows: int, batch: int) -> Any:
    """All rows once, in order, for `validation_data` and `evaluate`; Keras itself shares them out and adds up."""
    def batches() -> Iterator[tuple[NDArray[Any], ...]]:
        for start in range(0, rows, batch):
            yield load(np.arange(start, min(start + batch, rows)), 0)

    dataset = _from_generator(batches, load(np.zeros(1, np.int64), 0), None)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps(rows, batch)))


def steps(rows: int, batch: int) -> int:
    """Batches in an epoch."""
    return -(-rows // batch)


def require_same(cluster: Cluster, what: str, data: bytes) -> None:
    """Check that all machines hold the same `data`; a training of unlike ones would be of neither. All must call it.

    Raises:
        PawlatchError: on every machine, where one differs.
    """
    if cluster.workers == 1:
        return
    digest = np.frombuffer(hashlib.sha256(data).digest()[:16], np.int32)[np.newaxis]
    every = cluster.strategy.gather(cluster.strategy.run(lambda: tf.constant(digest)), axis=0).numpy()
    if len(np.unique(every, axis=0)) > 1:
        seen = ", ".join(row.tobytes().hex()[:8] for row in every)
        raise PawlatchError(f"{what} must be the same on all {cluster.workers} machines, but their digests are {seen}; "
                            "give each the same photos and the same command")


def from_chief(cluster: Cluster, values: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The chief's values, on all machines; shapes and dtypes must agree already. All must call it."""
    if cluster.workers == 1:
        return values
    local_replicas = cluster.replicas // cluster.workers

    def sent(value: NDArray[Any]) -> NDArray[Any]:
        own = tf.constant(value if cluster.is_chief else np.zeros_like(value))
        total = cluster.strategy.reduce(tf.distribute.ReduceOp.SUM, cluster.strategy.run(lambda: own), axis=None)
        return np.asarray(total.numpy() / local_replicas, value.dtype)

    return [sent(value) for value in values]


def share_file(cluster: Cluster, path: Path) -> None:
    """Give all machines the chief's file of this name, or none where the chief has none. All must call it."""
    if cluster.workers == 1:
        return
    data = path.read_bytes() if cluster.is_chief and path.is_file() else b""
    size = int(from_chief(cluster, [np.array([len(data)], np.int32)])[0][0])
    if not size:
        path.unlink(missing_ok=True)
        return
    own = np.frombuffer(data, np.uint8).astype(np.int32) if cluster.is_chief else np.zeros(size, np.int32)
    write_atomic(path, from_chief(cluster, [own])[0].astype(np.uint8).tobytes())


@contextmanager
def chief_writes(cluster: Cluster, output: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """`pawlatch.files.new_folder` on the chief; a temporary folder, removed at the end, on the others.

    All do the work, since reading a shared variable to save it may take all machines.
    """
    if cluster.is_chief:
        with new_folder(output, overwrite=overwrite) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="pawlatch-worker-") as name:
            yield Path(name)


def _from_generator(batches: Callable[[], Iterator[tuple[NDArray[Any], ...]]], example: tuple[NDArray[Any], ...],
                    size: int | None) -> Any:
    signature = tuple(tf.TensorSpec((size, *array.shape[1:]), array.dtype) for array in example)
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def _one_machine(name: str | None, progress: Callable[[str], None]) -> Cluster:
    match name:
        case None:
            return Cluster(tf.distribute.get_strategy())
        case "mirrored":
            gpus = len(tf.config.list_logical_devices("GPU"))
            sharing = f"{gpus} GPUs share each batch" if gpus else "no GPU here, so the CPU is the one replica"
            progress(f"mirrored: {sharing}")
            return Cluster(tf.distribute.MirroredStrategy())
        case "tpu":
            if not tf.config.list_physical_devices("TPU"):
                raise PawlatchError("--strategy tpu needs a machine with a TPU and tensorflow-tpu, and TensorFlow sees none "
                                    "here; leave --strategy away, or use mirrored")
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
            tf.tpu.experimental.initialize_tpu_system(resolver)
            return Cluster(tf.distribute.TPUStrategy(resolver))
    raise PawlatchError(f"--strategy must be one of {', '.join(STRATEGIES)}, got {name}")


def _multiworker(task: Task, progress: Callable[[str], None]) -> Cluster:
    own = task.addresses[task.index]
    others = [address for address in task.addresses if address != own]
    progress(f"task {task.index + 1} of {len(task.addresses)} at {own}; the others: {', '.join(others) or 'none'}")
    _meet(own, others)
    on_termination = signal.getsignal(signal.SIGTERM)
    with _loss_told(task.addresses):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    signal.signal(signal.SIGTERM, on_termination)  # TensorFlow has taken it for its notices of preemption, and goes on training
    cluster = Cluster(strategy, task.index, len(task.addresses), task.addresses)
    progress(f"{cluster.role}: {cluster.replicas} replicas share each batch")
    return cluster


@contextmanager
def _loss_told(addresses: tuple[str, ...]) -> Iterator[None]:
    """TensorFlow's error of a lost machine as a sentence."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        log.debug("TensorFlow says: %s", error)
        raise PawlatchError(
            f"all of {', '.join(addresses)} must stay in the training to its end, but one is lost or cannot be reached; "
            "see what it said itself, then start the same command on all again, with --resume"
        ) from error


def _meet(own: str, others: list[str]) -> None:
    """Wait until every other has answered at its address. TensorFlow would do it too, without an end and deaf to Ctrl-C.

    Whoever has met all goes on, and TensorFlow's server answers at the same address for the rest.
    """
    try:
        listener = socket.create_server(("", int(own.rpartition(":")[2])))
    except OSError as error:
        raise PawlatchError(f"TF_CONFIG gives {own} to this task, whose port must be free, but: {error.strerror}; end the "
                            "training that holds it, or give another") from error
    with listener:
        if missing := _until(_answers, others, patience_s=MEET_S):
            raise PawlatchError(f"all machines of TF_CONFIG must come within {MEET_S / 60:g} minutes, but {', '.join(missing)} "
                                "did not; start the same command there, and let its port through")


def _until(reached: Callable[[str], bool], addresses: list[str], *, patience_s: float) -> list[str]:
    """The addresses at which it was not reached in time."""
    deadline, pause = time.monotonic() + patience_s, threading.Event()
    while (addresses := [address for address in addresses if not reached(address)]) and time.monotonic() < deadline:
        pause.wait(0.2)
    return addresses


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def _misconfigured(rule: str, came: str) -> PawlatchError:
    return PawlatchError(f"TF_CONFIG {rule}, got {came}; set it like {EXAMPLE}")
