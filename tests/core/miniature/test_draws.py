"""Numbers by row: the same wherever a table is cut, and those of Philox."""

import numpy as np
import pytest

from f2d_core.miniature.draws import uniforms


def test_rows_do_not_depend_on_where_a_table_is_cut():
    whole = uniforms(3, 0, 0, 20, 7)

    assert np.array_equal(whole[5:9], uniforms(3, 0, 5, 4, 7))
    assert np.array_equal(whole[:1], uniforms(3, 0, 0, 1, 7))


@pytest.mark.parametrize("seed, purpose", [(4, 0), (3, 1)])
def test_seed_and_purpose_give_other_numbers(seed, purpose):
    assert not np.isin(uniforms(3, 0, 0, 5, 4), uniforms(seed, purpose, 0, 5, 4)).any()


def test_numbers_are_the_raw_output_of_philox():
    raw = np.random.Philox(key=[9, 2], counter=[6, 0, 0, 0]).random_raw(4)

    assert np.array_equal(uniforms(9, 2, 3, 1, 5)[0, :4], (raw >> np.uint64(11)) / 2**53)


def test_numbers_are_uniform():
    drawn = uniforms(0, 0, 0, 4000, 3)

    assert 0 <= drawn.min() and drawn.max() < 1
    assert np.allclose(drawn.mean(axis=0), 0.5, atol=0.02)
    assert np.allclose(drawn.var(axis=0), 1 / 12, atol=0.005)
