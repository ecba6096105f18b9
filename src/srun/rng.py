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


class Streams:
    """The named torch generators of one run, made on first use; their states can be saved and put back.

    A stream that is asked for after ``restore`` and was not saved starts at its beginning, as it would have.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed, self.device = seed, torch.device(device)
        self._made: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._made:
            self._made[name] = stream(self.seed, name, self.device)
        return self._made[name]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of every stream used so far, by name."""
        return {name: generator.get_state() for name, generator in self._made.items()}

    def restore(self, states: dict[str, torch.Tensor]) -> None:
        """Put streams back where ``state`` found them."""
        for name, state in states.items():
            self[name].set_state(state)
