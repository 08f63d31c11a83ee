"""Reading and writing of image files, with all that must be kept on the way."""

from gradprom.images.dicom import Derivation, is_dicom, open_dicom
from gradprom.images.frames import Frames, NoImageError
from gradprom.images.image import Image, to_channels
from gradprom.images.nifti import is_nifti, open_nifti
from gradprom.images.raster import MAX_PIXELS, SUFFIXES, read_image, write_image
from gradprom.images.tiff_pages import has_pages, open_pages

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Derivation",
    "Frames",
    "Image",
    "NoImageError",
    "has_pages",
    "is_dicom",
    "is_nifti",
    "open_dicom",
    "open_nifti",
    "open_pages",
    "read_image",
    "to_channels",
    "write_image",
]
