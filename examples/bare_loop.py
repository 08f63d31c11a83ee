"""Gradient promotion in a training loop of one's own: nothing of gradprom but the rule, and nothing else but PyTorch.

    python examples/bare_loop.py

Discs and squares under noise; the enhancer removes the noise, the recognizer tells discs from squares.
"""

import torch
import torch.nn.functional as F
from torch import nn

from gradprom import GradientPromotion


def draw(count: int, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean images (N, 1, size, size) and their labels: 0 for a disc, 1 for a square."""
    label = torch.randint(2, (count,))
    centre = torch.rand(count, 2, 1, 1) * (size - 12) + 6
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    dy, dx = (y - centre[:, 0]).abs(), (x - centre[:, 1]).abs()
    disc, square = dy**2 + dx**2 < 25, (dy < 4.5) & (dx < 4.5)
    return torch.where(label[:, None, None] == 0, disc, square).float()[:, None] * 0.8 + 0.1, label


def main(steps: int = 300) -> float:
    """Train, print what happened, and return the gain in PSNR over the degraded images in dB."""
    torch.manual_seed(0)
    enhancer = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    recognizer = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.Adam([*enhancer.parameters(), *recognizer.parameters()], lr=5e-3)
    promotion = GradientPromotion(enhancer.parameters(), recognizer.parameters(), weight=1e-2, max_ratio=0.5)
    promoted = 0
    for _ in range(steps):
        clean, label = draw(16)
        degraded = clean + 0.2 * torch.randn_like(clean)
        optimizer.zero_grad()
        enhanced = enhancer(degraded)
        step = promotion.backward(
            main=F.mse_loss(enhanced, clean),
            auxiliaries={"diagnosis": F.cross_entropy(recognizer(enhanced), label)},
            interface=enhanced,
        )
        if not step.skipped:
            optimizer.step()
        promoted += step.promoted["diagnosis"]
    clean, label = draw(256)
    degraded = clean + 0.2 * torch.randn_like(clean)
    with torch.no_grad():
        enhanced = enhancer(degraded)
        accuracy = (recognizer(enhanced).argmax(1) == label).float().mean().item()
    before, after = (-10 * F.mse_loss(image, clean).log10().item() for image in (degraded, enhanced))
    print(f"promoted in {promoted} of {steps} steps; PSNR {before:.1f} -> {after:.1f} dB; accuracy {accuracy:.2f}")
    return after - before


if __name__ == "__main__":
    main()
