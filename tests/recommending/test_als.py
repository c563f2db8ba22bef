"""Implicit ALS against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from shelfkin.recommending.als import Als

RNG = np.random.default_rng(0)
# 40 users with strengths up to 3, 12 products, the last of which one user has and the one before nobody.
STRENGTHS = np.where(RNG.random((40, 12)) < 0.3, RNG.uniform(0.01, 3, (40, 12)), 0.0)
STRENGTHS[:, -2:] = 0.0
STRENGTHS[0, -1] = 1.0


def loss(users: np.ndarray, products: np.ndarray, alpha: float, penalty: float) -> float:
    """Equation 3 of Hu, Koren & Volinsky 2008."""
    wanted = STRENGTHS > 0
    errors = (1 + alpha * STRENGTHS) * (wanted - users @ products.T) ** 2
    return float(errors.sum() + penalty * ((users**2).sum() + (products**2).sum()))


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_users_are_the_best_for_the_products_factors(alpha: float) -> None:
    als = Als.fit(sp.csr_array(STRENGTHS), regularisation=0.2, alpha=alpha, n_factors=3)
    users, products = als.users(sp.csr_array(STRENGTHS)), als.factors.astype(np.float64)
    best = loss(users, products, alpha, als.penalty)
    for _ in range(20):
        assert loss(users + RNG.normal(0, 0.01, users.shape), products, alpha, als.penalty) > best


def test_products_factors_are_a_minimum_too() -> None:
    als = Als.fit(sp.csr_array(STRENGTHS), regularisation=0.2, alpha=1.0, n_factors=3)
    users, products = als.users(sp.csr_array(STRENGTHS)), als.factors.astype(np.float64)
    best = loss(users, products, 1.0, als.penalty)
    # After fifteen rounds the best products for these users are no better than by half a percent.
    confidence = 1 + STRENGTHS
    improved = np.stack(
        [
            np.linalg.solve(
                users.T @ (confidence[:, [item]] * users) + als.penalty * np.eye(3),
                users.T @ (confidence[:, item] * (STRENGTHS[:, item] > 0)),
            )
            for item in range(12)
        ]
    )
    improved[-2:] = 0.0
    assert best == pytest.approx(loss(users, improved, 1.0, als.penalty), rel=5e-3)


def test_products_of_fewer_than_two_users_have_no_factors_and_users_without_products_neither() -> None:
    als = Als.fit(sp.csr_array(STRENGTHS), regularisation=0.2, n_factors=3)
    assert als.factors.any(axis=1).tolist() == 10 * [True] + 2 * [False]
    assert als.users(sp.csr_array((1, 12))).tolist() == [[0.0, 0.0, 0.0]]
    nothing = Als.fit(sp.csr_array((3, 12)), regularisation=0.2, n_factors=3)
    assert not nothing.factors.any()
    assert nothing.users(sp.csr_array(STRENGTHS)).shape == (40, 3)


def test_what_has_faded_to_nothing_counts_as_not_bought() -> None:
    rows, columns = np.nonzero(STRENGTHS)
    faded = RNG.random(len(rows)) < 0.3
    values = np.where(faded, 0.0, STRENGTHS[rows, columns])
    kept = sp.csr_array((values[~faded], (rows[~faded], columns[~faded])), shape=STRENGTHS.shape)
    stored = sp.csr_array((values, (rows, columns)), shape=STRENGTHS.shape)
    assert stored.nnz == len(rows)
    als, expected = Als.fit(stored, n_factors=3), Als.fit(kept, n_factors=3)
    np.testing.assert_array_equal(als.factors, expected.factors)
    np.testing.assert_array_equal(als.users(stored), expected.users(kept))
    assert stored.nnz == len(rows)


def test_of_too_many_rows_every_so_many_are_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfkin.recommending.als.MAX_ROWS", 20)
    found = Als.fit(sp.csr_array(np.repeat(STRENGTHS[:20], 2, axis=0)), n_factors=3)
    expected = Als.fit(sp.csr_array(STRENGTHS[:20]), n_factors=3)
    np.testing.assert_array_equal(found.factors, expected.factors)


def test_the_penalty_grows_with_the_store() -> None:
    strengths = sp.csr_array([[1.0, 2.0, 0.0], [1.0, 1.0, 5.0], [0.0, 0.0, 0.0]])
    # Two users and two products take part, in four pairs; twice over it is ten pairs of four users and all three.
    assert Als.fit(strengths, regularisation=0.5, n_factors=1).penalty == 0.5
    assert Als.fit(sp.vstack([strengths] * 2, format="csr"), regularisation=0.5, n_factors=1).penalty == 0.5 * 10 / 7


def test_the_same_seed_gives_the_same_factors() -> None:
    first, again, other = (
        Als.fit(sp.csr_array(STRENGTHS), regularisation=0.2, n_factors=3, seed=seed).factors for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
