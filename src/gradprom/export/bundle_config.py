"""What stands in the two configurations of a MONAI bundle: what its network is, and how images go through it."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import metadata as installed
from typing import Any

from gradprom import __version__
from gradprom.export.facts import NOTICE, Facts

PROGRAM, WEIGHTS = "models/model.pt2", "models/model.pt"
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_COLOURS = {1: ["grey"], 3: ["red", "green", "blue"]}
_PAPER = (
    "D. Zhang and K.-T. Cheng, Generalized Task-Driven Medical Image Quality Enhancement With Gradient Promotion, "
    "IEEE TPAMI 2025, https://doi.org/10.1109/TPAMI.2025.3525671"
)


def metadata(facts: Facts, least: int) -> dict[str, Any]:
    """Say in ``metadata.json`` what MONAI's specification of bundles asks for.

    Args:
        facts: of the model.
        least: the shortest side of images that its program takes.
    """
    # MONAI evaluates what begins with $, and looks up what begins with @ or %
    facts = replace(facts, name=re.sub(r"[^\w .,()+-]", "_", facts.name))
    channels = _COLOURS[facts.channels]
    tensor = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": facts.channels,
        "spatial_shape": ["*", "*"],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(index): channel for index, channel in enumerate(channels)},
    }
    what = f"{'grey' if facts.channels == 1 else 'colour'} images of {'any size' if least == 1 else f'{least} pixels'}"
    what += " a side or more" if least > 1 else ""
    what += f" and enlarges them {facts.scale} times" if facts.scale > 1 else ""
    versions = {name: installed.version(name) for name in ("monai", "torch", "numpy", "nibabel", "pillow")}
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by gradprom {__version__}"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"].split("+")[0],
        "numpy_version": versions["numpy"],
        "required_packages_version": {
            "fire": "0.5.0",
            "pytorch-ignite": "0.4.11",
            "nibabel": versions["nibabel"],
            "pillow": versions["pillow"],
        },
        "name": facts.name,
        "task": "Enhancement of medical images",
        "description": f"Enhances {what}. Trained by gradprom on {facts.dataset} to undo: {facts.degradation}.",
        "authors": "not stated: whoever trained the model",
        "copyright": "not stated: see LICENSE",
        "data_source": facts.dataset,
        "intended_use": NOTICE,
        "references": [_PAPER],
        "network_data_format": {"inputs": {"image": tensor}, "outputs": {"pred": tensor}},
        "gradprom": facts.properties(),
    }


def inference(facts: Facts) -> dict[str, Any]:
    """Say in ``inference.json`` how a folder of images becomes a folder of enhanced images of the same names.

    MONAI's readers put the width before the height, in volumes as in pictures. The network is shown what ``gradprom
    enhance`` shows it: the height comes first.

    Args:
        facts: of the model.
    """
    # palettes are read as their colours, opacity is left out
    decoded = "{'1': 'L', 'LA': 'L', 'L': 'L', 'I;16': 'I;16'}"
    fits = (
        f"image.shape[0] == {facts.channels} and "
        "(@clip or bool((image >= @value_range[0]).all() and (image <= @value_range[1]).all()))"
    )
    misfit = (
        f"'expected {facts.channels} channel(s), found {{}}; expected values in {{}}, found {{:g}} to {{:g}}: give "
        "another --value_range, or --clip True to cut off what is beyond'"
        ".format(image.shape[0], @value_range, float(image.min()), float(image.max()))"
    )
    is_whole = "numpy.issubdtype(numpy.dtype(@output_dtype), numpy.integer)"
    checks = [
        "$torch._check(len(@datalist) > 0, "
        "lambda: 'no ' + @suffix + ' files in ' + @dataset_dir + ': give another --dataset_dir or --suffix')",
        "$torch._check(os.path.realpath(@dataset_dir) != os.path.realpath(@output_dir), "
        "lambda: 'the images would be replaced: give another --output_dir')",
    ]
    if facts.scale > 1:
        checks.append(
            "$torch._check('.nii' not in @suffix, "
            "lambda: 'this network enlarges images: what NIfTI files say of sizes and places would be wrong')"
        )
    return {
        "imports": ["$import os", "$from torch.export.passes import move_to_device_pass"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/output'",
        "suffix": ".png",
        "value_range": [0, 255],
        "clip": False,
        "output_dtype": "uint8",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$sorted(os.path.join(@dataset_dir, name) for name in os.listdir(@dataset_dir) "
        "if name.lower().endswith(@suffix))",
        "network_def": "$torch.export.unflatten(move_to_device_pass("
        f"torch.export.load(@bundle_root + '/{PROGRAM}'), @device))",
        "network": "$@network_def.to(@device)",
        "reader": "$monai.data.NibabelReader() if '.nii' in @suffix else monai.data.PILReader("
        f"converter=lambda picture: picture.convert({decoded}.get(picture.mode, 'RGB')))",
        "preprocessing": _compose(
            {"_target_": "LoadImaged", "keys": "image", "reader": "@reader"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            _lambda("image", f"torch._check({fits}, lambda: {misfit}) or image"),
            {**_scale("image", "$@value_range[0]", "$@value_range[1]", 0.0, 1.0), "clip": True},
            {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
        ),
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': name} for name in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "slice": "$lambda image, network: network(image.transpose(2, 3)).transpose(2, 3)",
        "inferer": "$lambda image, network: @slice(image, network) if image.ndim == 4 else "
        "torch.stack([@slice(image[..., index], network) for index in range(image.shape[4])], 4)",
        "postprocessing": _compose(
            _scale("pred", 0.0, 1.0, "$@value_range[0]", "$@value_range[1]"),
            _lambda("pred", f"image.round() if {is_whole} else image"),
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_postfix": "",
                "output_ext": "@suffix",
                "output_dtype": "$numpy.dtype(@output_dtype).type",
                "separate_folder": False,
                "print_log": False,
            },
        ),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": f"$@bundle_root + '/{WEIGHTS}'",
                "load_dict": {"model": "@network"},
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": checks,
        "run": ["$@evaluator.run()"],
    }


def _compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(transforms)}


def _lambda(key: str, body: str) -> dict[str, Any]:
    return {"_target_": "Lambdad", "keys": key, "func": f"$lambda image: {body}"}


def _scale(key: str, low: str | float, high: str | float, to_low: str | float, to_high: str | float) -> dict[str, Any]:
    bounds = {"a_min": low, "a_max": high, "b_min": to_low, "b_max": to_high}
    return {"_target_": "ScaleIntensityRanged", "keys": key, **bounds}
