"""Whole runs, small."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import gradprom
from gradprom.errors import UserError
from gradprom.strategies import STRATEGIES
from gradprom.training.config import Config, parse
from gradprom.training.run import resume, train
from gradprom.weights import read_weights

MakeConfig = Callable[..., Config]
Trained = Callable[[str], Path]


def weights(folder: Path, name: str = "enhancer") -> dict[str, Tensor]:
    return read_weights(folder / f"{name}.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_folder_is_whole_and_loads_back(strategy: str, trained: Trained, make_config: MakeConfig) -> None:
    folder, what = trained(strategy), STRATEGIES[strategy]
    expected = {"config.yaml", "run.json", "checkpoint.pt", "metrics.csv", "promotion.csv", "tensorboard", "card.md"}
    expected |= {"enhancer.safetensors", "preview.png"} if what.enhancer else set()
    expected |= {"recognizer.safetensors"} if what.recognizer else set()
    assert {path.name for path in folder.iterdir()} == expected
    assert parse(folder / "config.yaml").strategy == strategy
    record = json.loads((folder / "run.json").read_text())
    assert record["finished"] is True
    assert (record["training_images"], record["validation_images"], record["test_images"]) == (9, 1, 2)
    assert torch.__version__.startswith(record["versions"]["torch"])
    if what.enhancer:
        noisy = np.random.default_rng(0).integers(0, 256, (37, 51), dtype=np.uint8)
        enhanced = gradprom.load(folder).enhance(noisy)
        assert enhanced.shape == noisy.shape
        assert enhanced.dtype == np.uint8
        assert (enhanced != noisy).any()
        with Image.open(folder / "preview.png") as preview:
            assert preview.size == (3 * 48, 40)
    else:
        with pytest.raises(UserError, match="which has no enhancer"):
            gradprom.load(folder)
    recognizers = gradprom.load_recognizers(folder)
    assert list(recognizers) == (["segmentation"] if what.recognizer else [])
    for recognizer in recognizers.values():
        assert recognizer(torch.rand(1, 1, 40, 48)).shape == (1, 2, 40, 48)


@pytest.mark.parametrize("strategy", ["joint", "frozen", "gradprom"])
def test_promotion_is_logged_for_each_step_of_the_cascade(strategy: str, trained: Trained) -> None:
    with (trained(strategy) / "promotion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        aligned = float(row["alignment_segmentation"]) >= 0
        assert row["promoted_segmentation"] == ("1" if strategy != "gradprom" or aligned else "0")
        promoted = 1e-4 * float(row["norm_segmentation"]) / float(row["main_norm"])
        assert float(row["ratio"]) == pytest.approx(promoted if row["promoted_segmentation"] == "1" else 0, rel=1e-4)


def test_metrics_are_logged_by_stage_whether_or_not_a_stage_is_shared(trained: Trained) -> None:
    logged = []
    for strategy in ("joint", "frozen"):
        with (trained(strategy) / "metrics.csv").open() as file:
            logged.append(list(csv.DictReader(file)))
    stages = [[(row["stage"], int(row["step"])) for row in rows] for rows in logged]
    assert stages[0] == stages[1]
    assert [stage for stage, _ in stages[0]] == ["warmup"] * 3 + ["pretrain_segmentation"] + ["cascade"]
    for one, other in zip(*logged, strict=True):
        if one["stage"] != "cascade":
            assert (one["loss"], one["validation_psnr"]) == (other["loss"], other["validation_psnr"])


def test_strategies_share_their_stages(trained: Trained, stages: Path) -> None:
    for strategy in STRATEGIES:
        trained(strategy)
    names = sorted(path.name.split("-")[0] for path in stages.glob("*.safetensors"))
    assert names == ["pretrain", "warmup"]
    # a frozen recognizer ends as it was pretrained
    (pretrained,) = stages.glob("pretrain-*.safetensors")
    assert same(weights(trained("frozen"), "recognizer"), read_weights(pretrained))
    assert not same(weights(trained("joint"), "recognizer"), read_weights(pretrained))


def test_sharing_stages_changes_nothing(trained: Trained, make_config: MakeConfig, tmp_path: Path) -> None:
    trained("enhancer_only")  # whoever comes first trains the shared warm-up
    alone = train(make_config({"strategy": "gradprom"}), tmp_path / "alone")
    for name in ("enhancer", "recognizer"):
        assert same(weights(alone, name), weights(trained("gradprom"), name))
    assert (alone / "promotion.csv").read_text() == (trained("gradprom") / "promotion.csv").read_text()


def test_the_seed_decides(make_config: MakeConfig, trained: Trained, tmp_path: Path) -> None:
    again = train(make_config({"strategy": "enhancer_only"}), tmp_path / "again")
    other = train(make_config({"strategy": "enhancer_only", "training.seed": 1}), tmp_path / "other")
    assert same(weights(again), weights(trained("enhancer_only")))
    assert not same(weights(other), weights(again))


def test_both_tasks_at_once_without_labels_in_the_cascade(make_config: MakeConfig, tmp_path: Path) -> None:
    changes = {"diagnosis.encoder": "test_resnet", "training.view": "whole", "supervision": "unsupervised"}
    folder = train(make_config(changes | {"promotion.max_ratio": 0.5, "promotion.combine": "all"}), tmp_path / "both")
    assert {path.name for path in folder.glob("*.safetensors")} == {
        "enhancer.safetensors",
        "diagnosis.safetensors",
        "segmentation.safetensors",
    }
    assert list(gradprom.load_recognizers(folder)) == ["diagnosis", "segmentation"]
    with (folder / "promotion.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        together = {row["promoted_diagnosis"], row["promoted_segmentation"]}
        both = float(row["alignment_diagnosis"]) >= 0 and float(row["alignment_segmentation"]) >= 0
        assert together == {"1" if both else "0"}
        assert float(row["ratio"]) <= 0.5


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.factor


def test_models_of_ones_own(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"training.stages": tmp_path / "stages", "training.warmup.steps": 3})
    segmenter = nn.Conv2d(1, 2, 3, padding=1)
    folder = train(config, tmp_path / "run", enhancer=Halved(), recognizers={"segmentation": segmenter})
    assert weights(folder)["factor"] > 0.5
    assert same(weights(folder, "recognizer"), segmenter.state_dict())
    assert not (tmp_path / "stages").exists()  # its name says nothing of models that are not configured
    own = Halved()
    gradprom.load(folder, enhancer=own)
    assert own.factor.item() == weights(folder)["factor"]
    with pytest.raises(UserError, match=r"holds the weights of another model"):
        gradprom.load(folder)
    with pytest.raises(UserError, match="'diagnosis', which the configuration has no entry for"):
        train(config, tmp_path / "other", recognizers={"diagnosis": segmenter})


def test_resuming_a_finished_run_changes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = train(make_config({"strategy": "enhancer_only"}), tmp_path / "run")
    before = weights(folder), (folder / "metrics.csv").read_text(), (folder / "preview.png").read_bytes()
    resume(folder)
    assert same(weights(folder), before[0])
    assert ((folder / "metrics.csv").read_text(), (folder / "preview.png").read_bytes()) == before[1:]


def test_what_fails_before_the_first_step_leaves_nothing(
    own_images: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    truncated = own_images / "images" / "i05.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    config = make_config({"dataset.root": own_images, "dataset.channels": 1, "segmentation": "null"} | ALONE)
    with pytest.raises(UserError, match=r"i05\.png"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


ALONE = {"strategy": "enhancer_only", "segmentation.encoder": None}


def test_overwriting(make_config: MakeConfig, tmp_path: Path, own_images: Path) -> None:
    config = make_config({"training.warmup.steps": 2, "training.cascade.steps": 1} | ALONE)
    folder = train(config, tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        train(config, folder)
    before = weights(folder)
    config.dataset.root = str(tmp_path / "missing")
    with pytest.raises(UserError, match="no such folder"):
        train(config, folder, overwrite=True)
    assert same(weights(folder), before)  # the old run is replaced only when the new one can begin
    config.dataset.root, config.training.seed = str(own_images), 5
    train(config, folder, overwrite=True)
    assert not same(weights(folder), before)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_no_run_is_never_overwritten(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("strategy: enhancer_only\n")
    with pytest.raises(UserError, match="is not a run folder and will not be overwritten"):
        train(make_config(), tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        train(make_config(), tmp_path / "config.yaml", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_too_few_values_for_batch_norm_are_explained(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.batch_size 1 on 1 devices at training\.size 32"):
        train(make_config({"training.batch_size": 1, "training.warmup.steps": 0}), tmp_path / "run")


def test_an_accelerator_that_is_not_there(make_config: MakeConfig, tmp_path: Path) -> None:
    missing = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(UserError, match=rf"training\.accelerator {missing} with 1 devices"):
        train(make_config({"training.accelerator": missing}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one(options: Callable[..., list[str]], trained: Trained, tmp_path: Path) -> None:
    words = options({"strategy": "enhancer_only", "training.devices": 2})
    command = [sys.executable, "-m", "gradprom.cli", "train", *words, "-o", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run'}\n"
    one, two = weights(trained("enhancer_only")), weights(tmp_path / "run")
    for name in one:  # its shards are equal, its loss is a mean and it has no batch norm
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5)
    rows = [
        (folder / "metrics.csv").read_text().splitlines() for folder in (trained("enhancer_only"), tmp_path / "run")
    ]
    assert [row.split(",")[:2] for row in rows[0]] == [row.split(",")[:2] for row in rows[1]]


def test_two_machines_train_as_one(
    options: Callable[..., list[str]], trained: Trained, run_together: Callable[..., None], tmp_path: Path
) -> None:
    words = options({"strategy": "enhancer_only", "training.nodes": 2})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "NODE_RANK"} | {"OMP_NUM_THREADS": "1"}
    machines = [
        [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank),
         "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port),
         "-m", "gradprom.cli", "train", *words, "-o", str(tmp_path / "run")]
        for rank in (0, 1)
    ]  # fmt: skip
    run_together(machines, env=environment, timeout=240)
    one, two = weights(trained("enhancer_only")), weights(tmp_path / "run")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5)


def test_several_machines_need_a_launcher(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"training\.nodes is 2: expected a launcher"):
        train(make_config({"training.nodes": 2}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recognizer_only_never_sees_a_clean_image(make_config: MakeConfig, tmp_path: Path) -> None:
    options = {"strategy": "recognizer_only", "training.stages": tmp_path / "stages", "training.cascade.steps": 0}
    quiet, noisy = (
        train(make_config(options | {"degradation": degradation}), tmp_path / degradation)
        for degradation in ("none", "gaussian 0.3")
    )
    assert not same(weights(quiet, "recognizer"), weights(noisy, "recognizer"))
    assert not (tmp_path / "stages").exists()  # what others start from is trained on clean images
