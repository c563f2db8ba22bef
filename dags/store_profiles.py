"""What is wrong with the store profiles, shown where people look: as an import error in Airflow's UI.

This file makes no DAG. A DAG file with an import error loses all of its DAGs, and one shop's mistake must not stop the
others: product_recommendations.py leaves the broken store out, and this file fails in its place.
"""

from __future__ import annotations

from shelfkin.errors import ProfileError
from shelfkin.settings import Settings

_, problems = Settings.from_env().profiles()
if problems:
    raise ProfileError("\n".join(problems))
