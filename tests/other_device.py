"""A device that is not there: its tensors are a CPU's, but whatever mixes them with a CPU's fails as on a GPU.

    python tests/other_device.py

Prints JSON: for every piece of work how far its result is from the CPU's, how often it waited for the device, and its
error. It is a program of its own, since a process can register such a device only once and before any gradient.

What a real GPU would also refuse (a generator of another device, numpy without .cpu()) fails here too; what it computes
in another order does not show. Random draws are the CPU's, so that results are compared to the rounding of float32.
"""
# ruff: noqa: E402  # what is set before an import counts

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import numpy as np
import torch

torch.inference_mode = torch.no_grad  # whose tensors could not be wrapped; before srun asks for it

from gpu_check_bench import CPU, QUIET, ROOT, TINY, Bench, jobs
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from srun.evaluation.evaluate import evaluate
from srun.evaluation.linear_probe import last_states
from srun.evaluation.probe import Probe
from srun.evaluation.ranking import RankingTask
from srun.evaluation.recovery import recover
from srun.evaluation.relearning import relearn
from srun.flow.params import load
from srun.models.scorer import Scorer
from srun.requests.kinds import DrawnUsers
from srun.requests.partition import Partition, partition
from srun.training import checkpoint
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import train_new
from srun.training.together import train_all
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context

NAME = "other"
MAY_MIX = {"aten::copy_", "aten::_to_copy"}
"""A GPU copies from a CPU. It takes indices from there too, but they are copied each time: none are here."""
WAITS = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::unique_dim",
    "aten::_unique2",
}
"""After these the CPU knows something that the device has computed."""


class Backend:
    """What torch asks of a device's module."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class Other(Tensor):
    """A tensor of the device, with the CPU's tensor that it stands for."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Other":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of Device")


class Generator(torch.Generator):
    """A generator of the device, which draws what the CPU's would."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        return super().__new__(cls, device="cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self.claimed = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self.claimed


class Device(TorchDispatchMode):
    """Computes on the CPU what is asked of the device; ``waits`` counts what the CPU waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        others = [tensor for tensor in tensors if isinstance(tensor, Other)]
        name = func._schema.name
        if others and name not in MAY_MIX:
            strange = [tensor for tensor in tensors if not isinstance(tensor, Other) and tensor.dim()]
            assert not strange, f"{func}: tensors of two devices meet"
        self.waits += bool(others) and name in WAITS
        device = kwargs.get("device")
        made_there = device is not None and torch.device(device).type == NAME
        stays_there = others and (device is None or made_there)
        changed = {**kwargs, "device": torch.device("cpu")} if made_there else kwargs
        inner_args, inner_kwargs = tree_map(
            lambda leaf: leaf.inner if isinstance(leaf, Other) else leaf, (args, changed)
        )
        out = func(*inner_args, **inner_kwargs)
        if not (made_there or stays_there):
            return out
        known = {id(other.inner): other for other in others}
        return tree_map_only(Tensor, lambda tensor: known[id(tensor)] if id(tensor) in known else Other(tensor), out)


class Calls(TorchFunctionMode):
    """What never reaches the dispatcher of torch: generators, lists, and data that are put in a parameter's place."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if isinstance(generator, Generator):
            place = kwargs.get("device") or (args[0].device if args and isinstance(args[0], Tensor) else "cpu")
            same = torch.device(place).type == generator.device.type
            assert same, f"{func}: a generator of {generator.device} draws for {place}"
        if func is Tensor.tolist and isinstance(args[0], Other):
            return args[0].cpu().tolist()
        if func is Tensor.new_tensor and isinstance(args[0], Other):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(args[0].device)
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == NAME:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func == Tensor.data.__set__ and isinstance(args[0], Other):
            args[0].inner = args[1].inner
        return func(*args, **kwargs)


def save_from_there(tensors: dict[str, Tensor], path: Path) -> None:
    """safetensors' ``save_file``, which fetches tensors from a GPU by itself."""
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, path)


@contextmanager
def other_device() -> Iterator[Device]:
    """Make the device known to torch for what is done inside."""
    before = torch.Generator
    torch.Generator = Generator
    checkpoint.save_file = save_from_there
    try:
        with Calls(), Device() as device:
            yield device
    finally:
        torch.Generator = before
        checkpoint.save_file = save_file


Result = Mapping[str, Any]
"""Numbers or tensors by name."""
Work = Callable[[Bench, torch.device], Result]
BATCH = 64
METHODS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name of the work -> method, kind of request, settings unlike params.yaml
    "retrain": ("retrain", "interactions", ()),
    "output_mask": ("output_mask", "interactions", ()),
    "finetune_only": ("finetune_only", "interactions", ("max_epochs=1",)),
    "closed_form": ("closed_form", "interactions", ("level_from=retained",)),
    "closed_form, category": ("closed_form", "category", ("level_from=retained",)),
    "sruga": ("sruga", "interactions", ()),
    "sruga, match": ("sruga", "interactions", ("stop=match",)),
    "sruga, ga, plateau, mgda": (
        "sruga",
        "interactions",
        ("ascent=ga", "finetune_weight=1.0", "weighting=mgda", "kl_weight=0.0", "update=all", "stop=plateau"),
    ),
    "sruga, sampled kl": ("sruga", "interactions", ("kl_items=50",)),
    "sruga, npo, pcgrad": (
        "sruga",
        "category",
        ("ascent=npo", "weighting=pcgrad", "update=embeddings", "kl_items=targets", "kl_positions=targets"),
    ),
    "sruga, npo, uncertainty": ("sruga", "users", ("ascent=npo", "weighting=uncertainty", "update=blocks")),
    "attribution": ("attribution", "category", ()),
    "attribution_plus": ("attribution_plus", "category", ("neurons=joint", "directions=1", "finetune_steps=2")),
    "random_neurons": ("random_neurons", "category", ()),
    "largest_neurons": ("largest_neurons", "category", ()),
}
ROWS = "rows={strength: 10.0, ridge: 1.0, damping: 1.0, rounds: 2, retained_states: 64}"
BY_EVENT = ("level=by_event", "level_from=retained", "update=all", "unlearn_dropout=true", "finetune_weight=1.0", ROWS)
METHODS["sruga, by event"] = ("sruga", "interactions", BY_EVENT)


def unlearned(name: str) -> Work:
    """A method carried out on an Original trained there, with its cost and curves."""
    method, kind, changes = METHODS[name]

    def work(bench: Bench, device: torch.device) -> Result:
        presets = [] if changes == BY_EVENT else [ROOT / "presets/sruga-output-layer.yaml"]
        assignments = [*TINY.overrides, *(f"unlearn.{method}.{change}" for change in changes)]
        params = load(ROOT / "params.yaml", presets, assignments)
        request = bench.request if kind == "interactions" else _request(bench, kind)
        probe = Probe(request.splits, bench.data.max_length, device, BATCH)
        original = bench.original(bench.description("sasrec"), 1, device)
        method_settings: Any = params.method_settings(method)
        result = UNLEARNERS[method](method_settings).unlearn(original, request, Context.quiet(device, 0, probe))
        return dict(result.scorer.model.state_dict()) | result.cost.exact()

    return work


def _request(bench: Bench, kind: str) -> Partition:
    if kind == "users":
        users = DrawnUsers(kind="users", share_of_users=0.1, catalogue="retained", seed=0)
        return partition(bench.data, "users", users)
    name, params = bench.params.with_category("category 3")
    return partition(bench.data, name, params.request(name))


def trained(name: str, loss: str, **changes: Any) -> Work:
    """A model trained for two epochs."""

    def work(bench: Bench, device: torch.device) -> Result:
        recipe = bench.recipe(2, loss=loss, batch_size=BATCH, **changes)
        model, fit = train_new(bench.description(name), bench.windows(device), recipe, 0, QUIET)
        return dict(model.state_dict()) | {"steps": fit.cost.steps}

    return work


def resumed(bench: Bench, device: torch.device) -> Result:
    """SRUGA killed after an epoch and gone on with."""
    settings = replace(bench.sruga_output_layer(), max_epochs=2, max_steps=None, batch_size=16)
    original = bench.original(bench.description("sasrec"), 1, device)

    def kill(row: dict[str, float], epoch: int, cap: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        resume = ResumeFolder(Path(folder), "key")
        try:
            UNLEARNERS["sruga"](settings).unlearn(original, bench.request, Context.quiet(device, 0, None, resume, kill))
        except KeyboardInterrupt:
            again = Context.quiet(device, 0, None, resume)
            return dict(UNLEARNERS["sruga"](settings).unlearn(original, bench.request, again).scorer.model.state_dict())
    raise AssertionError("it was not killed")


def evaluated(bench: Bench, device: torch.device) -> Result:
    """Every split ranked, with what must not be shown; states; attacks; relearning."""
    request, original = _request(bench, "users"), bench.original(bench.description("bert4rec"), 1, device)
    catalogue = torch.from_numpy(np.arange(bench.data.num_items + 1) % 50 != 1).to(device)
    scorer = Scorer(original.scorer.models, catalogue, torch.from_numpy(request.masked_pairs).to(device))
    figures = evaluate(scorer, request, bench.params.evaluate, device).metrics
    queries = bench.request.queries("test")
    best = RankingTask.make(queries, bench.data.max_length, device, BATCH).top(scorer, 5)
    states = last_states(scorer, queries, device, BATCH)
    attacks = recover(original.model, bench.request, BATCH, 0, device)
    relearning = replace(bench.params.relearning, kinds=("interactions",), max_epochs=1, share=0.5)
    recipe = bench.recipe(1, batch_size=BATCH)
    curves = relearn(original.scorer, bench.request, recipe, relearning, 0, device, BATCH)
    return {
        **{f"{split}/{key}": value for split, row in figures.items() for key, value in row.items()},
        **{"best": torch.from_numpy(best), "states": torch.from_numpy(states)},
        **{attack.attack: attack.hit_10 for attack in attacks},
        **{way: torch.tensor(curve.hit_10) for way, curve in curves.items()},
    }


def together(bench: Bench, device: torch.device) -> Result:
    """Shards trained as one."""
    training = jobs(bench, bench.description("sasrec"), 2, device)
    models = [model for model, _ in train_all(training, bench.recipe(2, batch_size=BATCH), True)]
    return {
        f"{number}/{key}": value for number, model in enumerate(models) for key, value in model.state_dict().items()
    }


WORKS: dict[str, Work] = {
    # not GRU4Rec: torch has a kernel for its cell on a GPU that it lacks on a CPU
    **{
        f"train {name}, {loss}": trained(name, loss)
        for name in ("sasrec", "bert4rec", "caser")
        for loss in ("ce", "bce")
    },
    "train sasrec, gbce, untied batches": trained("sasrec", "gbce", group_by_length=False),
    **{name: unlearned(name) for name in METHODS},
    "resumed": resumed,
    "evaluated": evaluated,
    "together": together,
}


MISTAKES: dict[str, Callable[[Tensor, Tensor], object]] = {
    # of a tensor there and one here
    "two devices meet": lambda there, here: there + here,
    "a table there, looked up from here": lambda there, here: torch.nn.functional.embedding(here.long(), there),
    "numpy of what is there": lambda there, here: there.numpy(),
    "a generator of here": lambda there, here: torch.rand(3, generator=Generator(), device=there.device),
    "a generator of there": lambda there, here: torch.randperm(3, generator=Generator(NAME)),
    "written into from here": lambda there, here: torch.add(here, here, out=there),
}


def apart(own: Result, expected: Result) -> float:
    """The distance of two results: of all tensors together as a share of their length, or of numbers, if more."""
    assert own.keys() == expected.keys(), f"{sorted(own.keys() ^ expected.keys())} are in one only"
    tensors = {key for key, value in expected.items() if isinstance(value, Tensor)}
    one, other = (torch.cat([result[key].cpu().double().flatten() for key in tensors]) for result in (own, expected))
    numbers = [abs(own[key] - expected[key]) for key in expected.keys() - tensors]
    return max(float((one - other).norm() / other.norm()), *numbers, 0.0)


def main() -> None:
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend(NAME, Backend())
    bench = Bench.make(TINY.timed, TINY.overrides)
    for name, mistake in MISTAKES.items():
        with other_device():
            there, here = torch.ones(3, 3, device=NAME), torch.ones(3, 3)
            try:
                mistake(there, here)
                error = ""
            except (AssertionError, RuntimeError, TypeError) as seen:
                error = f"{type(seen).__name__}: {seen}"
        print(json.dumps({"mistake": name, "error": error}), flush=True)
    for name in sys.argv[1:] or WORKS:
        expected, row = WORKS[name](bench, CPU), {"name": name, "error": "", "apart": None}
        with other_device() as device:
            try:
                row["apart"] = apart(WORKS[name](bench, torch.device(NAME)), expected)
            except Exception as error:  # told of every piece of work, whatever it is
                row["error"] = f"{type(error).__name__}: {error}".split("\n")[0]
                if len(sys.argv) > 1:
                    raise
        print(json.dumps({**row, "waits": device.waits, "steps": expected.get("steps", 0)}), flush=True)


if __name__ == "__main__":
    main()
