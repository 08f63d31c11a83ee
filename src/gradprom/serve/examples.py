"""Images to try the page with: slices of the embedded brain template, a skin lesion and a CT phantom."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom.serve.rendering import to_bytes

NOISE = 0.1
"""Standard deviation of the noise that the page adds to an example first, as all of them are clean."""

_RIBS = (20, 60, 120, 160, 200, 250, 290, 340)  # degrees around the chest


@dataclass(frozen=True)
class Example:
    """A file made on demand.

    Attributes:
        name: of the file.
        title: for people.
        what: it is, and where it comes from.
        make: gives the file's bytes, and a picture of it, (H, W, 1 or 3) uint8.
    """

    name: str
    title: str
    what: str
    make: Callable[[], tuple[bytes, NDArray[np.uint8]]]

    def thumbnail(self) -> bytes:
        """A small PNG, with its own ratio of sides."""
        return _png(self.make()[1], 320)


def _png(pixels: NDArray[np.uint8], most: int | None = None) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if most is not None:
        picture.thumbnail((most, most))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@functools.cache
def _brain_slice() -> tuple[bytes, NDArray[np.uint8]]:
    from gradprom.datasets.brain_mr import load_brain_mr

    samples = load_brain_mr().test
    pixels = to_bytes(samples[len(samples) // 2].read_image())
    return _png(pixels), pixels


@functools.cache
def _brain_volume() -> tuple[bytes, NDArray[np.uint8]]:
    """Every second slice of the slab on which models are tested, as NIfTI with the template's axes."""
    import nibabel

    from gradprom.datasets.brain_mr import TEST_SLAB, load_brain_mr

    slices = [to_bytes(sample.read_image()[..., 0]) for sample in load_brain_mr().test[::2]]
    # from the picture's rows and columns back to left-to-right and back-to-front
    values = np.stack([np.rot90(picture, -1) for picture in slices], axis=2)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = (-98, -134, TEST_SLAB[0])
    volume = nibabel.Nifti1Image(values, affine)
    volume.header["descrip"] = "MNI152 (ICBM 2009a, symmetric), part"
    return bytes(volume.to_bytes()), slices[len(slices) // 2][..., np.newaxis]


@functools.cache
def _phantom() -> tuple[bytes, NDArray[np.uint8]]:
    """A slice through a chest of ellipses in Hounsfield units, as a DICOM object of nobody."""
    from pydicom import Dataset, dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    side = 320
    rows, columns = (grid / (side / 2) - 1 for grid in np.mgrid[:side, :side] + 0.5)
    values = np.full((side, side), -1000.0)
    # value, centre, half axes: fat, muscle, lungs, heart, vessels, spine and its canal, ribs
    ellipses = [
        (-100, 0, 0, 0.9, 0.66),
        (50, 0, 0, 0.84, 0.6),
        *((-850, side * 0.42, -0.05, 0.3, 0.44) for side in (-1, 1)),
        (40, 0.1, -0.12, 0.26, 0.24),
        (180, 0.16, -0.1, 0.1, 0.12),
        *((45, side * x, y, r, r) for side in (-1, 1) for x, y, r in [(0.4, 0.1, 0.03), (0.5, -0.15, 0.025)]),
        (20, -0.52, 0.16, 0.045, 0.045),
        (600, 0, 0.36, 0.13, 0.11),
        (10, 0, 0.4, 0.045, 0.04),
        *((700, 0.8 * np.cos(angle), 0.57 * np.sin(angle), 0.04, 0.025) for angle in np.radians(_RIBS)),
    ]
    for value, x, y, across, down in ellipses:
        values[((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 < 1] = value
    stored = np.rint(_smooth(values, 1.0) + 1024).astype(np.uint16)

    source = Dataset()
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    attributes: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=["gradprom", "phantom", "instance"]),
        "StudyInstanceUID": generate_uid(entropy_srcs=["gradprom", "phantom", "study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["gradprom", "phantom", "series"]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["gradprom", "phantom", "frame"]),
        "PatientName": "Phantom^Chest",
        "PatientID": "PHANTOM",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "Manufacturer": "gradprom",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "AcquisitionNumber": None,
        "PositionReferenceIndicator": "",
        "Modality": "CT",
        "PatientPosition": "HFS",
        "Laterality": "",
        "KVP": None,
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
        "PixelSpacing": [1.2, 1.2],
        "SliceThickness": 2,
        "ImagePositionPatient": [-192, -192, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": side,
        "Columns": side,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
    for name, value in attributes.items():
        setattr(source, name, value)
    source.PixelData = stored.astype("<u2").tobytes()
    source["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    dcmwrite(buffer, source, enforce_file_format=True)
    return buffer.getvalue(), to_bytes(((stored - 1024.0 + 160) / 400).clip(0, 1)[..., np.newaxis])


@functools.cache
def _lesion() -> tuple[bytes, NDArray[np.uint8]]:
    """A pigmented spot on skin, with hairs, as a dermatoscope might show it."""
    rng = np.random.default_rng(7)
    height, width = 360, 480
    rows, columns = np.mgrid[:height, :width].astype(float)

    def cloud(scale: float) -> NDArray[np.float64]:
        field = _smooth(rng.normal(size=(height, width)), scale)
        centred: NDArray[np.float64] = (field - field.mean()) / field.std()
        return centred

    y, x = rows - 175, columns - 245
    angle = np.arctan2(y, x)
    radius = 105 + sum(rng.normal(0, 13 / n) * np.cos(n * angle + rng.uniform(0, 6.28)) for n in range(2, 7))
    inside = 1 / (1 + np.exp((np.hypot(x, 1.25 * y) - radius + 5 * cloud(6)) / 5))
    core = 1 / (1 + np.exp((np.hypot(x + 25, 1.3 * (y - 10)) - 52 + 8 * cloud(8)) / 6))
    skin = np.array([0.86, 0.66, 0.58]) + 0.022 * cloud(40)[..., None] + 0.012 * cloud(2.5)[..., None]
    brown = np.array([0.50, 0.29, 0.20]) + 0.055 * cloud(3.0)[..., None] + 0.03 * cloud(14)[..., None]
    dark = np.array([0.24, 0.14, 0.12]) + 0.03 * cloud(3.5)[..., None]
    image = skin + inside[..., None] * (brown - skin)
    image += 0.85 * core[..., None] * (dark - image)
    for _ in range(7):
        start, slope, bend = rng.uniform(0, height), rng.uniform(-0.7, 0.7), rng.uniform(-8e-4, 8e-4)
        line = start + slope * (columns - width / 2) + bend * (columns - width / 2) ** 2
        hair = np.exp(-((rows - line) ** 2) / (2 * 1.1**2 * (1 + slope**2)))
        image -= 0.75 * hair[..., None] * (image - 0.13)
    corner = np.clip((np.hypot(rows - height / 2, columns - width / 2) - 190) / 220, 0, 1)
    pixels = to_bytes((image * (1 - 0.45 * corner[..., None] ** 1.5)).clip(0, 1))
    return _png(pixels), pixels


def _smooth(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    smooth: NDArray[np.float64] = gaussian_filter(values, sigma, mode="wrap")
    return smooth


_TEMPLATE = "MNI152 T1 template (ICBM 2009a)"
EXAMPLES = {
    example.name: example
    for example in (
        Example("lesion.png", "Skin lesion", "PNG, colour; made by computation", _lesion),
        Example("brain.png", "Brain, one slice", f"PNG, grey; {_TEMPLATE}", _brain_slice),
        Example("brain.nii", "Brain, 11 slices", f"NIfTI; {_TEMPLATE}", _brain_volume),
        Example("phantom.dcm", "Chest phantom", "CT as DICOM; made by computation", _phantom),
    )
}
