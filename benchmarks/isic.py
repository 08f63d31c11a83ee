"""The README's table: strategies, weights and the cone on the real ISIC images.

    python benchmarks/isic.py ROOT            train and evaluate what is not done yet (several may run side by side)
    python benchmarks/isic.py ROOT --table    print the tables of what is done

Runs lie in runs/isic/, one folder each; a finished run adds a row to benchmarks/isic.csv.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

RUNS = Path("runs/isic")
RESULTS = Path("benchmarks/isic.csv")
CONFIG = Path("examples/isic.yaml")
# σ 0.1 leaves most detail to be kept, and gains longest from training
WARMUP = {0.1: 8000, 0.2: 3000, 0.3: 3000}
# Table 5 of the paper: the best PSNR and SSIM of any method
PAPER = {0.1: (36.173, 0.971), 0.2: (28.024, 0.901), 0.3: (23.703, 0.761)}
COLUMNS = (
    *("sigma", "strategy", "weight", "max_ratio", "seed", "warmup_steps", "pretrain_steps", "cascade_steps"),
    *("training_images", "images", "size", "psnr", "psnr_std", "ssim", "ssim_std", "miou", "miou_clean"),
    *("promoted", "alignment_first", "alignment_last", "norm_ratio", "promoted_ratio", "data_share"),
)


@dataclass(frozen=True)
class Job:
    """One run of the comparison."""

    sigma: float
    strategy: str
    weight: float = 1e-4
    max_ratio: float | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        ratio = "" if self.max_ratio is None else f"-cone{self.max_ratio:g}"
        weight = "" if self.strategy == "enhancer_only" else f"-w{self.weight:g}"
        return f"s{self.sigma:g}-{self.strategy}{weight}{ratio}-seed{self.seed}"

    def arguments(self, root: str) -> list[str]:
        options = {
            "dataset.root": root,
            "degradation.sigma": self.sigma,
            "strategy": self.strategy,
            "promotion.weight": self.weight,
            "promotion.max_ratio": "null" if self.max_ratio is None else self.max_ratio,
            "training.seed": self.seed,
            "training.warmup.steps": WARMUP[self.sigma],
            "training.stages": str((Path("runs") / "stages").resolve()),
        }
        return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def jobs() -> list[Job]:
    """In the order of their worth."""
    order = [Job(sigma, "enhancer_only") for sigma in (0.2, 0.1, 0.3)]
    order += [Job(sigma, strategy) for strategy in ("gradprom", "joint", "frozen") for sigma in (0.2, 0.1, 0.3)]
    order += [Job(0.2, s, weight) for weight in (1.0, 1e-2) for s in ("gradprom", "joint", "frozen")]
    # at 1e-4 what is promoted is far shorter than half of G: the cone would change nothing
    order += [Job(0.2, "gradprom", weight, max_ratio=0.5) for weight in (1.0, 1e-2)]
    order += [Job(0.2, s, seed=1) for s in ("enhancer_only", "gradprom", "joint", "frozen")]
    return order


def run(job: Job, root: str) -> None:
    from gradprom.experiments.evaluate import evaluate_run
    from gradprom.training.config import parse
    from gradprom.training.run import resume, train

    folder = RUNS / job.name
    if (folder / "config.yaml").exists():
        resume(folder)
    else:
        train(parse(CONFIG, job.arguments(root)), folder)
    baselines = job.strategy == "enhancer_only"  # they are the same for every run at this sigma
    result = evaluate_run(folder, cache=Path("runs/stages/nlm"), baselines=baselines)
    config = parse(folder / "config.yaml")
    record = json.loads((folder / "run.json").read_text())
    enhanced = result.summary["enhanced"]
    clean = result.summary.get("clean", {})
    row = {
        "sigma": job.sigma,
        "strategy": job.strategy,
        "weight": "" if job.strategy == "enhancer_only" else job.weight,
        "max_ratio": job.max_ratio,
        "seed": job.seed,
        "warmup_steps": config.training.warmup.steps,
        "pretrain_steps": config.training.pretrain.steps,
        "cascade_steps": config.training.cascade.steps,
        "training_images": record["training_images"],
        "images": enhanced["images"],
        "size": config.training.size,
        "miou_clean": clean.get("miou"),
    }
    row |= {name: enhanced[name] for name in ("psnr", "psnr_std", "ssim", "ssim_std", "miou")}
    row |= promotion_figures(folder)
    cells = [f"{v:.5g}" if isinstance(v, float) else v for v in (row.get(name) for name in COLUMNS)]
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n")
    with RESULTS.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(cells)


def promotion_figures(folder: Path) -> dict[str, float]:
    """How often it promoted, and the alignment over the first and the last quarter of the cascade."""
    with (folder / "metrics.csv").open() as file:
        shares = [float(row["data_share"]) for row in csv.DictReader(file) if row["data_share"]]
    figures = {"data_share": float(np.median(shares))}
    with (folder / "promotion.csv").open() as file:
        rows = list(csv.DictReader(file))
    if not rows or "alignment_segmentation" not in rows[0]:
        return figures
    alignment = np.array([float(row["alignment_segmentation"]) for row in rows])
    norm = np.array([float(row["norm_segmentation"]) / float(row["main_norm"]) for row in rows])
    ratio = np.array([float(row["ratio"]) for row in rows])
    quarter = len(rows) // 4
    return figures | {
        "promoted": float(np.mean([int(row["promoted_segmentation"]) for row in rows])),
        "alignment_first": float(np.nanmean(alignment[:quarter])),
        "alignment_last": float(np.nanmean(alignment[-quarter:])),
        "norm_ratio": float(np.nanmedian(norm)),
        "promoted_ratio": float(np.median(ratio[ratio > 0])) if (ratio > 0).any() else 0.0,
    }


def work(root: str) -> None:
    """Do every job that is not done and that nobody is at; a warm-up that somebody else is at is waited for."""
    left = jobs()
    while left:
        for job in left:
            if job.strategy != "enhancer_only" and not is_done(Job(job.sigma, "enhancer_only", seed=job.seed)):
                continue
            with claim(job) as mine:
                if mine and not is_done(job):
                    print(job.name, flush=True)
                    run(job, root)
            if mine:
                left.remove(job)
                break
        else:
            time.sleep(20)


@contextmanager
def claim(job: Job) -> Iterator[bool]:
    """Whether nobody else is at this job; a claim ends with its process, however that ends."""
    RUNS.mkdir(parents=True, exist_ok=True)
    with (RUNS / f"{job.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_done(job: Job) -> bool:
    return (RUNS / job.name / "evaluation.json").exists()


def paired(first: Job, second: Job) -> str:
    """Mean difference in PSNR over the same images, with a 95 % interval of the paired bootstrap over images.

    It says what other images would change, not what another seed would.
    """
    from scipy.stats import bootstrap

    def psnr_of(folder: Path) -> dict[str, float]:
        with (folder / "evaluation.csv").open() as file:
            return {row["id"]: float(row["psnr"]) for row in csv.DictReader(file) if row["method"] == "enhanced"}

    a, b = psnr_of(RUNS / first.name), psnr_of(RUNS / second.name)
    differences = np.array([a[name] - b[name] for name in a])
    interval = bootstrap((differences,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return f"{differences.mean():+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def tables() -> None:
    with RESULTS.open() as file:
        rows = list(csv.DictReader(file))
    done = {}
    for row in rows:
        ratio = float(row["max_ratio"]) if row["max_ratio"] else None
        job = Job(float(row["sigma"]), row["strategy"], float(row["weight"] or 1e-4), ratio, int(row["seed"]))
        done[job] = row
    print("| σ | method | λ | cone ρ | seed | PSNR (dB) | SSIM | mIoU | PSNR less enhancer_only's [95 %] |")
    print("|---|---|---|---|---|---|---|---|---|")
    for sigma in (0.1, 0.2, 0.3):
        first = Job(sigma, "enhancer_only")
        summary = json.loads((RUNS / first.name / "evaluation.json").read_text())["summary"]
        for method, name in (("input", "degraded input"), ("non-local means", "non-local means")):
            s = summary[method]
            print(f"| {sigma:g} | {name} | | | | {s['psnr']:.2f} | {s['ssim']:.3f} | | |")
        print(
            f"| {sigma:g} | the paper's best (its Table 5) | | | | {PAPER[sigma][0]:.2f} | {PAPER[sigma][1]:.3f} | | |"
        )
        for job, row in done.items():
            if job.sigma == sigma:
                rest = Job(sigma, "enhancer_only", seed=job.seed)
                difference = "" if job.strategy == "enhancer_only" else paired(job, rest)
                miou = f"{float(row['miou']):.3f}" if row["miou"] else ""
                print(
                    f"| {sigma:g} | {job.strategy} | {row['weight']} | {row['max_ratio']} | {job.seed} "
                    f"| {float(row['psnr']):.2f} | {float(row['ssim']):.3f} | {miou} | {difference} |"
                )
    print("\n| σ | λ | seed | gradprom less joint | gradprom less frozen | cone less joint | cone less frozen |")
    print("|---|---|---|---|---|---|---|")
    for job in done:
        if job.strategy == "gradprom" and job.max_ratio is None:
            cone = replace(job, max_ratio=0.5)
            pairs = [(a, replace(job, strategy=b)) for a in (job, cone) for b in ("joint", "frozen")]
            cells = [paired(a, b) if a in done and b in done else "" for a, b in pairs]
            print(f"| {job.sigma:g} | {job.weight:g} | {job.seed} | {' | '.join(cells)} |")
    print("\n| σ | strategy | λ | cone ρ | seed | promoted | s, first quarter | s, last quarter | ‖A‖/‖G‖ | ‖P‖/‖G‖ |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for job, row in done.items():
        if row["promoted"]:
            print(
                f"| {job.sigma:g} | {job.strategy} | {job.weight:g} | {row['max_ratio']} | {job.seed} "
                f"| {float(row['promoted']):.0%} | {float(row['alignment_first']):+.3f} "
                f"| {float(row['alignment_last']):+.3f} | {float(row['norm_ratio']):.3g} "
                f"| {float(row['promoted_ratio']):.3g} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the ISIC 2018 images")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        tables()
    else:
        from gradprom._process import tune_malloc

        tune_malloc()
        work(options.root)
