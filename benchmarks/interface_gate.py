"""How often a cheaper gate decides as the exact one does, and what the gate at the interface does to PSNR.

    python benchmarks/interface_gate.py [--steps 400] [--seeds 0 1 2] [--weights 0.01 1] [--encoder resnet18]

Real training on the embedded brain images: an enhancer is warmed up and a segmenter pretrained on clean images, then
every strategy goes on from there with the same batches. In the run with the exact gate every candidate is asked for
its cosine on the same batch; nothing it says is followed. A candidate is worth something only where it agrees more
often than always giving the exact gate's commoner answer would.

interface     cosine at the enhancer's output
last layer    cosine over the parameters of the enhancer's last layer
last quarter  cosine over the last quarter of its parameter tensors
held k        the exact decision of the latest step that k divides

The other part of the agreement is that of samples: ``share`` is the mean share of samples that are promoted when each
is judged by itself.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from _measure import Ratio, options, pinned, ratio, row, write_rows
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from gradprom import GradientPromotion
from gradprom.datasets.brain_mr import load_brain_mr
from gradprom.enhancers.srresnet import SRResNet
from gradprom.enhancers.unet import ResidualUNet
from gradprom.objectives import enhancement_loss, recognition_loss
from gradprom.recognizers.segmenter import Segmenter

SIGMA, BATCH, SIZE = 0.2, 8, 64
HELD = (2, 5, 10)
ENHANCERS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(1, blocks=3, channels=16, batch_norm=False, residual=True),
    "srresnet_plain": lambda: SRResNet(1, blocks=3, channels=16, batch_norm=True, residual=False),
    "residual_unet": lambda: ResidualUNet(1, blocks=1, channels=16),
}
ARMS: dict[str, dict[str, str] | None] = {
    "alone": None,
    "joint": {"gate": "always", "gate_at": "interface"},
    "exact": {},
    "interface": {"gate_at": "interface"},
    "interface, samples": {"gate_at": "interface", "gate_per": "sample"},
}


def images() -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Training images with masks, and test images, shape (N, 1, H, W) in [0, 1]."""
    data = load_brain_mr()

    def read(sample: object) -> Tensor:
        return torch.from_numpy(sample.read_image().astype(np.float32) / 255).permute(2, 0, 1)

    train = [(read(s), torch.from_numpy(s.read_mask().astype(np.int64))) for s in data.train]
    return train, torch.stack([read(s) for s in data.test])


def batches(train: list[tuple[Tensor, Tensor]], seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Noisy crops, clean crops, masks."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        clean, masks = [], []
        while len(clean) < BATCH:
            image, mask = train[int(torch.randint(len(train), (), generator=generator))]
            top, left = (int(torch.randint(n - SIZE, (), generator=generator)) for n in mask.shape)
            part = slice(top, top + SIZE), slice(left, left + SIZE)
            if (mask[part] > 0).float().mean() > 0.2:  # crops of empty background teach nothing
                clean.append(image[:, *part])
                masks.append(mask[part])
        stacked = torch.stack(clean)
        noise = SIGMA * torch.randn(stacked.shape, generator=generator)
        yield (stacked + noise).clamp(0, 1), stacked, torch.stack(masks)


def psnr(enhancer: nn.Module, test: Tensor) -> float:
    """Mean over images, of the clamped output."""
    generator = torch.Generator().manual_seed(1234)
    degraded = (test + SIGMA * torch.randn(test.shape, generator=generator)).clamp(0, 1)
    with torch.no_grad():
        error = (enhancer.eval()(degraded).clamp(0, 1) - test).square().mean((1, 2, 3))
    enhancer.train()
    return float((-10 * error.log10()).mean())


def flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).double()


def candidates(enhancer: nn.Module, main: Tensor, auxiliary: Tensor, enhanced: Tensor) -> dict[str, float]:
    """Cosines, by name; the graph is kept."""
    theta = list(enhancer.parameters())
    places = {
        "exact": theta,
        "last layer": theta[-2:],  # weight and bias
        "last quarter": theta[-len(theta) // 4 :],
        "interface": [enhanced],
    }
    g, a = (torch.autograd.grad(loss, [*theta, enhanced], retain_graph=True) for loss in (main, auxiliary))
    by_id = {id(p): (x, y) for p, x, y in zip([*theta, enhanced], g, a, strict=True)}

    def cosine(place: list[Tensor]) -> float:
        x, y = (flat([by_id[id(p)][i] for p in place]) for i in (0, 1))
        return float(cosine_similarity(x, y, dim=0))

    found = {name: cosine(place) for name, place in places.items()}
    samples = (by_id[id(enhanced)][0] * by_id[id(enhanced)][1]).sum((1, 2, 3)) >= 0
    return found | {"share": float(samples.double().mean())}


def train_alone(model: nn.Module, train: list[tuple[Tensor, Tensor]], seed: int, steps: int, *, enhances: bool) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for degraded, clean, mask in batches(train, seed, steps):
        optimizer.zero_grad()
        (enhancement_loss(model(degraded), clean) if enhances else recognition_loss(model(clean), mask)).backward()
        optimizer.step()


def cascade(
    models: tuple[nn.Module, nn.Module],
    train: list[tuple[Tensor, Tensor]],
    arm: str,
    weight: float,
    seed: int,
    steps: int,
) -> tuple[nn.Module, list[dict[str, float]], list[float], float]:
    """The trained enhancer, what the candidates said, how often was promoted, and processor seconds."""
    enhancer, segmenter = (copy.deepcopy(model).train() for model in models)
    options = ARMS[arm]
    promotion = GradientPromotion(enhancer.parameters(), segmenter.parameters(), weight=weight, **(options or {}))
    optimizer = torch.optim.Adam([*enhancer.parameters(), *segmenter.parameters()], lr=3e-4)
    said, shares, seconds = [], [], 0.0
    for degraded, clean, mask in batches(train, seed, steps):
        began = time.process_time()
        optimizer.zero_grad()
        enhanced = enhancer(degraded)
        main = enhancement_loss(enhanced, clean)
        auxiliaries = {} if options is None else {"segmentation": recognition_loss(segmenter(enhanced), mask)}
        seconds += time.process_time() - began
        if arm == "exact":
            said.append(candidates(enhancer, main, auxiliaries["segmentation"], enhanced))
        began = time.process_time()
        step = promotion.backward(main, auxiliaries, enhanced)
        optimizer.step()
        seconds += time.process_time() - began
        shares += step.share.values()
    return enhancer, said, shares, seconds


def agreement(said: list[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """By candidate: share of steps with the exact decision, and of wrong promotions and wrong refusals."""
    exact = [s["exact"] >= 0 for s in said]
    decisions = {name: [s[name] >= 0 for s in said] for name in ("interface", "last layer", "last quarter")}
    decisions |= {f"held {k}": [exact[i - i % k] for i in range(len(exact))] for k in HELD}
    decisions["always the commoner answer"] = [2 * sum(exact) >= len(exact)] * len(exact)
    found = {}
    for name, decided in decisions.items():
        wrong = [
            statistics.fmean(d == answer != e for d, e in zip(decided, exact, strict=True)) for answer in (True, False)
        ]
        found[name] = 1 - sum(wrong), *wrong
    return found


def measure(seeds: list[int], weight: float, steps: int, encoder: str, enhancer_name: str) -> list[dict[str, object]]:
    train, test = images()
    pins = pinned(
        seeds=seeds,
        steps=steps,
        encoder=encoder,
        enhancer=enhancer_name,
        weight=weight,
        sigma=SIGMA,
        batch=BATCH,
        size=SIZE,
        precision="float32",
    )
    gains: dict[str, list[float]] = {arm: [] for arm in ARMS}
    agreed: dict[str, list[tuple[float, float, float]]] = {}
    costs, rows = [], []
    title = f"interface gate, {enhancer_name}, weight {weight:g}"
    for seed in seeds:
        torch.manual_seed(seed)
        models = ENHANCERS[enhancer_name](), Segmenter(1, 3, encoder)
        train_alone(models[0], train, 10 * seed + 1, steps, enhances=True)
        train_alone(models[1], train, 10 * seed + 2, steps, enhances=False)
        spent = {}
        for arm in ARMS:
            enhancer, said, shares, spent[arm] = cascade(models, train, arm, weight, 10 * seed + 3, steps)
            value = psnr(enhancer, test)
            gains[arm].append(value)
            print(
                f"seed {seed}, weight {weight:g}, {arm}: {value:.3f} dB, promoted {np.mean(shares or [0]):.3f}",
                flush=True,
            )
            if not said:
                continue
            for name, numbers in agreement(said).items():
                agreed.setdefault(name, []).append(numbers)
            for name in ("interface", "last layer", "last quarter"):
                r = np.corrcoef([s["exact"] for s in said], [s[name] for s in said])[0, 1]
                print(f"  cosine {name} against exact: correlation {r:.3f}")
            print(f"  exact promoted {statistics.fmean(s['exact'] >= 0 for s in said):.3f}, "
                  f"samples at the interface {statistics.fmean(s['share'] for s in said):.3f}")  # fmt: skip
        costs.append((spent["interface"], spent["joint"]))
    for name, numbers in agreed.items():
        share, promoted, refused = (statistics.fmean(column) for column in zip(*numbers, strict=True))
        print(f"  {name}: agrees {share:.3f}, promotes wrongly {promoted:.3f}, refuses wrongly {refused:.3f}")
        rows.append(row(f"{title}: agreement of {name} with the exact gate", share, None, pins))
    for arm in ("alone", "joint", "interface", "interface, samples"):
        apart = [value - exact for value, exact in zip(gains[arm], gains["exact"], strict=True)]
        value = Ratio(statistics.fmean(apart), (max(apart) - min(apart)) / 2)
        rows.append(row(f"{title}: PSNR of {arm} less exact, dB", value, None, pins))
    value = ratio(*zip(*costs, strict=True))
    rows.append(row(f"{title}: training, interface / joint, cpu", value, "<= 1.05", pins))
    return rows


def main() -> None:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=400, help="of warm-up, of pretraining and of each cascade")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.01, 1.0])
    parser.add_argument("--encoder", default="resnet18", help="of the segmenter")
    parser.add_argument("--enhancer", default="srresnet", choices=ENHANCERS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for weight in arguments.weights:
        write_rows(
            measure(arguments.seeds, weight, arguments.steps, arguments.encoder, arguments.enhancer), arguments.results
        )


if __name__ == "__main__":
    main()
