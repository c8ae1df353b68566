"""The options of reading a scene: their types, and a sentence for an invalid value."""

import json
import math

import pytest

from dequnmix_jax.checks import InputError
from dequnmix_jax.scenes import ReadOptions


def test_values_become_their_types_and_options_can_be_compared():
    made = ReadOptions(shape=[3, 4], nodata="nan", scale=10, ignore=[[1310, 1490]], bands=[0, 9])
    assert made.shape == (3, 4) and math.isnan(made.nodata) and made.ignore == ((1310.0, 1490.0),)
    assert made.bands == ((0, 9),) and ReadOptions(ignore=None) == ReadOptions()
    assert hash(ReadOptions(ignore=[[1, 2]])) == hash(ReadOptions(ignore=((1.0, 2.0),)))


def test_a_record_in_json_gives_the_options_back():
    made = ReadOptions(shape=(3, 4), nodata=math.nan, ignore=[(1310, 1490)])
    record = json.loads(json.dumps(made.given(), allow_nan=False))
    assert set(record) == {"shape", "nodata", "ignore"} and ReadOptions().given() == {}
    assert ReadOptions.of(record).given() == made.given()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "down"}, "order is 'down'; expected 'F'"),
        ({"shape": (3, 0)}, r"shape is \(3, 0\); expected two positive numbers"),
        ({"shape": 12}, "shape is 12; expected two positive numbers"),
        ({"nodata": "none"}, "nodata is 'none'; expected a number"),
        ({"scale": [1, 2]}, r"scale is \[1, 2\]; expected a number"),
        ({"bands": 4}, "bands is 4; expected the first and the last band"),
        ({"ignore": (1310, 1490)}, r"ignore is \(1310, 1490\); expected ranges .* like \[\(1310, 1490\)\]"),
        ({"nodatta": 0, "scale": 2}, "nodatta: not an option of reading a scene; expected variable, shape, order,"),
    ],
)
def test_an_option_that_fits_none_is_answered_in_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        ReadOptions.of(options)
