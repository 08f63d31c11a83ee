"""A traced enhancer as a file of ONNX or of PyTorch, each run and compared before it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gradprom._files import atomic_path, in_memory
from gradprom.errors import UserError, first_line
from gradprom.export.facts import Facts
from gradprom.export.trace import Traced, check
from gradprom.inference.onnx import INPUT, OUTPUT, OnnxEnhancer

# the first that has Resize with antialias, which super-resolution needs
OPSET = 18
EXTRA_FILE = "gradprom.json"


def write_program(traced: Traced, facts: Facts, target: Path) -> float:
    """Write a program of torch.export, to be loaded by ``torch.export.load`` wherever there is PyTorch.

    What :meth:`gradprom.export.facts.Facts.properties` gives lies in it as the extra file ``gradprom.json``.

    Returns:
        The largest difference from the enhancer, on the images of :func:`gradprom.export.trace.check`.

    Raises:
        UserError: what was written does not give what the enhancer gives.
    """
    properties = {**facts.properties(), "least_side": str(traced.least)}
    extra = {EXTRA_FILE: json.dumps(properties, indent=2)}
    content = in_memory(lambda file: torch.export.save(traced.program, file, extra_files=extra))
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
        return check(traced, torch.export.load(temporary).module(), "program", traced.least)


def write_onnx(traced: Traced, facts: Facts, target: Path) -> float:
    """Write an ONNX file of operator set 18 with batch, height and width left open.

    Its input is called ``image`` and its output ``enhanced``, both float32 in [0, 1]; what
    :meth:`gradprom.export.facts.Facts.properties` gives is its metadata.

    Returns:
        As :func:`write_program`, as onnxruntime computes it.

    Raises:
        UserError: a package is missing, the network has an operation that ONNX has not, or what was written does not
            give what the enhancer gives.
    """
    try:
        import onnxruntime  # noqa: F401 - what the file is run with
        import onnxscript  # noqa: F401 - what torch.onnx.export needs
    except ImportError as error:
        raise UserError(
            f"{target}: ONNX needs the package {error.name}, which is not installed: run pip install 'gradprom[export]'"
        ) from error
    try:
        exported = torch.onnx.export(
            traced.program,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            dynamo=True,
            verbose=False,
        )
    except Exception as error:  # whatever the exporter may raise
        raise UserError(
            f"{traced.name}: expected a network that ONNX can express, found {first_line(error)}; export it as .pt2"
        ) from error
    assert exported is not None  # noqa: S101 - nothing else than a program comes of dynamo=True
    exported.model.metadata_props.update(facts.properties())
    with atomic_path(target) as temporary:
        exported.save(temporary)
        return check(traced, OnnxEnhancer(temporary.read_bytes(), traced.name).run, "ONNX file")
