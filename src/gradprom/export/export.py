"""One function for all formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from gradprom.errors import UserError
from gradprom.export.facts import Facts
from gradprom.inference.model import Model

Format = Literal["onnx", "torch", "bundle"]
FORMATS: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}


def export_model(
    model: Model,
    target: str | Path,
    *,
    format: Format | None = None,
    facts: Facts | None = None,
    overwrite: bool = False,
) -> float:
    """Export an enhancer, check that the result computes the same, and only then give it its name.

    Args:
        model: as :func:`gradprom.load` gives it; it is left as it is.
        target: a file whose suffix decides on the format, or a folder for a bundle.
        format: ``onnx`` (.onnx), ``torch`` (.pt2, a program of torch.export) or ``bundle`` (a folder: a MONAI bundle).
        facts: what the export says of the model; by default what the model itself knows.
        overwrite: replace what is there.

    Returns:
        The largest difference between an enhanced pixel, in [0, 1], and what PyTorch gives: at most 1e-4.

    Raises:
        UserError: the format is not clear, the target exists, a package is missing, the model cannot be exported, or
            the target cannot be written (then the ``OSError`` is the cause).
    """
    target = Path(target)
    chosen = choose_format(target, format)
    facts = facts or Facts(model.name, model.channels, model.scale)
    if chosen == "bundle":
        from gradprom.export.bundle import check_target, write_bundle

        check_target(target, overwrite=overwrite)
    elif target.is_dir():
        raise UserError(f"{target}: is a folder, expected the name of a file; give one, or --format bundle")
    elif target.exists() and not overwrite:
        raise UserError(f"{target}: exists already: choose another name, or replace it with --overwrite")
    from gradprom.export.files import write_onnx, write_program
    from gradprom.export.trace import trace
    from gradprom.images.frames import writing

    traced = trace(model)
    with writing(target):
        if chosen == "bundle":
            return write_bundle(traced, facts, target)
        return (write_onnx if chosen == "onnx" else write_program)(traced, facts, target)


def choose_format(target: Path, format: str | None) -> Format:
    """The format that was asked for, or else that of the suffix.

    Raises:
        UserError: there is no such format, or neither says which one.

    Example:
        >>> choose_format(Path("enhancer.onnx"), None), choose_format(Path("enhancer"), "bundle")
        ('onnx', 'bundle')
    """
    formats = {name: name for name in get_args(Format)}
    of_suffix = FORMATS.get(target.suffix.lower())
    chosen: Format | None = of_suffix if format is None else formats.get(format)
    if chosen is None or of_suffix not in (None, chosen):
        found = f"{target}" if format is None else f"{target} and --format {format}"
        raise UserError(
            f"{found}: expected a name that ends in {' or '.join(FORMATS)}, or another name and --format "
            f"{', '.join(formats)}; choose one"
        )
    return chosen
