"""A traced enhancer as a MONAI bundle: a folder that ``python -m monai.bundle run`` executes without gradprom."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from gradprom._files import in_memory, partial_path
from gradprom.errors import UserError, first_line
from gradprom.export.bundle_config import PROGRAM, WEIGHTS, inference, metadata
from gradprom.export.facts import NOTICE, Facts
from gradprom.export.files import write_program
from gradprom.export.trace import Traced, check

_METADATA, _INFERENCE = "configs/metadata.json", "configs/inference.json"
_LICENSE = """The files in configs/ and docs/ were written by gradprom, and may be used under the Apache License 2.0:
https://www.apache.org/licenses/LICENSE-2.0

The weights in models/ belong to whoever trained them. No licence of theirs is stated here yet: write it down before
this bundle is handed on. Conditions of the data that they were trained on are in docs/data_license.txt.
"""
_README = """# {name}

{description}

**{notice}** An enhancer can remove what is there and draw what is not: keep the original, and look at it.

## Use

```
pip install "monai[fire,ignite,nibabel,pillow]>={monai}" "torch>={torch}"
python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
    --dataset_dir noisy --output_dir enhanced
```

enhances every image of the folder `noisy` into a file of the same name in the folder `enhanced`, without gradprom.

| option | default | |
|---|---|---|
| `--dataset_dir` | `input` in this folder | where the images are |
| `--output_dir` | `output` in this folder | where the enhanced images go |
| `--suffix` | `.png` | which files: `.png`, `.jpg`, `.bmp`{nifti} |
| `--value_range` | `"[0, 255]"` | the values that are black and white to the network; for 16-bit PNG `"[0, 65535]"` |
| `--clip` | `False` | `True` cuts off what is beyond that range, which is refused otherwise |
| `--output_dtype` | `uint8` | how values are stored: `uint8`, `uint16`, `int16`, `float32` |
{volumes}
## What is in it

`models/model.pt2` is the network as a program of `torch.export`, {least}; its input and output are
float32 in [0, 1]. `models/model.pt` holds its weights as a state dictionary, which is loaded into it: weights that were
trained further go there. An image, or a slice, goes through the network as a whole: very large ones need much memory.
"""
_VOLUMES = """
Volumes are enhanced slice by slice across their last axis. A CT, for instance:

```
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --suffix .nii.gz \\
    --value_range "[-1024, 3071]" --output_dtype int16
```
"""


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a place where no bundle can be written, or to begin without MONAI.

    Raises:
        UserError: MONAI is not installed; the target is a file; it holds something and ``overwrite`` is false, or it is
            not a bundle that gradprom wrote.
    """
    try:
        import monai.bundle  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{target}: a bundle needs the package {error.name}, which is not installed: run "
            "pip install 'gradprom[monai]'"
        ) from error
    if target.is_file():
        raise UserError(f"{target}: is a file, expected the name of a folder for the bundle; give another")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{target}: exists already: choose another name, or replace it with --overwrite")
    try:
        ours = "gradprom" in json.loads((target / _METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise UserError(
            f"{target}: is not a bundle that gradprom wrote and will not be overwritten: give another folder"
        )


def write_bundle(traced: Traced, facts: Facts, target: Path) -> float:
    """Write a bundle; of one that is there, its own files are replaced, and others are left alone.

    Returns:
        The largest difference between the network as MONAI makes it from the bundle and the enhancer.

    Raises:
        UserError: the bundle's network does not give what the enhancer gives.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = partial_path(target)
    work.mkdir()
    try:
        difference = _fill(traced, facts, work)
        if target.exists():
            for path in (path for path in work.rglob("*") if path.is_file()):
                place = target / path.relative_to(work)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
        else:
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return difference


def _fill(traced: Traced, facts: Facts, folder: Path) -> float:
    for name in ("configs", "docs", "models"):
        (folder / name).mkdir()
    write_program(traced, facts, folder / PROGRAM)
    (folder / WEIGHTS).write_bytes(in_memory(lambda file: torch.save(traced.module.state_dict(), file)))
    described = metadata(facts, traced.least)
    for name, config in ((_METADATA, described), (_INFERENCE, inference(facts))):
        (folder / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    volumes = facts.scale == 1
    readme = _README.format(
        name=described["name"],
        description=described["description"],
        notice=NOTICE,
        monai=described["monai_version"],
        torch=described["pytorch_version"],
        nifti=", `.nii`, `.nii.gz`" if volumes else "",
        volumes=_VOLUMES if volumes else "",
        least="for images of any size" if traced.least == 1 else f"for images of {traced.least} pixels a side or more",
    )
    data = f"Trained on: {facts.dataset}\nLicence of that data: {facts.licence}\n"
    texts = {"LICENSE": _LICENSE, "docs/README.md": readme, "docs/data_license.txt": data}
    if facts.card:
        texts["docs/card.md"] = facts.card
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return _check(traced, folder)


def _check(traced: Traced, folder: Path) -> float:
    """Compare the network that MONAI makes by the configuration."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    try:
        parser.read_config(folder / _INFERENCE)
        parser.update({"bundle_root": str(folder), "device": "cpu"})
        network = parser.get_parsed_content("network")
        network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    except Exception as error:  # whatever another version of MONAI may make of it
        raise UserError(
            f"{traced.name}: expected MONAI to make a network of the bundle, found {first_line(error)}; install the "
            "newest by pip install --upgrade 'gradprom[monai]'"
        ) from error
    with torch.no_grad():
        return check(traced, network, "bundle", traced.least)
