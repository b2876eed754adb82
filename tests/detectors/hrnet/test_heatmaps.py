import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.detectors.hrnet.heatmaps import decoder_for, flipped, maxima
from gridpose.detectors.hrnet.mmpose_models import import_mmpose

pytest.importorskip("mmpose", reason="needs mmpose")
import_mmpose()
from mmpose.codecs import MSRAHeatmap, RegressionLabel, UDPHeatmap  # noqa: E402
from mmpose.models.utils.tta import flip_heatmaps  # noqa: E402

SIZES = {"input_size": (192, 256), "heatmap_size": (48, 64)}
CODECS = {
    "plain": MSRAHeatmap(**SIZES, sigma=2.0),
    "dark": MSRAHeatmap(**SIZES, sigma=2.0, unbiased=True),
    "dark sigma 3": MSRAHeatmap(**SIZES, sigma=3.0, unbiased=True, blur_kernel_size=17),
    "udp": UDPHeatmap(**SIZES),
}


def bumps(generator, people, noise, width=48, height=64):
    """(N, 17, H, W) Gaussians of sigma 2 at places some of which lie outside, and the places."""
    y, x = np.mgrid[:height, :width]
    places = generator.uniform(-2, (width + 1, height + 1), (people, 17, 2))
    squared = (x - places[..., 0, None, None]) ** 2 + (y - places[..., 1, None, None]) ** 2
    heights = generator.uniform(0.2, 1, (people, 17, 1, 1))
    maps = np.exp(-squared / 8) * heights + noise * generator.standard_normal(squared.shape)
    return maps.astype(np.float32), places


def by_mmpose(codec, maps):
    answers = [codec.decode(of_person) for of_person in maps]
    return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from((0.0, 0.01, 0.03)))
def test_keypoints_equal_those_of_mmpose(name, seed, noise):
    maps, _ = bumps(np.random.default_rng(seed), 3, noise)
    keypoints, scores = by_mmpose(CODECS[name], maps)

    ours, our_scores = decoder_for(CODECS[name])(torch.from_numpy(maps))

    # A flat top has no curvature to divide by: what mmpose makes of it is no keypoint.
    start = maxima(torch.from_numpy(maps))[0].numpy() * 4
    sane = np.linalg.norm(keypoints - start, axis=-1) < 12
    assert sane.mean() > 0.8
    np.testing.assert_allclose(ours.numpy()[sane], keypoints[sane], atol=2e-3)
    np.testing.assert_allclose(our_scores.numpy(), scores, atol=1e-6)


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_refined_keypoints_lie_where_the_bumps_are(name):
    maps, places = bumps(np.random.default_rng(0), 20, 0.0)
    codec = CODECS[name]
    cell = (np.array((191, 255)) / (47, 63)) if name == "udp" else 4
    inside = ((places > 4) & (places < (43, 59))).all(-1)

    ours, _ = decoder_for(codec)(torch.from_numpy(maps))

    expected = places * cell * (np.array((192, 256)) / (191, 255) if name == "udp" else 1)
    assert np.abs(ours.numpy() - expected)[inside].max() < 0.2


@pytest.mark.parametrize("name", CODECS)
def test_maps_without_a_peak_give_finite_places(name):
    flat = torch.zeros(2, 17, 64, 48)
    flat[1] = -0.3

    keypoints, scores = decoder_for(CODECS[name])(flat)

    assert keypoints.isfinite().all()
    assert keypoints.abs().max() < 10
    assert (scores <= 0).all()


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_no_step_leads_beyond_the_blur(name):
    noise = np.random.default_rng(1).standard_normal((20, 17, 64, 48)).astype(np.float32)
    places, _ = maxima(torch.from_numpy(noise))

    keypoints, _ = decoder_for(CODECS[name])(torch.from_numpy(noise))

    cell = torch.tensor((192 / 47, 256 / 63) if name == "udp" else (4.0, 4.0))
    assert ((keypoints / cell - places).norm(dim=-1) <= 5.001).all()


def test_unknown_codecs_have_no_decoder():
    assert decoder_for(RegressionLabel(input_size=(192, 256))) is None
    assert decoder_for(UDPHeatmap(**SIZES, heatmap_type="combined")) is None
    assert decoder_for(None) is None


@pytest.mark.parametrize("shift", [True, False])
def test_mirrored_maps_are_turned_back_like_mmposes(shift):
    maps = torch.randn(2, 4, 6, 5)
    order = [0, 2, 1, 3]

    ours = flipped(maps, order, shift)

    theirs = flip_heatmaps(maps.clone(), order, "heatmap", shift)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
