"""How often a cheaper gate decides as the exact one does, what it costs, and what training with it does to PSNR.

    python benchmarks/interface_gate.py [--data ISIC_ROOT] [--steps 200] [--seeds 0 1 2] [--weights 1e-4 1e-3 1e-2 1e-1]

Real training on dermoscopy images (the root of ISIC 2018, read at 128 pixels), or without ``--data`` on the embedded
brain images: an enhancer is warmed up and a segmenter pretrained on clean images, then every gate goes on from there
with the same batches. In the run with the exact gate all others are asked about the same batches, and nothing they say
is followed. A gate is worth something only where it agrees more often than always giving the exact gate's commoner
answer would.

last layer          the gradients of the enhancer's last layer alone are compared (gate_at="last_layer")
last quarter        those of the last quarter of its parameter tensors (gate_at=[...])
interface           those at the enhancer's output (gate_at="interface"); ", samples": for each sample by itself
held k              the exact rule every k-th step; in between its decision is kept, at joint training's cost
forward mode        the derivative along G by forward-mode differentiation: exact
central difference  the same from two more forward passes
certain             share of steps in which a part's product could not be overruled by the rest: a bound, exact where
                    it decides, and the exact rule everywhere else

All of it, failures included, goes to a table (--table), a row for each gate and weight; agreement, PSNR and cost of the
gates also to the common results.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from _cheap_gates import Said, agreement, ask, central_difference, decisions, forward_mode, last_quarter
from _measure import Ratio, interleaved, options, pinned, ratio, row, write_rows
from torch import Tensor, nn

from gradprom import GradientPromotion
from gradprom._files import write_text
from gradprom._process import tune_malloc
from gradprom.datasets import load_dataset
from gradprom.datasets.cache import PixelCache
from gradprom.datasets.loader import Loader, ahead, test_key
from gradprom.datasets.sample import Dataset
from gradprom.degradations import GaussianNoise, degrade, degrade_batch
from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import ResidualUNet
from gradprom.measures import psnr
from gradprom.objectives import enhancement_loss, recognition_loss
from gradprom.recognizers.segmenter import Segmenter

NOISE, BATCH, SIZE, TESTED, HOLD = GaussianNoise(0.2), 4, 64, 32, 5
ENHANCERS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(1, blocks=3, channels=16, batch_norm=False, residual=True),
    "srresnet_plain": lambda: SRResNet(1, blocks=3, channels=16, batch_norm=True, residual=False),
    "residual_unet": lambda: ResidualUNet(1, blocks=1, channels=16),
}
ARMS: dict[str, Callable[[nn.Module], dict[str, object]]] = {
    "joint": lambda enhancer: {"gate": "always", "gate_at": "interface"},
    "exact": lambda enhancer: {},
    "last layer": lambda enhancer: {"gate_at": "last_layer"},
    "last quarter": lambda enhancer: {"gate_at": last_quarter(enhancer)},
    "interface": lambda enhancer: {"gate_at": "interface"},
    "interface, samples": lambda enhancer: {"gate_at": "interface", "gate_per": "sample"},
    f"held {HOLD}": lambda enhancer: {},
}
COLUMNS = [
    "data", "enhancer", "weight", "gate", "seeds", "steps", "agrees", "promotes wrongly", "refuses wrongly",
    "agrees, first third", "agrees, last third", "correlation", "certain", "promoted", "cost / joint",
    "PSNR less exact", "PSNR half range", "arrives in bf16",
]  # fmt: skip
Batch = tuple[Tensor, Tensor, Tensor]
Models = tuple[nn.Module, nn.Module]


class Training:
    """One arm: the models, and a step of theirs."""

    def __init__(self, models: Models, arm: str, weight: float) -> None:
        self.enhancer, self.segmenter = (copy.deepcopy(model).train() for model in models)
        self.alone, self.weight, self.steps, self.open = arm == "alone", weight, 0, True
        parameters = list(self.enhancer.parameters()), list(self.segmenter.parameters())
        given = {} if self.alone else ARMS[arm](self.enhancer)
        self.promotion = GradientPromotion(*parameters, weight=weight, **given)
        self.between = GradientPromotion(*parameters, gate="always", gate_at="interface")
        self.hold = HOLD if arm.startswith("held") else 1
        self.optimizer = torch.optim.Adam([*parameters[0], *parameters[1]], lr=3e-4)

    def step(self, batch: Batch, questions: list[Said] | None = None) -> float:
        """Train on a batch; returns the share that was promoted."""
        degraded, clean, mask = batch
        self.optimizer.zero_grad()
        enhanced = self.enhancer(degraded)
        main = enhancement_loss(enhanced, clean)
        auxiliaries = {} if self.alone else {"segmentation": recognition_loss(self.segmenter(enhanced), mask)}
        if questions is not None:
            questions.append(ask(self.enhancer, degraded, enhanced, main, auxiliaries["segmentation"]))
        asks = self.steps % self.hold == 0
        promotion = self.promotion if asks else self.between
        self.between.weight = self.weight if self.open else 0.0
        found = promotion.backward(main, auxiliaries, enhanced)
        self.open = any(found.promoted.values()) if asks else self.open
        self.steps += 1
        self.optimizer.step()
        return sum(found.share.values())


def batches(data: Dataset, seed: int, steps: int) -> Iterator[Batch]:
    cache = PixelCache()
    loader = Loader(
        data.train, channels=1, batch_size=BATCH, size=SIZE, view="crop", seed=seed, augment=None, cache=cache
    )
    for batch in ahead(loader.batch, 0, steps):
        yield degrade_batch(NOISE, batch.clean, batch.keys), batch.clean, batch.mask


def tested(data: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Degraded and clean test images, shape (1, 1, H, W)."""
    cache, found = PixelCache(), []
    for sample in data.test[:TESTED]:
        clean = torch.tensor(cache.get(sample, 1)[0]).permute(2, 0, 1) / 255
        found.append((degrade(NOISE, clean, test_key(sample.id, 0))[None], clean[None]))
    return found


def mean_psnr(enhancer: nn.Module, test: list[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        return statistics.fmean(float(psnr(enhancer.eval()(degraded), clean)) for degraded, clean in test)


def prepared(data: Dataset, enhancer: str, encoder: str, seed: int, steps: int) -> Models:
    """An enhancer after its warm-up, and a segmenter pretrained on clean images."""
    torch.manual_seed(seed)
    models = ENHANCERS[enhancer](), Segmenter(1, len(data.mask_classes), encoder)
    for position, model in enumerate(models):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for degraded, clean, mask in batches(data, 10 * seed + position, steps):
            optimizer.zero_grad()
            loss = recognition_loss(model(clean), mask) if position else enhancement_loss(model(degraded), clean)
            loss.backward()
            optimizer.step()
    return models


def costs(models: Models, batch: Batch, repeats: int) -> dict[str, Ratio]:
    """Processor time of a whole step, over joint training's; of the two last what they add to it."""
    arms = {arm: Training(models, arm, 1e-2) for arm in ARMS}
    enhancer = copy.deepcopy(models[0]).train()
    enhanced = enhancer(batch[0])
    g = torch.autograd.grad(enhancement_loss(enhanced, batch[1]), list(enhancer.parameters()))
    signal = torch.ones_like(enhanced)
    functions: dict[str, Callable[[], object]] = {
        # a held decision costs by the position in its round: one call is a whole round
        arm: lambda arm=arm: [arms[arm].step(batch) for _ in range(arms[arm].hold)]
        for arm in ARMS
    }
    functions["forward mode"] = lambda: forward_mode(enhancer, batch[0], g, signal)
    functions["central difference"] = lambda: central_difference(enhancer, batch[0], g, signal)
    times = interleaved(functions, repeats)
    rounds = {arm: arms[arm].hold for arm in ARMS}
    seconds = {name: [t / rounds.get(name, 1) for t in found.cpu] for name, found in times.items()}
    for name in ("forward mode", "central difference"):
        seconds[name] = [more + one for more, one in zip(seconds[name], seconds["joint"], strict=True)]
    return {name: ratio(found, seconds["joint"]) for name, found in seconds.items()}


def arriving(models: Models, batch: Batch, weight: float) -> dict[str, float]:
    """By gate, how much of λA is left in u under bf16, along A and over all of θ: 1 where nothing is rounded away."""
    degraded, clean, mask = batch
    found = {}
    for arm in ("exact", "last layer", "interface"):
        updates = []
        for share in (0.0, weight, 1.0):  # G, G + λA, and A from a sum in which it is not small
            enhancer, segmenter = (copy.deepcopy(model).train() for model in models)
            with torch.autocast("cpu", torch.bfloat16):
                enhanced = enhancer(degraded)
                auxiliary = recognition_loss(segmenter(enhanced), mask)
            where = ARMS["exact" if share == 1 else arm](enhancer)
            promotion = GradientPromotion(enhancer.parameters(), weight=share, gate="always", **where)
            promotion.backward(enhancement_loss(enhanced, clean), {"segmentation": auxiliary}, enhanced)
            updates.append(torch.cat([p.grad.flatten() for p in enhancer.parameters()]).double())
        alone, with_some, with_all = updates
        if arm == "exact":  # the one whose G is to the digit the one in G + A
            direction = with_all - alone
        wanted = weight * direction
        found[arm] = float(torch.dot(with_some - alone, wanted) / torch.dot(wanted, wanted))
    return found


def correlation(said: list[Said], gate: str) -> float | None:
    values = [[one[name] for one in said] for name in ("exact", gate)]
    return None if any(len(set(v)) < 2 for v in values) else statistics.correlation(*values)


def measure(
    data: Dataset, enhancer: str, weight: float, seeds: Mapping[int, tuple[Models, float]], steps: int
) -> dict[str, dict[str, object]]:
    """By gate its cells of the table, but for the cost."""
    test = tested(data)
    values: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    said: dict[int, list[Said]] = {}
    for seed, (models, alone) in seeds.items():
        values.setdefault("alone", []).append(alone)
        for arm in ARMS:
            training, questions = Training(models, arm, weight), None
            if arm == "exact":
                questions = said.setdefault(seed, [])
            promoted = [training.step(batch, questions) for batch in batches(data, 10 * seed + 2, steps)]
            values.setdefault(arm, []).append(mean_psnr(training.enhancer, test))
            shares.setdefault(arm, []).append(statistics.fmean(promoted))
            print(f"seed {seed}, weight {weight:g}, {arm}: {values[arm][-1]:.3f} dB, promoted {shares[arm][-1]:.3f}")
    table: dict[str, dict[str, object]] = {}
    first = next(iter(said.values()))
    for gate in decisions(first):
        of_seeds = []
        for one in said.values():
            decided = decisions(one)
            of_seeds.append(agreement(decided[gate], decided["exact"]))
        table[gate] = {name: statistics.fmean(one[name] for one in of_seeds) for name in of_seeds[0]}
        if gate in first[0]:
            found = [r for one in said.values() if (r := correlation(one, gate)) is not None]
            table[gate]["correlation"] = statistics.fmean(found) if found else None
    for gate in ("last layer", "last quarter"):
        table[gate]["certain"] = statistics.fmean(s[f"certain, {gate}"] for one in said.values() for s in one)
    for arm in values:
        apart = [value - exact for value, exact in zip(values[arm], values["exact"], strict=True)]
        table.setdefault(arm, {})["PSNR less exact"] = statistics.fmean(apart)
        table[arm]["PSNR half range"] = (max(apart) - min(apart)) / 2
        if arm in shares:
            table[arm]["promoted"] = statistics.fmean(shares[arm])
    models = seeds[next(iter(seeds))][0]
    for gate, share in arriving(models, next(batches(data, 3, 1)), weight).items():
        table[gate]["arrives in bf16"] = share
    return table


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """Add rows to the table; those of the same data, enhancer, weight and gate are replaced."""
    held = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    rounded = [
        {c: f"{v:.4g}" if isinstance(v := one.get(c), float) else "" if v is None else str(v) for c in COLUMNS}
        for one in rows
    ]
    by_key = {tuple(one[c] for c in COLUMNS[:4]): one for one in [*held, *rounded]}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(by_key.values())
    write_text(path, text.getvalue())


def main() -> None:
    parser = options(__doc__, repeats=9)
    add = parser.add_argument
    add("--data", type=Path, help="the root of ISIC 2018; without it: the embedded brain images")
    add("--steps", type=int, default=200, help="of warm-up, of pretraining and of each arm")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--weights", type=float, nargs="+", default=[1e-4, 1e-3, 1e-2, 1e-1])
    add("--encoder", default="resnet18", help="of the segmenter")
    add("--enhancer", default="srresnet", choices=ENHANCERS)
    add("--table", type=Path, default=Path(__file__).with_suffix(".csv"), help="file of the whole table")
    add("--quick", action="store_true", help="a few steps of one seed, to try it; writes no common results")
    run(parser.parse_args())


def run(a: argparse.Namespace) -> None:
    tune_malloc()  # as training does
    torch.set_num_threads(a.threads)
    if a.quick:
        a.steps, a.seeds, a.weights, a.repeats = 3, a.seeds[:1], a.weights[:1], 1
    data = load_dataset("isic2018", a.data, channels=1, max_side=2 * SIZE) if a.data else load_dataset("brain_mr")
    pins = pinned(
        data=data.name, seeds=a.seeds, steps=a.steps, encoder=a.encoder, enhancer=a.enhancer, noise=NOISE.sigma,
        batch=BATCH, size=SIZE, precision="float32", repeats=a.repeats,
    )  # fmt: skip
    seeds = {}
    for seed in a.seeds:
        models = prepared(data, a.enhancer, a.encoder, seed, a.steps)
        alone = Training(models, "alone", 0.0)
        for batch in batches(data, 10 * seed + 2, a.steps):
            alone.step(batch)
        seeds[seed] = models, mean_psnr(alone.enhancer, tested(data))
    spent = costs(seeds[a.seeds[0]][0], next(batches(data, 3, 1)), a.repeats)
    title = f"interface gate, {data.name}, {a.enhancer}"
    rows = [row(f"{title}: step with {gate} / joint, cpu", found, None, pins) for gate, found in spent.items()]
    for weight in a.weights:
        table = measure(data, a.enhancer, weight, seeds, a.steps)
        for gate, cells in table.items():
            cells |= {"data": data.name, "enhancer": a.enhancer, "weight": f"{weight:g}", "gate": gate}
            cells |= {"seeds": len(a.seeds), "steps": a.steps}
            cells["cost / joint"] = spent[gate].median if gate in spent else None
            own = f"{title}, weight {weight:g}:"
            if "agrees" in cells and gate != "exact":
                rows.append(row(f"{own} agreement of {gate} with the exact gate", cells["agrees"], None, pins))
            if "PSNR less exact" in cells and gate != "exact":
                apart = Ratio(cells["PSNR less exact"], cells["PSNR half range"])
                rows.append(row(f"{own} PSNR of {gate} less exact, dB", apart, None, pins))
        write_table(a.table, list(table.values()))
        if not a.quick:
            write_rows(rows, a.results)


if __name__ == "__main__":
    main()
