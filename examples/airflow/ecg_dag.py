"""The platform on Airflow: every night ingest what arrived, score it, and once a week train a challenger.

Copy into the DAGs folder, and set ECG_HOME to this project's checkout with its `.venv`. Each task is a command of the
README; each can be run again at any time without doing anything twice, so Airflow's retries are safe. A model that was
trained does not serve before somebody, or the policy, promotes it.
"""

import os
from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

HOME = os.environ["ECG_HOME"]
ARGUMENTS = {"retries": 2, "retry_delay": timedelta(minutes=5), "execution_timeout": timedelta(hours=6)}


def command(task_id: str, line: str) -> BashOperator:
    """A task that runs `python -m LINE` in the checkout. Databases and keys come from ECG_* in the worker."""
    return BashOperator(task_id=task_id, bash_command=f"cd {HOME} && .venv/bin/python -m {line}", append_env=True)


with DAG("ecg_nightly", schedule="0 2 * * *", start_date=datetime(2026, 1, 1), catchup=False, default_args=ARGUMENTS):
    ingest = command("ingest", "warehouse.ingest /data/incoming --json build/ingest.json")
    score = command("score", "pipelines.score --json build/score.json")
    ingest >> score

with DAG("ecg_weekly", schedule="0 4 * * 0", start_date=datetime(2026, 1, 1), catchup=False, default_args=ARGUMENTS):
    train = command("train", "pipelines.train --json build/train.json")
    newest = '$(.venv/bin/python -c \'import json; print(json.load(open("build/train.json"))["model_version"])\')'
    shadow = command("shadow", f"serving.release shadow {newest} --who airflow --why 'weekly training'")
    both = command("score_with_both", "pipelines.score")
    report = command("report", "serving.release report --json build/shadow.json")
    train >> shadow >> both >> report
