"""Each recommender against an independent implementation with the same weights.

The references are written from torch.nn's own layers, or as loops over positions, in the order of the public
implementations named at each; every history is given to them alone and without padding.
Shapes: L length, D hidden, V catalogue, n maximum length of a history.
"""

import pytest
import torch
from torch import Tensor, nn

from srun.models.base import Attention, SequenceModel
from srun.models.scorer import new_model
from srun.rng import stream

V, N, D = 40, 8, 16


def make(name: str, **settings: object) -> SequenceModel:
    """A model in eval mode whose every weight is drawn, biases and norms too."""
    values = {"hidden": D, "dropout": 0.3, "tie_embeddings": True} | settings
    model = new_model({"name": name, "settings": values, "num_items": V, "max_length": N})
    generator = stream(0, "reference")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        model.embedding.weight[0] = 0
    return model.eval()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def copy_to(module: nn.Module, **tensors: Tensor) -> None:
    """Set parameters by name, all of them."""
    module.load_state_dict(tensors)


def attention_weights(attention: Attention) -> dict[str, Tensor]:
    """The parameters of nn.MultiheadAttention."""
    parts = (attention.query, attention.key, attention.value)
    return {
        "in_proj_weight": torch.cat([part.weight for part in parts]).detach(),
        "in_proj_bias": torch.cat([part.bias for part in parts]).detach(),
        "out_proj.weight": attention.out.weight.detach(),
        "out_proj.bias": attention.out.bias.detach(),
    }


def histories() -> list[Tensor]:
    """Histories of 1 to n items."""
    generator = stream(0, "histories")
    return [torch.randint(1, V + 1, (length,), generator=generator) for length in range(1, N + 1)]


def padded(rows: list[Tensor]) -> Tensor:
    width = max(map(len, rows))
    return torch.stack([torch.cat([row.new_zeros(width - len(row)), row]) for row in rows])


def assert_same_states(model: SequenceModel, rows: list[Tensor], expected: list[Tensor]) -> None:
    """Compare the states (L, D) of every row with those of the padded batch, and the scores with dot products."""
    hidden = model.hidden(padded(rows))
    for row, state in enumerate(expected):
        torch.testing.assert_close(hidden[row, -len(rows[row]) :], state, rtol=1e-5, atol=1e-5)
    last = torch.stack([state[-1] for state in expected])
    expected_scores = last @ weights(model)["embedding.weight"][: V + 1].T
    torch.testing.assert_close(model.scores(hidden[:, -1]), expected_scores, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_sasrec(heads: int) -> None:
    """The order of pmixer/SASRec.pytorch (which Kang and McAuley's page names): queries are normed, keys are not."""
    model = make("sasrec", blocks=2, heads=heads)
    w = weights(model)
    rows = histories()
    expected = []
    for row in rows:
        length = len(row)
        position = w["position.weight"][N - length :]  # its arrays are padded at the front
        x = (w["embedding.weight"][row] * D**0.5 + position)[:, None]  # (L, 1, D): its attention has the batch second
        future = ~torch.tril(torch.ones(length, length, dtype=torch.bool))
        for index, block in enumerate(model.blocks):  # type: ignore[arg-type]  # a Module by its type
            prefix = f"blocks.{index}."
            attention = nn.MultiheadAttention(D, heads, 0.3).eval()
            copy_to(attention, **attention_weights(block.attention))
            norms = []
            for name in ("attention_norm", "feed_forward_norm"):
                norm = nn.LayerNorm(D, eps=1e-8)
                copy_to(norm, weight=w[f"{prefix}{name}.weight"], bias=w[f"{prefix}{name}.bias"])
                norms.append(norm)
            convolutions = []
            for name in ("inner", "outer"):
                convolution = nn.Conv1d(D, D, kernel_size=1)
                copy_to(convolution, weight=w[f"{prefix}{name}.weight"][..., None], bias=w[f"{prefix}{name}.bias"])
                convolutions.append(convolution)
            query = norms[0](x)
            mixed, _ = attention(query, x, x, attn_mask=future)
            x = norms[1](query + mixed)
            channels = x.permute(1, 2, 0)  # (1, D, L)
            x = convolutions[1](torch.relu(convolutions[0](channels))).permute(2, 0, 1) + x
        last_norm = nn.LayerNorm(D, eps=1e-8)
        copy_to(last_norm, weight=w["norm.weight"], bias=w["norm.bias"])
        expected.append(last_norm(x[:, 0]))
    assert_same_states(model, rows, expected)


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_bert4rec(heads: int, norm_first: bool, gelu: str) -> None:
    """nn.TransformerEncoderLayer; norms after residuals as in RecBole and FeiSun/BERT4Rec, whose embeddings are normed
    as well, or before as in jaywonchung/BERT4Rec-VAE-Pytorch, which norms neither its embeddings nor its output."""
    model = make("bert4rec", blocks=2, heads=heads, mask_probability=0.3, norm_first=norm_first, gelu=gelu)
    w = weights(model)

    def activation(x: Tensor) -> Tensor:
        return nn.functional.gelu(x, approximate="tanh" if gelu == "tanh" else "none")

    layers = []
    for index, block in enumerate(model.blocks):  # type: ignore[arg-type]  # a Module by its type
        layer = nn.TransformerEncoderLayer(
            D, heads, 4 * D, dropout=0.3, activation=activation, layer_norm_eps=1e-12, norm_first=norm_first
        ).eval()
        prefix = f"blocks.{index}."
        names = {"linear1": "inner", "linear2": "outer", "norm1": "attention_norm", "norm2": "feed_forward_norm"}
        tensors = {f"self_attn.{name}": tensor for name, tensor in attention_weights(block.attention).items()}
        for theirs, ours in names.items():
            tensors |= {f"{theirs}.{part}": w[f"{prefix}{ours}.{part}"] for part in ("weight", "bias")}
        copy_to(layer, **tensors)
        layers.append(layer)
    rows = [torch.cat([row, torch.tensor([V + 1])]) for row in histories()]
    expected = []
    for row in rows:
        x = w["embedding.weight"][row] + w["position.weight"][N + 1 - len(row) :]
        if not norm_first:
            x = nn.functional.layer_norm(x, (D,), w["norm.weight"], w["norm.bias"], eps=1e-12)
        x = x[:, None]  # (L, 1, D)
        for layer in layers:
            x = layer(x)
        expected.append(x[:, 0])
    assert_same_states(model, rows, expected)
    full = padded(histories())
    assert torch.equal(model.prediction_inputs(full), torch.cat([full, torch.full((N, 1), V + 1)], 1))


@torch.no_grad()
def test_gru4rec() -> None:
    """nn.GRUCell, one step at a time from a state of zeros."""
    model = make("gru4rec")
    w = weights(model)
    cell = nn.GRUCell(D, D)
    copy_to(cell, **{name.removesuffix("_l0"): w[f"gru.{name}"] for name in _GRU})
    rows = histories()
    expected = []
    for row in rows:
        state, states = torch.zeros(1, D), []
        for item in row:
            state = cell(w["embedding.weight"][item][None], state)
            states.append(state[0])
        expected.append(torch.stack(states))
    assert_same_states(model, rows, expected)


_GRU = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def test_gru4rec_gradients_are_those_of_packed_sequences() -> None:
    """nn.GRU over packed sequences, which never sees padding; its gradients too."""
    model = make("gru4rec")
    rows = histories()[::-1]  # longest first
    packed = nn.utils.rnn.pack_sequence([model.embedding(row) for row in rows])
    states, _ = nn.utils.rnn.pad_packed_sequence(model.gru(packed)[0], batch_first=True)  # type: ignore[operator]  # a Tensor by its type
    states.square().sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]  # not None after backward
    model.zero_grad()
    model.hidden(padded(rows)).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [1, 3, N])
@torch.no_grad()
def test_caser(window: int) -> None:
    """The layers of graytowne/caser_pytorch (the authors'), one window at a time, zeros before the first item."""
    vertical, horizontal = 2, 3
    model = make("caser", window=window, vertical_filters=vertical, horizontal_filters=horizontal)
    w = weights(model)
    columns = nn.Conv2d(1, vertical, (window, 1))
    copy_to(columns, weight=w["vertical"][:, None, :, None], bias=w["vertical_bias"])
    rows_of_height = []
    for height in range(1, window + 1):
        filters = nn.Conv2d(1, horizontal, (height, D))
        bias = w["horizontal_bias"][(height - 1) * horizontal : height * horizontal]
        copy_to(filters, weight=w[f"horizontal.{height - 1}"].transpose(1, 2)[:, None], bias=bias)
        rows_of_height.append(filters)
    linear = nn.Linear(vertical * D + window * horizontal, D)
    copy_to(linear, weight=w["linear.weight"], bias=w["linear.bias"])
    rows = histories()
    expected = []
    for row in rows:
        states = []
        for end in range(1, len(row) + 1):
            seen = row[max(0, end - window) : end]
            image = torch.zeros(1, 1, window, D)
            image[0, 0, window - len(seen) :] = w["embedding.weight"][seen]
            features = [columns(image).view(1, vertical * D)]
            for filters in rows_of_height:
                features.append(torch.relu(filters(image)).squeeze(3).max(dim=2).values)
            states.append(torch.relu(linear(torch.cat(features, 1)))[0])
        expected.append(torch.stack(states))
    assert_same_states(model, rows, expected)


@pytest.mark.parametrize("length", [5, 15, 16, 20])
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_and_its_gradients(heads: int, length: int) -> None:
    """Queries other than the memory, with a causal mask; lengths on both sides of a narrow softmax."""
    generator = stream(0, "attention")
    attention = Attention(D, heads, 0.3).eval()
    reference = nn.MultiheadAttention(D, heads, batch_first=True)
    copy_to(reference, **attention_weights(attention))
    query, memory = (torch.randn(3, length, D, generator=generator, requires_grad=True) for _ in range(2))
    blocked = torch.full((length, length), float("-inf")).triu(1)
    found = attention(query, memory, blocked)
    expected, _ = reference(query, memory, memory, attn_mask=blocked, need_weights=False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(found.shape, generator=generator)
    inputs = [query, memory]
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), [*inputs, attention.query.weight, attention.out.weight]),
        torch.autograd.grad((expected * weight).sum(), [*inputs, reference.in_proj_weight, reference.out_proj.weight]),
        strict=True,
    ):
        torch.testing.assert_close(one, other[: len(one)], rtol=1e-4, atol=1e-5)
