"""Batched, on-device views: a file a modality, each a pure function of the batch and its draws."""
