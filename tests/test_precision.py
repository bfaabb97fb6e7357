"""bfloat16 by instructions for float32, against torch's own."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import wsnlib as wsn
from wsnlib import masks, precision
from wsnlib.precision import Rounded, computing
from wsnlib.training import steps

CPU = torch.device("cpu")


def passes(function, shapes, mode, *, whole=False, exact=False):
    """Output and gradients under autocast; whole numbers have sums that bfloat16 holds exactly.

    `exact`: rounded numbers in float64, rounded where autocast rounds.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        if whole:
            return torch.randint(-2, 3, shape, generator=generator).float()
        drawn = torch.randn(shape, generator=generator)
        return drawn.bfloat16().double() if exact else drawn

    given = [draw(shape).requires_grad_() for shape in shapes]
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact), mode:
        y = function(*given)
    y.backward(draw(y.shape).to(y.dtype))
    found = [y.detach(), *(each.grad for each in given)]
    return [each.bfloat16() for each in found] if exact else found


OPERATIONS = {
    "linear": (F.linear, [(6, 7), (5, 7), (5,)]),
    "conv1d": (F.conv1d, [(2, 3, 9), (4, 3, 3), (4,)]),
    "conv2d": (F.conv2d, [(2, 3, 6, 6), (4, 3, 3, 3), (4,)]),
    "strided": (lambda x, w: F.conv2d(x, w, stride=2, padding=1), [(2, 4, 7, 7), (3, 4, 3, 3)]),
    "grouped": (lambda x, w: F.conv2d(x, w, groups=2), [(2, 4, 6, 6), (6, 2, 3, 3)]),
    "conv3d": (F.conv3d, [(2, 3, 5, 5, 5), (4, 3, 3, 3, 3)]),
    "matmul": (torch.matmul, [(3, 4, 5), (5, 2)]),
    "method": (lambda x, y: x.matmul(y), [(4, 5), (5, 2)]),
    "sign": (lambda x, y: x @ y, [(4, 5), (5, 2)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_whole_numbers_give_what_torch_gives_to_the_last_bit(name):
    function, shapes = OPERATIONS[name]
    expected = passes(function, shapes, nullcontext(), whole=True)
    found = passes(function, shapes, Rounded(), whole=True)
    assert [each.dtype for each in found] == [torch.bfloat16, *[torch.float32] * len(shapes)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_other_numbers_give_the_rounded_sums_of_rounded_numbers(name):
    """To one unit of bfloat16's last digit; torch's own are less exact with AVX2 alone."""
    function, shapes = OPERATIONS[name]
    expected = passes(function, shapes, nullcontext(), exact=True)
    found = passes(function, shapes, Rounded())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=2**-7, atol=1e-6)
        assert (a.bfloat16() != b).float().mean() < 0.05


@pytest.mark.parametrize("name", OPERATIONS)
def test_products_are_computed_in_float32_and_rounded(name):
    """Which is faster without instructions for bfloat16; with them it would be slower."""
    function, shapes = OPERATIONS[name]
    with torch.autocast("cpu", torch.bfloat16):
        for mode, last in ((nullcontext(), False), (Rounded(), True)):
            with mode:
                y = function(*(torch.ones(shape).requires_grad_() for shape in shapes))
            assert (y.grad_fn.name() == "ToCopyBackward0") is last


def test_what_autocast_leaves_alone_is_left_alone():
    x, w = torch.tensor([[1 + 2**-12]]), torch.tensor([[3.0]])
    exact = F.linear(x, w)
    with Rounded():
        assert torch.equal(F.linear(x, w), exact)
        with torch.autocast("cpu", torch.bfloat16):
            assert F.linear(x, w).dtype == torch.bfloat16
            for dtype in (torch.float64, torch.int64, torch.complex64):
                assert torch.equal(
                    x.to(dtype) @ w.to(dtype), exact.to(dtype) if dtype != torch.int64 else w.to(dtype)
                )
            assert torch.equal(F.relu(x), x)
            with torch.autocast("cpu", enabled=False):
                assert torch.equal(F.linear(x, w), exact)
        with torch.autocast("cpu", torch.float16):
            assert F.linear(x, w).dtype == torch.float16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"architecture": "arm64", "neon": True, "bf16": True}, True),
        ({"architecture": "arm64", "neon": True, "bf16": False}, False),
        ({"architecture": "riscv64"}, False),
    ],
)
def test_the_processor_is_asked_for_its_instructions(capabilities, expected, monkeypatch):
    asked = precision.has_bfloat16.__wrapped__
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert asked() is expected
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not asked()


@pytest.fixture(params=[True, False], ids=["with instructions", "without"])
def instructions(request, monkeypatch):
    """Whether the processor has instructions for bfloat16, in what it says."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: request.param)
    return request.param


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_products_are_rounded_where_instructions_are_missing(instructions, monkeypatch):
    entered = []
    monkeypatch.setattr(Rounded, "__enter__", lambda self: entered.append(self))
    monkeypatch.setattr(Rounded, "__exit__", lambda *_: None)
    for chosen, device in (("float32", "cpu"), ("bfloat16", "cuda"), ("bfloat16", "cpu")):
        with computing(chosen, torch.device(device)):
            assert torch.is_autocast_enabled("cpu") == ((chosen, device) == ("bfloat16", "cpu"))
    assert len(entered) == (0 if instructions else 1)


def net():
    """A masked convolution, one that is not, and a linear layer."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    )
    return masks.sparsify(made, num_weights=900, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sparse", [False, True], ids=["masked", "sparse"])
def test_networks_compute_the_same_with_instructions_and_without(sparse, monkeypatch):
    x, found = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)), []
    for has in (True, False):
        model = net()
        if sparse:
            wsn.to_sparse(model, layers=["0"])
        monkeypatch.setattr(precision, "has_bfloat16", lambda has=has: has)
        with computing("bfloat16", CPU):
            y = model(x)
        y.float().square().sum().backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        found.append([y.detach().float(), gradients])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02 * float(b.abs().max()))


def test_a_compiled_network_computes_so_too(instructions):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with computing("bfloat16", CPU):
        expected, found = model(x), torch.compile(model, backend="aot_eager")(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


class Checkpointed(nn.Module):
    """Activations of its layers are computed anew in the backward pass."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=False)


def test_networks_that_compute_activations_anew_train(instructions):
    data = wsn.load_data(wsn.Digits(validation_size=0))
    torch.manual_seed(0)
    model = Checkpointed()
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    step = steps.sgd_step(model, torch.optim.SGD(model.parameters(), lr=0.1), data, precision="bfloat16")
    step(*data.train.take(torch.arange(20)))
    for before, after in zip(weights, model.parameters(), strict=True):
        assert not torch.equal(before, after)
