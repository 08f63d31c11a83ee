"""Gradient promotion in a LightningModule: manual optimisation, in which `promotion.backward` takes the place of
`self.manual_backward`.

    pip install lightning
    python examples/lightning_module.py

The images and models are those of examples/bare_loop.py.
"""

import lightning
import torch
import torch.nn.functional as F
from bare_loop import draw
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradprom import GradientPromotion


class PromotedEnhancement(lightning.LightningModule):
    """An enhancer and a recognizer that are trained together, on one device.

    For several devices there are `gradprom train`, and `reduce=gradprom.average_over_processes` in a loop of your own:
    DDP, in which Lightning wraps the module, does not support `autograd.grad`, which keeps the two gradients apart.
    """

    def __init__(
        self, enhancer: nn.Module, recognizer: nn.Module, weight: float = 1e-2, max_ratio: float = 0.5
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.enhancer = enhancer
        self.recognizer = recognizer
        self.promotion = GradientPromotion(
            enhancer.parameters(), recognizer.parameters(), weight=weight, max_ratio=max_ratio
        )

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> None:
        degraded, clean, label = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        enhanced = self.enhancer(degraded)
        step = self.promotion.backward(
            main=F.mse_loss(enhanced, clean),
            auxiliaries={"diagnosis": F.cross_entropy(self.recognizer(enhanced), label)},
            interface=enhanced,
        )
        if not step.skipped:
            optimizer.step()
        self.log("enhancement", step.main_loss)
        self.log("alignment", step.alignment["diagnosis"])
        self.log("promoted", float(step.promoted["diagnosis"]), on_step=False, on_epoch=True)

    def validation_step(self, batch: tuple[torch.Tensor, ...], _: int) -> None:
        degraded, clean, label = batch
        enhanced = self.enhancer(degraded)
        before, after = (-10 * F.mse_loss(image, clean).log10() for image in (degraded, enhanced))
        self.log_dict(
            {"psnr_gain": after - before, "accuracy": (self.recognizer(enhanced).argmax(1) == label).float().mean()}
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def make_models() -> tuple[nn.Module, nn.Module]:
    """An enhancer and a recognizer, untrained."""
    enhancer = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    layers = (nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
    return enhancer, nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 2))


def make_loader(batches: int, size: int = 16) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Degraded and clean images and their labels, in a fixed order."""
    clean, label = draw(batches * size)
    return DataLoader(TensorDataset(clean + 0.2 * torch.randn_like(clean), clean, label), batch_size=size)


def main(steps: int = 300) -> float:
    """Train, print what happened, and return the gain in PSNR over the degraded images in dB."""
    torch.manual_seed(0)
    module = PromotedEnhancement(*make_models())
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, make_loader(steps), make_loader(16))
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    print(
        f"promoted in {found['promoted']:.0%} of {steps} steps; PSNR +{found['psnr_gain']:.1f} dB; "
        f"accuracy {found['accuracy']:.2f}"
    )
    return found["psnr_gain"]


if __name__ == "__main__":
    main()
