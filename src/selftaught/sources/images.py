"""Image files: in folders and lists, in archives, in Parquet."""

from __future__ import annotations

from .archives import ImageArchive
from .files import Files
from .image_source import ImageSource
from .parquet_images import ImageParquet

__all__ = ["ImageArchive", "ImageFiles", "ImageParquet"]


class ImageFiles(Files, ImageSource):
    """The images below a folder (jpg, png, webp, bmp, tiff, npy), or those of a list of paths. pixel_limit: larger ones are bad items."""
