"""The latent factors against numpy's own decomposition, and what they must not see."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.recommending.latent import latent_factors


def store(seed: int, n_users: int = 30, n_items: int = 12) -> np.ndarray:
    """Every item has at least two users, so that all are active; strengths are at most 1."""
    rng = np.random.default_rng(seed)
    strengths = rng.random((n_users, n_items)) * (rng.random((n_users, n_items)) < 0.3)
    strengths[:2] = rng.random((2, n_items)) + 1e-3
    return np.minimum(strengths, 1.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_factors=st.integers(1, 12))
def test_scores_are_those_of_the_truncated_decomposition(seed: int, n_factors: int) -> None:
    strengths = store(seed)
    left, values, right = np.linalg.svd(strengths, full_matrices=False)
    expected = (left[:, :n_factors] * values[:n_factors]) @ right[:n_factors]
    factors = latent_factors(sp.csr_array(strengths), n_factors).astype(np.float64)
    assert factors.shape == (12, n_factors)
    # Neighbouring singular values may lie so close that the subspace is only known to some digits: what is compared
    # is how well the scores fit, which is the best that so many dimensions can do (Eckart & Young 1936).
    found = strengths @ factors @ factors.T
    best = np.linalg.norm(strengths - expected)
    assert np.linalg.norm(strengths - found) <= best * 1.005 + 1e-4


def test_two_groups_of_customers_get_the_other_products_of_their_group() -> None:
    # Two groups that share no product; the last user of each has one product of three.
    group = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 0]])
    strengths = np.kron(np.eye(2), group)
    factors = latent_factors(sp.csr_array(strengths), 2).astype(np.float64)
    scores = strengths @ factors @ factors.T
    assert (scores[2, 1:3] > 0.1).all()
    np.testing.assert_allclose(scores[2, 3:], 0, atol=1e-5)
    np.testing.assert_allclose(scores[5, :3], 0, atol=1e-5)


def test_strengths_above_one_count_as_one() -> None:
    strengths = store(3)
    weekly = np.where(strengths > 0.7, 25.0, strengths)
    once = np.where(strengths > 0.7, 1.0, strengths)
    np.testing.assert_array_equal(latent_factors(sp.csr_array(weekly), 4), latent_factors(sp.csr_array(once), 4))


def test_what_one_user_alone_has_is_no_taste() -> None:
    strengths = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float64)
    factors = latent_factors(sp.csr_array(strengths), 2)
    assert factors.dtype == np.float32
    assert not factors[2:].any()
    assert factors[:2].any(axis=1).all()


@pytest.mark.parametrize("shape", [(0, 5), (1, 5)])
def test_a_store_without_shared_products_has_no_factors(shape: tuple[int, int]) -> None:
    assert latent_factors(sp.csr_array(np.ones(shape)), 8).shape == (5, 0)


def test_factors_are_no_more_than_there_are_users_and_the_same_every_time() -> None:
    strengths = sp.csr_array(store(1, n_users=3))
    assert latent_factors(strengths, 64).shape == (12, 3)
    np.testing.assert_array_equal(latent_factors(strengths, 64), latent_factors(strengths, 64))
