"""What importing costs: names are resolved lazily, and the heart needs only torch."""

import json
import subprocess
import sys

import pytest

import gradprom

HEAVY = {"timm", "torchvision", "segmentation_models_pytorch", "skimage", "PIL", "scipy", "monai", "nilearn", "rich",
         "matplotlib", "lightning_fabric", "torchmetrics", "pandas", "safetensors", "jsonargparse", "yaml"}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["gradprom", "gradprom.errors", "gradprom.training.config", "gradprom.enhancers"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    assert not modules_after(f"import {module}") & (HEAVY | {"torch", "numpy"})


def test_the_heart_needs_only_torch() -> None:
    code = """
import json, sys, torch, torch._functorch.config
before = set(sys.modules)
import gradprom.promotion
promotion = set(sys.modules) - before
import gradprom.objectives, gradprom.degradations
print(json.dumps([sorted(promotion), sorted(set(sys.modules) - before)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    promotion, all_three = json.loads(done.stdout)
    parts = ["_gates", "_gradients", "_passes", "_rule", "promotion"]
    assert promotion == ["gradprom", *(f"gradprom.{part}" for part in parts)]
    assert {name.split(".")[0] for name in all_three} == {"gradprom"}


def test_every_public_name_is_found_and_others_are_not() -> None:
    for name in gradprom.__all__:
        assert getattr(gradprom, name) is not None
        assert name in dir(gradprom)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = gradprom.nonsense
