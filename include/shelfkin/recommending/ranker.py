"""The learned ranker: LambdaMART over the features of candidates, trained on earlier windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import lightgbm as lgb
import numpy as np

from shelfkin.errors import ArtifactError
from shelfkin.recommending.blend import SCORE_DECIMALS
from shelfkin.recommending.features import FEATURES
from shelfkin.recommending.ranking_inputs import RankingInputs
from shelfkin.recommending.sampling import MIN_USERS

# Chosen on Online Retail, window of 2011-08-01, among 100 to 200 rounds, 15 or 31 leaves, and three objectives:
# LambdaRank with few, heavily regularised trees was best in task new and within noise of the best in task all.
PARAMETERS = {
    "objective": "lambdarank",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 300,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    # Pairs with one product above this rank count: lists of 10 and 20 are what is shown.
    "lambdarank_truncation_level": 20,
}
N_ROUNDS = 100


@dataclass(frozen=True)
class TrainingRows:
    """Candidates of some users of some windows.

    Attributes
    ----------
    features
        (n_rows, len(FEATURES)) float32; a user's rows stand together.
    bought
        (n_rows,) bool: bought within the window.
    group_sizes
        (n_users,) int: rows of each user.
    """

    features: np.ndarray
    bought: np.ndarray
    group_sizes: np.ndarray

    @classmethod
    def together(cls, windows: Sequence[TrainingRows]) -> TrainingRows:
        """Return the rows of several windows as one."""
        return cls(
            np.concatenate([rows.features for rows in windows]),
            np.concatenate([rows.bought for rows in windows]),
            np.concatenate([rows.group_sizes for rows in windows]),
        )


@dataclass(frozen=True)
class Ranker:
    """A trained ranker, as LightGBM's own text format."""

    text: str

    @cached_property
    def _booster(self) -> lgb.Booster:
        booster = lgb.Booster(model_str=self.text)
        if tuple(booster.feature_name()) != FEATURES:
            raise ArtifactError(
                f"The ranker knows {booster.num_feature()} features, this version of shelfkin {len(FEATURES)}, "
                "or others by name.",
                next_step="Run evaluate_recommenders again: it trains a ranker of this version.",
            )
        return booster

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the score of each row of `features`, as `features.BlockSignals.features` gives them: float64."""
        if len(features) == 0:
            return np.empty(0)
        # One thread: Spark runs a task on every core already.
        return np.round(np.asarray(self._booster.predict(features, num_threads=1)), SCORE_DECIMALS)

    def importance(self) -> dict[str, float]:
        """Return each feature's share of the total gain, largest first."""
        gain = self._booster.feature_importance("gain")
        shares = gain / max(float(gain.sum()), 1e-12)
        return {FEATURES[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")}

    def __getstate__(self) -> dict[str, str]:
        return {"text": self.text}  # a Booster isn't sent to executors; the text is


@dataclass(frozen=True)
class FittedRanker:
    """A ranker and what its features are made from.

    Attributes
    ----------
    ranker
        Trained on earlier windows.
    ranking_inputs
        As of the moment that lists are made for.
    """

    ranker: Ranker
    ranking_inputs: RankingInputs


def train(rows: TrainingRows, *, seed: int, n_threads: int) -> Ranker | None:
    """Fit LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART") to what users bought next.

    Parameters
    ----------
    rows
        Candidates of earlier windows.
    seed
        Of row and feature sampling; the result is the same for the same seed, whatever `n_threads`.
    n_threads
        Cores to use.

    Returns
    -------
    Ranker or None
        None if fewer than `MIN_USERS` users have a hit among their candidates.
    """
    owners = np.repeat(np.arange(len(rows.group_sizes)), rows.group_sizes)
    taught = np.zeros(len(rows.group_sizes), dtype=bool)
    taught[owners[rows.bought]] = True
    if int(taught.sum()) < MIN_USERS:
        return None
    keep = taught[owners]  # a user without a hit holds no pair to learn from
    data = lgb.Dataset(
        rows.features[keep],
        rows.bought[keep].astype(np.int8),
        group=rows.group_sizes[taught],
        feature_name=list(FEATURES),
        free_raw_data=True,
    )
    # The same trees as by rows, in four fifths of the time (575,000 rows of task all, 2 cores).
    fixed = {"seed": seed, "deterministic": True, "force_col_wise": True, "verbosity": -1, "num_threads": n_threads}
    text = lgb.train(PARAMETERS | fixed, data, N_ROUNDS).model_to_string()
    # The number of cores is the only line that differs between machines.
    return Ranker(text.replace(f"[num_threads: {n_threads}]\n", ""))
