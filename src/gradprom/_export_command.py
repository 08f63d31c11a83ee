"""``gradprom export``: an enhancer as a file that other programs run."""

from __future__ import annotations

import argparse
from pathlib import Path

from gradprom._arguments import add_command

_EXAMPLES = """examples:
  gradprom export runs/isic -o isic.onnx              ONNX, for onnxruntime and others
  gradprom export runs/isic -o isic.pt2               a program of torch.export, for PyTorch alone
  gradprom export runs/isic -o isic --format bundle   a folder for python -m monai.bundle run

Images of any size and number go in, float32 in [0, 1]. What is exported is run and compared with
PyTorch before it gets its name. ONNX needs pip install "gradprom[export]", a bundle pip install
"gradprom[monai]"."""


def add_export_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` to the commands of a parser."""
    summary = "export an enhancer to ONNX, torch.export or a MONAI bundle"
    parser = add_command(commands, "export", summary, _EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="run folder, or a name of gradprom models")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="a name that ends in .onnx or .pt2, or a bundle's folder"
    )
    parser.add_argument("--format", choices=("onnx", "torch", "bundle"), help="(default: by the suffix of the output)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from gradprom.export import export_model, facts_of
    from gradprom.inference.load import load

    difference = export_model(
        load(options.model),
        options.output,
        format=options.format,
        facts=facts_of(options.model),
        overwrite=options.overwrite,
    )
    print(f"{options.output}: differs from PyTorch by {difference:.1g} at most")
    return 0
