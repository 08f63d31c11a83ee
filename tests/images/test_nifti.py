"""Volumes by slices: nibabel and SimpleITK read back what is written."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from gradprom.errors import UserError
from gradprom.images import NoImageError, open_nifti
from gradprom.images.nifti import slice_axis

AFFINE = np.array([[0, -2.0, 0, 10], [0.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])


def make(path: Path, values: np.ndarray, kind: type = nibabel.Nifti1Image, **header: Any) -> Path:
    image = kind(values, AFFINE, dtype=values.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"made up"
    image.header["cal_max"] = 7.5
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"an extension"))
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def noise(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(kind).kind == "f":
        return rng.normal(0, 1e3, shape).astype(kind)
    info = np.iinfo(kind)
    native = np.dtype(kind).newbyteorder("=")
    return rng.integers(max(info.min, -(2**53)), min(info.max, 2**53), shape, native, endpoint=True)


def header_of(path: Path) -> bytes:
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return data[: int(nibabel.load(path).dataobj.offset)]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 1), (5, 4, 3, 2), (5, 4, 1, 1, 3)])
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"])
def test_every_value_comes_back_and_the_header_bit_by_bit(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], kind: str
) -> None:
    values = noise(shape, kind)
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    image = nibabel.Nifti1Image(values.astype(kind), AFFINE, dtype=np.dtype(kind))
    if kind.startswith(">"):
        image = nibabel.Nifti1Image(values, AFFINE, nibabel.Nifti1Header(endianness=">"))
        image.header.set_data_dtype(kind)
    nibabel.save(image, source)
    frames = open_nifti(source)
    frames.write(target, [frames.read(index) for index in range(frames.count)])
    assert header_of(target) == header_of(source)
    written = nibabel.load(target)
    assert written.get_data_dtype() == np.dtype(kind)
    np.testing.assert_array_equal(np.asarray(written.dataobj), values)


def test_affine_extension_and_units_are_kept(tmp_path: Path) -> None:
    for kind, name in ((nibabel.Nifti1Image, "one.nii.gz"), (nibabel.Nifti2Image, "two.nii")):
        source, target = make(tmp_path / name, noise((5, 4, 3), "i2"), kind), tmp_path / f"out-{name}"
        frames = open_nifti(source)
        frames.write(target, [frames.read(index) for index in range(frames.count)])
        written = nibabel.load(target)
        np.testing.assert_allclose(written.affine, AFFINE, rtol=1e-6)
        assert written.header.get_xyzt_units() == ("mm", "sec")
        assert written.header["descrip"].item() == b"made up"
        assert written.header["cal_max"] == 7.5
        assert written.header.extensions[0].get_content() == b"an extension"


def test_an_independent_reader_finds_the_same_place(tmp_path: Path) -> None:
    source, target = make(tmp_path / "in.nii.gz", noise((5, 4, 3), "i2")), tmp_path / "out.nii.gz"
    frames = open_nifti(source)
    frames.write(target, [frames.read(index) for index in range(frames.count)])
    before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(target))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
    assert after.GetOrigin() == before.GetOrigin()
    assert after.GetDirection() == before.GetDirection()
    assert after.GetSpacing() == before.GetSpacing()


@pytest.mark.parametrize("spacing", [(0.5, 0.6, 3.0), (0.5, 3.0, 0.6), (1.0, 1.0, 1.0)])
def test_an_enlarged_volume_covers_the_same_ground(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    turn = np.array([[0.0, -1.0, 0.0], [0.8, 0.0, -0.6], [0.6, 0.0, 0.8]])
    values = noise((5, 4, 3), "i2")
    image = nibabel.Nifti1Image(values, None)
    image.header.set_zooms(spacing)
    affine = np.vstack([np.column_stack([turn * spacing, [-90, 126, 7]]), [0, 0, 0, 1]])
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    image.header.set_dim_info(0, 1, 2)
    image.header["slice_end"] = 2
    nibabel.save(image, tmp_path / "a.nii.gz")
    frames, out = open_nifti(tmp_path / "a.nii.gz"), tmp_path / "out.nii.gz"
    frames.write(out, [frames.read(index).repeat(2, 0).repeat(2, 1) for index in range(frames.count)])
    cut = slice_axis(values.shape, spacing)
    factors = np.array([1 if axis == cut else 2 for axis in range(3)])
    before, after = sitk.ReadImage(str(tmp_path / "a.nii.gz")), sitk.ReadImage(str(out))
    expected = np.kron(values, np.ones(factors, "i2"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after).T, expected)
    np.testing.assert_allclose(after.GetSpacing(), np.array(before.GetSpacing()) / factors, rtol=1e-6)
    np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)
    for corner in np.ndindex(2, 2, 2):  # of the whole volume, half a voxel beyond the middles of its first and last one
        places = [
            image.TransformContinuousIndexToPhysicalPoint(
                [s * c - 0.5 for s, c in zip(image.GetSize(), corner, strict=True)]
            )
            for image in (before, after)
        ]
        np.testing.assert_allclose(*places, atol=1e-4)
    header = nibabel.load(out).header
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-5)
    assert header["slice_end"] == (2 if cut == 2 else 0)  # else what was acquired one by one are other voxels now


def test_more_voxels_than_can_be_counted(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((20_000, 2, 2), np.uint8), None), tmp_path / "a.nii")
    with pytest.raises(
        UserError,
        match=r"a\.nii: expected at most 32767 voxels along an axis of the enlarged volume, found 40000; convert it",
    ):
        open_nifti(tmp_path / "a.nii").check(2)


def test_slices_are_those_across_the_coarsest_axis(tmp_path: Path) -> None:
    values = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    image = nibabel.Nifti1Image(values, np.diag([1, 4, 1, 1]))
    nibabel.save(image, tmp_path / "a.nii")
    frames = open_nifti(tmp_path / "a.nii")
    assert frames.count == 4
    for index in range(4):
        # the first of the two other axes is the width
        np.testing.assert_allclose(frames.read(index)[..., 0], values[:, index, :].T / 59, rtol=1e-6)
    change = np.zeros((3, 5, 1), np.float32)
    change[2, 1] = 0.1
    frames.write(tmp_path / "out.nii", [np.minimum(frames.read(index) + change, 1) for index in range(4)])
    written = np.asarray(nibabel.load(tmp_path / "out.nii").dataobj)
    expected = values.copy()
    expected[1, :, 2] += 5.9
    np.testing.assert_allclose(written, expected, rtol=1e-6)


def test_each_time_point_is_enhanced(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 2, 3, 2)
    make(tmp_path / "a.nii", values)
    frames = open_nifti(tmp_path / "a.nii")
    seen = [frames.read(index)[..., 0] * 23 for index in range(frames.count)]
    np.testing.assert_allclose(seen, [values[:, :, z, t].T for t in range(2) for z in range(3)], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((9, 9), (1.0, 1.0), None),
        ((9, 9, 9), (1.0, 1.0, 1.0), 2),
        ((9, 9, 9), (1.0, 1.0, 0.9999), 2),
        ((9, 9, 9), (2.0, 1.0, 2.0), 2),
        ((9, 9, 9), (3.0, 1.0, 2.0), 0),
        ((9, 9, 9), (0.0, 0.0, 0.0), 2),
        ((1, 9, 9), (1.0, 1.0, 5.0), 0),
        ((9, 9, 9, 4), (1.0, 2.0, 1.0, 99.0), 1),
    ],
)
def test_the_axis_of_slices(shape: tuple[int, ...], spacing: tuple[float, ...], axis: int | None) -> None:
    assert slice_axis(shape, spacing) == axis


def test_scaled_values_keep_their_meaning(tmp_path: Path) -> None:
    values = np.array([[-10, 0], [10, 30]], np.int16)
    for slope, shift in ((0.5, -100.0), (-2.0, 3.0)):
        make(tmp_path / "a.nii", values)
        data = bytearray((tmp_path / "a.nii").read_bytes())
        data[112:120] = np.array([slope, shift], "<f4").tobytes()
        (tmp_path / "a.nii").write_bytes(data)
        real = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
        frames = open_nifti(tmp_path / "a.nii")
        unit = frames.read(0)
        np.testing.assert_allclose(unit[..., 0].T, (real - real.min()) / np.ptp(real), rtol=1e-6)
        frames.write(tmp_path / "out.nii", [np.clip(unit + np.float32(0.25), 0, 1)])
        after = np.asarray(nibabel.load(tmp_path / "out.nii").dataobj)
        np.testing.assert_allclose(after, np.minimum(real + 0.25 * np.ptp(real), real.max()))


def test_a_window(tmp_path: Path) -> None:
    values = np.array([[-1000, -100, 100, 2000]], np.int16)
    frames = open_nifti(make(tmp_path / "a.nii", values), window=(-200.0, 200.0))
    np.testing.assert_allclose(frames.read(0)[..., 0], [[0], [0.25], [0.75], [1]])
    frames.write(tmp_path / "out.nii", [frames.read(0) * np.float32(0.5)])
    np.testing.assert_array_equal(nibabel.load(tmp_path / "out.nii").dataobj, [[-1000, -150, -50, 1800]])


def test_the_same_volume_is_the_same_file(tmp_path: Path) -> None:
    frames = open_nifti(make(tmp_path / "a.nii.gz", noise((3, 3), "u1")))
    for name in ("one.nii.gz", "two.nii.gz"):
        frames.write(tmp_path / name, [frames.read(0)])
    data = (tmp_path / "one.nii.gz").read_bytes()
    assert data == (tmp_path / "two.nii.gz").read_bytes()
    assert data[3:8] == bytes(5)  # neither a name nor a time


def change_bytes(path: Path, start: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[start : start + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_empty_file_and_a_pipe(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    with pytest.raises(UserError, match=r"a\.nii.*: expected a NIfTI file, found an empty file; copy it again"):
        open_nifti(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"a\.nii.*: expected a file, found a pipe or a device"):
        open_nifti(path)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    holes = np.array([[1, np.nan], [np.inf, 2]], np.float32)
    path = tmp_path / "a.nii"
    cases: list[tuple[Path, str]] = [
        (make(tmp_path / "nan.nii", holes), "expected finite values, found 2 that are NaN or infinite; replace"),
        (make(tmp_path / "rgb.nii", rgb), "expected one real number of up to 64 bits a voxel, found RGB"),
        (make(tmp_path / "complex.nii", np.zeros((2, 2), np.complex64)), "found complex"),
        (make(tmp_path / "line.nii", np.zeros(5, np.float32)), "expected 2 dimensions or more, found 1"),
        (make(tmp_path / "big.nii", np.array([[2**60]], np.int64)), "expected whole numbers up to"),
        (change_bytes(make(tmp_path / "sizes.nii", holes), 42, b"\xff\x7f\xff\x7f\xff\x7f"), "--max-pixels"),
        (change_bytes(make(tmp_path / "none.nii", holes), 42, b"\0\0"), "found one of 0×2 pixels"),
        (change_bytes(make(tmp_path / "pair.nii", holes), 344, b"ni1\0"), "that holds its own voxels"),
        (change_bytes(make(tmp_path / "offset.nii", holes), 108, np.float32(1e30).tobytes()), "its own voxels"),
    ]
    (tmp_path / "text.nii").write_text("hello")
    (tmp_path / "text.nii.gz").write_text("hello")
    cases += [
        (tmp_path / "text.nii", "expected a NIfTI file, found another kind of file"),
        (tmp_path / "text.nii.gz", "expected a gzip file"),
        (tmp_path / "missing.nii", "No such file"),
    ]
    for path, found in cases:
        with pytest.raises(UserError, match=found) as caught:
            open_nifti(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_map_of_labels_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(NoImageError, match="found a map of labels"):
        open_nifti(make(tmp_path / "a.nii", noise((2, 2), "u1"), intent_code=1002))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_cut_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"a{suffix}", noise((3, 4), "i2"))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="expected a"):
            open_nifti(path)


def test_a_gzip_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 1000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4 + 2**20)))
    with pytest.raises(UserError, match=r"found 30000×30000×1000; .*--max-pixels 900000000000"):
        open_nifti(tmp_path / "a.nii.gz")
