"""The keys of a run that a person may set: default and one sentence each; a default of None means that the plan decides."""

from __future__ import annotations

from typing import Any

KEYS: dict[str, tuple[Any, str]] = {
    "method": (None, "how to learn: simclr, byol, vicreg, dino, moco_v3 … (`selftaught methods` lists all), or your own, FILE.py:NAME or "
               "MODULE:NAME"),
    "backbone": (None, "the network: convnet, resnet18, resnet34, resnet50, vit_tiny, vit_small, vit_base, unet, dilated, mamba, frames, "
                 "mlp, table_transformer, text_transformer, pointnet, point_transformer, voxel_transformer, timm:NAME, hf:NAME"),
    "epochs": (None, "passes over the data"),
    "steps": (None, "optimiser steps; overrides epochs"),
    "minutes": (10.0, "minutes that a run may take where neither epochs nor steps is given"),
    "batch_size": (None, "items a step, over all processes"),
    "lr": (None, "peak learning rate per 256 items of a batch"),
    "seed": (0, "a whole number that settles weights, order and views"),
    "device": ("auto", "auto, cpu, cuda or cuda:N"),
    "devices": (1, "processes, one a device"),
    "precision": ("auto", "auto, 32-true, bf16-mixed or 64-true"),
    "resolution": (None, "side of an image or a video's frames in pixels, steps of a series, tokens of a text, points of a cloud, "
                   "cells along a volume's longest axis"),
    "num_workers": (None, "processes that decode; 0 decodes in the training process"),
    "max_bad": (0.01, "fraction of undecodable items (beyond the first 5) past which the run stops"),
    "log_every": (10, "steps between two writes of the metrics"),
    "checkpoint_every": (None, "steps between two checkpoints"),
    "health_every": (None, "steps between two health checks"),
    "stop_on_collapse": (True, "whether a collapse stops the run: true or false"),
    "track": (None, "tensorboard, or nothing"),
}
GROUPS: dict[str, str] = {
    "method": "an option of the method, method.temperature=0.2",
    "training": "a field of its optimisation, training.optimizer=adamw",
    "views": "a setting of its views, views.flip=0",
    "backbone": "an option of the network, backbone.widths=32,64",
    "input": "how items are read: of audio form, rate, mels; of video frames, stride; of text vocabulary",
}
LEAST: dict[str, float] = {
    "epochs": 1, "steps": 1, "minutes": 0, "batch_size": 1, "lr": 0, "seed": 0, "devices": 1, "num_workers": 0, "max_bad": 0,
    "log_every": 1, "checkpoint_every": 1, "health_every": 1, "training.accumulate": 1, "training.clip": 0, "training.warmup": 0,
}
"""The least value of a number."""
NONE = ("resolution", "track")
"""Keys that may be none."""
FREE = ("device", "devices", "num_workers", "track", "log_every", "checkpoint_every", "max_bad")
"""Keys that may change when a run is resumed: they do not change what is learned."""
