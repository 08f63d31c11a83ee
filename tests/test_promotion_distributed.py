"""Two processes take the decision of one on the whole batch. Run as a script, this file is one of the two."""

import gc
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from gradprom import GradientPromotion, Step, average_over_processes

CASES = {
    "hard": {"weight": 1.0},
    "cone": {"weight": 1.0, "gate": "projection", "max_ratio": 0.3},
    "accumulate": {"weight": 1.0},
    "non-finite": {"weight": 1.0},
    "skipped": {"weight": 1.0},
    "interface": {"weight": 1.0, "gate_at": "interface"},
    "interface-cone": {"weight": 1.0, "gate": "projection", "max_ratio": 0.3, "gate_at": "interface"},
    "interface-sample": {"weight": 1.0, "max_ratio": 0.3, "gate_at": "interface", "gate_per": "sample"},
    "interface-non-finite": {"weight": 1.0, "gate_at": "interface", "gate_per": "sample"},
    "interface-skipped": {"weight": 1.0, "gate_at": "interface"},
    "last-layer": {"weight": 1.0, "gate_at": "last_layer"},
    "last-layer-cone": {"weight": 1.0, "gate": "projection", "max_ratio": 0.3, "gate_at": "last_layer"},
    "last-layer-non-finite": {"weight": 1.0, "gate_at": "last_layer"},
    "last-layer-skipped": {"weight": 1.0, "gate_at": "last_layer"},
}


def modules() -> nn.ModuleDict:
    torch.manual_seed(0)
    heads = {"only_first": nn.Linear(4, 1), "unused": nn.Linear(4, 1)}
    enhancer = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    return nn.ModuleDict({"enhancer": enhancer, "recognizer": nn.Linear(4, 1), **heads}).double()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    clean = torch.rand(4, 4, dtype=torch.float64)
    return clean + torch.randn_like(clean), clean


def step_of(case: str, shards: range, **options: object) -> tuple[Step, dict[str, torch.Tensor | None]]:
    """The step on these halves of the batch, each a mean over its images."""
    net = modules()
    phi = [p for name in ("recognizer", "only_first", "unused") for p in net[name].parameters()]
    promotion = GradientPromotion(net["enhancer"].parameters(), phi, **CASES[case], **options)

    def losses(shard: int, share: int) -> dict[str, object]:
        degraded, clean = (tensor[2 * shard : 2 * shard + 2] for tensor in batch())
        enhanced = net["enhancer"](degraded)
        # helps strongly on the second half, hinders weakly on the first
        sign = (-0.5, 2.0)[shard]
        help_ = sign * mse_loss(enhanced, clean) + net["recognizer"](enhanced).mean()
        if shard == 0:
            help_ = help_ + net["only_first"](enhanced.detach()).square().mean()
        well = mse_loss(enhanced, clean) + 0.1 * net["recognizer"](enhanced).square().mean()
        main = mse_loss(enhanced, clean)
        if shard == 1 and case.endswith("non-finite"):
            help_ = help_ * torch.nan
        if shard == 1 and case.endswith("skipped"):
            main = main * torch.inf
        return {
            "main": main / share,
            "auxiliaries": {"help": help_ / share, "well": well / share},
            "interface": enhanced,
        }

    if case == "accumulate" or len(shards) == 2:
        with promotion.accumulate() as step:
            for shard in shards:
                promotion.backward(**losses(shard, len(shards)))
    else:
        step = promotion.backward(**losses(shards[0], 1))
    return step, {name: p.grad for name, p in net.named_parameters()}


def worker(rank: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    found = {case: step_of(case, range(rank, rank + 1), reduce=average_over_processes) for case in CASES}
    mixed = [
        torch.tensor([1.0 + rank]),
        torch.tensor([2.0 + rank], dtype=torch.float64),
        torch.arange(6.0).view(2, 3).T,
    ]
    average_over_processes(mixed)
    plain = {case: (vars(step), gradients) for case, (step, gradients) in found.items()}
    torch.save({"cases": plain, "mixed": mixed}, folder / f"{rank}.pt")
    # a process can abort at exit when the group is still there, or when another one has left it
    torch.distributed.barrier()
    del found
    gc.collect()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, run_together: Callable[..., None]) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    run_together([[sys.executable, __file__, str(folder), str(rank)] for rank in (0, 1)])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_both_processes_do_what_one_would_do_on_the_whole_batch(ranks: list[dict], case: str) -> None:
    step, expected = step_of(case, range(2))
    for rank in ranks:
        record, gradients = rank["cases"][case]
        assert record["promoted"] == step.promoted
        assert record["skipped"] == step.skipped == (case.endswith("skipped"))
        for key in ("alignment", "losses", "share"):
            assert record[key] == pytest.approx(getattr(step, key), rel=1e-12, abs=1e-12, nan_ok=True)
        for key in ("ratio", "main_loss"):
            assert record[key] == pytest.approx(getattr(step, key), rel=1e-12, nan_ok=True)
        # at the interface each process has its own images' gradients, and norms are root mean squares of theirs
        factor = math.sqrt(2) if case.startswith("interface") else 1
        assert record["main_norm"] == pytest.approx(factor * step.main_norm, rel=1e-12, nan_ok=True)
        norms = {name: factor * norm for name, norm in step.norms.items()}
        assert record["norms"] == pytest.approx(norms, rel=1e-12, abs=1e-12, nan_ok=True)
        for name, gradient in expected.items():
            if gradient is None:
                assert gradients[name] is None, name
            else:
                torch.testing.assert_close(gradients[name], gradient, rtol=1e-12, atol=1e-12)
    assert ranks[0]["cases"][case][0]["promoted"] == ranks[1]["cases"][case][0]["promoted"]


def test_the_shards_alone_would_have_decided_differently() -> None:
    alone = [step_of("hard", range(shard, shard + 1))[0].promoted["help"] for shard in (0, 1)]
    assert alone == [False, True]


def test_a_parameter_that_one_process_uses_gets_a_gradient_in_both(ranks: list[dict]) -> None:
    for rank in ranks:
        _, gradients = rank["cases"]["hard"]
        assert gradients["only_first.weight"].abs().sum() > 0
        assert gradients["unused.weight"] is None


def test_average_of_tensors_of_several_types_and_layouts(ranks: list[dict]) -> None:
    for rank in ranks:
        single, double, transposed = rank["mixed"]
        assert (single.item(), double.item()) == (1.5, 2.5)
        assert double.dtype == torch.float64
        assert transposed.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_without_a_process_group_nothing_is_averaged() -> None:
    tensor = torch.ones(2)
    average_over_processes([tensor])
    assert tensor.tolist() == [1, 1]


if __name__ == "__main__":
    worker(int(sys.argv[2]), Path(sys.argv[1]))
