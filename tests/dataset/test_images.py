"""A picture trains as it looks in a viewer, and a bad file says what it is."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, features

from tests.paintings import clouds
from velatura.dataset import images, reframing
from velatura.dataset.images import cover_resize, open_image, picture_size
from velatura.errors import DatasetError

Paint = Callable[..., Path]

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: bytes, *chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def png_16_bit(values: NDArray[np.uint16], *before: bytes) -> bytes:
    """Shape (height, width, channels): 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return png(header, *before, chunk(b"IDAT", zlib.compress(rows)))


def corners() -> Image.Image:
    """40 x 20, red at the top left, green at the top right, blue below."""
    image = Image.new("RGB", (40, 20), BLUE)
    image.paste(RED, (0, 0, 20, 10))
    image.paste(GREEN, (20, 0, 40, 10))
    return image


def stored_as(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as a camera held another way stores it, so that this EXIF orientation turns it upright."""
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    return image if back is None else image.transpose(back)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def near(seen: object, wanted: tuple[int, int, int], tolerance: int = 3) -> bool:
    assert isinstance(seen, tuple)
    return all(abs(one - other) <= tolerance for one, other in zip(seen, wanted, strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_a_picture_taken_sideways_stands_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    how = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    stored_as(corners(), orientation).save(path, exif=exif(orientation), **how)

    image = open_image(path)

    assert picture_size(path) == image.size == (40, 20)
    assert near(image.getpixel((5, 5)), RED)
    assert near(image.getpixel((35, 5)), GREEN)
    assert near(image.getpixel((5, 15)), BLUE)


def test_orientation_behind_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    buffer = io.BytesIO()
    stored_as(corners(), 6).save(buffer, "PNG")
    late = chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    path.write_bytes(buffer.getvalue()[:-12] + late + buffer.getvalue()[-12:])

    assert picture_size(path) == open_image(path).size == (40, 20)
    assert near(open_image(path).getpixel((5, 5)), RED)


def test_damaged_exif_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    corners().save(path, exif=b"Exif\0\0MM\0\x2a\0\0\xff\xff\x00\x09rubbish")

    assert open_image(path).size == picture_size(path) == (40, 20)


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("RGB", (32, 32), (200, 40, 30)).convert("CMYK").save(path, quality=100)

    assert near(open_image(path).getpixel((9, 9)), (200, 40, 30), 4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "deep.png"
    values = np.full((8, 8, channels), 65535, dtype=np.uint16)
    values[..., : 3 if channels > 2 else 1] = 30_000  # 117 of 255
    path.write_bytes(png_16_bit(values))

    assert near(open_image(path).getpixel((4, 4)), (117, 117, 117), 1)


def test_one_grey_of_sixteen_bits_can_stand_for_transparent(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    values = np.full((8, 8, 1), 30_000, dtype=np.uint16)
    values[:, 4:] = 1000
    path.write_bytes(png_16_bit(values, chunk(b"tRNS", struct.pack(">H", 1000))))

    image = open_image(path)

    assert near(image.getpixel((1, 1)), (117, 117, 117), 1)
    assert image.getpixel((6, 1)) == WHITE


def test_a_sixteen_bit_tiff_and_a_float_tiff_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 30_000, dtype=np.uint16)).save(tmp_path / "deep.tif")
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")

    assert near(open_image(tmp_path / "deep.tif").getpixel((1, 1)), (117, 117, 117), 1)
    assert near(open_image(tmp_path / "float.tif").getpixel((1, 1)), (128, 128, 128), 1)


def test_numbers_without_a_known_white_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    Image.fromarray(np.linspace(0, 900, 64, dtype=np.float32).reshape(8, 8)).save(path)

    with pytest.raises(DatasetError, match=r"0 to 900.*where white lies.*scene\.tif"):
        open_image(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("cut.tiff" if mode == "PA" else "cut.png")
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((90, 90, 90, 255), (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / "cut.png") if mode != "PA" else image.save(path)

    assert open_image(path).getpixel((6, 1)) == WHITE
    assert near(open_image(path).getpixel((1, 1)), (90, 90, 90))
    assert open_image(path, background=(10, 20, 30)).getpixel((6, 1)) == (10, 20, 30)


def test_half_transparent_mixes_with_the_background(tmp_path: Path) -> None:
    path = tmp_path / "glass.png"
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(path)

    assert near(open_image(path).getpixel((1, 1)), (127, 127, 127), 1)


def test_a_palette_with_transparent_entries_is_flattened(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 0, 0, 0, 255])
    image.paste(1, (4, 0, 8, 8))
    image.paste(2, (0, 4, 4, 8))
    image.save(path, transparency=bytes([255, 0, 128]))

    opened = open_image(path)

    assert opened.getpixel((1, 1)) == RED
    assert opened.getpixel((6, 1)) == WHITE
    assert near(opened.getpixel((1, 6)), (127, 127, 255), 1)


def test_black_and_white_and_one_transparent_colour_are_read(tmp_path: Path) -> None:
    Image.new("1", (8, 8), 1).save(tmp_path / "ink.png")
    corners().save(tmp_path / "key.png", transparency=BLUE)

    assert open_image(tmp_path / "ink.png").getpixel((1, 1)) == WHITE
    assert open_image(tmp_path / "key.png").getpixel((5, 15)) == WHITE
    assert open_image(tmp_path / "key.png").getpixel((5, 5)) == RED


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)

    assert open_image(path).getpixel((3, 3)) == RED


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("webp", "webp"), ("avif", "avif"), ("jp2", "jpg_2000"), ("bmp", None), ("tiff", "libtiff"), ("jpg", "jpg")],
)
def test_each_format_gives_its_colours_back(tmp_path: Path, suffix: str, codec: str | None) -> None:
    if codec is not None and not features.check(codec):
        pytest.skip(f"this Pillow reads no {suffix}")
    path = tmp_path / f"flat.{suffix}"
    Image.new("RGB", (64, 48), (200, 120, 40)).save(path)

    assert picture_size(path) == open_image(path).size == (64, 48)
    assert near(open_image(path).getpixel((30, 20)), (200, 120, 40), 6)


def test_the_content_decides_and_not_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "really-a-jpeg.png"
    corners().save(path, "JPEG")

    assert open_image(path).size == (40, 20)


def swapped_profile() -> bytes:
    """A profile whose red and green primaries are exchanged: applied, it is plain to see."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * struct.unpack(">I", data[128:132])[0], 12)}
    red, green = entries[b"rXYZ"] + 4, entries[b"gXYZ"] + 4
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "ABCD".encode("utf-16-be"))


def test_an_embedded_profile_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "profiled.png"
    corners().save(path, icc_profile=swapped_profile())

    assert near(open_image(path).getpixel((5, 5)), GREEN)
    assert near(open_image(path).getpixel((35, 5)), RED)


def test_a_profile_applies_beneath_transparency(tmp_path: Path) -> None:
    path = tmp_path / "profiled.png"
    image = corners().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 128))
    image.save(path, icc_profile=swapped_profile())

    assert near(open_image(path).getpixel((5, 5)), (127, 255, 127))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_broken_or_foreign_profile_is_left_aside(tmp_path: Path, mode: str) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for number, profile in enumerate([b"rubbish", lab]):
        path = tmp_path / f"{number}.jpg"
        Image.new("RGB", (16, 16), (128, 128, 128)).convert(mode).save(path, icc_profile=profile, quality=100)
        assert near(open_image(path).getpixel((3, 3)), (128, 128, 128))


def test_srgb_is_left_bit_for_bit(tmp_path: Path, paint: Paint) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, tagged = paint("plain.png", 5), paint("tagged.png", 5, icc_profile=profile)

    assert open_image(plain).tobytes() == open_image(tagged).tobytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
def test_a_file_that_is_cut_off_says_so_or_that_it_is_damaged(paint: Paint, suffix: str) -> None:
    path = paint(f"half.{suffix}", size=(256, 256))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(DatasetError, match=r"cut off|damaged") as caught:
        open_image(path)
    assert caught.value.where == str(path)
    assert caught.value.fix is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"just a few words", "text, not a picture"),
        ("Zürich, 夜".encode() * 90, "text, not a picture"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\x89PNG\r\n", "in its header"),
        (b"\xff\xd8\xff\xe0\0", "in its header"),
        (b"\x00\x01\x02\x03" * 40, "no picture format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "text, not a picture"),
    ],
)
def test_a_file_that_is_no_picture_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "01.png"
    path.write_bytes(content)

    for look in (open_image, picture_size):
        with pytest.raises(DatasetError, match=said):
            look(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "avif", "tiff"])
def test_wherever_a_file_is_cut_or_scratched_the_error_is_a_sentence(paint: Paint, suffix: str) -> None:
    path = paint(f"hurt.{suffix}", size=(64, 64))
    whole = path.read_bytes()
    for cut in range(1, len(whole), len(whole) // 20):
        scratched = bytearray(whole)
        scratched[cut] ^= 0xFF
        for hurt in (whole[:cut], bytes(scratched)):
            path.write_bytes(hurt)
            with contextlib.suppress(DatasetError):  # a scratch may also go unseen
                open_image(path)


def test_missing_files_folders_and_closed_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="no such picture"):
        open_image(tmp_path / "none.png")
    with pytest.raises(DatasetError, match="a folder"):
        open_image(tmp_path)

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(DatasetError, match="may not be read"):
        open_image(tmp_path / "closed.png")


def heic() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(64)


def test_heic_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "phone.heic"
    path.write_bytes(heic())

    with pytest.raises(DatasetError, match=r"velatura\[heif\]"):
        open_image(path)


def test_a_damaged_heic_with_its_package_is_an_error_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ModuleType("pillow_heif")
    package.register_heif_opener = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    path = tmp_path / "phone.heic"
    path.write_bytes(heic())

    with pytest.raises(DatasetError):
        open_image(path)


def test_a_heic_photograph_stands_upright_and_a_cut_one_is_told(tmp_path: Path) -> None:
    package = pytest.importorskip("pillow_heif", reason="HEIC is read with pillow-heif")
    package.register_heif_opener()
    lying = clouds(3, (96, 64))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying.save(tmp_path / "phone.heic", format="HEIF", quality=95, exif=exif.tobytes())

    upright = open_image(tmp_path / "phone.heic")

    assert upright.size == picture_size(tmp_path / "phone.heic") == (64, 96)
    away = np.abs(np.asarray(upright, float) - np.asarray(lying.transpose(Image.Transpose.ROTATE_270), float))
    assert away.mean() < 4
    (tmp_path / "cut.heic").write_bytes((tmp_path / "phone.heic").read_bytes()[:900])
    with pytest.raises(DatasetError, match="cut off or damaged"):
        open_image(tmp_path / "cut.heic")


def test_a_huge_picture_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), chunk(b"IDAT", zlib.compress(b"\0"))))

    for look in (open_image, picture_size):
        with pytest.raises(DatasetError, match="too large"):
            look(path)


def test_the_limit_is_exact_and_pillows_own_is_left_as_it_was(paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    path = paint("a.png", size=(100, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 77)

    assert open_image(path, max_pixels=5000).size == (100, 50)
    assert Image.MAX_IMAGE_PIXELS == 77
    with pytest.raises(DatasetError, match=r"100 x 50 pixels, the limit is 0\.004999 megapixels"):
        open_image(path, max_pixels=4999)


@pytest.mark.parametrize("suffix", ["png", "tiff", "gif", "webp", "jpg"])
def test_between_pillows_limit_and_ours_a_picture_is_read_without_a_warning(
    paint: Paint, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = paint(f"large.{suffix}", size=(100, 50), exif=exif(6))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)

    assert set(open_image(path).size) == {100, 50}


def test_a_smaller_version_shows_the_same_picture_and_stays_large_enough(paint: Paint) -> None:
    path = paint("photo.jpg", 3, size=(1600, 1200), quality=95)

    small, whole = open_image(path, at_least=64), open_image(path)

    assert min(small.size) >= 64
    assert small.width < whole.width
    difference = np.asarray(small.resize((32, 24)), float) - np.asarray(whole.resize((32, 24)), float)
    assert np.abs(difference).mean() < 3


def test_cover_keeps_the_centre_and_the_proportions() -> None:
    image = Image.new("RGB", (300, 100), WHITE)
    image.paste(RED, (100, 0, 200, 100))

    covered, geometry = cover_resize(image, 50, 50)

    assert covered.size == (50, 50)
    assert np.all(np.abs(np.asarray(covered)[:, 3:-3].astype(int) - RED) <= 1)
    assert geometry.original == (100, 300)
    assert geometry.crop_top_left == (0, 50)
    assert geometry.target == (50, 50)


def test_scaling_only_the_crop_equals_scaling_everything(paint: Paint) -> None:
    image = open_image(paint("a.png", 9, size=(331, 207)))

    covered, geometry = cover_resize(image, 64, 80)

    top, left = geometry.crop_top_left
    whole = image.resize((128, 80), Image.Resampling.LANCZOS).crop((left, top, left + 64, top + 80))
    assert np.abs(np.asarray(covered, int) - np.asarray(whole, int)).max() <= 1


def test_a_crop_without_scaling_keeps_every_pixel(paint: Paint) -> None:
    image = open_image(paint("a.png", 9, size=(100, 70)))

    covered, geometry = cover_resize(image, 96, 64, resized=(100, 70))

    assert covered.tobytes() == image.crop((2, 3, 98, 67)).tobytes()
    assert geometry.crop_top_left == (3, 2)


def test_a_very_long_strip_is_cropped_without_being_scaled_whole() -> None:
    covered, geometry = cover_resize(Image.new("RGB", (100_000, 1), RED), 512, 512)

    assert covered.getpixel((100, 100)) == RED
    assert geometry.crop_top_left == (0, (51_200_000 - 512) // 2)


def test_a_scale_that_leaves_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="does not cover"):
        cover_resize(Image.new("RGB", (40, 40)), 64, 64, resized=(64, 63))


def test_a_photograph_with_previews_behind_it_is_one_jpeg_and_clean_takes_them_out(tmp_path: Path) -> None:
    picture = clouds(1, (640, 480))
    picture.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[picture.resize((160, 120))])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)  # type: ignore[attr-defined]

    found = images.header(tmp_path / "a.jpg")

    assert (found.format, found.frames, found.told) == ("JPEG", 1, True)
    list(reframing.reframe(tmp_path, reframing.Options(strip=True), told="clean"))
    with Image.open(tmp_path / "a.jpg") as opened:
        assert (opened.format, opened.size) == ("JPEG", (640, 480))
    assert not images.header(tmp_path / "a.jpg").told
