"""Images: format and size, from the header alone.

Invariant: pixels are never decoded here, so an image never needs their memory. An image with more pixels than allowed
is refused, since a viewer or a model would decode it.
"""

from __future__ import annotations

import struct
import warnings
from typing import cast

from shared.sessions.files.readers.analysis import (
    Analysis,
    Job,
    malformed,
    too_large,
)
from shared.sessions.models import FileKind

_MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")


class ImageStrategy:
    def recognise(self, job: Job) -> bool:
        head = job.head(26)
        if head.startswith(_SIGNATURES):
            return True
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return True
        # Many texts begin with "BM"; in a bitmap, two reserved words after it are zero.
        return len(head) == 26 and head[:2] == b"BM" and head[6:10] == b"\x00" * 4

    def analyze(self, job: Job) -> Analysis:
        from PIL import Image, UnidentifiedImageError

        job.file.seek(0)
        with warnings.catch_warnings():
            # Our limit is checked below; Pillow warns at its own limit and raises at twice that size.
            warnings.simplefilter("ignore")
            try:
                image = Image.open(job.file, formats=list(_MEDIA_TYPES))
                width, height = image.size
                facts = {
                    "size_bytes": job.size_bytes,
                    "format": cast(str, image.format).lower(),
                    "width": width,
                    "height": height,
                    "mode": image.mode,
                }
                frames = bool(getattr(image, "is_animated", False))
            except Image.DecompressionBombError as exc:
                raise self._too_many_pixels(job) from exc
            except (
                UnidentifiedImageError,
                OSError,
                SyntaxError,
                ValueError,
                EOFError,
                struct.error,
                IndexError,
                KeyError,
                TypeError,
                OverflowError,
                ZeroDivisionError,
            ) as exc:  # Pillow's parsers raise all of these on damaged headers
                raise malformed("The image is damaged.") from exc
        if width * height > job.limits.max_pixels:
            raise self._too_many_pixels(job)
        notes = ("The image is animated.",) if frames else ()
        return Analysis(FileKind.IMAGE, _MEDIA_TYPES[cast(str, image.format)], None, facts, notes)

    @staticmethod
    def _too_many_pixels(job: Job) -> Exception:
        return too_large(f"The image has more than {job.limits.max_pixels} pixels.")
