"""An Airflow of its own for the tests that parse DAGs."""

import airflow_home  # noqa: F401
