"""Enhancers as files that other programs run: ONNX, a PyTorch program, a MONAI bundle."""

from gradprom.export.export import FORMATS, Format, export_model
from gradprom.export.facts import Facts, facts_of

__all__ = ["FORMATS", "Facts", "Format", "export_model", "facts_of"]
