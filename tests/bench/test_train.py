"""A training run that was interrupted ends as one that was not."""

import numpy as np
import pytest

from bench import data, methods, noise, problems, record, tasks, trainer
from bench.nets.vgg import VGG16


def _vgg(**options):
    return VGG16(
        image_size=8,
        num_classes=10,
        channels=1,
        hidden=16,
        stages=((8, 1), (8, 1)),
        **options,
    )


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "BUILD", tmp_path)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 8, 8, 1)).astype(np.float32)
    split = data.Split(images, np.arange(40, dtype=np.int32) % 10)
    problem = problems.small_images("small", _vgg, batch=10, size=8)

    def epoch(seed, index):
        order = np.random.default_rng((seed, index)).permutation(40)
        for chosen in np.split(order, 4):
            yield split.images[chosen], split.labels[chosen]

    return tasks.Task(
        name="small",
        problem=problem,
        metric="accuracy",
        peak_learning_rate=1e-2,
        steps_per_epoch=4,
        epoch=epoch,
        evaluate=lambda params, state: tasks._accuracy(problem, split, params, state),
    )


def test_interrupted_run_goes_on(task):
    run = trainer.Run(task, methods.BALANCED, seed=1, epochs=3, steps=4)
    step = trainer.make_step(run)
    whole = trainer.train(run, step, on_epoch=lambda done: None)

    def interrupt(done):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(run, step, on_epoch=interrupt)
    calls = []
    resumed = trainer.train(run, step, on_epoch=calls.append)
    assert calls == [2, 3]
    assert resumed == whole
    assert whole["losses"][-1] < whole["losses"][0]


def test_checkpoint_of_another_commit_is_not_used(task, monkeypatch):
    run = trainer.Run(task, methods.PLAIN, seed=0, epochs=2, steps=4)
    trainer._save(run, trainer.initial(run), {"losses": [1.0], "metrics": [0.0]})
    assert trainer._restore(run) is not None
    monkeypatch.setattr(trainer.environment, "describe", lambda: {"commit": "other"})
    assert trainer._restore(run) is None


def test_methods_start_alike_and_see_the_same_batches(task):
    finals = []
    for method in (methods.PLAIN, methods.EXACT):
        run = trainer.Run(task, method, seed=0, epochs=1, steps=4)
        row = trainer.train(run, trainer.make_step(run), on_epoch=lambda done: None)
        finals.append(row["losses"][0])
    assert finals[0] == pytest.approx(finals[1], rel=1e-4)


def test_noise_tells_fine_from_coarse_quantisation(task):
    run = trainer.Run(task, methods.PLAIN, seed=0, epochs=1, steps=4)
    chosen = [methods.EXACT, methods.quantised(8), methods.quantised(2)]
    rows = noise.measure(task, trainer.initial(run), chosen, batches=4)
    exact, fine, coarse = (row["all"] for row in rows)
    assert exact < 1e-8 < fine < coarse / 100


def test_layers_without_a_gradient_are_left_out():
    """Of a bias before a batch normalisation all that is seen is rounding."""
    layers = [
        {"conv/kernel": 1e-12, "conv/bias": 1.1},
        {"conv/kernel": 0.02, "conv/bias": 1e9},
    ]
    rows = [
        {"method": method, "epoch": epoch, "all": 0.1, "layers": by_path}
        for epoch in (0, 3)
        for method, by_path in zip(("exact", "balanced"), layers, strict=True)
    ]
    worst = {(method, path) for method, _, _, _, path in noise.cells(rows)}
    assert worst == {("exact", "conv/kernel"), ("balanced", "conv/kernel")}
    # Without `exact` it cannot be told.
    assert noise.cells(rows[1:2])[0][-1] == "conv/bias"
