"""Image files: their endings, whether they are whole, and what they show.

Pillow reads them here. OpenCV, which comes with TensorFlow's extra, decodes
JPEG to the same pixels in two thirds of the time.
"""

import functools
import io
import pathlib
import re
import types
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_finegrain._base.optional import pip_install
from keras_finegrain.datasets.errors import DatasetError
from keras_finegrain.datasets.requirements import (
    import_opencv,
    import_pillow,
)

_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo"}  # JPEG
    | {".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
_AVIF = frozenset({".avif", ".avifs"})
_JPEG_2000 = frozenset({".j2k", ".jp2", ".jpf", ".jpx"})
_HEIF = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
# Some builds of Pillow have these.
_OPTIONAL = (("JPEG2000", _JPEG_2000), ("AVIF", _AVIF), ("HEIF", _HEIF))
# Photos and pictures of formats that are not read.
_OTHERS = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef"}
    | {".raf", ".raw", ".rw2", ".sr2", ".srw", ".exr", ".hdr", ".pfm"}
    | {".ico", ".jxl", ".jxr", ".pcx", ".psd", ".sgi", ".svg", ".tga"}
    | {".xbm", ".xpm"}
)

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"

# What stands before an orientation, in JPEG and PNG.
_ORIENTED = (
    b"Exif\0\0",
    b"eXIf",
    b"tiff:Orientation",
    b"Raw profile type",
    b"XML:com.adobe.xmp",
)
_ORIENTATION = 0x0112

# No encoder writes as many zeros in a row, if a code of zeros says something.
_MOST_ZEROS = 64


@functools.cache
def _pillow() -> types.ModuleType:
    """Returns `PIL.Image`, which reads HEIC where pillow-heif is installed."""
    pillow = import_pillow()
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    pillow.init()
    return pillow


@functools.cache
def readable_extensions() -> frozenset[str]:
    """The endings, in lower case, of the images that can be read here."""
    formats = _pillow().OPEN
    return _EXTENSIONS.union(
        *(extensions for name, extensions in _OPTIONAL if name in formats)
    )


@functools.cache
def unread_extensions() -> frozenset[str]:
    """The endings, in lower case, of images that cannot be read here."""
    every = _OTHERS.union(*(extensions for _, extensions in _OPTIONAL))
    return every - readable_extensions()


def how_to_read(extension: str) -> str:
    """What to do about an image of an ending that is not read."""
    if extension in _HEIF:
        return pip_install("heif")
    if extension in _AVIF:
        return 'pip install "Pillow>=11.3"'
    return "save as JPEG or PNG"


def undecoded(origin: str, error: Exception | None = None) -> str:
    """Returns the message for an image that cannot be decoded.

    Args:
        origin: The file or record.
        error: What Pillow raised, if it did.
    """
    extension = pathlib.PurePath(origin).suffix.lower()
    if extension in unread_extensions():
        return (
            f"The image '{origin}' is of a format that is not read here "
            f"({how_to_read(extension)})"
        )
    if isinstance(error, _pillow().DecompressionBombError):
        return (
            f"The image '{origin}' has more pixels than Pillow reads of a file "
            f"that may be malicious ({error}): save it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS"
        )
    return (
        f"The image '{origin}' cannot be decoded: the file is missing, damaged "
        "or not an image. Replace it or take it out"
    )


def opened(encoded: bytes, origin: str, least_side: float | None = None) -> Any:
    """Reads an image file as Pillow's RGB image, the right way up.

    Grayscale is repeated over the three channels, an alpha channel is
    dropped, 16 bits become 8, and of an animation the first frame is taken.
    The image is turned and mirrored as its EXIF orientation says.

    Args:
        encoded: The bytes of the file.
        origin: The file or record that they come from, for the message.
        least_side: What the short side must keep, in pixels. A JPEG is
            decoded at a half, a quarter or an eighth of its size where that
            does; with None, and of other formats, at its own size.

    Raises:
        DatasetError: If it cannot be read.
    """
    pillow = _pillow()
    try:
        if is_overwritten(encoded):
            raise ValueError("zeros")
        with pillow.open(io.BytesIO(encoded)) as image:
            reduction = _reduction(image.size, least_side)
            image.draft(image.mode, [side // reduction for side in image.size])
            upright = _upright(image)
            # Gray of 16 bits is "I" in files that have no more.
            if upright.mode.startswith("I;16") or (
                upright.mode == "I" and image.format in ("PNG", "PPM")
            ):
                # Pillow would cut them off at 255.
                gray = (np.asarray(upright) >> 8).astype(np.uint8)
                return pillow.fromarray(gray).convert("RGB")
            if upright.mode not in ("I", "F"):
                return upright.convert("RGB")
    except Exception as error:
        # A damaged file may raise almost anything.
        raise DatasetError(undecoded(origin, error)) from error
    raise DatasetError(
        f"The image '{origin}' has pixels of 32 bits, whose range is unknown: "
        "save it with 8 or 16 bits"
    )


def decoded(
    encoded: bytes, origin: str, least_side: float | None = None
) -> npt.NDArray[np.uint8]:
    """Decodes an image file as `opened` does, a JPEG faster.

    Args:
        encoded: The bytes of the file.
        origin: As in `opened`.
        least_side: As in `opened`.

    Returns:
        `(height, width, 3)`.

    Raises:
        DatasetError: If it cannot be read.
    """
    image = None
    if encoded.startswith(_JPEG) and not is_overwritten(encoded):
        image = _by_opencv(encoded, least_side)
    if image is None:
        image = np.array(opened(encoded, origin, least_side))
    return image


def _by_opencv(
    jpeg: bytes, least_side: float | None
) -> npt.NDArray[np.uint8] | None:
    """Decodes a JPEG; None if it is damaged, or is to be turned."""
    try:
        # Reads its header; Pillow would try other formats first.
        with _pillow().open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            size = image.size
            # These marks stand at the beginning, which takes microseconds.
            head = jpeg[: jpeg.find(_START_OF_SCAN)]
            if any(mark in head for mark in _ORIENTED) and (
                _turn(image) is not None
            ):
                return None
    except Exception:
        return None  # Pillow tells what is wrong.
    cv2 = import_opencv()
    flags = {
        1: 0,
        # Their names say gray; with IMREAD_COLOR_RGB it is color.
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
    return cv2.imdecode(
        np.frombuffer(jpeg, np.uint8),
        flags[_reduction(size, least_side)]
        | cv2.IMREAD_COLOR_RGB
        | cv2.IMREAD_IGNORE_ORIENTATION,
    )


def _reduction(size: tuple[int, int], least_side: float | None) -> int:
    """By how much a JPEG is decoded smaller."""
    least = least_side or inf
    return max(r for r in (1, 2, 4, 8) if r == 1 or min(size) >= r * least)


def _upright(image: Any) -> Any:
    """Turns and mirrors an image of Pillow as its EXIF orientation says."""
    image.load()
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Any) -> Any:
    """How Pillow turns an image upright; None if it is, or does not say."""
    methods = _pillow().Transpose
    turns = {
        2: methods.FLIP_LEFT_RIGHT,
        3: methods.ROTATE_180,
        4: methods.FLIP_TOP_BOTTOM,
        5: methods.TRANSPOSE,
        6: methods.ROTATE_270,
        7: methods.TRANSVERSE,
        8: methods.ROTATE_90,
    }
    try:
        return turns.get(image.getexif().get(_ORIENTATION))
    except Exception:
        # Of a damaged EXIF; the image itself may be whole.
        return None


def is_overwritten(encoded: bytes) -> bool:
    """Whether zeros stand in a JPEG where no encoder writes them.

    They do where a part of a file was never written or has been lost. Decoders
    take them for codes, and show gray.
    """
    # Nearly every file is through here: this search takes microseconds.
    if not encoded.startswith(_JPEG) or bytes(_MOST_ZEROS) not in encoded:
        return False
    scan, most_zeros = _scan_of(encoded)
    return re.search(rb"\0{%d}" % (most_zeros + 1), scan) is not None


def _scan_of(jpeg: bytes) -> tuple[bytes, int]:
    """Returns the coded pixels of a JPEG, and how many zeros they may have.

    Two codes of zeros together, of a DC and an AC coefficient, mean "a flat
    block" in some files. They can then be as many as there are blocks.

    Returns:
        The bytes from the first scan to the end of the image, none where it
        lacks one, and the largest number of zeros in a row.
    """
    blocks, may_be_flat, position, segment = 0, True, 2, b""
    while True:
        if jpeg[position : position + 1] != b"\xff":
            return b"", _MOST_ZEROS
        marker = jpeg[position + 1 : position + 2]
        if marker == b"\xff":  # fills up
            position += 1
            continue
        length = int.from_bytes(jpeg[position + 2 : position + 4], "big")
        segment = jpeg[position + 4 : position + 2 + length]
        position += 2 + length
        if marker in (b"\xc0", b"\xc1", b"\xc2") and len(segment) > 5:
            height = int.from_bytes(segment[1:3], "big")
            width = int.from_bytes(segment[3:5], "big")
            components = segment[5]
            blocks = -(-height // 8) * -(-width // 8) * components
            is_progressive = marker == b"\xc2"
        elif marker == b"\xc4":
            while len(segment) > 17:
                # 0x10: AC of the first component; 16 counts; the values.
                if segment[0] == 0x10:
                    may_be_flat = segment[17] == 0
                segment = segment[17 + sum(segment[1:17]) :]
        elif marker == b"\xda":
            break
    end = jpeg.find(_END_OF_JPEG, position)
    if end < 0 or not blocks:
        return b"", _MOST_ZEROS
    most = _MOST_ZEROS
    if may_be_flat or is_progressive or segment[0] != components:
        most = max(blocks // 2, most)  # of four bits each
    return jpeg[position:end], most


def ends_look_right(head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file begins and ends as an image does.

    Args:
        head: Its first bytes, 16 or more.
        tail: Its last bytes. Cameras append a little after the end of an
            image, so a mark may stand anywhere in them.
        size: How many there are.

    Returns:
        False if it has to be read to tell.
    """
    if head.startswith(_JPEG):
        return _END_OF_JPEG in tail
    if head.startswith(_PNG):
        return b"IEND" in tail
    if head.startswith(b"GIF8"):
        return tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"BM"):
        return 0 < int.from_bytes(head[2:6], "little") <= size
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 <= size
    # TIFF, PPM, HEIC and AVIF say nothing at their end.
    return False


def verify(encoded: bytes, origin: str) -> None:
    """Reads an image file to its end.

    Of a JPEG the structure is looked at, of a PNG the checksums; all frames
    of others are decoded.

    Raises:
        DatasetError: If it is damaged as far as this can tell, or of a kind
            that `opened` refuses.
    """
    try:
        with _pillow().open(io.BytesIO(encoded)) as image:
            if image.format in ("JPEG", "MPO"):
                whole = bool(_scan_of(encoded)[0])
                whole = whole and not is_overwritten(encoded)
            elif image.format == "PNG":
                image.verify()
                whole = True
            else:
                for frame in range(getattr(image, "n_frames", 1)):
                    image.seek(frame)
                    image.load()
                whole = image.format != "GIF" or ends_look_right(
                    encoded[:16], encoded[-4096:], len(encoded)
                )
            is_checked = image.format in ("JPEG", "MPO", "PNG")
    except Exception as error:
        raise DatasetError(undecoded(origin, error)) from error
    if not whole:
        raise DatasetError(undecoded(origin))
    if not is_checked:
        opened(encoded, origin)
