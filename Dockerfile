# One image for Airflow and for Spark executors: the same Python, the same wheels.
FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install --no-install-recommends --yes openjdk-17-jre-headless libgomp1 procps \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 50000 airflow
WORKDIR /opt/shelfkin
COPY requirements.lock ./
RUN pip install --no-cache-dir uv==0.13.9 \
 && uv pip install --system --no-cache --no-deps --require-hashes --requirement requirements.lock
COPY --chown=airflow . .
RUN uv pip install --system --no-cache --no-deps --editable . \
 && install --directory --owner=airflow /opt/airflow /opt/airflow/logs /opt/artifacts /opt/data

USER airflow
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/shelfkin/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/shelfkin/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    ARTIFACT_ROOT=/opt/artifacts \
    SHELFKIN_DATA=/opt/data \
    PYSPARK_PYTHON=/usr/local/bin/python
CMD ["airflow", "standalone"]
