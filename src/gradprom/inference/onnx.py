"""Exported ONNX files as models, computed by ONNX Runtime on the processor, in float32.

A tile is one call: cancelling waits for the end of the tile.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradprom.errors import UserError, first_line
from gradprom.inference.model import Model

# what the files of gradprom export call them
INPUT, OUTPUT = "image", "enhanced"
_FLOAT = "tensor(float)"
_MOST_BYTES, _MOST_SCALE = 1 << 31, 16  # what protobuf allows; more than any enhancer enlarges
_PROBE = 32
# sessions of a process that this one was forked from: to end one waits for threads that are not here
_inherited: list[Any] = []


class OnnxEnhancer(nn.Module):
    """The network of an ONNX file: (N, C, H, W) float32 in [0, 1] to (N, C, scale·H, scale·W).

    The one buffer is a digest of the file, so that its state tells it from other files, as weights tell enhancers.

    Args:
        content: of the file; it is not looked at before the first use.
        name: for messages.
    """

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        self.register_buffer("digest", torch.tensor(list(digest), dtype=torch.uint8))
        self.name = name
        self._content = content
        self._session: tuple[int, Any] | None = None

    def session(self) -> Any:
        """The ``InferenceSession``, with as many threads as PyTorch had when this process made it.

        Raises:
            Exception: of a type of onnxruntime's own: it is no such file, or an operation in it is not known.
        """
        if self._session is not None and self._session[0] != os.getpid():
            _inherited.append(self._session)
            self._session = None
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # it would print, beside raising, what went wrong
            options.intra_op_num_threads = torch.get_num_threads()
            made = onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
            self._session = os.getpid(), made
        return self._session[1]

    def run(self, image: Tensor) -> Tensor:
        """Enhance a batch; what fails raises an error of onnxruntime's own types."""
        found: Any = self.session().run([OUTPUT], {INPUT: image.detach().contiguous().numpy()})[0]
        return torch.from_numpy(found)

    def forward(self, image: Tensor) -> Tensor:
        """Enhance a batch.

        Raises:
            UserError: the network does not take an image of this shape.
            MemoryError: there is not enough for it.
        """
        try:
            return self.run(image)
        except Exception as error:  # a type of onnxruntime's own for every kind
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise MemoryError(first_line(error)) from error
            raise UserError(
                f"{self.name}: expected a network that takes an image of shape {tuple(image.shape)}, found "
                f"{first_line(error)}; export it anew with gradprom export"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        # a session can neither be copied nor sent to another process: there it is made anew
        return self.__dict__ | {"_session": None}


def is_onnx(path: Path) -> bool:
    """Whether a path is that of an ONNX file, by its name.

    Example:
        >>> is_onnx(Path("brain.ONNX")), is_onnx(Path("runs/brain"))
        (True, False)
    """
    return path.suffix.lower() == ".onnx" and not path.is_dir()


def load_onnx(path: Path, *, device: str = "cpu") -> Model:
    """The enhancer in a file that ``gradprom export`` wrote.

    Args:
        path: of the file.
        device: cpu.

    Raises:
        UserError: onnxruntime cannot be imported, the file cannot be read, is none of ONNX, does not say what it takes
            or takes something else, or the device is another.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{path}: needs onnxruntime, which cannot be imported ({first_line(error)}): run pip install "
            "'gradprom[export]'"
        ) from error
    if torch.device(device).type != "cpu":
        raise UserError(
            f"{path}: expected the device cpu for an ONNX file, found {device}; give the run that it was exported from"
        )
    enhancer = OnnxEnhancer(_read(path), path.name)
    try:
        session = enhancer.session()
    except Exception as error:  # a type of onnxruntime's own for every kind
        raise UserError(
            f"{path}: expected an ONNX file, found {first_line(error)}; export it anew with gradprom export"
        ) from error
    said = session.get_modelmeta().custom_metadata_map
    channels, scale = (_number(said.get(name, "")) for name in ("channels", "scale"))
    if channels not in (1, 3) or not 1 <= scale <= _MOST_SCALE:
        raise UserError(
            f"{path}: expected an ONNX file whose metadata say channels and scale, found another; give a file made by "
            "gradprom export"
        )
    _check_ends(session, path)
    probe = torch.zeros(1, channels, _PROBE, _PROBE)
    found, expected = tuple(enhancer(probe).shape), (1, channels, scale * _PROBE, scale * _PROBE)
    if found != expected:
        raise UserError(
            f"{path}: expected an output of shape {expected} for an image of {_PROBE}×{_PROBE} pixels, as its metadata "
            f"say, found {found}; give a file made by gradprom export"
        )
    return Model(enhancer, channels=channels, scale=scale, name=path.stem)


def _read(path: Path) -> bytes:
    try:
        # a device has no end
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: expected a file, found something else; give one made by gradprom export")
        if path.stat().st_size >= _MOST_BYTES:
            raise UserError(f"{path}: expected an ONNX file of less than 2 GB, found a larger one; give another")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), give a file made by gradprom export") from error


def _number(word: str) -> int:
    """A small whole number; 0 where there is none."""
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 3 else 0


def _check_ends(session: Any, path: Path) -> None:
    for words, ends, name in (("input", session.get_inputs(), INPUT), ("output", session.get_outputs(), OUTPUT)):
        found = [f"{end.name} ({end.type}, {len(end.shape)} dimensions)" for end in ends]
        expected = f"{name} ({_FLOAT}, 4 dimensions)"
        if found != [expected]:
            raise UserError(
                f"{path}: expected the {words} {expected} alone, found {', '.join(found) or 'none'}; give a file made "
                "by gradprom export"
            )
