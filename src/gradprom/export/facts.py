"""What an exported file says of the enhancer in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradprom import __version__

NOTICE = "Research software, not a medical device: no output of it may be used for diagnosis or treatment."
_NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Facts:
    """What people who get an exported file have to know.

    Attributes:
        name: of the model.
        channels: 1 (grey) or 3 (colour: red, green, blue).
        scale: by how much it enlarges.
        dataset: what it was trained on.
        licence: of that dataset, which may bind the weights too.
        degradation: what it was trained to take away.
        card: the model card (Markdown), empty where there is none.
    """

    name: str
    channels: int
    scale: int = 1
    dataset: str = _NOT_KNOWN
    licence: str = _NOT_KNOWN
    degradation: str = _NOT_KNOWN
    card: str = ""

    def properties(self) -> dict[str, str]:
        """As pairs of words, for the metadata of a file.

        Example:
            >>> properties = Facts("mine", channels=1, scale=2).properties()
            >>> properties["channels"], properties["scale"], properties["value_range"]
            ('1', '2', '[0, 1]')
        """
        return {
            "gradprom": __version__,
            "name": self.name,
            "channels": str(self.channels),
            "scale": str(self.scale),
            "value_range": "[0, 1]",
            "dataset": self.dataset,
            "degradation": self.degradation,
            "licence": f"data: {self.licence}; whether it binds the weights is for whoever hands them on to find out",
            "notice": NOTICE,
        }


def facts_of(model: str | Path) -> Facts:
    """What the folder of a model says.

    Args:
        model: a run folder, or the name of a shipped model.

    Raises:
        UserError: there is no such model, or its folder is damaged.
    """
    from gradprom._chain import chain_scale, describe_chain
    from gradprom.datasets.about import ABOUT
    from gradprom.models import find_model
    from gradprom.training.card import CARD
    from gradprom.training.folder import read_config, read_record

    folder = find_model(model)
    config, record = read_config(folder), read_record(folder)
    card = folder / CARD
    return Facts(
        name=folder.resolve().name,
        channels=record.channels,
        scale=chain_scale(config.degradation),
        dataset=record.dataset,
        licence=ABOUT[record.dataset].licence if record.dataset in ABOUT else _NOT_KNOWN,
        degradation=describe_chain(config.degradation),
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )
