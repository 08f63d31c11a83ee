"""The help of ``gradprom train`` that fits a screen: its options come from the configuration, and there are many."""

from __future__ import annotations

import argparse
from functools import partial

_EXAMPLES = """examples:
  gradprom train --config examples/isic.yaml -o runs/isic
  gradprom train --config examples/isic.yaml --training.seed 1 -o runs/second
  gradprom train --resume runs/isic

What is given here wins over the file.
gradprom train --help-all explains every option."""

_OPTIONS = (
    ("--config", "FILE", "YAML file with any of the options"),
    ("--resume", "RUN", "go on with a run, in place of all other options"),
    ("--overwrite", None, "replace an earlier run of that name"),
    ("--dataset.name", "NAME", "one of gradprom data list (default: brain_mr)"),
    ("--dataset.root", "FOLDER", "where it lies"),
    ("--degradation", "TEXT", "what is done to its images, such as 'gaussian 0.2' or 'downsample 2'"),
    ("--enhancer.name", "NAME", "srresnet, estr, unet or residual_unet"),
    ("--diagnosis.encoder", "NAME", "recognize whole images, by this model of timm"),
    ("--segmentation.encoder", "NAME", "recognize pixels, by a model with this encoder"),
    ("--strategy", "NAME", "gradprom, joint, frozen, enhancer_only or recognizer_only"),
    ("--supervision", "HOW", "supervised or unsupervised (consistency)"),
    ("--promotion.weight", "λ", "of the recognizers' gradients (default: 1e-4)"),
    ("--promotion.max_ratio", "ρ", "cone: bound of what is promoted (default: none)"),
    ("--training.warmup.steps", "N", "of the enhancer alone; likewise pretrain (recognizers) and cascade (both)"),
    ("--training.size", "PIXELS", "side of the training images (default: 128)"),
    ("--training.batch_size", "N", "images a step (default: 8)"),
    ("--training.seed", "N", "of weights, data and noise (default: 0)"),
    ("--training.devices", "N", "processes (default: 1)"),
    ("--print_config", None, "print the whole configuration, and do nothing"),
    ("--help-all", None, "explain every option, and do nothing"),
)


def add_train_help(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the commands of a parser, for its help alone: its words are read by jsonargparse."""
    train = commands.add_parser(
        "train",
        help="train a run by a configuration",
        usage="gradprom train --config FILE -o RUN [--OPTION VALUE ...]",
        description="train a run: first the enhancer, then the recognizers, then both by a strategy",
        epilog=_EXAMPLES,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=32),
    )
    train.add_argument("-o", "--output", metavar="RUN", help="run folder to be made")
    for name, value, explained in _OPTIONS:
        if value is None:
            train.add_argument(name, action="store_true", help=explained)
        else:
            train.add_argument(name, metavar=value, help=explained)
