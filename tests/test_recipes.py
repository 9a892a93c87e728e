"""The recipes that ship: the values of the paper's rows, and two steps of each on a few images in the true formats."""

from __future__ import annotations

from pathlib import Path

import image_files
import pytest
import torch
from tiny import CPU, metrics

from dot import data, models, runs
from dot.config import StudyConfig, load_study
from dot.data import cifar, imagenet, tiny_imagenet

CIFAR_100 = {
    "batch_size": 64, "epochs": 240, "milestones": (150, 180, 210), "weight_decay": 5e-4, "delta": 0.075,
    "shift": 4, "flip": True, "rotate": 0.0, "resized_crop": False, "temperature": 4.0, "w_ce": 0.1, "w_kd": 0.9,
}  # fmt: skip
TINY_IMAGENET = CIFAR_100 | {
    "batch_size": 256, "epochs": 200, "milestones": (60, 120, 160), "shift": 0, "rotate": 20.0,
}  # fmt: skip
IMAGENET = CIFAR_100 | {
    "batch_size": 512, "epochs": 100, "milestones": (30, 60, 90), "weight_decay": 1e-4, "delta": 0.09,
    "shift": 0, "resized_crop": True, "temperature": 1.0, "w_ce": 0.5, "w_kd": 0.5,
}  # fmt: skip
ROWS = {
    "cifar100-resnet32x4-resnet8x4": (CIFAR_100, "cifar100", 0.05, 7_433_860, 1_233_540, 73.33, 75.12),
    "cifar100-vgg13-vgg8": (CIFAR_100, "cifar100", 0.05, 9_462_180, 3_965_028, 72.98, 73.77),
    "cifar100-resnet32x4-shufflenetv2": (CIFAR_100, "cifar100", 0.01, 7_433_860, 1_355_528, 74.45, 75.55),
    "tiny-imagenet-resnet18-mobilenetv2": (TINY_IMAGENET, "tiny-imagenet", 0.2, 11_271_432, 2_497_480, 58.35, 64.01),
    "tiny-imagenet-resnet18-shufflenetv2": (TINY_IMAGENET, "tiny-imagenet", 0.2, 11_271_432, 1_458_028, 62.26, 65.75),
    "imagenet-resnet34-resnet18": (IMAGENET, "imagenet", 0.2, 21_797_672, 11_689_512, 71.03, 71.72),
    "imagenet-resnet50-mobilenetv1": (IMAGENET, "imagenet", 0.2, 25_557_032, 4_231_976, 70.50, 73.09),
}
"""Recipe, data, student's learning rate, parameters of teacher and student, KD and KD+DOT in the paper."""
CLASSES = {"cifar100": 100, "tiny-imagenet": 200, "imagenet": 1000}
REDUCED = ("cifar10-small", "tiny-imagenet-small")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_papers_values(name: str) -> None:
    values, images, lr, teacher, student, kd, dot = ROWS[name]
    study = load_study(name)
    assert study.name == name
    assert study.data == images
    assert set(study.methods) == {"ce", "kd-sgd", "kd-dot"}
    use = study.student.train
    found = {key: getattr(use, key) for key in ("batch_size", "epochs", "milestones", "weight_decay", "delta")}
    found |= {key: getattr(use.augment, key) for key in ("shift", "flip", "rotate", "resized_crop")}
    found |= {key: getattr(study.losses, key) for key in ("temperature", "w_ce", "w_kd")}
    assert found == values
    assert (use.lr, use.momentum, use.gamma, use.warmup_epochs) == (lr, 0.9, 0.1, 0)
    assert (study.losses.distillation, study.losses.warmup_epochs) == ("kd", 0)
    assert (study.paper.kd_sgd, study.paper.kd_dot) == (kd, dot)
    for part, parameters in ((study.teacher, teacher), (study.student, student)):
        with torch.device("meta"):
            model = models.build(part.model, num_classes=CLASSES[images])
        assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", REDUCED)
def test_a_reduced_recipe_says_so(name: str) -> None:
    study = load_study(name)
    assert "reduced recipe" in study.note
    assert study.paper.source == ""
    assert (study.losses.temperature, study.losses.w_ce, study.losses.w_kd, study.student.train.delta) == (
        4.0, 0.1, 0.9, 0.075,
    )  # fmt: skip


@pytest.fixture
def few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image set of the recipes with a few images, in the format of its files."""
    monkeypatch.setenv("DOT_DATA", str(tmp_path / "data"))
    made = {name: image_files.cifar(cifar.source(name), tmp_path / "data", 6)[0] for name in ("cifar10", "cifar100")}
    monkeypatch.setattr(cifar, "source", made.get)
    zipped = {}
    for name in ("tiny-imagenet", "tiny-imagenet-20-32"):
        zipped[name] = image_files.tiny_imagenet(tiny_imagenet.source(name), tmp_path / "data")[0]
    monkeypatch.setattr(tiny_imagenet, "source", zipped.get)
    for part, each in (("train", 4), ("val", 2)):
        for wnid in ("n01", "n02"):
            for i in range(each):
                pixels = image_files.noise(i, 40, 50, 3)
                path = tmp_path / "data" / "imagenet" / part / wnid / f"{i}.JPEG"
                image_files.put(path, image_files.encoded(pixels, "JPEG"))
    monkeypatch.setattr(imagenet, "source", lambda name: imagenet.ImageNet(classes=2, train=8, test=4, workers=0))


def shortened(name: str) -> StudyConfig:
    """An epoch of batches of 4, everything else as it ships."""
    changes = ["train.batch_size=4", "train.epochs=1", "train.milestones=[]", "record.every=2", "record.heldout=2"]
    return load_study(name, [*changes, "compute.threads=1"])


@pytest.mark.parametrize("name", [*ROWS, *REDUCED])
def test_two_steps_of_every_recipe(name: str, few_images: None, tmp_path: Path) -> None:
    study = shortened(name)
    images = data.load(study.data, CPU)
    assert -(-len(images.train) // 4) >= 2, "at least two steps"
    runs.train(study.teacher_run(), tmp_path, CPU)
    run = runs.train(study.student_run("kd-dot", 0), tmp_path, CPU)
    (line,) = metrics(run.path)
    assert {"ce", "kd", "accuracy"} == line["train"].keys() == line["test"].keys()
    assert run.conflict.exists()
