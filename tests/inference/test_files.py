from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PilImage
from PIL import ImageCms
from torch import nn

from gradprom.errors import PartialFailureError, UserError
from gradprom.images import Image, write_image
from gradprom.inference import _file
from gradprom.inference.files import enhance_files
from gradprom.inference.model import Model

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = Model(nn.Identity(), channels=1)
COLOUR = Model(nn.Identity(), channels=3)


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def put(path: Path, *shape: int) -> Path:
    write_image(path, Image(noise(*(shape or (6, 8, 1)))))
    return path


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_bit_survives_the_identity(tmp_path: Path, suffix: str, count: int, dtype: Any) -> None:
    samples = noise(70, 90, count, dtype=dtype)
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        path.write_bytes(imagecodecs.png_encode(samples))
    else:
        tifffile.imwrite(
            path,
            samples if count > 1 else samples[..., 0],
            photometric="rgb" if count > 2 else "minisblack",
            planarconfig="contig" if count > 1 else None,
            extrasamples=["unassalpha"] if count in (2, 4) else None,
        )
    model = GREY if count < 3 else COLOUR
    done = enhance_files(model, [path], tmp_path / "out", tile=64, overlap=16)
    assert done.written == (tmp_path / "out" / path.name,)
    data = done.written[0].read_bytes()
    written = imagecodecs.png_decode(data) if suffix == "png" else tifffile.imread(done.written[0])
    assert written.dtype == dtype
    np.testing.assert_array_equal(written.reshape(samples.shape), samples)


def test_orientation_and_profile_are_kept(tmp_path: Path) -> None:
    exif = PilImage.Exif()
    exif[274] = 6
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.jpg", "a.tif"):
        PilImage.fromarray(noise(6, 8, 3)).save(tmp_path / "in" / name, exif=exif, icc_profile=PROFILE)
    done = enhance_files(COLOUR, [tmp_path / "in"], tmp_path / "out")
    assert below(tmp_path / "out") == ["a.jpg", "a.png", "a.tif"]
    for path in done.written:
        with PilImage.open(path) as written, PilImage.open(tmp_path / "in" / path.name) as source:
            assert written.size == source.size
            assert written.getexif()[274] == 6
            assert written.info["icc_profile"] == PROFILE


def test_folders_keep_their_structure(tmp_path: Path) -> None:
    source = tmp_path / "mes images é"
    for name in ("a b.png", "x/ü.TIFF", "x/y/c.jpeg", ".hidden/d.png", ".e.png"):
        put(source / name)
    (source / "notes.txt").write_text("no image")
    (source / "x" / "labels.csv").write_text("a,b")
    alone = put(tmp_path / "alone.png")
    done = enhance_files(GREY, [str(source), alone], tmp_path / "out")
    assert below(tmp_path / "out") == ["a b.png", "alone.png", "x/y/c.jpeg", "x/ü.TIFF"]
    assert (len(done.written), done.existing, done.passed_over) == (4, 0, 3)


def test_a_jpeg_named_png_becomes_a_png(tmp_path: Path) -> None:
    exif = PilImage.Exif()
    exif[274] = 6
    PilImage.fromarray(noise(6, 8, 3)).save(tmp_path / "a.jpg", exif=exif, icc_profile=PROFILE)
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    (path,) = enhance_files(COLOUR, [tmp_path / "a.png"], tmp_path / "out").written
    with PilImage.open(tmp_path / "a.png") as source, PilImage.open(path) as written:
        assert (source.format, written.format) == ("JPEG", "PNG")
        np.testing.assert_array_equal(np.asarray(written), np.asarray(source))
        assert written.getexif()[274] == 6
        assert written.info["icc_profile"] == PROFILE


def test_enlarged(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 5, 7, 3)
    model = Model(nn.Upsample(scale_factor=2), channels=3, scale=2)
    (path,) = enhance_files(model, [tmp_path / "a.png"], tmp_path / "out").written
    np.testing.assert_array_equal(np.asarray(PilImage.open(path)), noise(5, 7, 3).repeat(2, 0).repeat(2, 1))


def test_an_output_within_the_input_is_not_read(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    out = tmp_path / "deep" / "out"
    enhance_files(GREY, [tmp_path], out)
    done = enhance_files(GREY, [tmp_path], out, overwrite=True)
    assert below(tmp_path) == ["a.png", "deep/out/a.png"]
    assert len(done.written) == 1


def test_one_file_named_twice_is_done_once(tmp_path: Path) -> None:
    path = put(tmp_path / "in" / "a.png")
    assert len(enhance_files(GREY, [path, tmp_path / "in", path], tmp_path / "out").written) == 1


def test_existing_outputs(tmp_path: Path) -> None:
    for name in "abc":
        put(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    out.mkdir()
    for name in "bc":
        (out / f"{name}.png").write_text("old")
    with pytest.raises(UserError) as caught:
        enhance_files(GREY, [tmp_path / "in"], out)
    assert str(caught.value) == (
        f"{out / 'b.png'}: expected nothing there, found a file (2 of 3 outputs exist); "
        "use --overwrite, --skip-existing or another output folder"
    )
    assert below(out) == ["b.png", "c.png"]
    done = enhance_files(GREY, [tmp_path / "in"], out, skip_existing=True)
    assert ([path.name for path in done.written], done.existing) == (["a.png"], 2)
    assert (out / "b.png").read_text() == "old"
    assert enhance_files(GREY, [tmp_path / "in"], out, skip_existing=True).written == ()
    assert len(enhance_files(GREY, [tmp_path / "in"], out, overwrite=True).written) == 3
    assert (out / "b.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="at most one of --overwrite and --skip-existing"):
        enhance_files(GREY, [tmp_path / "in"], out, overwrite=True, skip_existing=True)


def test_refused_before_any_work(tmp_path: Path) -> None:
    one, other = put(tmp_path / "one" / "a.png"), put(tmp_path / "other" / "a.png")
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("")
    cases: list[tuple[list[Path], Path, dict[str, Any], str]] = [
        ([one, other], out, {}, f"{one} and {other} would both become {out / 'a.png'}; "),
        ([one.parent, other.parent], out, {}, f"{one} and {other} would both become {out / 'a.png'}; "),
        ([tmp_path / "none.png"], out, {}, f"{tmp_path / 'none.png'}: expected a file or a folder, found nothing; "),
        ([one, tmp_path / "none"], out, {}, f"{tmp_path / 'none'}: expected a file or a folder, found nothing; "),
        ([empty], out, {}, f"{empty}: expected images (.png, .jpg, .jpeg, .tif, .tiff, .nii, "),
        ([], out, {}, "no input: expected images"),
        ([one], one.parent, {"overwrite": True}, f"{one}: the result of {one} would replace an input; "),
        ([one.parent], one.parent, {"overwrite": True}, f"{one.parent}: the results would replace the inputs; "),
        ([one], other, {}, f"{other}: expected a folder for the output, found a file; "),
        ([one], other / "out", {}, f"{other / 'out'}: the output folder cannot be written to ("),
        ([one], out, {"tile": 32, "overlap": 32}, "tile 32, overlap 32: expected"),
    ]
    for inputs, output, options, message in cases:
        with pytest.raises(UserError) as caught:
            enhance_files(GREY, inputs, output, **options)
        assert str(caught.value).startswith(message)
        assert caught.value.exit_code == 2
    assert below(tmp_path) == ["empty/notes.txt", "one/a.png", "other/a.png"]
    assert not out.exists()


def test_an_output_that_is_a_link_to_an_input_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "in" / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(path)
    with pytest.raises(UserError, match="would replace an input"):
        enhance_files(GREY, [path], out, overwrite=True)


def test_bad_files_are_reported_and_the_others_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    put(source / "a.png")
    put(source / "z.tif")
    put(source / "colour.png", 6, 8, 3)
    put(source / "large.png", 20, 30, 1)
    put(source / "whole.jpg")
    data = (source / "whole.jpg").read_bytes()
    (source / "cut.jpg").write_bytes(data[: len(data) // 2])
    (source / "empty.png").touch()
    (source / "gone.png").symlink_to(tmp_path / "nowhere")
    shutil.copy(source / "a.png", source / "lying.jpg")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [source, text], out, max_pixels=599)
    assert caught.value.exit_code == 1
    first, *lines = str(caught.value).splitlines()
    assert first == f"7 of 10 images could not be enhanced; the other 3 are in {out}:"
    reasons = dict(line.split(": ", 1) for line in lines)
    for name, reason in {
        "colour.png": "enhancer is a grey model, expected a grey image, found a colour one; --channels each",
        "cut.jpg": "expected a whole JPEG file, found one that is cut short or corrupt; copy it again",
        "empty.png": "expected a PNG, JPEG or TIFF image, found an empty file",
        "gone.png": "there is no such file",
        "large.png": "expected at most 599 pixels, found 30×20; ",
        "lying.jpg": "expected a name that ends as its content, PNG, has it, found '.jpg'; rename it",
    }.items():
        assert reasons.pop(str(source / name)).startswith(reason)
    assert reasons.pop(str(text)).startswith("expected a PNG, JPEG or TIFF image, found another kind of file")
    assert reasons == {}
    assert below(out) == ["a.png", "whole.jpg", "z.tif"]
    assert capsys.readouterr().out == ""  # progress goes to stderr


def test_when_all_fail(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "b.png").write_text("hello")
    out = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        enhance_files(GREY, [tmp_path / "a.png", tmp_path / "b.png"], out)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"2 of 2 images could not be enhanced; nothing was written to {out}:\n")
    assert not out.exists()


def test_when_all_fail_an_older_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"a\.png: expected a PNG"):
        enhance_files(GREY, [tmp_path / "a.png"], tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_each(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", 6, 8, 3)
    put(tmp_path / "in" / "b.png", 6, 8, 1)
    done = enhance_files(GREY, [tmp_path / "in"], tmp_path / "out", channels="each")
    np.testing.assert_array_equal(np.asarray(PilImage.open(done.written[0])), noise(6, 8, 3))
    np.testing.assert_array_equal(np.asarray(PilImage.open(done.written[1])), noise(6, 8, 1)[..., 0])


def test_a_full_disk_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        put(tmp_path / "in" / f"{name}.png")
    write = _file.write_image

    def full(path: Path, image: Image) -> None:
        if path.name == "a.png":
            return write(path, image)
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise UserError(f"{path}: the file cannot be written ({error.strerror})") from error

    monkeypatch.setattr(_file, "write_image", full)
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [tmp_path / "in"], tmp_path / "out")
    first, second, third = str(caught.value).splitlines()
    assert first == f"2 of 3 images could not be enhanced; the other one is in {tmp_path / 'out'}:"
    assert "b.png" in second
    assert "No space left on device" in second
    assert third == f"{tmp_path / 'in' / 'c.png'}: not tried any more"


def test_a_link_in_a_circle_is_one_bad_file(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    loop = tmp_path / "in" / "loop.png"
    loop.symlink_to(loop)
    with pytest.raises(PartialFailureError, match=r"loop\.png: there is no such file"):
        enhance_files(GREY, [tmp_path / "in"], tmp_path / "out")
    assert below(tmp_path / "out") == ["a.png"]
    with pytest.raises(UserError, match=r"loop\.png: expected a file or a folder, found nothing"):
        enhance_files(GREY, [loop], tmp_path / "out")
    (tmp_path / "out" / "a.png").unlink()
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "out" / "a.png")
    assert len(enhance_files(GREY, [tmp_path / "in" / "a.png"], tmp_path / "out", overwrite=True).written) == 1


@pytest.mark.parametrize("window", [(0, np.inf), (-np.inf, 0), (-1e308, 1e308), (np.nan, 0), (0, 0), (1, 0)])
def test_a_window_without_a_length_is_refused(tmp_path: Path, window: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="expected two finite, rising numbers"):
        enhance_files(GREY, [put(tmp_path / "a.png")], tmp_path / "out", window=window)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_read_stops_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b/b.png", "c/c.png"):
        put(source / name)
    scan = os.scandir

    def closed(folder: Any) -> Any:
        if os.fspath(folder) == str(source / "b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", closed)
    reason = f"{source / 'b'}: the folder cannot be read (Permission denied); check its permissions"
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [source], out)
    assert str(caught.value).splitlines() == [f"2 images came into {out}, but:", reason]
    assert below(out) == ["a.png", "c/c.png"]
    with pytest.raises(PartialFailureError, match=r"^.*in/b: the folder cannot be read (.|\n)*2 existed already"):
        enhance_files(GREY, [source], out, skip_existing=True)
    with pytest.raises(UserError) as refused:
        enhance_files(GREY, [source / "b"], tmp_path / "other")
    assert (str(refused.value), refused.value.exit_code) == (reason, 2)


def test_links_to_folders_are_listed_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    put(tmp_path / "elsewhere" / "b.png")
    out = tmp_path / "in" / "out"
    out.mkdir()
    for name, place in {"more": tmp_path / "elsewhere", ".hidden": tmp_path / "elsewhere", "back": out}.items():
        (tmp_path / "in" / name).symlink_to(place)
    done = enhance_files(GREY, [tmp_path / "in"], out)
    assert below(out) == ["a.png"]
    assert done.links == (tmp_path / "in" / "more",)
    (tmp_path / "in" / "bad.png").touch()
    with pytest.raises(PartialFailureError, match=r"\n.*/in/more: passed over, it is a link to a folder"):
        enhance_files(GREY, [tmp_path / "in"], out, overwrite=True)


def test_what_else_became_of_the_files_is_said_of_a_failure_too(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "in" / f"{name}.png")
    enhance_files(GREY, [tmp_path / "in" / "a.png"], tmp_path / "out")
    (tmp_path / "in" / "bad.png").touch()
    (tmp_path / "in" / "notes.txt").touch()
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [tmp_path / "in"], tmp_path / "out", skip_existing=True)
    assert str(caught.value).splitlines()[2:] == ["1 existed already, 1 other file passed over"]


def test_many_that_fail_alike_are_one_line(tmp_path: Path) -> None:
    source = tmp_path / "in"
    put(source / "whole.png")
    for number in range(7):
        (source / f"{number}.png").touch()
    (source / "text.png").write_text("hello")
    with pytest.raises(PartialFailureError) as caught:
        enhance_files(GREY, [source], tmp_path / "out")
    first, alike, other = str(caught.value).splitlines()
    assert first.startswith("8 of 9 images could not be enhanced; the other one is in")
    assert alike.startswith(f"{source / '0.png'}, {source / '1.png'}, {source / '2.png'} and 4 more: expected a PNG, ")
    assert other.startswith(f"{source / 'text.png'}: expected a PNG, ")
    assert [path.name for path, _ in caught.value.failures] == [*(f"{number}.png" for number in range(7)), "text.png"]


def test_names_that_differ_in_their_case_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "A.png"):
        put(tmp_path / "in" / name)
    if len(below(tmp_path / "in")) < 2:
        pytest.skip("needs a file system that tells a.png from A.png")
    enhance_files(GREY, [tmp_path / "in"], tmp_path / "out")
    assert below(tmp_path / "out") == ["A.png", "a.png"]
    exists = Path.exists

    def exists_in_any_case(path: Path) -> bool:
        if not path.parent.is_relative_to(tmp_path / "disk"):
            return exists(path)
        return any(other.name.lower() == path.name.lower() for other in path.parent.iterdir())

    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "exists", exists_in_any_case)
    with pytest.raises(UserError, match=r"A\.png and .*a\.png would both become .*disk/out/a\.png; rename one"):
        enhance_files(GREY, [tmp_path / "in"], tmp_path / "disk" / "out")
    assert below(tmp_path / "disk") == []


@pytest.mark.parametrize("name", ["brain.hdr", "brain.img"])
def test_half_of_a_pair_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    nibabel.save(nibabel.Nifti1Pair(noise(4, 5, 6), np.eye(4)), tmp_path / "brain.img")
    with pytest.raises(
        UserError, match=rf"{name}: expected an image in one file, found one half of a pair of \.hdr and"
    ):
        enhance_files(GREY, [tmp_path / name], tmp_path / "out")


def test_too_little_memory_for_one_image(tmp_path: Path) -> None:
    class Hungry(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] > 10:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x

    put(tmp_path / "in" / "a.png", 4, 20, 1)
    put(tmp_path / "in" / "b.png", 4, 5, 1)
    with pytest.raises(PartialFailureError, match=r"1 of 2 images(.|\n)*a\.png: .*smaller --tile"):
        enhance_files(Model(Hungry(), channels=1), [tmp_path / "in"], tmp_path / "out")
    assert below(tmp_path / "out") == ["b.png"]


def test_a_mistake_in_an_enhancer_is_not_hidden(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected the enhancer to give"):
        enhance_files(Model(nn.Identity(), channels=1, scale=2), [tmp_path / "a.png"], tmp_path / "out")
    assert below(tmp_path) == ["a.png"]


@pytest.mark.parametrize("max_pixels", [10_000, 4000])  # as a whole, and by strips
def test_an_image_whose_description_cannot_be_made_to_fit(tmp_path: Path, max_pixels: int) -> None:
    text = '<OME><Image><Pixels SizeX="80" SizeY="70"/></Image><ROI ID="ROI:0"/></OME>'
    source = tmp_path / "in" / "a.ome.tif"
    source.parent.mkdir()
    tifffile.imwrite(source, np.zeros((70, 80), np.uint8), description=text, metadata=None, rowsperstrip=8)
    tifffile.imwrite(tmp_path / "in" / "b.tif", np.zeros((7, 8), np.uint8))
    model = Model(nn.Upsample(scale_factor=2), channels=1, scale=2)
    with pytest.raises(
        PartialFailureError, match=rf"{source}: expected an OME description without regions of interest"
    ):
        enhance_files(model, [tmp_path / "in"], tmp_path / "out", tile=64, max_pixels=max_pixels)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.tif"]
