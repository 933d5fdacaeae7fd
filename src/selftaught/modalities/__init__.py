"""The modalities, found by name: each turns arrays into tensors and supplies views, a default backbone and a picture."""

from ..contracts import find
from .base import Modality, Preprocessing, ViewMaker

__all__ = ["Modality", "Preprocessing", "ViewMaker", "find_modality"]


def find_modality(name: str) -> Modality:
    """The modality of that name (image, series, table, text, audio, video, volume, points …); an unknown name is an OptionError that
    names the nearest."""
    from . import audio, image, points, series, table, text, video, volume  # noqa: F401  (each registers itself)

    found = find("modality", name)
    return found() if isinstance(found, type) else found
