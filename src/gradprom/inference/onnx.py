"""Exported ONNX files as models, computed by ONNX Runtime on the processor, in float32."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradprom.errors import UserError, first_line
from gradprom.inference.model import Model

# what the files of gradprom export call them
INPUT, OUTPUT = "image", "enhanced"


class OnnxEnhancer(nn.Module):
    """The network of an ONNX file: (N, C, H, W) float32 in [0, 1] to (N, C, scale·H, scale·W).

    The file's content is its one buffer, so that its state tells it from other files, as weights tell other enhancers.

    Args:
        content: of the file.

    Raises:
        Exception: of a type of onnxruntime's own: it is no such file, or an operation in it is not known.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.register_buffer("file", torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self._session: tuple[int, Any] | None = None
        self.session()

    def session(self) -> Any:
        """The ``InferenceSession``, with as many threads as PyTorch had when this process made it."""
        # the threads of a session do not live on in a process that is forked off
        if self._session is None or self._session[0] != os.getpid():
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # it would print, beside raising, what went wrong
            options.intra_op_num_threads = torch.get_num_threads()
            content = self.file.numpy().tobytes()  # type: ignore[operator]
            made = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self._session = os.getpid(), made
        return self._session[1]

    def forward(self, image: Tensor) -> Tensor:
        """Enhance a batch.

        Raises:
            UserError: the network does not take an image of this shape.
        """
        try:
            found = self.session().run([OUTPUT], {INPUT: image.contiguous().numpy()})[0]
        except Exception as error:  # a type of onnxruntime's own for every kind
            raise UserError(
                f"ONNX file: expected a network that takes an image of shape {tuple(image.shape)}, found "
                f"{first_line(error)}; export it anew with gradprom export"
            ) from error
        return torch.from_numpy(found)

    def __getstate__(self) -> dict[str, Any]:
        # a session can neither be copied nor sent to another process: there it is made anew
        return self.__dict__ | {"_session": None}


def load_onnx(path: Path, *, device: str = "cpu") -> Model:
    """The enhancer in a file that ``gradprom export`` wrote.

    Args:
        path: of the file.
        device: cpu.

    Raises:
        UserError: onnxruntime is not installed, the file cannot be read, is none of ONNX or does not say what it
            takes, or the device is another.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{path}: needs onnxruntime, which is not installed: run pip install 'gradprom[export]'"
        ) from error
    if torch.device(device).type != "cpu":
        raise UserError(
            f"{path}: expected the device cpu for an ONNX file, found {device}; give the run that it was exported from"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), give a file made by gradprom export") from error
    try:
        enhancer = OnnxEnhancer(content)
    except Exception as error:  # a type of onnxruntime's own for every kind
        raise UserError(
            f"{path}: expected an ONNX file, found {first_line(error)}; export it anew with gradprom export"
        ) from error
    channels, scale = (_number(enhancer, name) for name in ("channels", "scale"))
    if channels not in (1, 3) or scale is None or scale < 1:
        raise UserError(
            f"{path}: expected an ONNX file whose metadata say channels and scale, found another; give a file made by "
            "gradprom export"
        )
    return Model(enhancer, channels=channels, scale=scale, name=path.stem)


def _number(enhancer: OnnxEnhancer, name: str) -> int | None:
    word = enhancer.session().get_modelmeta().custom_metadata_map.get(name, "")
    return int(word) if word.isascii() and word.isdecimal() else None
