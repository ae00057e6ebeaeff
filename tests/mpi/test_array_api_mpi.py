"""The array API between processes: special values on split tensors, exports, pickles, Python numbers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import flowcore as fc
from tests.array_api.test_special_values import check

pytestmark = pytest.mark.mpi(min_size=2)


def test_special_values_are_those_of_the_standard() -> None:
    check()


def test_every_rank_sees_the_whole_of_a_split_tensor() -> None:
    whole = np.arange(15.0).reshape(5, 3)
    x = fc.asarray(whole, sbp=fc.S(0))
    np.testing.assert_array_equal(np.asarray(x), whole)
    np.testing.assert_array_equal(np.from_dlpack(x), whole)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(x)).numpy(), whole)
    assert float(x.sum()) == whole.sum() and int(fc.argmax(x)) == 14 and bool(fc.any(x > 13)) and 14.0 in x
    assert [row.numpy().tolist() for row in x] == whole.tolist()
    assert x.device == x.placement and f"{fc.world_size() - 1}" in repr(x)
