"""What the texts of a TIFF say in pixels: OME's description, and ImageJ's."""

from __future__ import annotations

import re

from gradprom.images.image import UnreadableError

_IMAGEJ_ORIGIN = re.compile(rb"(?m)^(([xy])origin=)(\d+\.?\d*)")
# A start tag, whatever stands in its attributes
_OME_PIXELS = re.compile(rb"""<(?:\w+:)?Pixels\b(?:[^>"']|"[^"]*"|'[^']*')*>""")
_OME_SIZE = re.compile(rb"""(?<=\s)(Physical)?Size([XY])(\s*=\s*)(["'])([^"']+)\4""")


def resized(text: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """A description in which what OME and ImageJ say in pixels is made to fit an image of another size.

    Args:
        text: a description; others come back as they are.
        old, new: height and width.

    Raises:
        UnreadableError: an OME description that names regions, whose places are given in pixels, or that does not state
            itself how many pixels there are.
    """
    factors = {b"y": new[0] / old[0], b"x": new[1] / old[1]}
    if text.startswith(b"ImageJ="):
        return _IMAGEJ_ORIGIN.sub(lambda m: m[1] + b"%g" % (float(m[3]) * factors[m[2]]), text)
    if not re.search(rb"<(\w+:)?OME\b", text):
        return text
    if re.search(rb"<(\w+:)?ROI\b", text):
        raise UnreadableError(
            "expected an OME description without regions of interest for an image that is enlarged, found some, whose "
            "places would be wrong; take them out first"
        )
    stated: list[int] = []

    def enlarged(tag: re.Match[bytes]) -> bytes:
        def number(attribute: re.Match[bytes]) -> bytes:
            physical, axis, equals, quote, value = attribute.groups()
            factor = factors[axis.lower()]
            stated.append(not physical)
            size = float(value) / factor if physical else round(int(value) * factor)
            return (physical or b"") + b"Size" + axis + equals + quote + str(size).encode() + quote

        return _OME_SIZE.sub(number, tag.group())

    try:
        result, count = _OME_PIXELS.subn(enlarged, text)
    except ValueError as error:
        raise UnreadableError(
            f"expected plain numbers for the sizes in the OME description, found others ({error}); mend it first"
        ) from error
    if count == 0 or sum(stated) != 2 * count:
        raise UnreadableError(
            "expected an OME description that states SizeX and SizeY for an image that is enlarged, found none (they "
            "may stand in another file); take it out first"
        )
    return result
