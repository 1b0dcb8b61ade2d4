"""One training on several processes: what TF_CONFIG may say, who gets which rows, and two real workers on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch.card import read_card
from pawlatch.errors import PawlatchError
from pawlatch_train import distribute
from pawlatch_train.distribute import Cluster, chief_writes, fit_dataset, judge_dataset, open_cluster, read_tf_config, steps
from pawlatch_train.keras import keras, tf

ROWS, BATCH, EPOCHS, HANG_S = 50, 16, 4, 300


# ------------------------------------------------------------------------------------------------ TF_CONFIG and flags


def config(task=("worker", 0), **cluster) -> str:
    return json.dumps({"cluster": cluster or {"worker": ["a:1", "b:2"]}, "task": {"type": task[0], "index": task[1]}})


def test_the_place_in_tf_config():
    assert read_tf_config(config(("worker", 1))) == distribute.Task(1, ("a:1", "b:2"))
    with_chief = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    assert read_tf_config(config(("chief", 0), **with_chief)) == distribute.Task(0, ("a:1", "b:2", "c:3"))
    assert read_tf_config(config(("worker", 1), **with_chief)).index == 2


@pytest.mark.parametrize(("text", "words"), [
    ("", "which is not set"),
    ("{worker", "must be JSON"),
    ("[]", "must have a cluster"),
    ('{"cluster": {"worker": ["a:1"]}}', "must have a cluster, and a task"),
    (config(("worker", "0")), "a whole index"),
    (config(("worker", True)), "a whole index"),
    (config(("worker", 2)), "a task of its own cluster, got worker 2"),
    (config(("worker", -1)), "a task of its own cluster"),
    (config(("chief", 0)), "a task of its own cluster, got chief 0"),
    (config(worker=["a:1"], ps=["b:2"]), "chief and worker only, got ps"),
    (config(worker=[]), "must list the addresses"),
    (config(worker="a:1"), "must list the addresses"),
    (config(worker=["a:1"], chief=["b:2", "c:3"]), "one chief at most"),
    (config(worker=["a"]), "host:port, got a"),
    (config(worker=["a:1", "b:99999"]), "host:port, got b:99999"),
    (config(worker=["a:1", 7]), "host:port, got 7"),
    (config(worker=["a:1", "a:1"]), "an address of its own"),
])
def test_a_wrong_tf_config_is_one_sentence_with_the_remedy(text, words, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    told = refusal("multiworker")
    assert words in told
    assert "; set it " in told
    assert "\n" not in told


def refusal(name) -> str:
    with pytest.raises(PawlatchError) as refused:
        open_cluster(name, progress=print)
    return str(refused.value)


@pytest.mark.parametrize(("name", "words"), [
    ("tpu", "sees none here"), ("parameter-server", "left out"), ("magic", "must be one of mirrored, multiworker"),
])
def test_what_cannot_be_had_is_refused(name, words, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert words in refusal(name)


@pytest.mark.parametrize("name", [None, "mirrored", "tpu"])
def test_several_machines_without_multiworker_would_be_as_many_trainings(name, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config())
    assert "which is --strategy multiworker" in refusal(name)


def test_one_machine_in_tf_config_needs_no_strategy(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config(worker=["a:1"]))
    cluster = open_cluster(None, progress=print)
    assert (cluster.is_chief, cluster.workers, cluster.replicas) == (True, 1, 1)


def test_a_port_that_is_taken_is_said_before_tensorflow_starts(monkeypatch):
    with socket.create_server(("", 0)) as taken:
        monkeypatch.setenv("TF_CONFIG", config(worker=[f"localhost:{taken.getsockname()[1]}", "localhost:1"]))
        assert "port must be free" in refusal("multiworker")


def test_a_machine_that_does_not_come_is_named(monkeypatch):
    own, absent = (f"localhost:{port}" for port in free_ports(2))
    monkeypatch.setenv("TF_CONFIG", config(worker=[own, absent]))
    monkeypatch.setattr(distribute, "MEET_S", 0.0)
    assert f"but {absent} did not; start the same command there" in refusal("multiworker")


def test_mirrored_without_a_gpu_says_so_and_trains(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    said = []
    cluster = open_cluster("mirrored", progress=said.append)
    assert "no GPU here" in said[0]
    with distribute.hold_together(cluster):
        assert np.isfinite(train(cluster)["loss"]).all()


def test_the_kubernetes_manifest_makes_a_tf_config():
    page = (Path(__file__).parents[2] / "docs" / "many-machines.md").read_text(encoding="utf-8")
    script, command = page.split("            - |\n")[1].split("              exec pawlatch train")
    assert "--strategy multiworker" in command
    told = subprocess.run(["bash", "-ec", script + 'echo "$TF_CONFIG"'], capture_output=True, text=True, check=True,
                          env={**os.environ, "MACHINES": "3", "JOB_COMPLETION_INDEX": "2"})
    pods = tuple(f"pawlatch-train-{index}.pawlatch-train:2222" for index in range(3))
    assert read_tf_config(told.stdout) == distribute.Task(2, pods)


# ------------------------------------------------------------------------------------------------ who gets which rows


def dealt(machines: int, each: int, batches: int, *, rows=10, batch=4, first_epoch=0):
    """The rows that each of machines x each replicas loads, (replicas, batches, part), without any real machine."""
    def contexts(pipeline):
        return [pipeline(tf.distribute.InputContext(machines, machine, machines * each)) for machine in range(machines)]

    fake = SimpleNamespace(num_replicas_in_sync=machines * each, distribute_datasets_from_function=contexts)
    datasets = fit_dataset(Cluster(fake), lambda chosen, epoch: (chosen, np.full(len(chosen), epoch)),
                           rows=rows, batch=batch, seed=7, first_epoch=first_epoch)
    parts = [[rows.numpy() for rows, _ in dataset.take(batches * each)] for dataset in datasets]
    return np.array(parts).reshape(machines, batches, each, -1).swapaxes(1, 2).reshape(machines * each, batches, -1)


@pytest.mark.parametrize(("machines", "each"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_replicas_cut_the_batches_of_one_machine_into_equal_parts(machines, each):
    alone = dealt(1, 1, 6)[0]
    shared = dealt(machines, each, 6)
    assert shared.shape[2] == 4 // (machines * each)
    assert np.array_equal(np.concatenate(shared, axis=1), alone)


def test_an_epoch_takes_each_row_and_the_next_another_order():
    epochs = dealt(1, 1, 2 * steps(10, 4))[0].reshape(2, -1)
    assert all(set(epoch) == set(range(10)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_a_resumed_training_takes_the_rows_it_would_have_taken():
    assert np.array_equal(dealt(2, 1, 6)[:, 3:], dealt(2, 1, 3, first_epoch=1))


def test_fewer_rows_than_a_batch_are_taken_again():
    assert set(dealt(1, 1, 1, rows=3, batch=8)[0].ravel()) == {0, 1, 2}


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(PawlatchError, match="multiple of the 3 replicas that share it, got 4; take 6"):
        dealt(3, 1, 1)


def test_judging_takes_every_row_once_in_order():
    batches = [rows.numpy() for rows, _ in judge_dataset(lambda rows, epoch: (rows, rows), rows=10, batch=4)]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate(batches), np.arange(10))


# ------------------------------------------------------------------------------------------------ who writes


def test_the_chief_alone_writes(tmp_path):
    output = tmp_path / "model"
    for index in (1, 0):
        with chief_writes(Cluster(None, index, 2), output) as folder:
            (folder / "who.txt").write_text(str(index))
        assert folder.exists() is False
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (output / "who.txt").read_text() == "0"


@pytest.mark.parametrize("index", [0, 1])
def test_a_failure_leaves_nothing(tmp_path, index):
    with pytest.raises(PawlatchError), chief_writes(Cluster(None, index, 2), tmp_path / "model") as folder:
        raise PawlatchError("no room")
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ two real processes


def photos() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, 8)).astype(np.float32)
    targets = (features[:, 0] > 0).astype(np.int64)
    return features, targets, np.where(targets, 0.7, 1.3).astype(np.float32)


class CountBatches(keras.callbacks.Callback):
    """A callback of each batch, such as the record of losses is."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def train(cluster: Cluster, *more) -> dict:
    """A small network, fitted as the real one is: callbacks, sample weights, validation. Its history and its weights."""
    features, targets, weights = photos()
    keras.utils.set_random_seed(5)
    with cluster.strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.set_weights(distribute.from_chief(cluster, [value + cluster.index for value in model.get_weights()]))
    counted = CountBatches()
    history = model.fit(
        fit_dataset(cluster, lambda rows, epoch: (features[rows], targets[rows], weights[rows]), rows=ROWS, batch=BATCH, seed=1),
        steps_per_epoch=steps(ROWS, BATCH), epochs=EPOCHS, verbose=0,
        validation_data=judge_dataset(lambda rows, epoch: (features[rows], 1 - targets[rows]), rows=ROWS, batch=BATCH),  # worse with each epoch
        callbacks=[keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True), keras.callbacks.ReduceLROnPlateau(patience=0),
                   counted, *more],
    ).history
    digest = hashlib.sha256(b"".join(value.tobytes() for value in model.get_weights())).hexdigest()
    return {"loss": history["loss"], "val_loss": history["val_loss"], "weights": digest, "batches": counted.count, "values": model.get_weights()}


def worker(output: str, trouble: str) -> int:
    """What runs in each process: all of a training, in small."""
    try:
        cluster = open_cluster("multiworker", progress=lambda line: print(line, file=sys.stderr))
        with distribute.hold_together(cluster):
            at_fault = trouble and not cluster.is_chief
            distribute.require_same(cluster, "the photos", b"others" if at_fault and trouble == "unlike" else b"these")
            vanish = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: os.kill(os.getpid(), signal.SIGTERM))
            told = train(cluster, *([vanish] if at_fault and trouble == "lost" else []))
            with chief_writes(cluster, Path(output)) as folder:
                plain = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(2)])
                plain.set_weights(told.pop("values"))
                if cluster.is_chief:  # a model from outside the scope is this process's own: the others are not waited for
                    plain.predict(photos()[0], verbose=0)
                    plain.save(folder)
            print(json.dumps(told))
            return 0
    except PawlatchError as error:
        print(error, file=sys.stderr)
        return 2


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def run_together(commands: list[list[object]]) -> list[subprocess.CompletedProcess[str]]:
    """One process a command, all of one TF_CONFIG, to their end; one that hangs fails the test."""
    addresses = [f"localhost:{port}" for port in free_ports(len(commands))]
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TF_CONFIG": config(("worker", index), worker=addresses)},
        )
        for index, command in enumerate(commands)
    ]
    try:
        return [subprocess.CompletedProcess(one.args, one.wait(), *told) for one in started for told in [one.communicate(timeout=HANG_S)]]
    finally:
        for one in started:
            one.kill()


def run_workers(output: Path, trouble: str = "") -> list[subprocess.CompletedProcess[str]]:
    """Two of `worker`."""
    return run_together([[__file__, output, trouble]] * 2)


@pytest.mark.slow
def test_two_workers_train_what_one_process_would_and_the_chief_alone_writes(tmp_path):
    told = run_workers(tmp_path / "model")
    assert [one.returncode for one in told] == [0, 0], "".join(one.stderr for one in told)
    chief, other = (json.loads(one.stdout.splitlines()[-1]) for one in told)
    assert chief == other
    alone = train(Cluster(tf.distribute.get_strategy()))
    for key in ("loss", "val_loss"):
        assert chief[key] == pytest.approx(alone[key], abs=1e-5)
    assert len(alone["loss"]) == len(chief["loss"]) < EPOCHS  # early stopping came, and to all at once
    assert chief["batches"] == alone["batches"] == len(chief["loss"]) * steps(ROWS, BATCH)
    assert chief["loss"][0] > 1.2 * chief["loss"][-1]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    saved = keras.models.load_model(tmp_path / "model", compile=False).get_weights()
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(saved, alone["values"], strict=True))
    assert "chief (1 of 2): 2 replicas" in told[0].stderr
    assert not any("coordination service" in one.stderr for one in told)  # the chief leaves last, so nobody misses it


@pytest.mark.slow
def test_a_lost_machine_is_one_sentence_on_the_other_and_leaves_nothing(tmp_path):
    chief, lost = run_workers(tmp_path / "model", "lost")
    assert lost.returncode == -signal.SIGTERM  # which TensorFlow would have swallowed
    assert chief.returncode == 2, chief.stderr
    assert "one is lost or cannot be reached" in chief.stderr
    assert "Traceback" not in chief.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_machines_with_unlike_photos_are_refused_on_all(tmp_path):
    for told in run_workers(tmp_path / "model", "unlike"):
        assert told.returncode == 2, told.stderr
        assert "the photos must be the same on all 2 machines" in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_command_on_two_machines_is_one_training(drawn_photos, tmp_path):
    outputs = [tmp_path / name / "model" for name in ("chief", "worker")]
    pawlatch = "import sys; from pawlatch.cli import main; sys.exit(main(sys.argv[1:]))"
    told = run_together([
        ["-c", pawlatch, "train", drawn_photos, "-o", output, "--strategy", "multiworker", "--weights", "starter", "--image-size", 64,
         "--views", 1, "--epochs", 2, "--fine-tune-epochs", 1, "--fine-tune-at", "block_15*"]
        for output in outputs
    ])
    assert [one.returncode for one in told] == [0, 0], "".join(one.stderr for one in told)
    assert "held-out photos" in told[0].stdout
    assert "held-out photos" not in told[1].stdout
    assert read_card(outputs[0]).labels == ("_empty", "_other", "초코")
    assert list(outputs[1].parent.iterdir()) == []


if __name__ == "__main__":
    sys.exit(worker(*sys.argv[1:]))
