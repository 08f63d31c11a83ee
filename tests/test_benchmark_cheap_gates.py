"""What the benchmark of cheaper gates asks and how it counts."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss


@pytest.fixture(scope="module")
def gates(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmarks/_cheap_gates.py")


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x.flatten() @ y.flatten() / (x.norm() * y.norm())).item()


@pytest.mark.filterwarnings("ignore:`torch.jit.script.*` is deprecated")
def test_what_the_gates_are_asked(gates: ModuleType) -> None:
    torch.manual_seed(0)
    enhancer = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1)
    ).double()
    degraded, clean = torch.rand(2, 4, 1, 6, 6, dtype=torch.float64)
    enhanced = enhancer(degraded)
    auxiliary = (enhanced - clean)[:2].square().sum() - 2 * (enhanced - 0.5)[2:].square().sum()
    counted = enhancer[1].num_batches_tracked.item()
    said = gates.ask(enhancer, degraded, enhanced, mse_loss(enhanced, clean), auxiliary)
    assert enhancer[1].num_batches_tracked.item() == counted

    theta = list(enhancer.parameters())
    g, a = (
        torch.autograd.grad(loss, [*theta, enhanced], retain_graph=True)
        for loss in (mse_loss(enhanced, clean), auxiliary)
    )

    def flat(found: tuple[torch.Tensor, ...], first: int) -> torch.Tensor:
        return torch.cat([x.flatten() for x in found[first:-1]])

    assert said["exact"] == pytest.approx(cosine(flat(g, 0), flat(a, 0)))
    assert said["last layer"] == pytest.approx(cosine(flat(g, 3), flat(a, 3)))
    assert said["last quarter"] == pytest.approx(cosine(g[4], a[4]))  # of five tensors
    assert said["interface"] == pytest.approx(cosine(g[-1], a[-1]))
    assert said["forward mode"] == pytest.approx(said["exact"])
    assert said["central difference"] == pytest.approx(said["exact"], abs=1e-3)
    assert said["samples"] == sum(cosine(g[-1][i], a[-1][i]) >= 0 for i in range(4)) / 4


def test_a_part_is_certain_where_the_rest_cannot_turn_its_sign(gates: ModuleType) -> None:
    for lever, certain in ((0.1, 1.0), (10.0, 0.0)):
        model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1)).double()
        with torch.no_grad():
            model[0].weight.fill_(1.0)
            model[1].weight.fill_(lever)  # the gradient of the layer below grows with it
        x = torch.ones(1, 1, dtype=torch.float64)
        enhanced = model(x)
        said = gates.ask(model, x, enhanced, enhanced.sum(), 2 * enhanced.sum())
        assert said["certain, last layer"] == certain


def test_decisions_and_their_agreement(gates: ModuleType) -> None:
    exact = [1, -1, -1, 1, 1, 1]
    same = ("last layer", "last quarter", "forward mode", "central difference")
    said = [{"exact": e, "interface": 1, **dict.fromkeys(same, e)} for e in exact]
    found = gates.decisions(said)
    assert found["exact"] == [True, False, False, True, True, True]
    assert found["held 2"] == [True, True, False, False, True, True]
    assert found["held 5"] == [True, True, True, True, True, True]
    assert found["always the commoner answer"] == [True] * 6
    assert gates.agreement(found["held 2"], found["exact"]) == pytest.approx(
        {
            "agrees": 4 / 6,
            "promotes wrongly": 1 / 6,
            "refuses wrongly": 1 / 6,
            "agrees, first third": 1 / 2,
            "agrees, last third": 1,
        }
    )
