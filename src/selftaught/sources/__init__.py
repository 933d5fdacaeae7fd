"""Sources: bytes → NumPy arrays. `open_source` opens whatever the user has; names load when first asked for."""

from importlib import import_module

_HOME = {
    "open_source": "opening", "speaks_of": "opening", "ImageArrays": "arrays", "SeriesArrays": "series", "TableSource": "tables",
    "Subset": "subsets", "subset": "subsets", "with_labels": "subsets", "align_classes": "subsets",
    "ImageFiles": "images", "ImageArchive": "images", "ImageParquet": "images",
    "PointsFiles": "points", "PointsArchive": "points", "PointsArrays": "points",
    "AudioFiles": "audio", "AudioArchive": "audio", "AudioArrays": "audio",
    "VideoFiles": "video", "VideoArchive": "video", "FrameFolders": "video", "VideoArrays": "video",
    "VolumeFiles": "volumes", "VolumeArchive": "volumes", "VolumeArrays": "volumes",
    "Loader": "loading", "Quarantine": "quarantine", "load_embedded": "embedded", "embedded_names": "embedded",
}

__all__ = list(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'selftaught.sources' has no attribute '{name}'")
    thing = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = thing
    return thing

