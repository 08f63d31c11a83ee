"""Recognizers by task (the paper's VR): what a model sees in an image, as logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradprom.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from gradprom.datasets.sample import Dataset
    from gradprom.training.config import RecognizerConfig

TASKS = ("diagnosis", "segmentation")


def build_recognizer(task: str, config: RecognizerConfig, dataset: Dataset) -> nn.Module:
    """Build the recognizer of a task for a dataset's classes, with its pretrained weights.

    Raises:
        UserError: the dataset has no labels for the task, or the weights cannot be had.
    """
    from gradprom.pretrained import load_pretrained
    from gradprom.recognizers.classifier import Classifier
    from gradprom.recognizers.segmenter import Segmenter

    classes = dataset.classes if task == "diagnosis" else dataset.mask_classes
    if len(classes) < 2:
        kind = "diagnoses" if task == "diagnosis" else "masks"
        raise UserError(f"dataset {dataset.name!r} has no {kind}: the task {task!r} cannot be trained on it")
    if task == "diagnosis":
        classifier = Classifier(dataset.channels, len(classes), config.encoder)
        load_pretrained(classifier.body, config.pretrained, encoder=config.encoder, library="timm")
        return classifier
    segmenter = Segmenter(dataset.channels, len(classes), config.encoder)
    load_pretrained(segmenter.encoder, config.pretrained, encoder=config.encoder, library="smp")
    return segmenter
