"""Named random streams: every draw comes from a generator made here, so that one seed never drives two things."""

import hashlib

import numpy as np
import torch


def derive(seed: int, name: str) -> int:
    """Return the 63-bit seed of the stream ``name`` under ``seed``; streams of different names are independent."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for the stream ``name`` under ``seed``, on ``device``."""
    return torch.Generator(device=device).manual_seed(derive(seed, name))


def numpy_stream(seed: int, name: str) -> np.random.Generator:
    """Return a numpy generator for the stream ``name`` under ``seed``."""
    return np.random.default_rng(derive(seed, name))
