"""The ready-made enhancers: which images they learn from, how they did, and the folder that goes into the package.

    python benchmarks/shipped_models.py split ISIC/metadata.csv examples/dermoscopy_split.csv
    gradprom train --config examples/dermoscopy.yaml --dataset.root ISIC -o runs/dermoscopy
    python benchmarks/shipped_models.py pack runs/dermoscopy dermoscopy --root ISIC --cache runs/nlm
    python benchmarks/shipped_models.py others dermoscopy --root ISIC      images of other contributors
    gradprom train --config examples/brain_mr.yaml -o runs/brain_mr
    python benchmarks/shipped_models.py pack runs/brain_mr brain-mr --cache runs/nlm

A pack measures the run on all of its test images, clean and at each degradation of LEVELS, beside the degraded input
and non-local means. It takes no model over 5 MB, and none that brings clean images back below 40 dB.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import yaml

from gradprom._files import atomic_path, write_text
from gradprom.datasets import load_dataset
from gradprom.datasets._split import split
from gradprom.datasets.splits import write_split
from gradprom.degradations import build_degradation, degrade
from gradprom.evaluation import evaluate
from gradprom.experiments.evaluate import dataset_of, evaluate_run
from gradprom.inference.load import load
from gradprom.models import CARD, IMAGES, MEASURES, ROOT, Measures
from gradprom.training.card import Notes, make_card
from gradprom.training.config import to_dict
from gradprom.training.folder import CONFIG, ENHANCER, read_config, read_record, weights_path, write_record

LEVELS = (
    *("none", "gaussian 0.05", "gaussian 0.1", "gaussian 0.2", "gaussian 0.3", "poisson 0.1", "blur 3 1"),
    *("challenging", "challenging physical"),
)
MOST_BYTES, LEAST_CLEAN = 5_000_000, 40.0
WHAT = {
    "dermoscopy": "denoises dermoscopy of skin lesions, however strong the noise",
    "brain-mr": "denoises axial T1 brain MR, skull-stripped, however strong the noise",
}
NOTES = {
    "dermoscopy": Notes(
        summary="An enhancer that takes noise out of dermoscopic images, however strong, with or without slight blur. "
        "It comes with gradprom, for trying the software before one trains a model of one's own.",
        licence="Apache-2.0, as the software; the images it learnt from are in the public domain",
        data_licence="CC0: none but the images that the ISIC archive gives under it were taken; `images.csv` beside "
        "this card lists them",
        uses=(
            "Trying gradprom: `gradprom enhance dermoscopy INPUT -o OUTPUT`.",
            "Research on the enhancement of dermoscopic images, as a model to compare with or to start from.",
        ),
        limits=(
            "It saw dermoscopy alone, early contributions to the archive: nevi and melanomas, mostly on light skin. "
            "How it does on dark skin, on other lesions, and on photographs taken without a dermatoscope is not known.",
            "It saw images of 512 pixels and less on their longer side. Structures that are much larger in pixels, "
            "as in images at a camera's full resolution, are other structures to it.",
            "Hair, fine network and dots weaker than the noise are smoothed away like noise.",
        ),
    ),
    "brain-mr": Notes(
        summary="An enhancer that takes noise out of axial T1 brain MR, however strong, with or without slight blur. "
        "It comes with gradprom, for trying the software before one trains a model of one's own.",
        licence="Apache-2.0, as the software. It was made from the MNI152 template, under this notice: Copyright (C) "
        "1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University. "
        "Permission to use, copy, modify, and distribute this software and its documentation for any purpose and "
        "without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and "
        "McGill University make no representations about the suitability of this software for any purpose. It is "
        'provided "as is" without express or implied warranty. The authors are not responsible for any data loss, '
        "equipment damage, property loss, or injury to subjects or patients resulting from the use or misuse of this "
        "software package.",
        uses=(
            "Trying gradprom: `gradprom enhance brain-mr INPUT -o OUTPUT`.",
            "Demonstrations and tests; for work on brain MR train a model on images of one's own scanner.",
        ),
        limits=(
            "It learnt from one head, which is no one's: the mean of 152 healthy adults, smoother than any single "
            "scan, without skull, at 1 mm. It will smooth a real scan to look like that, and lesions, tumours, "
            "atrophy, children's brains and all that lies outside the brain are unknown to it.",
            "It was tested on other slices of the same head, 8 mm and more away. These figures say how it does on that "
            "head, not on patients.",
            "Noise of magnitude images is Rician, near Gaussian only where the signal is strong; it learnt Gaussian "
            "noise clipped at black.",
        ),
    ),
}


def write_cc0_split(metadata: Path, path: Path) -> None:
    """Of the images that the archive gives under CC0, a fifth of each diagnosis to test on; all others left out."""
    with metadata.open(encoding="utf-8", newline="") as file:
        rows = sorted((row for row in csv.DictReader(file) if row["licence"] == "CC0"), key=lambda row: row["isic_id"])
    names = [row["isic_id"] for row in rows]
    diagnoses = sorted({row["diagnosis"] for row in rows})
    tested = set(split(names, [diagnoses.index(row["diagnosis"]) for row in rows], fraction=0.2, seed=0)[1])
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "part"))
        writer.writerows((name, "test" if index in tested else "train") for index, name in enumerate(names))
        writer.writerow(("*", "none"))
    print(f"{path}: {len(names) - len(tested)} to learn from, {len(tested)} to test on")


def pack(run: Path, folder: Path, root: str | None, cache: Path | None, limit: int | None) -> str:
    """Measure a run, and make of it the folder that goes into the package; a sentence, where it must not go there."""
    name, config, record = folder.name, read_config(run), read_record(run)
    weights = weights_path(run, "enhancer")
    evaluations, lowest, clean = [], 0.0, 0.0
    for level in LEVELS:
        with tempfile.TemporaryDirectory() as measured:
            result = evaluate_run(run, root=root, degradation=level, output=measured, cache=cache, limit=limit)
            (written,) = Path(measured).glob("*.json")
            evaluations.append(json.loads(written.read_text(encoding="utf-8")))
        if evaluations[1:]:  # clean images are read the same at every level
            evaluations[-1]["summary"].pop("clean", None)
        print(level, {method: values["psnr"] for method, values in result.summary.items()}, flush=True)
        if level == "none":
            own = [row.psnr for row in result.rows if row.method == "enhanced" and row.psnr is not None]
            lowest, clean = min(own), sum(own) / len(own)
    if not record.finished or weights.stat().st_size > MOST_BYTES or clean < LEAST_CLEAN:
        return (
            f"{run}: finished {record.finished}, {weights.stat().st_size} bytes, clean images come back at {clean:.2f} "
            f"dB: expected a finished run of at most {MOST_BYTES} bytes that brings clean images back at "
            f"{LEAST_CLEAN:g} dB or more; nothing was packed"
        )
    images = evaluations[0]["summary"]["enhanced"]["images"]
    notes = replace(
        NOTES[name],
        measures=(
            f"Clean images come back at {clean:.2f} dB on average, and at {lowest:.2f} dB at least. Non-local means "
            "knows σ where the degradation is Gaussian noise alone, and estimates it elsewhere. What is read of the "
            "images was read by the recognizer that was trained beside the enhancer, and does not come with it.",
        ),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_split(dataset_of(config, None, root, record.channels), folder / IMAGES)
    if config.dataset.split is not None:
        with (folder / IMAGES).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(("*", "none"))
        config.dataset.split = IMAGES
    config.dataset.root = config.training.stages = None
    shutil.copyfile(weights, folder / ENHANCER)
    write_text(folder / CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
    write_record(folder, record)
    measures = Measures(WHAT[name], images, lowest, evaluations)
    write_text(folder / MEASURES, json.dumps(vars(measures), indent=1, ensure_ascii=False) + "\n")
    write_text(folder / CARD, make_card(name, config, record, evaluations, notes))
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.2f} MB")
    return ""


def measure_others(model: str, root: str, levels: Sequence[str]) -> None:
    """Measure a model of dermoscopy on ISIC images that are not under CC0: it can have seen none of them."""
    with (Path(root) / "metadata.csv").open(encoding="utf-8", newline="") as file:
        cc0 = {row["isic_id"] for row in csv.DictReader(file) if row["licence"] == "CC0"}
    data = load_dataset("isic2018", root, max_side=512)
    samples = [sample for sample in (*data.train, *data.test) if sample.id not in cc0]
    enhancer = load(model).enhancer
    for level in levels:
        result = evaluate(
            samples,
            channels=3,
            degrade=partial(degrade, build_degradation(level)),
            enhancer=enhancer,
            baselines=False,
        )
        own = sorted((row.psnr, row.id) for row in result.rows if row.method == "enhanced")
        mean = sum(psnr for psnr, _ in own) / len(own)
        low = sum(psnr < LEAST_CLEAN for psnr, _ in own)
        worst = ", ".join(f"{name} {psnr:.1f}" for psnr, name in own[:3])
        print(f"{level}: {mean:.2f} dB on {len(own)} images, {low} below {LEAST_CLEAN:g}; least: {worst}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    splitting = commands.add_parser("split")
    splitting.add_argument("metadata", type=Path)
    splitting.add_argument("path", type=Path)
    packing = commands.add_parser("pack")
    packing.add_argument("run", type=Path)
    packing.add_argument("name", choices=WHAT)
    packing.add_argument("--root", help="of the dataset, where the run's own has moved")
    packing.add_argument("--cache", type=Path, help="folder that keeps non-local means")
    packing.add_argument("--limit", type=int, help="measure on so many images alone, to try the script")
    packing.add_argument("-o", "--output", type=Path, default=ROOT, help="folder of the shipped models")
    measuring = commands.add_parser("others")
    measuring.add_argument("model", help="a run folder, or the name of a shipped model")
    measuring.add_argument("--root", required=True, help="of ISIC 2018")
    measuring.add_argument("--levels", nargs="+", default=["none", "gaussian 0.1", "gaussian 0.3"])
    options = parser.parse_args()
    if options.command == "split":
        write_cc0_split(options.metadata, options.path)
    elif options.command == "others":
        measure_others(options.model, options.root, options.levels)
    elif refusal := pack(options.run, options.output / options.name, options.root, options.cache, options.limit):
        sys.exit(refusal)


if __name__ == "__main__":
    main()
