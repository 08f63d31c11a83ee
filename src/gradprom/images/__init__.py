"""Reading and writing of image files, with all that must be kept on the way."""

from gradprom.images.image import Image, to_channels
from gradprom.images.raster import MAX_PIXELS, SUFFIXES, read_image, write_image

__all__ = ["MAX_PIXELS", "SUFFIXES", "Image", "read_image", "to_channels", "write_image"]
