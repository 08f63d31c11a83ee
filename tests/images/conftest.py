"""DICOM objects made up on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


@pytest.fixture
def make_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a CT object: ``make_dicom(values, name="a.dcm", PatientName="A^B", ...)``; None leaves an attribute out."""

    def make(values: np.ndarray, name: str = "a.dcm", syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> Path:
        source = Dataset()
        source.file_meta = FileMetaDataset()
        source.file_meta.TransferSyntaxUID = syntax
        colour = values.shape[-1] == 3
        plain: dict[str, Any] = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": generate_uid(),
            "StudyInstanceUID": "1.2.3",
            "SeriesInstanceUID": "1.2.3.4",
            "PatientName": "Doe^Jane",
            "PatientID": "4711",
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "SamplesPerPixel": 3 if colour else 1,
            "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
            "PlanarConfiguration": 0 if colour else None,
            "NumberOfFrames": len(values) if values.ndim - colour == 3 else None,
            "Rows": values.shape[-3 if colour else -2],
            "Columns": values.shape[-2 if colour else -1],
            "BitsAllocated": values.dtype.itemsize * 8,
            "BitsStored": values.dtype.itemsize * 8,
            "PixelRepresentation": int(values.dtype.kind == "i"),
        }
        merged = {key: value for key, value in (plain | attributes).items() if value is not None}
        merged.setdefault("HighBit", merged["BitsStored"] - 1)
        for key, value in merged.items():
            setattr(source, key, value)
        if "PixelData" not in attributes:
            order = "<" if source.file_meta.TransferSyntaxUID.is_little_endian else ">"
            data = values.astype(values.dtype.newbyteorder(order)).tobytes()
            source.PixelData = data + b"\0" * (len(data) % 2)
        source["PixelData"].VR = "OW"
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dcmwrite(path, source, enforce_file_format=True)
        return path

    return make
