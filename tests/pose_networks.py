"""Top-down networks for tests: small random HRNets, and one that sees coloured dots."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from gridpose.detectors.hrnet.config import PoseConfig, packaged_config, read_config
from gridpose.detectors.hrnet.mmpose_models import build_model

_SMALL = {
    stage: {"num_modules": 1, "num_blocks": (1,) * len(channels), "num_channels": channels}
    for stage, channels in (
        ("stage2", (8, 16)),
        ("stage3", (8, 16, 32)),
        ("stage4", (8, 16, 32, 64)),
    )
}


def _shrink(model):
    """An eighth of HRNet's channels, and as few blocks as there can be."""
    for stage, sizes in _SMALL.items():
        model["backbone"]["extra"][stage].update(sizes)
    model["head"]["in_channels"] = 8


def small_config_file(folder, name="td-hm_hrnet-w32_8xb64-210e_coco-256x192"):
    """One of mmpose's HRNet configs for a small network, as a user's config file."""
    from mmengine import Config

    config = Config.fromfile(packaged_config(name))
    _shrink(config.model)
    file = folder / f"small_{name}.py"
    config.dump(str(file))
    return file


def small(config):
    """The same with a small HRNet."""
    model = copy.deepcopy(config.model)
    _shrink(model)
    return replace(config, model=model)


def random_model(config, seed=0):
    """mmpose's network for a config, with weights and statistics like nobody trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config.model, config.name)
    with torch.no_grad():
        for name, values in model.named_buffers():
            if name.endswith("running_mean"):
                values.copy_(torch.randn(values.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
        for values in model.parameters():
            if values.dim() == 4:
                fan_in = values[0].numel()
                values.copy_(torch.randn(values.shape, generator=generator) / fan_in**0.5)
        if type(model.head).__name__ == "HeatmapHead":
            width, height = config.input_size
            noise = torch.randn(2, 3, height, width, generator=generator)
            highest = model.head.forward(model.extract_feat(noise)).amax()
            model.head.final_layer.weight /= highest  # heatmaps as high as trained ones
    return model


def save_random(file, config_name, seed=0, rename=lambda key: key, extra=None):
    """Weights of a random network as ``{"state_dict": ...}``; also the model they are of."""
    model = random_model(read_config(config_name), seed)
    state = {rename(key): value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, **(extra or {})}, file)
    return model


COLOURS = np.array([((k % 3) * 120, (k // 3 % 3) * 120, 60 + (k // 9) * 150) for k in range(17)])
"""(17, 3) RGB, far apart; the background is white."""


def draw_dots(frame, keypoints, radius=6):
    """Paint (17, 2) px of a person into an RGB frame."""
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width]
    for colour, (px, py) in zip(COLOURS, keypoints, strict=True):
        frame[(x - px) ** 2 + (y - py) ** 2 <= radius**2] = colour


class DotNetwork(nn.Module):
    """Looks like one of mmpose's models; its heatmaps are high where a dot's colour is."""

    def __init__(self, crop_size=(192, 256)):
        super().__init__()
        width, height = crop_size
        self.data_preprocessor = SimpleNamespace(
            mean=torch.zeros(3, 1, 1), std=torch.ones(3, 1, 1), _channel_conversion=True
        )
        self.test_cfg = {"shift_heatmap": True}
        decoder = type("UDPHeatmap", (), {})()
        decoder.input_size, decoder.heatmap_type, decoder.blur_kernel_size = (
            crop_size,
            "gaussian",
            11,
        )
        self.heatmap_size = (height // 4, width // 4)
        self.head = SimpleNamespace(decoder=decoder, forward=lambda features: features)
        self.backbone = nn.Identity()
        self.crops_seen = 0

    def extract_feat(self, crops):
        self.crops_seen += len(crops)
        colours = torch.tensor(COLOURS, dtype=torch.float32)
        apart = (crops[:, None] - colours[None, :, :, None, None]).norm(dim=2)
        seen = torch.exp(-((apart / 25) ** 2))
        blurred = nn.functional.avg_pool2d(seen, 9, 1, 4)
        # As UDP has it: the outermost pixels' centres lie on each other.
        maps = nn.functional.interpolate(
            blurred, self.heatmap_size, mode="bilinear", align_corners=True
        )
        return maps / maps.amax((-2, -1), keepdim=True).clamp_min(0.2)


DOT_CONFIG = PoseConfig(
    name="dots",
    model={},
    input_size=(192, 256),
    padding=1.25,
    udp=True,
    keypoints=tuple("abcdefghijklmnopq"),
    counterparts=tuple(range(17)),
)
