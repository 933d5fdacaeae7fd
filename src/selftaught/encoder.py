"""What survives training: a backbone with its preprocessing and lineage. Embeds any data of its modality; saved without pickle."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor, nn

from .contracts import BadItem, Batch, Clean, DataError, Features, OptionError, SelftaughtError, Source
from .contracts.stored import damaged, read_json, read_tensors, whole_folder, write_text
from .modalities import Modality, Preprocessing, find_modality
from .sources import open_source, speaks_of

FORMAT = 1


class Encoder:
    """A backbone that maps items to vectors of `width` numbers.

    backbone_name and backbone_options say how to build the backbone again (`custom` where the user gave a module: `load` then
    needs it). A module that a method built around that backbone has an attribute `around`, (registered name, options): it is
    built again by that name, the inner one's name and options being its options `of` and `options`. lineage: method, data
    fingerprint, code version, steps, seed: what this encoder was trained on, and how.
    """

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing, *, backbone_name: str = "custom",
                 backbone_options: dict[str, Any] | None = None, lineage: dict[str, Any] | None = None):
        self.backbone, self.preprocessing = backbone.eval(), preprocessing
        self.backbone_name, self.backbone_options = backbone_name, dict(backbone_options or {})
        self.around: tuple[str, dict[str, Any]] | None = getattr(backbone, "around", None)
        if self.around and backbone_name not in ("custom", self.around[0]):  # a method built it around the backbone it was given
            name, options = self.around
            self.backbone_options = {**options, "of": backbone_name, "options": self.backbone_options}
            self.backbone_name = name
        self.lineage = dict(lineage or {})
        self.items: np.ndarray | None = None  # uint64 [n]: content hashes of what it was trained on, where known
        self.modality: Modality = find_modality(preprocessing.modality)
        if len(preprocessing.facts.shape) == 3:  # as it was trained: faster, and a loaded encoder is the same to the bit
            self.backbone.to(memory_format=torch.channels_last)

    def __repr__(self) -> str:
        facts = self.preprocessing.facts
        return (f"Encoder({self.backbone_name}, {facts.modality} {facts.shape} → {self.width}, "
                f"{self.lineage.get('method', 'untrained')})")

    @property
    def width(self) -> int:
        return self.backbone.width

    # ---- embedding -------------------------------------------------------------------------------------------------

    def open(self, data: Any, **options: Any) -> Source:
        """The data as a source prepared as in training, arrays in its layout unless `options`, of `open_source`, say another. Raises
        DataError when it is of another modality or shape."""
        layout = self.preprocessing.facts.layout
        known = {"layout": layout} if layout is not None and speaks_of(layout, data) else {}
        given = {name: value for name, value in options.items() if value is not None}
        source = open_source(data, **{"least": 1, **self.modality.opens_with, **known, **given})
        if source.modality != self.preprocessing.modality:
            raise DataError(f"This encoder takes {self.preprocessing.modality} data, but what was given is {source.modality} data.")
        self.modality.configure(source, self.preprocessing)
        return source

    def batches(self, data: Any, *, batch_size: int = 256) -> Iterator[tuple[Batch, list[tuple[int, str]]]]:
        """Batches in order of the source, with the (index, reason) of items that could not be decoded and are left out."""
        source = self.open(data)
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, len(source), batch_size):
                index = np.arange(start, min(start + batch_size, len(source)))
                if source.resident:
                    items, bad = source.take(index), []
                else:
                    results = list(pool.map(lambda i, s=source: _try(s, int(i)), index))
                    bad = [(int(i), r) for i, r in zip(index, results) if isinstance(r, str)]
                    items = [r for r in results if not isinstance(r, str)]
                    index = np.array([i for i, r in zip(index, results) if not isinstance(r, str)], dtype=np.int64)
                if len(index):
                    fields, lengths = self.modality.collate(items, self.preprocessing)
                    place = torch.as_tensor(index, dtype=torch.int64)
                    yield Batch(fields, place, place, torch.zeros_like(place), None, lengths), bad
                elif bad:
                    yield Batch({}, torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0)), bad

    @torch.no_grad()
    def embed(self, data: Any, field: str | None = None, tokens: bool = False, *, batch_size: int = 256) -> np.ndarray:
        """float32 [N, D] in order of the data ([N, T, D] with `tokens`). Rows of items that cannot be decoded are NaN, and a
        warning counts and names them. `data`: whatever `open_source` takes. Streams: memory is that of a batch and the result."""
        if field not in (None, "x"):
            raise OptionError(f"This encoder has one field, 'x', not '{field}'.")
        source = self.open(data)
        weight = next(self.backbone.parameters())
        device = weight.device
        views = self.modality.views(Clean(), self.preprocessing)
        self.backbone.eval()
        found: np.ndarray | None = None
        lost: list[tuple[int, str]] = []
        for batch, bad in self.batches(source, batch_size=batch_size):
            lost += bad
            if not len(batch):
                continue
            batch = batch.to(device)
            view = views(batch, batch.draws(0, "embed"))[0]
            x = view.x.to(weight.dtype) if view.x.is_floating_point() else view.x
            features: Features = self.backbone(x, lengths=view.lengths)
            rows = features.tokens if tokens else features.pooled
            if rows is None:
                raise OptionError(f"The backbone {self.backbone_name} has no tokens; leave out tokens=True.")
            if found is None:
                found = np.full((len(source), *rows.shape[1:]), np.nan, dtype=np.float32)
            found[batch.index.cpu().numpy()] = rows.float().cpu().numpy()
        if found is None:
            raise DataError(f"None of the {len(source)} items could be decoded; the first: {source.name(lost[0][0])}: {lost[0][1]}.")
        if lost:
            warnings.warn(f"{len(lost)} of {len(source)} items could not be decoded and have NaN embeddings; the first: "
                          f"{source.name(lost[0][0])}: {lost[0][1]}.", stacklevel=3)  # the caller, behind no_grad's wrapper
        return found

    def raw(self, data: Any, *, batch_size: int = 256) -> np.ndarray:
        """float32 [N, D]: the input itself after the preprocessing, the baseline without an encoder. NaN rows as in `embed`."""
        source = self.open(data)
        found: np.ndarray | None = None
        for batch, _ in self.batches(source, batch_size=batch_size):
            if len(batch):
                rows = self.modality.raw(batch, self.preprocessing).numpy()
                found = np.full((len(source), rows.shape[1]), np.nan, dtype=np.float32) if found is None else found
                found[batch.index.numpy()] = rows
        if found is None:
            raise DataError(f"None of the {len(source)} items could be decoded.")
        return found

    def contents(self, data: Any) -> np.ndarray:
        """uint64 [n]: a hash of every item's contents, to find the same item in two sets; items that cannot be decoded are left out."""
        found = []
        for batch, _ in self.batches(data):
            if len(batch):
                hashes = batch.fields.get("hash")
                found.append(_hash_rows(self.modality.raw(batch, self.preprocessing).numpy()) if hashes is None
                             else hashes.numpy().view(np.uint64))
        return np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)

    def as_sklearn(self, *, batch_size: int = 256) -> Any:
        """A scikit-learn transformer over this encoder, for a Pipeline: `fit` does nothing, `transform(X)` embeds."""
        return EncoderTransformer(self, batch_size=batch_size)

    # ---- on disk ---------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Writes model.safetensors and encoder.json; the folder appears at once or not at all, in place of an encoder that is there.
        OptionError where anything else is."""
        from safetensors.torch import save_file

        folder = Path(folder)
        if folder.exists() and not (folder / "encoder.json").is_file() and (folder.is_file() or any(folder.iterdir())):
            raise OptionError(f"{folder} is there and is no encoder: nothing is replaced; name another folder.")
        backbone = {"name": self.backbone_name, "options": self.backbone_options}
        if self.backbone_name == "custom" and self.around:
            backbone["around"] = list(self.around)
        described = {"format": FORMAT, "backbone": backbone,
                     "width": self.width, "preprocessing": self.preprocessing.to_json(), "lineage": self.lineage}
        with whole_folder(folder) as temporary:
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in self.backbone.state_dict().items()},
                      temporary / "model.safetensors")
            if self.items is not None:
                save_file({"items": torch.from_numpy(self.items.view(np.int64))}, temporary / "items.safetensors")
            (temporary / "encoder.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, path: str | Path, *, backbone: nn.Module | None = None) -> Encoder:
        """From a folder that `save` wrote, or a run that has one. `backbone`: the module, where it was the user's own. A damaged file
        is a SelftaughtError that names it."""
        folder = Path(path)
        folder = folder / "encoder" if (folder / "encoder" / "encoder.json").is_file() else folder
        mend = f"Copy the folder again; if it is a run's, delete {folder} and have it written by --resume."
        described = _described(folder, mend)
        try:
            name, options = described["backbone"]["name"], described["backbone"]["options"]
            preprocessing = Preprocessing.from_json(described["preprocessing"])
        except (KeyError, TypeError) as error:
            raise damaged(folder / "encoder.json", repr(error), mend) from None
        if name == "custom" and backbone is None:
            raise OptionError(f"{folder} holds the weights of a module of your own; pass it: load(path, backbone=module).")
        modality = find_modality(preprocessing.modality)
        network = modality.backbone(preprocessing.facts, backbone if name == "custom" else name, **options)
        if outer := described["backbone"].get("around"):
            network = modality.backbone(preprocessing.facts, outer[0], of=network, **outer[1])
        try:
            network.load_state_dict(read_tensors(folder / "model.safetensors", mend=mend))
        except RuntimeError as error:
            raise SelftaughtError(f"The weights in {folder} do not fit the backbone '{name}' that encoder.json describes: "
                                  f"{str(error).splitlines()[0]}") from error
        encoder = cls(network, preprocessing, backbone_name=name, backbone_options=options, lineage=described["lineage"])
        if (folder / "items.safetensors").is_file():
            encoder.items = read_tensors(folder / "items.safetensors", "items", mend=mend)["items"].numpy().view(np.uint64)
        return encoder

    def export_onnx(self, path: str | Path, *, tolerance: float = 1e-4) -> float:
        """Writes an ONNX graph (prepared x [B, …] → pooled [B, D]) and `PATH.json`, the preprocessing, beside it. Where items vary in
        length the graph also takes lengths int64 [B]; x is then filled up to the longest.

        Runs the graph in onnxruntime over batches of several sizes and returns the largest difference from this encoder, relative to the
        largest feature; raises SelftaughtError above `tolerance`, or where there is no such graph, and OptionError where onnx is not
        installed (extra 'export').
        """
        try:
            import onnxruntime
            import onnxscript  # noqa: F401  (torch.onnx needs it)
        except (ImportError, OSError) as error:
            raise OptionError(f"ONNX export needs {error.name}: pip install selftaught[export].") from None
        path = Path(path)
        if not path.parent.is_dir() or path.is_dir():
            raise OptionError(f"{path} is a folder: name a file in it." if path.is_dir() else
                              f"There is no folder {path.parent} to write {path.name} to: make it first.")
        graph = _Pooled(copy.deepcopy(self.backbone)).cpu().eval()
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            self._write_onnx(graph, temporary)
            session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
            difference = 0.0
            for n in (1, 2, 5):
                example = self._inputs(n)
                with torch.no_grad():
                    expected = graph(*example.values()).numpy()
                try:
                    found = session.run(None, {name: value.numpy() for name, value in example.items()})[0]
                except Exception as error:  # onnxruntime's own classes, which have no common name
                    raise SelftaughtError(f"The ONNX graph of {self.backbone_name} does not run on {n} items, and was not kept: "
                                          f"{str(error).splitlines()[0][:200]}") from None
                difference = max(difference, float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)))
            if not difference <= tolerance:
                raise SelftaughtError(f"The ONNX graph of {self.backbone_name} differs from the encoder by {difference:.2g} (relative), "
                                      f"more than {tolerance:g}; it was not kept.")
            described = {"format": FORMAT, "inputs": list(example), "output": "pooled", "preprocessing": self.preprocessing.to_json(),
                         "lineage": self.lineage, "round_trip_difference": difference}
            write_text(path.with_name(path.name + ".json"), json.dumps(described, indent=1))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return difference

    def _write_onnx(self, graph: nn.Module, path: Path) -> None:
        example = self._inputs(3)
        batch = torch.export.Dim("batch", min=1, max=65536)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(graph, tuple(example.values()), str(path), input_names=list(example), output_names=["pooled"],
                                  verbose=False, dynamic_shapes={name: {0: batch} for name in example}, external_data=False)
            except Exception as error:  # whatever the exporter meets
                reason = str(error.__cause__ or error).strip().partition("\n")[0]
                raise SelftaughtError(f"{self.backbone_name} cannot be written as an ONNX graph: {reason[:300]}") from None

    def _inputs(self, n: int) -> dict[str, Tensor]:
        """Noise for n items: x, and lengths where they vary."""
        x, span = self.example(n), self.preprocessing.facts.lengths
        return {"x": x} if span is None else {"x": x, "lengths": torch.linspace(span[1], span[0], n).round().long()}

    def example(self, n: int = 2) -> Tensor:
        """A prepared input of the right shape and type, of noise."""
        return self.modality.example(self.preprocessing.facts, n)


class EncoderTransformer(TransformerMixin, BaseEstimator):
    """scikit-learn's view of an encoder: stateless, `transform(X)` → float32 [N, D]."""

    def __init__(self, encoder: Encoder, *, batch_size: int = 256):
        self.encoder = encoder
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> EncoderTransformer:
        return self

    def transform(self, X: Any) -> np.ndarray:
        return self.encoder.embed(X, batch_size=self.batch_size)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        return np.array([f"embedding{i}" for i in range(self.encoder.width)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class _Pooled(nn.Module):
    """Prepared x, and perhaps lengths, → pooled, for export."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.backbone(x, lengths=lengths).pooled


def _hash_rows(x: np.ndarray) -> np.ndarray:
    """uint64 [N]: a hash of every row of float32 [N, D]."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    weights = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    with np.errstate(over="ignore"):
        return (bits * weights).sum(axis=1, dtype=np.uint64)


def _try(source: Source, index: int) -> dict[str, np.ndarray] | str:
    try:
        return source.read(index)
    except BadItem as error:
        return error.reason


def _described(folder: Path, mend: str) -> dict[str, Any]:
    try:
        described = read_json(folder / "encoder.json", "format", "backbone", "preprocessing", "lineage", mend=mend)
    except FileNotFoundError:
        raise OptionError(f"There is no encoder in {folder}: encoder.json is missing. A run that has not finished has none; "
                          "finish it with --resume.") from None
    if described["format"] > FORMAT:
        raise SelftaughtError(f"{folder} was written by a newer version (format {described['format']}, this one reads up to "
                              f"{FORMAT}); upgrade selftaught.")
    return described
