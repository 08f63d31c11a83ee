"""Training as a good user writes it in plain PyTorch: what gradprom's loop is measured against.

float32, contiguous tensors, Adam as it comes, images decoded by the workers of a DataLoader, transforms of
torchvision, the allocator as it is. The models are gradprom's own, so that the same is trained; so is the rule, by the
fewest backward passes that one can write down: two through the enhancer, one through the recognizer. Nothing else is.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import tv_tensors
from torchvision.transforms import v2

WEIGHT = 1e-4


class Images(Dataset):
    """Crops of images and of their masks, shapes (3, size, size) in [0, 1] and (size, size)."""

    def __init__(self, root: Path, names: list[str], size: int, masks: bool) -> None:
        self.root, self.names, self.masks = root, names, masks
        self.transform = v2.Compose(
            [
                v2.RandomCrop(size, pad_if_needed=True, padding_mode="reflect"),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
            ]
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        name = self.names[index]
        with Image.open(self.root / "images" / f"{name}.jpg") as file:
            image = tv_tensors.Image(file.convert("RGB"))
        if not self.masks:
            return v2.functional.to_dtype(self.transform(image), torch.float32, scale=True), torch.zeros(0)
        with Image.open(self.root / "masks" / f"{name}.png") as file:
            mask = tv_tensors.Mask(file)
        image, mask = self.transform(image, mask)
        return v2.functional.to_dtype(image, torch.float32, scale=True), (mask[0] > 0).long()


def batches(spec: dict) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Degraded images, clean ones, masks."""
    images = Images(Path(spec["root"]), spec["names"], spec["size"], spec["strategy"] != "enhancer_only")
    loader = DataLoader(
        images,
        batch_size=spec["batch"],
        # one long epoch: the workers are not started again for each
        sampler=RandomSampler(images, num_samples=spec["steps"] * spec["batch"]),
        num_workers=spec["workers"],
    )
    for clean, mask in loader:
        yield (clean + spec["sigma"] * torch.randn_like(clean)).clamp(0, 1), clean, mask


def enhancer_step(enhancer: nn.Module, degraded: Tensor, clean: Tensor) -> dict[str, float]:
    loss = F.mse_loss(enhancer(degraded), clean)
    loss.backward()
    return {"loss": loss.item()}


def cascade_step(
    enhancer: nn.Module, segmenter: nn.Module, degraded: Tensor, clean: Tensor, mask: Tensor
) -> dict[str, float]:
    theta, phi = list(enhancer.parameters()), list(segmenter.parameters())
    enhanced = enhancer(degraded)
    main, auxiliary = F.mse_loss(enhanced, clean), F.cross_entropy(segmenter(enhanced), mask)
    found = torch.autograd.grad(auxiliary, theta + phi, retain_graph=True)
    upstream, recognition = found[: len(theta)], found[len(theta) :]
    own = torch.autograd.grad(main, theta)
    g, a = (torch.cat([x.flatten() for x in gradients]) for gradients in (own, upstream))
    cosine = F.cosine_similarity(g, a, dim=0).item()
    for p, gradient, other in zip(theta, own, upstream, strict=True):
        p.grad = gradient + WEIGHT * other if cosine >= 0 else gradient
    for p, gradient in zip(phi, recognition, strict=True):
        p.grad = gradient
    return {"loss": main.item(), "auxiliary": auxiliary.item(), "cosine": cosine}


def models_of(spec: dict) -> dict[str, nn.Module]:
    """Begun as gradprom's are, by its seeds."""
    from gradprom.datasets.sample import Dataset as Described
    from gradprom.training._stages import build_models
    from gradprom.training.config import parse

    # no more is asked of a dataset than its channels and classes
    described = Described("folder", 3, (), (), (), ("background", "foreground"))
    return build_models(parse(arguments=spec["config"]), described, None, None)


def main(spec: dict) -> None:
    torch.set_num_threads(spec["threads"])
    models = models_of(spec)
    torch.manual_seed(spec["seed"])
    optimizer = torch.optim.Adam([p for model in models.values() for p in model.parameters()], lr=spec["rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec["steps"])
    stamps = []
    with (Path(spec["output"]) / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        for step, (degraded, clean, mask) in enumerate(batches(spec)):
            stamps.append((time.perf_counter(), time.process_time()))
            optimizer.zero_grad()
            if spec["strategy"] == "enhancer_only":
                record = enhancer_step(models["enhancer"], degraded, clean)
            else:
                record = cascade_step(models["enhancer"], models["segmentation"], degraded, clean, mask)
            optimizer.step()
            schedule.step()
            log.writerow([step, *record.values()])
    torch.save(models["enhancer"].state_dict(), Path(spec["output"]) / "enhancer.pt")
    print(json.dumps(stamps))


if __name__ == "__main__":
    main(json.loads(sys.argv[2]))
