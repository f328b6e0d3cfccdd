"""The platform on Airflow: every night ingest what arrived, score it, and once a week train a challenger.

Tried with Airflow 3.3.2. Copy into the DAGs folder, and set PLATFORM_HOME to this project's checkout with its `.venv`,
and PLATFORM_INCOMING to where recordings arrive (names that begin with ECG_ are the platform's own settings). Each task
is a command of the README; each can be run again at any time without doing anything twice, so Airflow's retries are
safe. A model that was trained does not serve before somebody, or the policy, promotes it.
"""

import os
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

HOME = os.environ["PLATFORM_HOME"]
INCOMING = os.environ.get("PLATFORM_INCOMING", "/data/incoming")
ARGUMENTS = {"retries": 2, "retry_delay": timedelta(minutes=5), "execution_timeout": timedelta(hours=6)}

# The version that `train` made; ends with 99, which means skipped, when nothing had changed and none was made.
NEWEST = (
    'VERSION=$(.venv/bin/python -c \'import json, sys; run = json.load(open("build/train.json")); '
    'print(run["model_version"]); sys.exit(99 * run["reused"])\') && '
)


def command(task_id: str, line: str, *, first: str = "") -> BashOperator:
    """A task that runs `python -m LINE` in the checkout. Databases and keys come from ECG_* in the worker."""
    run = f"cd {HOME} && {first}.venv/bin/python -m {line}"
    return BashOperator(task_id=task_id, bash_command=run, append_env=True, skip_on_exit_code=99)


with DAG("ecg_nightly", schedule="0 2 * * *", start_date=datetime(2026, 1, 1), catchup=False, default_args=ARGUMENTS):
    ingest = command("ingest", f"warehouse.ingest {INCOMING} --json build/ingest.json")
    score = command("score", "pipelines.score --json build/score.json")
    ingest >> score

with DAG("ecg_weekly", schedule="0 4 * * 0", start_date=datetime(2026, 1, 1), catchup=False, default_args=ARGUMENTS):
    train = command("train", "pipelines.train --json build/train.json")
    shadow = command("shadow", "serving.release shadow $VERSION --who airflow --why 'weekly training'", first=NEWEST)
    both = command("score_with_both", "pipelines.score")
    report = command("report", "serving.release report --json build/shadow.json")
    train >> shadow >> both >> report
