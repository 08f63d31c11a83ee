"""Enhancers by name (the paper's IP): from a degraded image to an estimate of the clean one.

Every enhancer takes (N, C, H, W) in about [0, 1], of any height and width, and gives (N, C, scale·H, scale·W).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradprom.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from gradprom.training.config import EnhancerConfig

# what each name takes of the configuration, with its defaults
PRESETS: dict[str, dict[str, object]] = {
    "srresnet": {"blocks": 16, "channels": 64, "batch_norm": True, "residual": False},
    "estr": {"blocks": 5, "channels": 64, "batch_norm": True, "residual": False},
    "unet": {"encoder": "resnet50"},
    "residual_unet": {"blocks": 2, "channels": 16},
}


def build_enhancer(config: EnhancerConfig, image_channels: int, scale: int = 1) -> nn.Module:
    """Build the enhancer that a configuration names, for images of 1 or 3 channels, with its pretrained weights.

    It makes images ``scale`` times as large: by how much the degradation made them smaller.

    Raises:
        UserError: an option is given that the named enhancer does not have, or its weights cannot be had.

    Example:
        >>> from gradprom.training.config import EnhancerConfig
        >>> build_enhancer(EnhancerConfig(name="estr", channels=8), image_channels=1).blocks[4]
        ResidualBlock(...)
    """
    from gradprom.enhancers.srresnet import SRResNet
    from gradprom.enhancers.unet import EncoderUNet, ResidualUNet
    from gradprom.pretrained import load_pretrained

    options = enhancer_options(config)
    classes: dict[str, type[nn.Module]] = {
        "srresnet": SRResNet,
        "estr": SRResNet,
        "unet": EncoderUNet,
        "residual_unet": ResidualUNet,
    }
    enhancer = classes[config.name](image_channels, scale=scale, **options)
    if isinstance(enhancer, EncoderUNet):
        load_pretrained(enhancer.encoder, config.pretrained, encoder=str(options["encoder"]), library="smp")
    else:
        load_pretrained(enhancer, config.pretrained, encoder=None, library="enhancer")
    return enhancer


def enhancer_options(config: EnhancerConfig) -> dict[str, object]:
    """The options of the named enhancer, its defaults filled in.

    Raises:
        UserError: an option is given that the named enhancer does not have.

    Example:
        >>> from gradprom.training.config import EnhancerConfig
        >>> enhancer_options(EnhancerConfig(name="residual_unet", blocks=1))
        {'blocks': 1, 'channels': 16}
    """
    defaults = PRESETS[config.name]
    options = dict(defaults)
    for name in ("blocks", "channels", "batch_norm", "residual", "encoder"):
        value = getattr(config, name)
        if value is None:
            continue
        if name not in defaults:
            raise UserError(
                f"enhancer.{name} is set, but enhancer {config.name!r} has no such option: it has {', '.join(defaults)}"
            )
        options[name] = value
    return options
