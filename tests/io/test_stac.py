"""STAC items and collections of items: which asset is the scene, where it lies, and refusals."""

import json

import pytest

from dequnmix_jax import many_scenes
from dequnmix_jax.checks import InputError
from dequnmix_jax.io import stac
from dequnmix_jax.io.remote import as_place
from dequnmix_jax.many_scenes.names import is_list


def item(assets, name="granule"):
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "assets": assets}


EMIT = {
    "data": {"href": "EMIT_L2A_RFL_001.nc", "roles": ["data"], "type": "application/x-netcdf"},
    "mask": {"href": "EMIT_L2A_MASK_001.nc", "roles": ["data-mask"]},
    "preview": {"href": "EMIT.png", "roles": ["thumbnail"]},
}


def written(folder, content, name="item.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_the_scene_of_an_item_is_its_data_beside_the_file(tmp_path):
    path = written(tmp_path, item(EMIT))
    assert stac.scenes_of(path) == [tmp_path / "EMIT_L2A_RFL_001.nc"]
    only = {"cube": {"href": "cube.tif"}, "metadata": {"href": "cube.xml"}}
    assert stac.scenes_of(written(tmp_path, item(only), "b.json")) == [tmp_path / "cube.tif"]


def test_a_collection_has_a_scene_for_each_item_wherever_they_lie(tmp_path):
    far = {"data": {"href": "https://host/x/scene.nc", "roles": ["data"]}}
    bucket = {"data": {"href": "s3://bucket/scene.zarr", "roles": ["data"]}}
    here = {"data": {"href": f"{tmp_path}/scene.hdr", "roles": ["data"]}}
    items = [item(far), item(bucket), item(here), item(EMIT)]
    path = written(tmp_path, {"type": "FeatureCollection", "features": items})
    expected = [as_place("https://host/x/scene.nc"), as_place("s3://bucket/scene.zarr"), tmp_path / "scene.hdr"]
    assert stac.scenes_of(path) == [*expected, tmp_path / "EMIT_L2A_RFL_001.nc"]


def test_a_batch_takes_items_by_name_by_pattern_and_from_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, item({"data": {"href": "a.nc", "roles": ["data"]}}), "a.json")
    written(tmp_path, item({"data": {"href": "b.nc", "roles": ["data"]}}), "b.json")
    (tmp_path / "list.txt").write_text("b.json\nc.nc\n")
    for words in ("*.json", ["a.json", "b.json"]):
        assert [place.name for place in many_scenes.places_of(words)] == ["a.nc", "b.nc"]
    assert [place.name for place in many_scenes.places_of(["list.txt", "a.json"])] == ["b.nc", "c.nc", "a.nc"]
    assert is_list(as_place("https://host/item.json"))


def test_the_item_of_a_server_names_scenes_beside_itself(monkeypatch):
    import io

    place = as_place("https://host/catalog/item.json")
    monkeypatch.setattr(type(place), "open", lambda *_: io.BytesIO(json.dumps(item(EMIT)).encode()), raising=False)
    assert stac.scenes_of(place) == [as_place("https://host/catalog/EMIT_L2A_RFL_001.nc")]
    above = item({"data": {"href": "../x/a.nc", "roles": ["data"]}})
    monkeypatch.setattr(type(place), "open", lambda *_: io.BytesIO(json.dumps(above).encode()), raising=False)
    assert stac.scenes_of(as_place("s3://bucket/catalog/item.json")) == [as_place("s3://bucket/x/a.nc")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": 1}, "is no STAC item; expected JSON with assets"),
        ([1], "is no STAC item"),
        ({"features": []}, "is no STAC item"),
        (item({"data": {"href": 3}}), "is no STAC item"),
        (
            item({"a": {"href": "a.nc"}, "b": {"href": "b.nc"}}),
            r"has 2 assets that may be its scene \(of: a, b\); expected one",
        ),
        (item({"preview": {"href": "p.png"}}), "has 0 assets that may be its scene"),
    ],
)
def test_refusals(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        stac.scenes_of(written(tmp_path, content))


def test_what_is_no_json(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a STAC item"):
        stac.scenes_of(tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot be read as a STAC item"):
        many_scenes.places_of("absent.json")
