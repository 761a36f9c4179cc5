"""One picture file, whatever made it, to one upright sRGB picture; and that picture to a bucket.

Damaged, oversized and mislabelled files end in one sentence that says what the file is.
"""

from __future__ import annotations

import importlib
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from velatura.dataset.buckets import Size, cover_size
from velatura.dataset.c2pa.embedded import store_of
from velatura.dataset.colour import WHITE, alpha_of, profile_name, to_srgb
from velatura.errors import DatasetError

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"}
    | {".jp2", ".j2k", ".jpx", ".heic", ".heif"}
)
"""File name endings, in lower case, that are taken for pictures."""

MAX_PIXELS = 300_000_000
"""Largest picture that is decoded; 300 megapixels take 0.9 GB as RGB."""

# Pillow decides by content, not by ending. Only these: its list also holds formats that start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError, RuntimeError,
    AssertionError, AttributeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files."""

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
"""How pictures begin; with such a beginning it is the rest of the header that is bad."""

_NOT_PICTURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself", "run `git lfs pull`"),
    (b"<!doctype html", "a web page, not a picture", "download the picture itself"),
    (b"<html", "a web page, not a picture", "download the picture itself"),
    (b"<svg", "a vector drawing", "export it as PNG"),
    (b"<?xml", "XML text, not a picture", "export it as PNG"),
    (b"%pdf", "a PDF document", "export its pages as PNG"),
    (b"8bps", "a Photoshop document", "export it as PNG"),
)

_AGAIN = "export or download it again"

_TELLING = frozenset({"exif", "xmp", "xml:com.adobe.xmp", "photoshop", "comment", "parameters", "prompt", "workflow"})
"""What a file may hold beside its pixels, as Pillow names it."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright."""

_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class Geometry:
    """Where a crop comes from, in the order SDXL is told it: (height, width) and (top, left).

    `crop_top_left` counts pixels of the picture after scaling.
    """

    original: tuple[int, int]
    crop_top_left: tuple[int, int]
    target: tuple[int, int]


def open_image(
    path: Path,
    *,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    at_least: int | Size | None = None,
) -> Image.Image:
    """The picture: upright, 8-bit RGB in sRGB, flattened on `background`, the first frame of several.

    Args:
        path: the file.
        background: what shows through where the picture is transparent.
        max_pixels: larger pictures are refused from their header, before anything is decoded.
        at_least: a smaller version will do if no side, or neither width nor height, is shorter than this;
            JPEG decodes much faster.

    Raises:
        DatasetError: no such file, not a picture, damaged, or too large.
    """
    with _opened(path, max_pixels) as (image, orientation):
        if at_least is not None:
            across, down = (at_least, at_least) if isinstance(at_least, int) else at_least
            image.draft(None, (down, across) if orientation >= 5 else (across, down))
        _load(image, max_pixels)
        try:
            picture = to_srgb(image, background=background)
        except DatasetError as error:
            raise DatasetError(error.what, where=path, fix=error.fix) from None
    turn = _TRANSPOSE.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def open_alpha(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image | None:
    """How opaque the upright picture is, as 8-bit grey; None where it cannot be transparent.

    Raises:
        DatasetError: as `open_image`.
    """
    with _opened(path, max_pixels) as (image, orientation):
        _load(image, max_pixels)
        alpha = alpha_of(image)
    turn = _TRANSPOSE.get(orientation)
    return alpha if alpha is None or turn is None else alpha.transpose(turn)


@dataclass(frozen=True)
class Header:
    """What a file is, before it is made one upright sRGB picture."""

    format: str
    mode: str
    frames: int
    orientation: int
    profile: str
    """Name of the embedded colour profile; "" for none."""
    transparent: bool
    jpeg_quality: int | None
    """Estimated from the tables that its numbers were divided by; None for other formats."""
    told: bool
    """It says more than its pixels: EXIF, XMP, text, a manifest, smaller pictures of it."""


def file_info(path: Path) -> tuple[dict[Any, Any], Image.Exif]:
    """What the file says beside its pixels: text and the like by name, and EXIF.

    Raises:
        DatasetError: as `picture_size`.
    """
    with _opened(path, MAX_PIXELS) as (image, _):
        return dict(image.info), Image.Image.getexif(image)


def header(path: Path, *, max_pixels: int = MAX_PIXELS) -> Header:
    """What a file is, from its header alone.

    Raises:
        DatasetError: as `picture_size`.
    """
    with _opened(path, max_pixels) as (image, orientation):
        tables = getattr(image, "quantization", None)
        beside = any(isinstance(key, str) and key.lower() in _TELLING for key in image.info)
        # Cameras put previews behind the photograph, which makes their JPEG an MPO to Pillow: it is one picture.
        previews = image.format == "MPO"
        return Header(
            format="JPEG" if previews else image.format or "",
            mode=image.mode,
            frames=1 if previews else getattr(image, "n_frames", 1),
            orientation=orientation,
            profile=profile_name(image.info.get("icc_profile")),
            transparent=image.has_transparency_data,
            jpeg_quality=_jpeg_quality(tables[0]) if tables else None,
            told=beside or previews or store_of(path) is not None,
        )


def _jpeg_quality(table: list[int]) -> int:
    """The quality that libjpeg would have to be given for such a table of luminance.

    Its mean is that of the standard's table (57.6) scaled by 50 / quality below 50, and 2 - quality / 50 above.
    """
    scale = sum(table) / 64 / 57.625
    return round(min(100.0, max(1.0, 50 / scale if scale > 1 else 100 - 50 * scale)))


def _load(image: Image.Image, max_pixels: int) -> None:
    if image.format == "TIFF":  # checks its size against Pillow's own limit a second time here
        with _limit(max_pixels):
            image.load()
    else:
        image.load()


def picture_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Width and height of the upright picture, from the header alone.

    Raises:
        DatasetError: as `open_image`, but damage after the header goes unseen.
    """
    with _opened(path, max_pixels) as (image, orientation):
        width, height = image.size
    return (height, width) if orientation >= 5 else (width, height)


def cover_resize(
    image: Image.Image, width: int, height: int, *, resized: Size | None = None, window: tuple[int, int] | None = None
) -> tuple[Image.Image, Geometry]:
    """Scale the picture (Lanczos) to cover width x height and cut out the centre, or another window.

    Args:
        image: the picture.
        width: of the crop.
        height: of the crop.
        resized: scale to this size instead of the smallest that covers; no side shorter than the crop.
        window: left and top of the crop in the scaled picture; None: that of the centre.
    """
    across, down = resized or cover_size(image.size, (width, height))
    if across < width or down < height:
        raise ValueError(f"{across} x {down} does not cover {width} x {height}")
    left, top = window or ((across - width) // 2, (down - height) // 2)
    geometry = Geometry((image.height, image.width), (top, left), (height, width))
    if (across, down) == image.size:
        return image.crop((left, top, left + width, top + height)), geometry
    # The crop alone is scaled: a strip of 1 x 100 000 pixels would need gigabytes whole.
    x, y = image.width / across, image.height / down
    box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box), geometry


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[tuple[Image.Image, int]]:
    """The file with its header read, and its EXIF orientation (1 where Pillow turns it by itself)."""
    try:
        with _limit(max_pixels):
            image = _open(path)
            orientation = 1 if image.format == "TIFF" else _orientation(image, path)
        with image:
            if image.width * image.height > max_pixels:
                raise _too_large(f"{image.width} x {image.height} pixels", path, max_pixels)
            yield image, orientation
    except UnidentifiedImageError:
        raise _unrecognised(path) from None
    except Image.DecompressionBombError:
        raise _too_large("too many pixels", path, max_pixels) from None
    except FileNotFoundError:
        raise DatasetError("there is no such picture", where=path, fix="check the name") from None
    except PermissionError:
        raise DatasetError("the picture may not be read", where=path, fix="give yourself read access") from None
    except IsADirectoryError:
        raise DatasetError("this is a folder, not a picture", where=path) from None
    except BROKEN as error:
        cut_off = isinstance(error, EOFError) or "truncated" in str(error).lower()
        what = "is cut off before the picture ends" if cut_off else f"is damaged ({_reason(error)})"
        raise DatasetError(f"the file {what}", where=path, fix=_AGAIN) from None


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        if not _is_heif(path):
            raise
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise DatasetError(
            "HEIC pictures need one more package",
            where=path,
            fix="pip install 'velatura[heif]', or export it as JPEG",
        ) from None
    return Image.open(path, formats=("HEIF",))


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        return _has_heif_brand(file.read(12))


def _has_heif_brand(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


@contextmanager
def _limit(max_pixels: int) -> Iterator[None]:
    """Pillow's own bound on size is one number for the process; this is ours while a header is read.

    Pillow refuses above twice its number and warns above once; ours is a refusal only. Its remarks
    about odd metadata are dropped too: either the picture decodes or an error follows.
    """
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels // 2 + 1
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _orientation(image: Image.Image, path: Path) -> int:
    """EXIF orientation from 1 to 8, found without decoding; 1 where EXIF is missing or damaged."""
    try:
        if image.format == "PNG" and "exif" not in image.info:
            late = _png_exif(path)
            if late is not None:
                image.info["exif"] = late
        # PNG's own getexif would decode the whole picture to look behind it.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except BROKEN:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _png_exif(path: Path) -> bytes | None:
    """A PNG's EXIF chunk wherever it stands: some programs write it behind the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return b"Exif\0\0" + file.read(length)
            file.seek(length + 4, 1)
    return None


def _too_large(size: str, path: Path, max_pixels: int) -> DatasetError:
    return DatasetError(
        f"the picture is too large to decode: {size}, the limit is {max_pixels / 1e6:g} megapixels",
        where=path,
        fix="scale it down",
    )


def _unrecognised(path: Path) -> DatasetError:
    """What a file is that is not a picture, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return DatasetError("the file is empty (0 bytes)", where=path, fix=_AGAIN)
    if head.startswith(_MAGIC) or head[4:12] == b"ftypavif" or _has_heif_brand(head):
        return DatasetError("the file is cut off or damaged in its header", where=path, fix=_AGAIN)
    beginning = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what, fix in _NOT_PICTURES:
        if beginning.startswith(magic):
            return DatasetError(f"the file is {what}", where=path, fix=fix)
    what = "text, not a picture" if _is_text(head) else "in no picture format that can be read"
    return DatasetError(f"the file is {what}", where=path, fix="save the picture as PNG or JPEG")


def _is_text(head: bytes) -> bool:
    try:  # the cut may fall inside a character
        return "\0" not in head.decode("utf-8", errors="strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return False


def _reason(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
