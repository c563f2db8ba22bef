"""Temporal backtests of the recommender against strong simple baselines."""
