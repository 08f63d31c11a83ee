"""The examples run, and their configurations are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from gradprom.training.config import parse

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_bare_loop_learns_to_remove_noise(
    load_script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_script("examples/bare_loop.py").main() > 3
    assert "promoted in" in capsys.readouterr().out


def test_isic_configuration_trains_what_the_readme_says() -> None:
    config = parse(EXAMPLES / "isic.yaml")
    assert (config.dataset.name, config.strategy, list(config.tasks)) == ("isic2018", "gradprom", ["segmentation"])


def test_folder_configuration_trains_both_tasks_on_a_folder(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from gradprom.inference.load import load
    from gradprom.training.run import train

    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    rows = ["image,label"]
    for i in range(14):
        name = f"case {i}.png"
        Image.fromarray(rng.integers(0, 255, (36, 40), dtype=np.uint8)).save(tmp_path / "data" / "images" / name)
        Image.fromarray(rng.integers(0, 2, (36, 40), dtype=np.uint8)).save(tmp_path / "data" / "masks" / name)
        rows.append(f"{name},{'benign' if i % 2 else 'malignant'}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    short = [w for stage in ("warmup", "pretrain", "cascade") for w in (f"--training.{stage}.steps", "2")]
    options = ["--dataset.root", str(tmp_path / "data"), "--dataset.validation_images", "2", "--training.size", "32"]
    run = train(parse(EXAMPLES / "folder.yaml", [*options, "--training.batch_size", "2", *short]), tmp_path / "run")
    assert load(run).enhance(rng.random((20, 31))).shape == (20, 31)
    assert {"diagnosis.safetensors", "segmentation.safetensors"} <= {file.name for file in run.iterdir()}


def test_the_plan_compares_what_it_says() -> None:
    from gradprom.experiments.plan import expand, read_plan

    runs = expand(read_plan(EXAMPLES / "plan.yaml"))
    # two noise levels, each: alone once; joint at three weights; gradprom at three weights with and without the cone
    assert len(runs) == 2 * (1 + 3 + 3 * 2)
    assert {run.reader.config.segmentation.encoder for run in runs} == {"mobilenet_v2"}


def test_lightning_promotes_as_a_bare_loop_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import copy
    import warnings

    import torch
    import torch.nn.functional as F

    from gradprom import GradientPromotion

    monkeypatch.syspath_prepend(str(EXAMPLES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own: of PyTorch's old names, and advice on workers
        import lightning
        import lightning_module

        torch.manual_seed(0)
        module = lightning_module.PromotedEnhancement(*lightning_module.make_models())
        enhancer, recognizer = copy.deepcopy(module.enhancer), copy.deepcopy(module.recognizer)
        loader = lightning_module.make_loader(6)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet)
        trainer.fit(module, loader)
        assert lightning_module.main(steps=150) > 3
    assert "promoted in" in capsys.readouterr().out
    untrained = copy.deepcopy(enhancer.state_dict())
    optimizer = torch.optim.Adam([*enhancer.parameters(), *recognizer.parameters()], lr=5e-3)
    promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), weight=1e-2, max_ratio=0.5)
    promoted = []
    for degraded, clean, label in [*loader, *loader]:
        optimizer.zero_grad()
        enhanced = enhancer(degraded)
        losses = {"diagnosis": F.cross_entropy(recognizer(enhanced), label)}
        step = promotion.backward(F.mse_loss(enhanced, clean), losses, interface=enhanced)
        optimizer.step()
        promoted.append(step.promoted["diagnosis"])
    assert 0 < sum(promoted) < len(promoted)  # both cases of the gate
    for trained, bare in ((module.enhancer, enhancer), (module.recognizer, recognizer)):
        for name, weights in bare.state_dict().items():
            assert torch.equal(trained.state_dict()[name], weights), name
    assert not torch.equal(untrained["0.weight"], enhancer.state_dict()["0.weight"])
