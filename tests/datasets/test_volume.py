from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from gradprom.datasets._volume import read_slice, slice_size
from gradprom.errors import UserError

ROWS, COLUMNS = 5, 3
NUMBERS = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
# where things lie in a NIfTI-1 header
DIM, DATATYPE, VOX_OFFSET, MAGIC = 40, 70, 108, 344


def write_nifti(path: Path, values: np.ndarray) -> Path:
    """Values as rows and columns, stored as a NIfTI file does: columns first."""
    nibabel.save(nibabel.Nifti1Image(values.swapaxes(0, 1), np.eye(4)), path)
    return path


def patch_nifti(path: Path, at: int, new: bytes) -> Path:
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[at : at + len(new)] = new
    path.write_bytes(gzip.compress(bytes(data)))
    return path


def write_metaimage(path: Path, values: np.ndarray, compressed: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(values), path, compressed)
    return path


def patch_metaimage(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "a.nii.gz", NUMBERS.astype(np.float32))


@pytest.fixture
def metaimage(tmp_path: Path) -> Path:
    return write_metaimage(tmp_path / "a.mhd", NUMBERS.astype(np.uint8)[None])


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (1, 40, 50), dtype=np.uint8)
    return write_metaimage(tmp_path / "z.mhd", noise, compressed=True)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i2", "<u2", "<f4", ">f4", "f8"])
def test_nifti_by_another_writer(tmp_path: Path, name: str, kind: str) -> None:
    path = write_nifti(tmp_path / name, NUMBERS.astype(kind))
    assert slice_size(path) == (ROWS, COLUMNS)
    np.testing.assert_array_equal(read_slice(path), NUMBERS)


def test_nifti_with_a_third_axis_of_one_slice_and_a_scale(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(NUMBERS.T[..., None].astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / "a.nii.gz")
    stored = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
    assert stored.shape == (COLUMNS, ROWS, 1)
    np.testing.assert_allclose(read_slice(tmp_path / "a.nii.gz"), stored[..., 0].T)
    assert read_slice(patch_nifti(tmp_path / "a.nii.gz", 112, struct.pack("<ff", 2.0, 1.0)))[0, 0] % 2 == 1


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_metaimage_by_another_writer(tmp_path: Path, kind: str, is_compressed: bool) -> None:
    path = write_metaimage(tmp_path / "a.mhd", NUMBERS.astype(kind)[None], is_compressed)
    assert path.with_suffix(".zraw" if is_compressed else ".raw").is_file()
    assert slice_size(path) == (ROWS, COLUMNS)
    found = read_slice(path)
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, NUMBERS)


def test_metaimage_of_two_axes_and_with_the_high_byte_first(tmp_path: Path) -> None:
    path = write_metaimage(tmp_path / "a.mhd", NUMBERS.astype(np.uint16))
    path.with_suffix(".raw").write_bytes(NUMBERS.astype(">u2").tobytes())
    patch_metaimage(path, "BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = True")
    np.testing.assert_array_equal(read_slice(path), NUMBERS)
    np.testing.assert_array_equal(read_slice(path), sitk.GetArrayFromImage(sitk.ReadImage(path)))


def test_size_is_held_against_the_limit_before_pixels_are_read(nifti: Path, metaimage: Path) -> None:
    # no pixels follow: whoever tried to read them would say that the file is cut short
    patch_nifti(nifti, DIM, struct.pack("<3h", 2, 30000, 20000))
    patch_metaimage(metaimage, "DimSize = 3 5 1", "DimSize = 30000 20000 1")
    for path in (nifti, metaimage):
        assert slice_size(path) == (20000, 30000)
        with pytest.raises(UserError, match=r"at most 100000000 .* found 30000×20000.* dataset\.max_pixels 600000000"):
            read_slice(path)
        with pytest.raises(UserError, match=r"at most 14 pixels"):
            read_slice(path, 14)


def test_nifti_that_is_cut_short(nifti: Path) -> None:
    whole = nifti.read_bytes()
    for kept in (0, 5, 60, len(whole) - 20, len(whole) - 1):
        nifti.write_bytes(whole[:kept])
        with pytest.raises(UserError, match=r"a\.nii\.gz: expected a whole .* cut short"):
            read_slice(nifti)
    data = gzip.decompress(whole)
    for kept in (100, 348, len(data) - 1):
        nifti.write_bytes(gzip.compress(data[:kept]))
        with pytest.raises(UserError, match=r"a\.nii\.gz: expected a whole .* cut short"):
            read_slice(nifti)


def test_nifti_with_a_changed_byte_is_found_by_its_checksum(nifti: Path) -> None:
    packed = bytearray(gzip.compress(gzip.decompress(nifti.read_bytes()), compresslevel=0))
    packed[-12] ^= 1  # the last pixel's, stored as it is at this level
    nifti.write_bytes(packed)
    with pytest.raises(UserError, match="corrupt"):
        read_slice(nifti)


def test_what_is_no_nifti(nifti: Path) -> None:
    data = gzip.decompress(nifti.read_bytes())
    nifti.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.nii\.gz: expected a gzip file"):
        read_slice(nifti)
    nifti.write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(UserError, match="expected a NIfTI-1 file"):
        read_slice(nifti)
    nifti.write_bytes(gzip.compress(data))
    for at, new in ((MAGIC, b"ni1\0"), (VOX_OFFSET, struct.pack("<f", 0))):
        patch_nifti(nifti, at, new)
        with pytest.raises(UserError, match="expected a NIfTI-1 file that holds its own pixels"):
            read_slice(nifti)
        nifti.write_bytes(gzip.compress(data))
    patch_nifti(nifti, VOX_OFFSET, struct.pack("<f", float("nan")))
    with pytest.raises(UserError, match="corrupt"):
        read_slice(nifti)
    patch_nifti(nifti, DATATYPE, struct.pack("<h", 77))
    with pytest.raises(UserError, match="corrupt"):
        read_slice(nifti)


def test_several_slices_and_other_values(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((5, 3, 2), np.uint8))
    with pytest.raises(UserError, match="one slice, found axes of 3×5×2"):
        read_slice(path)
    write_nifti(path, NUMBERS.astype(np.complex64))
    with pytest.raises(UserError, match=r"one real number a pixel, found complex"):
        read_slice(path)
    write_nifti(path, np.zeros((5, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])))
    with pytest.raises(UserError, match=r"one real number a pixel, found RGB"):
        read_slice(path)
    for bad in (np.nan, np.inf):
        write_nifti(path, np.where(NUMBERS == 7, bad, NUMBERS).astype(np.float32))
        with pytest.raises(UserError, match="finite"):
            read_slice(path)

    mhd = write_metaimage(tmp_path / "a.mhd", np.zeros((2, 5, 3), np.uint8))
    with pytest.raises(UserError, match="one slice, found axes of 3×5×2"):
        read_slice(mhd)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 5, 3, 2), np.uint8), isVector=True), mhd)
    with pytest.raises(UserError, match="pixel"):
        read_slice(mhd)


@pytest.mark.parametrize("name", ["../a.raw", "/etc/hostname", "sub/a.raw", "..\\a.raw", "C:\\a.raw", "..", ""])
def test_pixels_must_lie_beside_their_header(metaimage: Path, name: str) -> None:
    (metaimage.parent.parent / "a.raw").write_bytes(metaimage.with_suffix(".raw").read_bytes())
    patch_metaimage(metaimage, "ElementDataFile = a.raw", f"ElementDataFile = {name}")
    with pytest.raises(UserError, match=r"a\.mhd: .* in the same folder"):
        read_slice(metaimage)


@pytest.mark.parametrize("name", ["LOCAL", "LIST", "other.raw"])
def test_pixels_must_be_there(metaimage: Path, name: str) -> None:
    patch_metaimage(metaimage, "ElementDataFile = a.raw", f"ElementDataFile = {name}")
    with pytest.raises(UserError, match=rf"a\.mhd: .*'{name}' beside it, found no such file"):
        read_slice(metaimage)


def test_metaimage_with_too_few_or_too_many_bytes(metaimage: Path, compressed: Path) -> None:
    raw = metaimage.with_suffix(".raw")
    for count in (14, 16):
        raw.write_bytes(bytes(count))
        with pytest.raises(UserError, match=rf"expected 15 bytes in a\.raw, found {count}"):
            read_slice(metaimage)

    packed = compressed.with_suffix(".zraw")
    whole = packed.read_bytes()
    changed = bytearray(whole)
    changed[1000] ^= 255
    for data, found in (
        (whole[:1500], r"unpack to 2000 bytes, found \d+;"),
        (whole[:-2], "unpack to 2000 bytes, found no whole file"),
        (zlib.compress(bytes(2001)), "unpack to 2000 bytes, found more"),
        (zlib.compress(bytes(1999)), "unpack to 2000 bytes, found 1999"),
        (bytes(changed), "corrupt"),
        (b"no zlib at all", "corrupt"),
    ):
        packed.write_bytes(data)
        with pytest.raises(UserError, match=found):
            read_slice(compressed)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("DimSize = 3 5 1\n", "", "found no DimSize"),
        ("DimSize = 3 5 1", "DimSize = -3 5 1", "one slice, found axes of -3×5×1"),
        ("DimSize = 3 5 1", "DimSize = 15", "one slice, found axes of 15"),
        ("DimSize = 3 5 1", "DimSize = three 5 1", "corrupt"),
        ("MET_UCHAR", "MET_STRING", "found MET_STRING"),
        ("BinaryData = True", "BinaryData = False", "binary file"),
        ("NDims = 3", "NDims = 3\nHeaderSize = 100", "without a header of its own"),
        ("ElementDataFile = a.raw", "", "found no ElementDataFile"),
    ],
)
def test_headers_that_are_refused(metaimage: Path, old: str, new: str, found: str) -> None:
    with pytest.raises(UserError, match=rf"a\.mhd: .*{found}"):
        read_slice(patch_metaimage(metaimage, old, new))


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "a.png").touch()
    for name, found in (("folder.nii.gz", "found a folder"), ("no.mhd", "found nothing"), ("a.png", r"\.nii\.gz")):
        with pytest.raises(UserError, match=rf"{name}: .*{found}"):
            read_slice(tmp_path / name)
