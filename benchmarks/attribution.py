"""Integrated gradients of all neurons, beside loops of one sequence at a time (docs/attribution.md).

A BERT4Rec of ML-1M's shape with random weights and random full histories: what is computed does not depend on either.
Prints processor seconds for so many sequences; loops are timed on fewer, and all of it three times in turns, with the
median shown. captum goes through the whole network for each layer, as its `IntegratedGradients` does.

    python benchmarks/attribution.py --sequences 10000
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import engine  # first: torch reads what it sets
import torch
from captum.attr import IntegratedGradients
from records import markdown_table
from timing import in_turns, processor_seconds
from torch import Tensor

from srun.models.base import SequenceModel
from srun.models.scorer import new_model
from srun.unlearning.attribution.integrated_gradients import attribute

NUM_ITEMS, MAX_LENGTH, STEPS = 3416, 50, 20
BERT4REC = (
    *("model.bert4rec.hidden=64", "model.bert4rec.blocks=2", "model.bert4rec.heads=4"),
    *("model.bert4rec.norm_first=true", "model.bert4rec.gelu=tanh"),
)
Function = Callable[[Tensor], Tensor]
Way = Callable[[SequenceModel, Tensor, Tensor], None]
"""Attributes all neurons for histories and targets."""


def whole_network(model: SequenceModel, layer: int, history: Tensor, target: Tensor) -> tuple[Tensor, Function]:
    """The layer's neurons (1, U) at the last position, and P (S,) as a function of S variants of them, by hooks."""
    outer, seen = model.neuron_blocks[layer].outer, []
    with torch.no_grad(), outer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -1])):
        model.hidden(model.prediction_inputs(history))

    def function(neurons: Tensor) -> Tensor:
        def replace(_: object, inputs: tuple[Tensor]) -> tuple[Tensor]:
            return (torch.cat([inputs[0][:, :-1], neurons[:, None]], 1),)

        with outer.register_forward_pre_hook(replace):
            states = model.hidden(model.prediction_inputs(history).expand(len(neurons), -1))[:, -1]
        return model.scores(states)[:, 1:].softmax(-1)[:, int(target) - 1]

    return seen[0], function


def with_captum(model: SequenceModel, histories: Tensor, targets: Tensor) -> None:
    for history, target in zip(histories, targets, strict=True):
        for layer in range(len(model.neuron_blocks)):
            neurons, function = whole_network(model, layer, history[None], target)
            IntegratedGradients(function).attribute(neurons, torch.zeros_like(neurons), n_steps=STEPS)


def one_by_one(model: SequenceModel, histories: Tensor, targets: Tensor) -> None:
    for history, target in zip(histories, targets, strict=True):
        attribute(model, history[None], target[None], "joint", "gauss_legendre", STEPS)


def in_batches(model: SequenceModel, histories: Tensor, targets: Tensor) -> None:
    attribute(model, histories, targets, "joint", "gauss_legendre", STEPS)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--loop", type=int, default=50, help="sequences of a loop")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    model = new_model(engine.describe(engine.settings(*BERT4REC), "bert4rec", NUM_ITEMS, MAX_LENGTH))
    model.initialise(torch.Generator().manual_seed(0))
    model.eval()
    drawn = torch.randint(1, NUM_ITEMS + 1, (options.sequences, MAX_LENGTH + 1), generator=torch.Generator())
    ways = {
        "in batches": (in_batches, options.sequences),
        "one sequence at a time": (one_by_one, options.loop),
        "captum, one sequence at a time": (with_captum, options.loop),
    }
    each = in_turns({name: partial(_seconds, way, model, drawn[:number]) for name, (way, number) in ways.items()}, 3)
    rows = [
        [name, f"{seconds * options.sequences:.1f}", f"{seconds / each['in batches']:.1f}"]
        for name, seconds in each.items()
    ]
    print("\n".join(markdown_table([f"{options.sequences} sequences", "processor seconds", "ratio"], rows)))


def _seconds(way: Way, model: SequenceModel, sequences: Tensor) -> float:
    """Processor seconds of one sequence; its last item is the target."""
    return processor_seconds(lambda: way(model, sequences[:, :-1], sequences[:, -1])) / len(sequences)


if __name__ == "__main__":
    main()
