"""Evidence about a mask in its image, and the Dice predicted from it, on cords whose true mask is known."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from analytic import cord_image, tube
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from spineseg.centerline import contour
from spineseg.centerline.contour import compare_with_edges, describe_edges, measure_contour
from spineseg.centerline.curve import Centerline
from spineseg.errors import ModelError
from spineseg.metrics.overlap import compute_dice
from spineseg.metrics.shape import compute_shape
from spineseg.quality import agreement
from spineseg.quality.features import PreparedImage, measure_features
from spineseg.quality.predictor import TRANSFORMS, load_dice_predictor, predictor_from_json, predictor_to_json
from spineseg.training.quality.degrade import FAULTS, apply_fault, resize
from spineseg.training.quality.fit import (
    FEATURES,
    as_cases,
    conformal_limits,
    fit_dice_predictor,
    kind_of_image,
    shared_error,
)
from spineseg.volume import Volume

ZOOMS = np.array([0.5, 0.5, 4.0])
RADIUS = 5.0


def disc(radius, shape=(80, 80, 9), centre=(39.5, 39.5)):
    i, j, _ = np.indices(shape)
    return np.hypot((i - centre[0]) * ZOOMS[0], (j - centre[1]) * ZOOMS[1]) < radius


def picture(radius=RADIUS, cord=100.0, fluid=300.0, noise=5.0):
    """A cord in fluid (to 9 mm) in tissue, blurred by half a millimetre."""
    image = np.where(disc(radius), cord, np.where(disc(9.0), fluid, 180.0))
    image = ndi.gaussian_filter(image, (1, 1, 0))
    return image + np.random.default_rng(0).normal(0, noise, image.shape)


def contour_of(image, mask, *, darker=True, centre=(39.5, 39.5)):
    return measure_contour(image, mask, ZOOMS[:2], np.tile(centre, (mask.shape[2], 1)), darker)


class TestContour:
    @pytest.mark.parametrize("centre", [(39.5, 39.5), (5.0, 70.0)])
    def test_rays_end_where_the_mask_does_without_a_difference(self, monkeypatch, centre):
        mask = disc(5.0)
        mask[60:64, 38:41, 0] = True  # 10 mm away, and 20 mm in the next slice
        mask[79, 38:41, 1] = True
        found = contour_of(picture(), mask, centre=centre)
        monkeypatch.setattr(contour, "_find_reach", lambda *_: contour.MAX_RADIUS_MM)
        np.testing.assert_equal(asdict(found), asdict(contour_of(picture(), mask, centre=centre)))

    @pytest.mark.parametrize("radius", [4.0, 4.5, 5.0, 5.5, 6.5])
    @pytest.mark.parametrize("darker", [True, False])
    def test_offset_and_overlap_are_those_of_the_circles(self, radius, darker):
        image = picture() if darker else -picture()
        found = contour_of(image, disc(radius), darker=darker)
        assert found.edge_offset_mm == pytest.approx(RADIUS - radius, abs=0.2)
        inner, outer = sorted((radius, RADIUS))
        assert found.edge_dice == pytest.approx(2 * inner**2 / (inner**2 + outer**2), abs=0.03)
        assert found.polarity == (1 if darker else -1)
        assert found.edge_spread_mm < 0.15
        assert found.edge_share == (1.0 if abs(RADIUS - radius) < 0.6 else 0.0)

    def test_the_image_may_contradict_the_contrast(self):
        assert contour_of(-picture(), disc(RADIUS), darker=True).polarity == -1

    def test_half_of_the_contour_off_the_edge(self):
        mask = disc(RADIUS)
        mask[:40] = disc(2.5)[:40]
        found = contour_of(picture(), mask)
        assert found.edge_share == pytest.approx(0.5, abs=0.1)
        assert found.edge_dice < 0.9

    @pytest.mark.parametrize(("moved_mm", "trusted"), [(0.0, True), (0.5, True), (2.5, False)])
    def test_a_mask_that_runs_across_slices_that_moved_is_not_trusted(self, moved_mm, trusted):
        image = picture()
        shift = np.random.default_rng(3).choice([-1, 1], (9, 2)) * round(moved_mm / ZOOMS[0])
        image = np.stack([np.roll(image[:, :, k], shift[k], (0, 1)) for k in range(9)], axis=2)
        volume = Volume(image.astype(np.float32), np.diag([-0.5, 0.5, 4.0, 1.0]))
        found = compare_with_edges(volume, disc(RADIUS), "t2")
        assert (describe_edges(found, "t2") == ()) is trusted
        assert found.edge_dice > 0.9 or f"{found.edge_dice:.2f}" in describe_edges(found, "t2")[0]

    def test_edges_of_the_other_polarity_say_nothing(self):
        volume = Volume(-picture().astype(np.float32), np.diag([-0.5, 0.5, 4.0, 1.0]))
        found = compare_with_edges(volume, disc(2.5), "t2")
        assert found.edge_dice < contour.LEAST_EDGE_DICE
        assert describe_edges(found, "t2") == ()
        assert describe_edges(found, "t1") != ()

    def test_edges_say_nothing_without_a_mask(self):
        volume = Volume(picture().astype(np.float32), np.diag([-0.5, 0.5, 4.0, 1.0]))
        found = compare_with_edges(volume, np.zeros(volume.shape, bool), "t2")
        assert np.isnan(found.edge_dice)
        assert describe_edges(found, "t2") == ()

    def test_symmetry_and_steadiness(self):
        found = contour_of(picture(), disc(RADIUS))
        assert found.symmetry == pytest.approx(1, abs=0.01)
        assert found.steadiness == pytest.approx(1, abs=0.01)
        half = disc(RADIUS)
        half[40:] = disc(2.5)[40:]
        # 2 x overlap over both: pi/2 (2.5² + 2.5²) of pi (5² + 2.5²) / 2
        assert contour_of(picture(), half).symmetry == pytest.approx(2 * 6.25 / 31.25, abs=0.07)
        half[:, :, ::2] = half[::-1, :, ::2]
        assert contour_of(picture(), half).steadiness == pytest.approx(2 * 6.25 / 31.25, abs=0.07)

    def test_contrast_over_noise(self):
        found = contour_of(picture(noise=20.0), disc(RADIUS))
        # inside 100, ring 300, noise 20, of which sampling between pixels averages a part away
        assert 10 < found.contrast_to_noise < 20
        assert contour_of(picture(noise=40.0), disc(RADIUS)).contrast_to_noise == pytest.approx(
            found.contrast_to_noise / 2, rel=0.1
        )
        assert found.contrast_consistency == 1.0
        image = picture(noise=20.0)
        image[:, :, ::2] = 400 - image[:, :, ::2]
        assert contour_of(image, disc(RADIUS)).contrast_consistency == pytest.approx(0.5, abs=0.1)

    def test_a_mask_in_noise_is_on_no_edge(self):
        image = np.random.default_rng(1).normal(0, 10, disc(1).shape)
        found = contour_of(image, disc(RADIUS))
        assert found.edge_share < 0.6
        assert found.contrast_to_noise < 0.5

    def test_no_evidence_without_a_mask(self):
        assert np.isnan(contour_of(picture(), disc(RADIUS) & False).edge_dice)


@pytest.fixture
def sees_disc(monkeypatch):
    """A network that finds a disc of 5 mm in the slices that the test chooses."""
    seen = {"slices": None}

    def compute_probability(volume, line, network, **options):
        shape = volume.shape
        prob = np.zeros(shape, np.float32)
        for n, point in enumerate(line.points_vox):
            # the values identify the slices that the network was given
            if seen["slices"] is None or round(float(volume.data[0, 0, n])) in seen["slices"]:
                prob[:, :, n] = disc(RADIUS, shape)[:, :, n]
            assert np.isfinite(point).all()
        return prob, np.zeros(shape[2], np.float32)

    monkeypatch.setattr("spineseg.deepseg.inference.compute_probability", compute_probability)
    return seen


def compare(mask, n_slices=9):

    data = np.broadcast_to(np.arange(n_slices, dtype=np.float32), mask.shape).copy()  # value: slice number
    volume = Volume(data, np.diag([-0.5, 0.5, 4.0, 1.0]))
    chosen = np.flatnonzero(mask.any((0, 1)))
    chosen = np.arange(chosen[0], chosen[-1] + 1)
    centres = np.tile([39.5, 39.5], (len(chosen), 1))
    return agreement.measure_agreement(volume, mask, chosen, centres, None)


class TestReferenceNetwork:
    def test_the_networks_own_mask_is_perfect(self, sees_disc):
        found = compare(disc(RADIUS))
        assert (
            found["network_dice"] == found["network_overlap"] == found["network_ceiling"] == found["network_worst"] == 1
        )
        assert found["network_area"] == 0
        assert found["network_sees"] == found["extent"] == 1

    def test_too_large(self, sees_disc):
        found = compare(disc(6.0))
        assert found["network_dice"] == pytest.approx(2 * 25 / (25 + 36), abs=0.01)
        assert found["network_area"] == pytest.approx(np.log(36 / 25), abs=0.02)

    def test_cord_beyond_the_ends_and_in_gaps_shortens_the_extent(self, sees_disc):
        mask = disc(RADIUS)
        mask[:, :, 6:] = False
        assert compare(mask)["extent"] == pytest.approx(6 / 9)
        mask[:, :, 2] = False
        assert compare(mask)["extent"] == pytest.approx(5 / 9)
        sees_disc["slices"] = set(range(6))  # the cord ends where the mask ends
        assert compare(mask)["extent"] == pytest.approx(5 / 6)

    def test_a_structure_that_is_not_cord(self, sees_disc):
        sees_disc["slices"] = set()
        found = compare(disc(RADIUS))
        assert found["network_dice"] == found["network_sees"] == 0
        assert found["extent"] == 1

    def test_distance_to_the_line(self):
        line = Centerline(np.column_stack([np.full(9, 39.5), np.full(9, 39.5), np.arange(9)]))
        for shift, away in ((0.0, 0.0), (3.0, 0.0), (6.0, 1.0)):
            mask = disc(2.0, centre=(39.5 + 2 * shift, 39.5))
            centroids = compute_shape(mask, ZOOMS).centroid_vox[:, :2]
            found = agreement.measure_place(mask, centroids, ZOOMS, line)
            assert found["line_distance_mm"] == pytest.approx(shift, abs=1e-6)
            assert (found["line_away"], found["line_coverage"]) == (away, 1.0)
        half = disc(2.0)
        half[:, :, 4:] = False
        assert agreement.measure_place(half, centroids, ZOOMS, line)["line_coverage"] == pytest.approx(4 / 9)

    def test_without_a_centerline_no_slice_counts_as_near_it(self):
        found = agreement.measure_place(disc(2.0), np.full((9, 2), 39.5), ZOOMS, Centerline(np.zeros((0, 3))))
        assert found["line_away"] == 1
        assert np.isnan(found["line_distance_mm"])


class TestFaults:
    @pytest.mark.parametrize("mm", [-1.0, -0.3, 0.0, 0.4, 1.5])
    def test_resize_moves_the_contour(self, mm):
        area = resize(disc(RADIUS), ZOOMS, mm).sum() / disc(RADIUS).sum()
        assert area == pytest.approx((RADIUS + mm) ** 2 / RADIUS**2, rel=0.08)

    @pytest.mark.parametrize("name", FAULTS)
    def test_simulated_faults_change_the_mask_and_repeat(self, name):
        mask = disc(RADIUS)
        rng = np.random.default_rng
        dice = [compute_dice(apply_fault(name, mask, ZOOMS, rng(seed)), mask) for seed in range(8)]
        assert min(dice) < 1
        assert len(set(dice)) > 1
        np.testing.assert_array_equal(*(apply_fault(name, mask, ZOOMS, rng(3)) for _ in range(2)))


def made_cases(n=600, seed=0, people=20):
    """Cases whose Dice depends on two features, with noise; the other features are random."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        row = {name: float(rng.uniform(0, 1)) for name, _, _ in FEATURES} | {"extent": 1.0}
        row |= {"network_overlap": rng.beta(3, 1), "extent": rng.choice([1.0, rng.uniform(0.3, 1)])}
        loss = np.exp(-0.8 * TRANSFORMS["loss"](row["network_overlap"]) + 0.1 * rng.standard_normal())
        dice = max(0.0, 1 - loss) * 2 * row["extent"] / (1 + row["extent"])
        image = f"{number // 6}"
        rows.append(
            row | {"person": f"{number % people}", "image": image, "variant": "a", "kind": "made", "dice": float(dice)}
        )
    return rows


class TestModel:
    def test_the_model_learns_and_its_intervals_cover_other_cases(self):
        from scipy.stats import spearmanr

        rows, new = made_cases(), made_cases(seed=5)
        model = fit_dice_predictor(as_cases(rows, np.ones(len(rows))), {})
        cases = as_cases(new, np.ones(len(new)))
        dice = model.predict_dice(cases.features)
        assert spearmanr(dice, cases.dice).statistic > 0.9
        assert np.mean(dice - cases.dice) == pytest.approx(0, abs=0.015)
        low, high = model.interval(dice)
        assert 0.85 < np.mean((cases.dice >= low) & (cases.dice <= high)) < 0.95

    def test_intervals_are_those_of_kinds_held_out(self):
        """One kind of image is 0.06 better than predicted: only a fit with that kind learns it."""
        rows = made_cases()
        for number, row in enumerate(rows):
            bold = number // 20 % 3 == 0
            row |= {"image": f"{number}_{'bold' if bold else 'T1w'}", "contrast": "t2" if bold else "t1"}
            row["dice"] = min(1.0, row["dice"] + 0.06 * bold)
        assert {kind_of_image(row) for row in rows} == {"epi", "t1"}
        by_kind = fit_dice_predictor(as_cases(rows, np.ones(len(rows))), {})
        alike = as_cases(
            [row | {"image": f"{n}_T1w", "contrast": "t1"} for n, row in enumerate(rows)], np.ones(len(rows))
        )
        by_person = fit_dice_predictor(alike, {})
        assert by_kind.error_high - by_kind.error_low > 1.1 * (by_person.error_high - by_person.error_low)

    def test_shared_error_is_the_groups_not_the_images(self):
        rng = np.random.default_rng(0)
        group = np.repeat(np.arange(200), 5)
        noise = rng.normal(0, 0.03, group.size)
        assert shared_error(rng.normal(0, 0.02, 200)[group] + noise, group) == pytest.approx(0.02, rel=0.2)
        assert shared_error(noise, group) < 0.006
        assert shared_error(noise[:3], np.arange(3)) == 0

    def test_conformal_limits_are_quantiles(self):
        error = np.random.default_rng(0).normal(size=4000)
        assert conformal_limits(error, np.ones(4000)) == pytest.approx(np.quantile(error, [0.05, 0.95]), abs=0.02)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_better_features_never_lower_the_shipped_prediction(self, data):
        model = load_dice_predictor()
        base = {name: data.draw(st.floats(0, 1.5), label=name) for name, _, _ in FEATURES}
        name, transform, sign = data.draw(st.sampled_from(FEATURES))
        if transform in ("above", "below"):
            change = {name: 0.0}  # no deviation is the best
        else:
            change = {name: base[name] + sign * data.draw(st.floats(0, 1))}
        columns = {key: np.array([base[key], (base | change)[key]]) for key in base}
        before, after = model.score(columns)
        assert after >= before - 1e-9

    def test_missing_features_are_tolerated(self):
        prediction = load_dice_predictor().predict({"extent": np.nan} | {name: np.nan for name, _, _ in FEATURES})
        assert 0 < prediction.predicted_dice < 1

    def test_an_empty_mask_is_zero_and_flagged(self):
        prediction = load_dice_predictor().predict({})
        assert (prediction.predicted_dice, prediction.flagged) == (0.0, True)

    def test_round_trip_through_json(self):
        model = load_dice_predictor()
        again = predictor_from_json(json.loads(json.dumps(predictor_to_json(model))))
        columns = as_cases(made_cases(50), np.ones(50)).features
        np.testing.assert_allclose(again.predict_dice(columns), model.predict_dice(columns), atol=1e-4)
        assert model.provenance["people"]

    @pytest.mark.parametrize("content", ["", "{}", '{"format": "spineseg-quality-1"}'])
    def test_files_that_are_not_a_model(self, tmp_path, content):
        path = tmp_path / "quality.json"
        path.write_text(content)
        with pytest.raises(ModelError, match=r"quality\.json"):
            load_dice_predictor(path)
        with pytest.raises(ModelError, match="nothing"):
            load_dice_predictor(tmp_path / "nothing.json")


@pytest.fixture(scope="module")
def phantom():
    from spineseg.training.quality.cases import make_phantom

    return make_phantom(seed=303, index=2)  # T2*, no difficulty


@pytest.fixture(scope="module")
def image(phantom):
    from spineseg.quality.features import prepare_image

    return prepare_image(phantom.volume, phantom.contrast)


class TestWhole:
    def predict(self, image: PreparedImage, mask):
        return load_dice_predictor().predict(measure_features(image, mask, compute_shape(mask, image.volume.zooms)))

    def test_the_true_mask_is_good_and_faulty_ones_are_worse(self, phantom, image):
        good = self.predict(image, phantom.reference)
        assert good.predicted_dice > 0.93
        assert not good.flagged
        assert good.predicted_dice_low <= good.predicted_dice <= good.predicted_dice_high
        rng = np.random.default_rng(0)
        for name in ("elsewhere", "truncated", "too small", "too large", "half cord"):
            masks = [apply_fault(name, phantom.reference, phantom.volume.zooms, rng) for _ in range(3)]
            mask = min(masks, key=lambda m: compute_dice(m, phantom.reference))
            bad = self.predict(image, mask)
            assert bad.predicted_dice < good.predicted_dice - 0.02, name
            if compute_dice(mask, phantom.reference) < 0.7:
                assert bad.flagged, name

    def test_features_are_repeatable_and_finite(self, phantom, image):
        first, second = (
            measure_features(image, phantom.reference, compute_shape(phantom.reference, image.volume.zooms))
            for _ in range(2)
        )
        assert first == second
        assert np.isfinite(list(first.values())).all()
        assert {name for name, _, _ in FEATURES} | {"extent"} <= set(first)

    def test_one_slice_and_a_mask_at_the_border(self):
        from spineseg.quality.features import prepare_image

        cord = tube(shape=(24, 24, 1), zooms=(1, 1, 5))
        image = prepare_image(cord_image(cord), "t2")
        for mask in (cord.data >= 0.5, np.roll(cord.data >= 0.5, 8, axis=0)):
            prediction = self.predict(image, mask)
            assert 0 <= prediction.predicted_dice_low <= prediction.predicted_dice <= 1
