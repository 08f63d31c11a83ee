"""``card.md``: what a model is, what it learnt from, how it did, what it is for and what it is not for.

The headings follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, arXiv:1810.03993.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradprom._chain import chain_scale, describe_chain, parse_chain
from gradprom._evaluation import COLUMNS, plus_minus
from gradprom._files import write_text
from gradprom.datasets import OFFICIAL_SPLITS
from gradprom.datasets.about import ABOUT
from gradprom.enhancers import enhancer_options
from gradprom.errors import UserError
from gradprom.strategies import STRATEGIES
from gradprom.training.config import Config, StageConfig
from gradprom.training.folder import RunRecord

CARD = "card.md"
_SAFETY = (
    "**Research software, not a medical device.** No output of it may be used for diagnosis or treatment. An enhancer "
    "can remove what is there and draw what is not: keep the original, and look at it."
)
_STAGES = {"warmup": "warm-up of the enhancer", "pretrain": "pretraining of the recognizer", "cascade": "cascade"}


@dataclass(frozen=True)
class Notes:
    """What a card says that cannot be known from a run folder.

    Attributes:
        summary: the sentence below the title.
        licence: of the weights.
        data_licence: of the images, where less was taken than the whole dataset.
        uses: sentences on what the model is meant for, in place of the general ones.
        limits: sentences on what it is not good for, before the general ones.
        measures: sentences above the table of measures.
    """

    summary: str = ""
    licence: str = ""
    data_licence: str = ""
    uses: Sequence[str] = ()
    limits: Sequence[str] = ()
    measures: Sequence[str] = ()


def write_card(folder: Path, config: Config, record: RunRecord) -> None:
    """Write the card of a run, with all that was measured of it so far.

    Args:
        folder: the run folder; what ``evaluation*.json`` it holds is put into the card.
        config, record: of the run.

    Raises:
        UserError: an evaluation is damaged.
    """
    write_text(folder / CARD, make_card(folder.resolve().name, config, record, read_evaluations(folder)))


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """What ``evaluation.json`` of a run folder holds, and its others after it, by name.

    Raises:
        UserError: one of them is damaged.
    """
    found = []
    for path in sorted(folder.glob("evaluation*.json"), key=lambda path: path.stem):
        try:
            evaluation = json.loads(path.read_text(encoding="utf-8"))
            known = isinstance(evaluation["summary"], dict) and {"dataset", "degradation", "seed"} <= set(evaluation)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise UserError(f"{path}: is damaged, remove it and run gradprom evaluate again")
        found.append(evaluation)
    return found


def make_card(
    name: str, config: Config, record: RunRecord, evaluations: Sequence[Mapping[str, Any]], notes: Notes | None = None
) -> str:
    """The card as Markdown; the same arguments, the same text.

    Args:
        name: of the model.
        config, record: of its run.
        evaluations: contents of ``evaluation.json`` files.
        notes: what only people know of it.

    Example:
        >>> record = RunRecord("brain_mr", 1, [], ["background", "grey matter"], 74, 8, 21, 0, "cpu", 1, "2025-01-01")
        >>> card = make_card("mine", Config(strategy="enhancer_only"), record, [])
        >>> card.splitlines()[0], "74 to learn from, 8 to watch the training, 21 to test on" in card
        ('# Model card: mine', True)
    """
    notes = notes or Notes()
    about = ABOUT[config.dataset.name]
    parts = [
        f"# Model card: {name}",
        notes.summary or _summary(config, record),
        _SAFETY,
        "## Intended use",
        _list(notes.uses or _uses(config, record)),
        "## Limits",
        _list([*notes.limits, *_limits(config)]),
        "## Data",
        _facts(
            {
                "what": about.what,
                "images": f"{record.training_images} to learn from, {record.validation_images} to watch the training, "
                f"{record.test_images} to test on",
                "split": _split(config),
                "used as": _used_as(config, record),
                "classes": ", ".join(record.classes),
                "pixel classes": ", ".join(record.mask_classes),
                "licence of the data": notes.data_licence or about.licence,
                "from": about.where,
                "cite": about.cite,
            }
        ),
        "## Degradation",
        _degradation(config),
        "## Model and training",
        _facts(_training(config, record) | {"licence of the weights": notes.licence}),
        "## Measures",
        *_measures(notes, evaluations),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(config: Config, record: RunRecord) -> str:
    kind = {1: "grey", 3: "colour"}[record.channels]
    if not STRATEGIES[config.strategy].enhancer:
        return f"A recognizer ({' and '.join(config.tasks)}) of degraded {kind} images, trained with gradprom."
    scale = chain_scale(config.degradation)
    larger = f" and makes them {scale} times as large" if scale > 1 else ""
    return f"An enhancer that restores degraded {kind} images{larger}, trained with gradprom."


def _uses(config: Config, record: RunRecord) -> list[str]:
    if not STRATEGIES[config.strategy].enhancer:
        return ["Research: an independent reader of images, to judge enhancers by."]
    return [
        "Research on image enhancement: images like those below, degraded as below, grey or colour as below, of any "
        "size.",
        "As a start for training on images of one's own: `--enhancer.pretrained enhancer.safetensors`.",
    ]


def _limits(config: Config) -> list[str]:
    limits = [
        "It learnt from the images below alone. How it does on another organ, modality, device, clinic or group of "
        "patients is not known before it is measured there: `gradprom evaluate MODEL --dataset NAME --root ROOT -o D`.",
        "The degradation it learnt from is simulated on clean images. That of a real device differs: its noise depends "
        "on place and signal, and compression and sharpening have been at it.",
        "PSNR and SSIM are means over whole images. They say little of small and faint structures, which are the "
        "first that an enhancer takes for noise.",
    ]
    strategy = STRATEGIES[config.strategy]
    if strategy.enhancer and strategy.recognizer:
        limits.append(
            "A recognizer had a part in its training. That this one reads the enhanced images well does not say that "
            "others, or people, do."
        )
    return limits


def _split(config: Config) -> str:
    split, dataset = config.dataset.split, config.dataset
    drawn = f"at random (seed {dataset.split_seed}), {100 * dataset.test_fraction:g} % to test on"
    if split is None and dataset.name == "folder":
        return f"by the folder test, or if there is none {drawn}"
    if split == "official" or (split is None and dataset.name in ("brain_mr", *OFFICIAL_SPLITS)):
        return "the dataset's own"
    return drawn if split in (None, "random") else f"by the list {Path(str(split)).name}"


def _used_as(config: Config, record: RunRecord) -> str:
    most = config.dataset.max_side
    side = "" if most is None else f", brought down to {most} pixels where a side is longer"
    return {1: "grey", 3: "colour"}[record.channels] + side


def _degradation(config: Config) -> str:
    lines = [f"`{describe_chain(config.degradation)}`, on intensities in [0, 1], clamped to them after each step."]
    if any(link.is_drawn for link in parse_chain(config.degradation)):
        lines.append(
            "A range stands for a strength that is drawn evenly for each image, `maybe` for the share of images that "
            "the step comes to: the model is blind to how strong the degradation is, and to whether there is any."
        )
    return "\n".join(lines)


def _training(config: Config, record: RunRecord) -> dict[str, str]:
    training, promotion, strategy = config.training, config.promotion, STRATEGIES[config.strategy]
    facts = {}
    if strategy.enhancer:
        options = ", ".join(f"{name} {value}" for name, value in enhancer_options(config.enhancer).items())
        own = "enhancer" in record.own_models
        facts["enhancer"] = "a model of the user's own" if own else f"{config.enhancer.name} ({options})"
        facts["enhancement loss"] = training.enhancement_loss
    if strategy.recognizer:
        for task, recognizer in config.tasks.items():
            own = task in record.own_models
            facts[f"recognizer for {task}"] = "a model of the user's own" if own else recognizer.encoder
    facts["strategy"] = config.strategy
    if strategy.enhancer and strategy.recognizer:
        facts["strategy"] += f", {config.supervision}"
        facts["promotion"] = f"weight λ {promotion.weight:g}"
        if strategy.judged:
            facts["promotion"] += f", gate {promotion.gate} at {promotion.gate_at}"
        if promotion.max_ratio is not None:
            facts["promotion"] += f", cone ρ {promotion.max_ratio:g}"
    for name, words in _STAGES.items():
        stage: StageConfig = getattr(training, name)
        used = {"warmup": strategy.enhancer, "pretrain": strategy.recognizer, "cascade": True}[name]
        if stage.steps and used:
            view, size = config.view_of(name), config.size_of(name)
            facts[words] = (
                f"{stage.steps} steps at learning rate {stage.learning_rate:g} ({stage.schedule}), "
                f"{'crops' if view == 'crop' else 'whole images'} of {size} × {size} pixels"
            )
    facts["batch"] = f"{training.batch_size} images" + (", augmented" if training.augment else "")
    shares = {"darkened": training.dim, "with a foreign object": training.foreign}
    if training.augment and any(shares.values()):
        facts["batch"] += f" ({', '.join(f'{share:.0%} {what}' for what, share in shares.items() if share)})"
    facts["seed"] = str(record.seed)
    threads = f"{record.threads} thread{'' if record.threads == 1 else 's'}"
    facts["computed"] = f"{training.precision} on {record.device}, {threads}, {record.seconds:.0f} s"
    facts["begun"] = record.started
    facts["versions"] = ", ".join(f"{package} {version}" for package, version in record.versions.items())
    return facts


def _measures(notes: Notes, evaluations: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    if not evaluations:
        return ["None yet: `gradprom evaluate` takes them and writes them here."]
    settings: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for evaluation in evaluations:
        key = (str(evaluation["dataset"]), f"seed {evaluation['seed']}, {evaluation.get('precision', '32-true')}")
        settings.setdefault(key, []).append(evaluation)
    parts = ["\n\n".join(notes.measures)]
    for (dataset, how), members in settings.items():
        parts += [f"Measured on {dataset} ({how}):", _table(members)]
    return [*parts, *dict.fromkeys(str(evaluation.get("protocol", "")) for evaluation in evaluations)]


def _table(evaluations: Sequence[Mapping[str, Any]]) -> str:
    summaries = [values for evaluation in evaluations for values in evaluation["summary"].values()]
    read = {key: words for key, words in COLUMNS.items() if any(values.get(key) is not None for values in summaries)}
    heading = ["degradation", "images are", "number", "PSNR (dB)", "SSIM", *read.values()]
    rows = [heading, ["---", "---", *["---:"] * (len(heading) - 2)]]
    for evaluation in evaluations:
        for method, values in evaluation["summary"].items():
            rows.append(
                [
                    evaluation["degradation"],
                    method,
                    str(values["images"]),
                    plus_minus(values["psnr"], values["psnr_std"], 2),
                    plus_minus(values["ssim"], values["ssim_std"], 3),
                    *(plus_minus(values.get(key), None, 3) for key in read),
                ]
            )
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _facts(facts: Mapping[str, str]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items() if value]
    return "\n".join(["| | |", "|---|---|", *rows])


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _cell(text: str) -> str:
    """As it stands in a table, whatever names of classes are made of."""
    return " ".join(text.replace("|", "\\|").split())
