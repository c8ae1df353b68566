"""The model of scenes: each family is what it says, scenes are reproducible, and a corpus of them is safe on disk."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dequnmix_jax import datasets
from dequnmix_jax.checks import InputError
from dequnmix_jax.datasets import generator
from dequnmix_jax.datasets.generator import families, layouts, materials, optics, scenes
from experiments.operator import corpus as command
from experiments.operator import library, statistics

SIZE = generator.SceneShape(20, 24, 40, 3)
NUMBERS = jax.jit(families.numbers_of)

# What the first scene of key 0 has: its cube's mean and standard deviation. Another figure means other scenes under the
# same version: raise `families.VERSION` where that is meant, and put the new figures here.
FROZEN = {
    "smooth": (0.66303, 0.26807),
    "matern": (0.60198, 0.13263),
    "fine": (0.42139, 0.19132),
    "unordered": (0.67424, 0.18781),
    "blocks": (0.41914, 0.24923),
    "farmland": (0.58117, 0.15355),
    "squares": (0.36674, 0.09170),
    "targets": (0.39756, 0.14631),
    "gradient": (0.54065, 0.18358),
    "curves": (0.30524, 0.16319),
    "impure": (0.54411, 0.16835),
    "alike": (0.33228, 0.09920),
    "dark": (0.07304, 0.04406),
    "topography": (0.21313, 0.14847),
    "shade": (0.55340, 0.26153),
    "shapes": (0.49451, 0.29455),
    "bundles": (0.54466, 0.21423),
    "angles": (0.60336, 0.20267),
    "bilinear": (0.49481, 0.25003),
    "bent": (0.31545, 0.28125),
    "intimate": (0.40778, 0.19773),
    "coloured": (0.55609, 0.22924),
    "striped": (0.44007, 0.21553),
    "compound": (0.84033, 0.25381),
}


@pytest.fixture(scope="module")
def drawn():
    """Return four scenes of each family, spectra from all sources in turn."""
    sources = ("training", "test", "random", "training")
    return {
        family: [jax.device_get(datasets.draw(jax.random.key(i), family, SIZE, s)) for i, s in enumerate(sources)]
        for family in generator.FAMILIES
    }


def clean(scene):
    """Return the linear mixture of the truth."""
    return scene.brightness[..., None] * (scene.abundances @ scene.endmembers)


@pytest.mark.parametrize("family", generator.FAMILIES)
def test_scenes_are_complete_and_abundances_are_abundances(drawn, family):
    rows, columns, bands, count = SIZE
    for scene in drawn[family]:
        assert scene.cube.shape == (rows, columns, bands) and scene.cube.dtype == np.float32
        assert scene.abundances.shape == (rows, columns, count) and scene.endmembers.shape == (count, bands)
        assert scene.brightness.shape == (rows, columns) and scene.wavelengths.shape == (bands,)
        assert all(np.isfinite(leaf).all() or leaf.ndim == 0 for leaf in jax.tree.leaves(scene))
        assert (scene.abundances >= 0).all() and (scene.brightness > 0).all()
        np.testing.assert_allclose(scene.abundances.sum(-1), 1, atol=1e-6)
        assert scene.abundances.max((0, 1)).min() > 0.25 * min(1, scene.numbers.purity)  # each material is present
        assert (scene.endmembers > 0).all() and scene.endmembers.max() < 1.3
        assert (np.diff(scene.wavelengths) > 0).all() and scene.wavelengths[0] > 390 and scene.wavelengths[-1] < 2510
        assert generator.FAMILIES[scene.family] == family
        free = generator.CONVENTIONS[scene.convention] == "scaled"
        assert free == (family in families.FREE_BRIGHTNESS) and (free or (scene.brightness == 1).all())


LINEAR = (*generator.FAMILIES[: generator.FAMILIES.index("shade") + 1], "coloured", "striped")


@pytest.mark.parametrize("family", LINEAR)
def test_linear_scenes_are_their_mixture_with_noise_of_the_stated_ratio(drawn, family):
    for scene in drawn[family]:
        mixed = clean(scene)
        snr = 10 * np.log10(np.mean(mixed**2) / np.mean((scene.cube - mixed) ** 2))
        np.testing.assert_allclose(snr, scene.snr, atol=0.02)
        assert 15 <= scene.snr <= 90


def test_numbers_stay_in_the_ranges_of_their_family():
    keys = jax.random.split(jax.random.key(0), 400)
    draw = jax.jit(jax.vmap(families.numbers_of, (0, None)))
    for index, (_, ranges) in enumerate(families._TABLE.values()):
        numbers = jax.device_get(draw(keys, jnp.int32(index)))
        for name, values in numbers._asdict().items():
            limits = getattr(ranges, name)
            if name in ("layout", "order", "mixing"):
                share = np.bincount(values, minlength=len(limits)) / 400
                np.testing.assert_allclose(share, np.asarray(limits) / sum(limits), atol=0.1)
            else:
                low, high = limits
                assert low - 1e-4 * abs(low) <= values.min() and values.max() <= high + 1e-4 * abs(high), name
                assert values.max() - values.min() >= 0.5 * (high - low), name


def neighbours(maps):
    """Return the mean correlation of maps (H, W, R) with themselves one pixel on."""
    centred = maps - maps.mean((0, 1))
    return np.mean(centred[:, 1:] * centred[:, :-1]) / np.mean(centred**2)


def mixtures(scene):
    """Return the number of different abundance vectors."""
    return len(np.unique(np.round(scene.abundances.reshape(-1, SIZE.count), 4), axis=0))


def angle(scene):
    """Return the smallest angle between two endmembers."""
    return np.asarray(materials.angles_between(scene.endmembers))[np.triu_indices(SIZE.count, 1)].min()


def departure(scene):
    """Return the relative distance of the cube from the linear mixture of the mean spectra, without noise."""
    mixed = clean(scene)
    power = np.mean((scene.cube - mixed) ** 2) / np.mean(mixed**2)
    return np.sqrt(max(power - 10 ** (-scene.snr / 10), 0))


def stripes(scene):
    """Return the share of the residual's variance that is constant along columns."""
    residual = scene.cube - clean(scene)
    return np.mean(residual.mean(0) ** 2) / np.mean(residual**2)


def band_levels(scene):
    """Return the standard deviation over bands of the logarithm of the residual's level."""
    return np.std(np.log(np.std(scene.cube - clean(scene), axis=(0, 1))))


CHARACTER = {
    "smooth": lambda s: neighbours(s.abundances) > 0.8 and departure(s) < 2e-3,
    "matern": lambda s: 0.5 < neighbours(s.abundances) < 0.95,
    "fine": lambda s: neighbours(s.abundances) < 0.85,
    "unordered": lambda s: abs(neighbours(s.abundances)) < 0.1,
    "blocks": lambda s: mixtures(s) <= 90 and s.abundances.max((0, 1)).min() > 0.99,
    "farmland": lambda s: mixtures(s) > 300 and neighbours(s.abundances) > 0.6,
    "squares": lambda s: mixtures(s) <= 50,
    "targets": lambda s: np.mean(s.abundances.min((0, 1)) == 0) > 0 and (s.abundances.max((0, 1)) > 0.6).all(),
    "gradient": lambda s: neighbours(s.abundances) > 0.93,
    "curves": lambda s: (s.abundances.max((0, 1)) > 0.4).all() and np.median(s.abundances, (0, 1)).min() == 0,
    "impure": lambda s: s.abundances.max() < 0.801,
    "alike": lambda s: angle(s) < 0.3,
    "dark": lambda s: s.endmembers.max(1).min() < 0.151,
    "topography": lambda s: np.std(np.log(s.brightness)) > 0.01 and neighbours(s.brightness[..., None]) > 0.7,
    "shade": lambda s: np.std(np.log(s.brightness)) > 0.04 and abs(neighbours(s.brightness[..., None])) < 0.15,
    "shapes": lambda s: departure(s) > 0.01,
    "bundles": lambda s: departure(s) > 0.03,
    "angles": lambda s: departure(s) > 1e-3,
    "bilinear": lambda s: departure(s) > 5e-3 and (s.cube - clean(s)).mean() > 0,
    "bent": lambda s: departure(s) > 5e-3,
    "intimate": lambda s: departure(s) > 3e-3 and (s.cube - clean(s)).mean() < 0,
    "coloured": lambda s: band_levels(s) > 0.1,
    "striped": lambda s: stripes(s) > 0.1,
    "compound": lambda s: departure(s) > 1e-3 and np.std(np.log(s.brightness)) > 0.01,
}


@pytest.mark.parametrize("family", generator.FAMILIES)
def test_a_family_is_what_it_says(drawn, family):
    assert [CHARACTER[family](scene) for scene in drawn[family]] == [True] * 4


def test_endmembers_are_the_mean_at_the_local_angles():
    numbers = jax.device_get(NUMBERS(jax.random.key(0), jnp.int32(generator.FAMILIES.index("intimate"))))
    numbers = numbers._replace(angles=np.float32(1))
    E, ones = jnp.asarray([[0.1, 0.5, 0.9], [0.8, 0.4, 0.2]], jnp.float32), jnp.ones((4, 5), jnp.float32)
    light = optics.Light(ones, 0.4 * ones, ones, jnp.zeros((4, 4, 5), jnp.float32))
    A = jnp.stack([ones, 0 * ones], -1).at[0].set(jnp.asarray([0.0, 1.0]))
    cube, mean = jax.jit(optics.mix)(jax.random.key(0), A, E, light, jnp.zeros((4, 5), jnp.int32), numbers)
    np.testing.assert_allclose(mean, cube[jnp.asarray([1, 0]), 0], rtol=1e-4)  # pure pixels
    assert (np.asarray(mean) > np.asarray(E)).all()


def test_families_are_described():
    assert tuple(generator.DESCRIPTIONS) == generator.FAMILIES == datasets.FAMILIES and 18 <= len(CHARACTER) <= 24
    assert all(20 < len(line) < 120 for line in generator.DESCRIPTIONS.values())


def test_training_and_test_minerals_are_disjoint(drawn):
    spectra, names, minerals, wavelengths = materials.minerals()
    assert spectra.shape == (412, 224) == (len(names), len(wavelengths)) and spectra.min() > 0 and spectra.max() < 1.05
    on_side = {side: {m for m in minerals if materials.is_test_mineral(m) == side} for side in (True, False)}
    assert not on_side[True] & on_side[False] and len(on_side[True]) > 25 and len(on_side[False]) > 60
    for source, is_test in (("training", False), ("test", True)):
        chance = np.diff(np.asarray(materials.pool_of(source).chance).clip(0, 1), prepend=0)
        allowed = {m for m, p in zip(minerals, chance, strict=True) if p > 0}
        assert allowed == on_side[is_test]
    for found in drawn.values():
        for scene, is_test in zip(found, (False, True, None, False), strict=True):
            if is_test is None:
                assert (scene.rows == -1).all()
            else:
                kinds = [minerals[row] for row in scene.rows]
                assert len(set(kinds)) == SIZE.count and all(materials.is_test_mineral(m) == is_test for m in kinds)


def test_minerals_are_named_by_their_first_word_and_relatives_go_together():
    assert library.mineral("Clinochlore_Fe SC-CCa-1.a") == library.mineral("Thuringite SMR-15.a 115um") == "chlorite"
    assert library.mineral("Ammonio-jarosite SCR-NHJ") == library.mineral("Jarosite WS368 Pb") == "jarosite"
    assert library.is_mixture("Kaolin/Smect KLF508 85%K") and library.is_mixture("Hematite=2%+98%Qtz GDS76")
    assert not library.is_mixture("Jarosite SJ-1 H3O,10-20%")
    given = [name for names in library.RELATIVES.values() for name in names]
    assert len(given) == len(set(given))


def test_the_shipped_minerals_are_made_by_the_command(data_dir, tmp_path):
    library.main(["-o", str(tmp_path / "minerals.npz")])
    with np.load(tmp_path / "minerals.npz") as made, np.load(library.SHIPPED) as shipped:
        assert made.files == shipped.files
        assert all(np.array_equal(made[name], shipped[name]) for name in made.files)


def test_the_same_key_gives_the_same_scene_and_another_another(drawn):
    again = jax.device_get(datasets.draw(jax.random.key(0), "bundles", SIZE))
    first = drawn["bundles"][0]
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(first), strict=True))
    for other in (drawn["bundles"][3], drawn["smooth"][0]):
        assert abs(np.corrcoef(other.abundances[..., 0].ravel(), first.abundances[..., 0].ravel())[0, 1]) < 0.5
        assert not np.array_equal(other.rows, first.rows)


def test_scenes_stay_as_they_are_under_one_version(drawn):
    found = {family: (float(s[0].cube.mean()), float(s[0].cube.std())) for family, s in drawn.items()}
    for family, figures in FROZEN.items():
        np.testing.assert_allclose(found[family], figures, rtol=2e-3, err_msg=family)
    assert set(FROZEN) == set(found), found


def test_a_batch_is_its_scenes_one_by_one():
    key = jax.random.key(7)
    for family, source in (("bundles", "test"), ("intimate", "random"), ("curves", "training"), ("compound", "test")):
        batch = jax.device_get(datasets.draw_batch(key, family, 2, SIZE, source))
        assert batch.cube.shape == (2, *SIZE[:3])
        for i in range(2):
            one = datasets.draw(jax.random.fold_in(key, i), family, SIZE, source)
            for name, a, b in zip(one._fields, jax.tree.map(lambda x, i=i: x[i], batch), one, strict=True):
                for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                    np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5, err_msg=f"{family} {name}")


def test_all_families_and_sources_of_a_size_are_one_program(drawn):
    before = scenes._one._cache_size(), scenes._many._cache_size()
    for family in generator.FAMILIES:
        for source in materials.SOURCES:
            datasets.draw(jax.random.key(3), family, SIZE, source)
    datasets.draw_batch(jax.random.key(1), "smooth", 2, SIZE)
    assert (scenes._one._cache_size(), scenes._many._cache_size()) == (before[0], max(before[1], 1))


def test_reference_abundances_are_in_the_convention(drawn):
    for family, scaled in (("shade", True), ("smooth", False)):
        scene = drawn[family][1]
        top = scene.endmembers.max(1)
        # Least squares on endmembers of maximum one, divided by its sum, is what the scaled convention names.
        x = np.linalg.lstsq((scene.endmembers / top[:, None]).T, clean(scene).reshape(-1, SIZE.bands).T)[0].T
        x = (x / x.sum(1, keepdims=True)).reshape(scene.abundances.shape)
        found = np.asarray(generator.reference_abundances(scene))
        np.testing.assert_allclose(found, x if scaled else scene.abundances, atol=2e-3)
        assert (np.abs(x - scene.abundances).max() > 0.05) or not scaled
    batch = jax.tree.map(lambda *x: np.stack(x), drawn["shade"][1], drawn["smooth"][1])
    np.testing.assert_allclose(np.asarray(generator.reference_abundances(batch))[1], found, atol=1e-6)


COVARIANCE = {
    0.5: lambda d: np.exp(-d / 3),
    1.5: lambda d: (1 + 3**0.5 * d / 3) * np.exp(-(3**0.5) * d / 3),
    np.inf: lambda d: np.exp(-d * d / 18),
}


@pytest.mark.parametrize("order", COVARIANCE)
def test_fields_have_their_variance_and_covariance(order):
    draw = jax.jit(lambda k, o: layouts.gaussian_fields(k, (24, 30), (300,), jnp.full((1,), 3.0), o[None]))
    field = np.asarray(draw(jax.random.key(0), jnp.float32(order)))
    np.testing.assert_allclose(np.mean(field**2), 1, atol=0.03)
    for axis in (1, 2):
        for d in (1, 2, 5):
            near, far = (np.moveaxis(field, axis, 0)[s] for s in (slice(None, -d), slice(d, None)))
            np.testing.assert_allclose(np.mean(near * far), COVARIANCE[order](d), atol=0.04)


def test_every_material_of_a_field_is_raised_to_a_presence():
    fields = jnp.asarray(np.random.default_rng(0).normal(size=(5, 12, 12)) * 0.3, jnp.float32)
    offset = jnp.asarray([0.0, -3.0, 0.2, -jnp.inf, 1.0], jnp.float32)
    peaks = np.asarray(jax.jit(layouts.on_simplex)(fields, offset)).max((0, 1))
    assert (peaks[[0, 1, 2, 4]] > 0.38).all() and peaks[3] == 0


def test_hapke_albedo_and_reflectance_are_inverse():
    r = jnp.linspace(0.01, 0.99, 50)[None]
    one, low = jnp.ones(1), jnp.full(1, 0.3)
    w = optics.albedo(r)
    np.testing.assert_allclose(optics.reflectance(w, one, one), r, atol=3e-5)
    np.testing.assert_allclose(optics.albedo(jnp.float32(0.1875)), 0.75, atol=1e-6)  # g = 1/2: r = 0.75 / 4
    assert (np.asarray(optics.reflectance(w, low, one)) >= np.asarray(r)).all()  # of a factor whose white is always one


def test_noise_is_correlated_striped_and_coloured_as_asked():
    plain = jax.device_get(NUMBERS(jax.random.key(0), jnp.int32(0)))._replace(snr=np.float32(20))
    cube = jnp.ones((40, 50, 30), jnp.float32)
    add = jax.jit(optics.add_noise)

    def residual(**changes):
        numbers = plain._replace(**{name: np.float32(value) for name, value in changes.items()})
        noise = np.asarray(add(jax.random.key(1), cube, numbers)) - 1
        np.testing.assert_allclose(np.mean(noise**2), 0.01, rtol=1e-3)
        return noise / 0.1

    white, runs, striped, coloured = residual(), residual(correlation=2), residual(stripes=0.5), residual(colour=0.5)
    lags = [np.mean(runs[..., d:] * runs[..., : 30 - d]) for d in (1, 3)]
    np.testing.assert_allclose(lags, np.exp(-np.asarray([1, 3]) / 2), atol=0.03)
    np.testing.assert_allclose(runs.std((0, 1)), 1, atol=0.08)  # of the first and the last band too
    assert abs(np.mean(white[..., 1:] * white[..., :-1])) < 0.02
    np.testing.assert_allclose(np.mean(striped.mean(0) ** 2), 0.5 + 0.5 / 40, atol=0.05)
    np.testing.assert_allclose(np.mean(white.mean(0) ** 2), 1 / 40, atol=0.01)
    assert np.std(np.log(white.std((0, 1)))) < 0.03 < 0.3 < np.std(np.log(coloured.std((0, 1)))) < 0.7


def test_water_bands_are_left_out_in_half_of_the_scenes_that_see_them():
    draw = jax.jit(lambda k: materials.sensor(k, jnp.asarray(materials.minerals()[3]), 120))
    has_gap = []
    for i in range(60):
        centres, response = map(np.asarray, draw(jax.random.key(i)))
        np.testing.assert_allclose(response.sum(0), 1, atol=1e-5)
        if centres[0] < 1200 and centres[-1] > 2100:
            inside = sum(((centres > low) & (centres < high)).sum() for low, high in materials.WATER)
            has_gap.append(inside <= 2)
            assert inside <= 2 or inside > 8  # one at the edge of each
    assert len(has_gap) > 25 and 0.3 < np.mean(has_gap) < 0.7


@pytest.mark.slow
def test_double_precision_gives_the_same_scenes(drawn, x64):
    scene = datasets.draw(jax.random.key(0), "compound", SIZE)
    assert {leaf.dtype.itemsize for leaf in jax.tree.leaves(scene)} == {4}
    np.testing.assert_allclose(scene.cube, drawn["compound"][0].cube, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: datasets.draw(jax.random.key(0), "sea", SIZE), "no family 'sea'; expected one of smooth"),
        (lambda: datasets.draw(jax.random.key(0), "smooth", SIZE, "moon"), "minerals is 'moon'"),
        (lambda: datasets.draw(jax.random.key(0), "smooth", SIZE._replace(count=13)), "2 to 12 materials"),
        (lambda: datasets.draw(jax.random.key(0), "smooth", SIZE._replace(rows=4)), "at least 8"),
        (lambda: datasets.draw_batch(jax.random.key(0), "smooth", 0, SIZE), "at least one scene"),
        (lambda: generator.Plan(families=("sea",)), "families names sea"),
        (lambda: generator.Plan(dtype="int8"), "dtype names int8"),
        (lambda: generator.Plan(scenes=0), "at least one of each"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


# --- Corpus ---------------------------------------------------------------------------------------------------------

PLAN = generator.Plan(families=("smooth", "striped"), sizes=(SIZE,), sources=("training", "test"), scenes=2)


def test_a_corpus_goes_on_where_it_stopped(tmp_path, drawn):
    folder, lines = tmp_path / "corpus", []
    with pytest.raises(ZeroDivisionError):  # stopped after the second shard
        generator.write_corpus(folder, jax.random.key(3), PLAN, lambda line: lines.append(line) or 1 / (2 - len(lines)))
    assert len(generator.shards(folder)) == 2
    before = {path: path.read_bytes() for path in generator.shards(folder)}
    assert generator.write_corpus(folder, jax.random.key(3), PLAN) == (2, 2)
    assert generator.write_corpus(folder, jax.random.key(3), PLAN) == (0, 4)
    assert all(path.read_bytes() == content for path, content in before.items())
    paths = generator.shards(folder)
    assert generator.shards(folder, without=("smooth",)) == generator.shards(folder, families=("striped",)) == paths[2:]
    assert [path for path in paths if "-test-" in path.name] == generator.shards(folder, sources=("test",))
    found = generator.read_shard(paths[0])
    key = jax.random.key(3)
    for part in (*SIZE, materials.SOURCES.index("test"), 0, 1):
        key = jax.random.fold_in(key, part)
    again = datasets.draw(key, "smooth", SIZE, "test")
    for a, b in zip(jax.tree.leaves(jax.tree.map(lambda x: x[1], found)), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_corpus_of_another_key_version_or_kind_is_refused(tmp_path, drawn, monkeypatch):
    folder = tmp_path / "corpus"
    small = generator.Plan(families=("smooth",), sizes=(SIZE,), sources=("test",), scenes=1)
    generator.write_corpus(folder, jax.random.key(3), small)
    (path,) = generator.shards(folder)
    content = path.read_bytes()
    with pytest.raises(InputError, match=r"key \[0, 3\]; expected key \[0, 4\].*not replaced"):
        generator.write_corpus(folder, jax.random.key(4), small)
    with pytest.raises(InputError, match="dtype 'float32'; expected dtype 'float16'"):
        generator.write_corpus(folder, jax.random.key(3), generator.Plan(dtype="float16", scenes=1))
    with monkeypatch.context() as patch:
        patch.setattr(generator.corpus, "fingerprint", lambda: "other")
        with pytest.raises(InputError, match="expected generator 'other'"):
            generator.write_corpus(folder, jax.random.key(3), small)
        with pytest.raises(InputError, match="expected generator 'other'"):
            generator.read_shard(path)
        assert generator.read_shard(path, any_version=True).cube.shape == (1, *SIZE[:3])
    assert path.read_bytes() == content
    path.write_bytes(content[:-100])
    for call in (lambda: generator.read_shard(path), lambda: generator.write_corpus(folder, jax.random.key(3), small)):
        with pytest.raises(InputError, match=r"damaged .* Remove it and make it again"):
            call()
    path.unlink()
    assert generator.write_corpus(folder, jax.random.key(3), small) == (1, 0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files and no corpus"):
        generator.write_corpus(tmp_path / "mine", jax.random.key(3), small)
    with pytest.raises(InputError, match="is not a corpus"):
        generator.shards(tmp_path / "mine")
    with pytest.raises(InputError, match="does not exist"):
        generator.write_corpus(tmp_path / "no" / "corpus", jax.random.key(3), small)


def test_the_fingerprint_changes_with_version_and_ranges(monkeypatch):
    before = generator.fingerprint()
    assert before == scenes.fingerprint.__wrapped__()
    monkeypatch.setattr(families, "VERSION", families.VERSION + 1)
    assert scenes.fingerprint.__wrapped__() != before
    monkeypatch.undo()
    monkeypatch.setitem(families._TABLE, "smooth", families._TABLE["matern"])
    assert scenes.fingerprint.__wrapped__() != before


def test_a_corpus_of_half_precision_has_the_noise_that_is_said(tmp_path, drawn):
    plan = generator.Plan(families=("smooth",), sizes=(SIZE,), sources=("test",), scenes=1, dtype="float16")
    generator.write_corpus(tmp_path / "half", jax.random.key(3), plan)
    generator.write_corpus(tmp_path / "full", jax.random.key(3), generator.Plan(**{**vars(plan), "dtype": "float32"}))
    half, full = (generator.read_shard(generator.shards(tmp_path / name)[0]).cube for name in ("half", "full"))
    assert half.dtype == full.dtype == np.float32
    assert 70 < 10 * np.log10(np.mean(full**2) / np.mean((half - full) ** 2)) < 80


def test_the_command_makes_a_corpus_and_goes_on(tmp_path, drawn, capsys):
    # The quick corpus has the size of these tests, which is compiled already.
    assert command.QUICK.sizes == (SIZE,)
    folder = tmp_path / "corpus"
    command.main([str(folder), "--quick", "--seed", "2"])
    assert "72 new shards, 0 were there" in capsys.readouterr().out
    assert len(generator.shards(folder)) == 72
    assert json.loads((folder / "corpus.json").read_text())["generator"] == generator.fingerprint()
    command.main([str(folder), "--quick", "--seed", "2"])
    assert "0 new shards, 72 were there" in capsys.readouterr().out


def test_statistics_without_truth_tell_families_apart(tmp_path, drawn):
    assert statistics.QUICK.sizes == (SIZE,)
    target = statistics.main(statistics.QUICK, tmp_path)
    text = target.read_text(encoding="utf-8")
    assert f"python -m {statistics.__name__}" in text and generator.fingerprint() in text
    with target.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = {(row["family"], row["quantile"]): row for row in csv.DictReader(file)}
    share = {family: float(rows[family, "median"]["stripes"]) for family in statistics.QUICK.families}
    assert share["smooth"] < 0.1 < share["striped"]
    # A cube whose statistics are known: one direction, brightness of deviation 0.2, white noise of 30 dB.
    draw = np.random.default_rng(0)
    cube = np.exp(0.2 * draw.normal(size=(30, 32, 1))) * np.linspace(0.3, 0.7, 40)
    noise = draw.normal(size=cube.shape) * np.sqrt(np.mean(cube**2)) * 10**-1.5
    found = statistics.statistics(cube + noise)
    np.testing.assert_allclose([found["outside 1"], found["brightness"]], [30, 0.2], rtol=0.05)
    assert abs(found["noise neighbours"]) < 0.1 and found["band noise"] < 0.1 and abs(found["lag 1"]) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(20, 20, 40, 10), (20, 20, 40, 2), (128, 128, 300, 10), (64, 80, 220, 5)])
def test_scenes_of_all_sizes_are_complete(size):
    for family in generator.FAMILIES:
        for i, source in enumerate(materials.SOURCES):
            scene = jax.device_get(datasets.draw(jax.random.key(i), family, generator.SceneShape(*size), source))
            assert np.isfinite(scene.cube).all() and (scene.abundances >= 0).all()
            np.testing.assert_allclose(scene.abundances.sum(-1), 1, atol=1e-5)
            assert scene.abundances.max((0, 1)).min() > 0.25 * min(1, scene.numbers.purity), (family, source)
