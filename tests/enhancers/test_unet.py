"""The two U-Nets: of any size, and starting near the identity."""

import pytest
import torch

from gradprom.enhancers.unet import EncoderUNet, ResidualUNet


@pytest.fixture(scope="module", params=[1, 3])
def on_resnet(request: pytest.FixtureRequest) -> EncoderUNet:
    return EncoderUNet(request.param, encoder="resnet18").eval()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 20)])
def test_encoder_unet_of_any_size(on_resnet: EncoderUNet, scale, size) -> None:
    channels = on_resnet.body.encoder.conv1.in_channels
    on_resnet.scale = scale
    with torch.no_grad():
        assert on_resnet(torch.rand(2, channels, *size)).shape == (2, channels, scale * size[0], scale * size[1])


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 6)])
def test_residual_unet_of_any_size(channels, scale, size) -> None:
    enhancer = ResidualUNet(channels, blocks=1, channels=4, scale=scale)
    assert enhancer(torch.rand(2, channels, *size)).shape == (2, channels, scale * size[0], scale * size[1])


def test_residual_unet_starts_as_the_identity_and_then_every_parameter_learns() -> None:
    torch.manual_seed(0)
    enhancer, image = ResidualUNet(1, blocks=1, channels=8), torch.rand(2, 1, 24, 17)
    assert torch.equal(enhancer(image), image)
    torch.nn.init.normal_(enhancer.tail.weight)
    enhancer(image).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in enhancer.parameters())


def test_residual_unet_widths() -> None:
    enhancer = ResidualUNet(1, blocks=3, channels=4)
    assert [down.out_channels for down in enhancer.down] == [8, 16, 32]
    assert [len(level) for level in (*enhancer.encode, enhancer.middle, *enhancer.decode)] == [3] * 7
    convolutions = [9 * 4 + 4, 9 * 4 + 1]  # head and tail
    convolutions += [2 * (4 * w * 2 * w) + 2 * w + w for w in (4, 8, 16)]  # down and up
    convolutions += [3 * 2 * 9 * w * w for w in (4, 8, 16, 32, 16, 8, 4)]
    assert sum(p.numel() for p in enhancer.parameters()) == sum(convolutions)
