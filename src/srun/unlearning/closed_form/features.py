"""What is known of an event without the event and without any model: features from retained data alone.

A feature that Original gives, such as how it scores an item's neighbours, carries its memory into the level. Shapes:
Q queries, U users, V items, K dimensions, F features, L items of a context.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from srun.data.dataset import Mask
from srun.data.sequences import Queries
from srun.models.products import product
from srun.requests.partition import Partition
from srun.rng import numpy_stream

NEAR = 3  # last items of a context that are looked at one by one
DIMENSIONS, SPARE, ROUNDS = 64, 16, 3  # of the space of items, and how exactly it is found
ROUNDING = 1e-6  # share of the largest square of a singular value, below which one is taken for 0
MAX_USERS = 20_000  # on whom overlaps are measured: time and memory end with it
BLOCK = 4096  # queries at a time
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


class RetainedFeatures:
    """Features of events, from the retained events of a request, or from others that a model was trained on.

    Overlap: the cosine of two items' sets of users. The space of items: the first ``DIMENSIONS`` singular vectors of
    the item-user matrix, whose rows have unit length.
    """

    def __init__(self, request: Partition, seed: int, events: Mask | None = None) -> None:
        """``events`` (E,) are what is known; None: the retained ones."""
        data, retained = request.data, request.retain if events is None else events
        self.max_length = data.max_length
        self.popularity = np.bincount(data.item[retained], minlength=data.num_items + 1)
        every = -(-data.num_users // MAX_USERS)  # a sample: by the id, not by what users did
        kept = retained & (data.user % every == 0)
        shape = (data.num_items + 1, -(-data.num_users // every))
        pairs = (np.ones(int(kept.sum())), (data.item[kept], data.user[kept] // every))
        table = sparse.csr_array(pairs, shape=shape)
        table.data[:] = 1  # repeats
        length = np.sqrt(np.maximum(np.asarray(table.sum(1)).ravel(), 1))
        self.overlap = sparse.csr_array(sparse.diags_array(1 / length) @ table)  # (V+1, U)
        self.space = item_space(self.overlap, numpy_stream(seed, "item_space"))  # (V+1, K)
        norm = np.linalg.norm(self.space, axis=1, keepdims=True)
        self.unit = self.space / np.maximum(norm, 1e-9)

    def __call__(self, queries: Queries) -> Floats:
        """(Q, F) context length, log popularity of the target, how near it is to its context, and whether it is new.

        An item of which no event is known stands below all others: there is nothing to teach it. As a popularity it
        would be next to that of items with one.
        """
        blocks = np.array_split(np.arange(len(queries)), len(queries) // BLOCK + 1)
        return np.concatenate([self._features(queries.select(block)) for block in blocks])

    def _features(self, queries: Queries) -> Floats:
        target = queries.target
        history = queries.histories(self.max_length)  # (Q, L)
        real = history != 0
        length = np.minimum(queries.stop - queries.start, self.max_length)
        cosines = np.einsum("qlk,qk->ql", self.unit[history], self.unit[target]) * real
        products = np.einsum("qlk,qk->q", self.space[history] * real[..., None], self.space[target])
        own = self.overlap[target]
        last = [
            np.asarray(self.overlap[history[:, -1 - place]].multiply(own).sum(1)).ravel()  # 0 beside padding
            for place in range(min(NEAR, self.max_length))
        ]
        return np.column_stack(
            [
                length,
                np.log1p(self.popularity[target]),
                np.sum(last, axis=0),
                *last,
                cosines[:, -NEAR:],
                cosines.max(1),
                cosines.sum(1) / np.maximum(real.sum(1), 1),
                products,
                self.popularity[target] == 0,
            ]
        )


def item_space(table: sparse.csr_array, rng: np.random.Generator) -> Singles:
    """(V+1, K) rows of ``table`` (V+1, U) in the space of its first singular vectors, by randomised subspace iteration.

    Halko, Martinsson and Tropp (2011), algorithm 4.4. K is ``DIMENSIONS``, or less for a small table. Dense products
    are torch's, which keeps to the threads that it was given; numpy's would take all of them.
    """
    single = sparse.csr_array(table, dtype=np.float32)
    size = min(DIMENSIONS + SPARE, *table.shape)
    basis = torch.from_numpy(single @ rng.standard_normal((table.shape[1], size), dtype=np.float32))
    for _ in range(ROUNDS):
        basis = torch.from_numpy(single @ (single.T @ _orthonormal(basis).numpy()))
    basis = _orthonormal(basis)
    squares, left = _spectrum(torch.from_numpy(single.T @ basis.numpy()))
    scaled = left * squares.clamp(min=0).sqrt()
    return np.asarray((basis @ scaled[:, -DIMENSIONS:]).numpy())


def _orthonormal(basis: Tensor) -> Tensor:
    """(N, K) an orthonormal basis of the columns of ``basis`` (N, K), without directions that rounding made."""
    squares, turn = _spectrum(basis)
    kept = squares > ROUNDING * squares[-1]
    return product(basis, (turn[:, kept] / squares[kept].sqrt()).T.contiguous())


def _spectrum(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Squares (K,) of the singular values of ``basis`` (N, K), rising, and the right singular vectors (K, K)."""
    columns = basis.T.contiguous()
    squares, turn = torch.linalg.eigh(product(columns, columns))
    return squares, turn
