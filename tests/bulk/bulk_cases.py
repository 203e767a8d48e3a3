"""A cascade of two graded models, and rows for it, for the tests of bulk jobs."""

import numpy as np

from cascade import Cascade, FakeBackend, Policy, Stage
from cascade.bulk.job import BulkJob
from cascade.bulk.job_folder import JobFolder
from cascade.bulk.local_run import LocalRun
from cascade.bulk.sources import open_sources, source_digests

STAGES = ("small", "big")
POLICY = Policy.from_thresholds(STAGES, np.array([0.9]))
CONFIG = """
name: bulk
rows: {shape: [2], dtype: float64}
classes: [ham, spam]
stages:
  - {name: small, backend: {type: custom, object: "graded:Graded"}}
  - {name: big, backend: {type: custom, object: "graded:Graded"}}
"""


class Graded:
    """Sure of the rows whose second number is above a half; counts its rows."""

    def __init__(self):
        self.rows = 0

    def predict(self, rows):
        self.rows += len(rows)
        sure = np.where(rows[:, 1] > 0.5, 0.95, 0.55)
        right = (rows[:, 0] > 0.5).astype(int)
        probabilities = np.stack([1 - sure, sure], axis=1)
        probabilities[right == 0] = probabilities[right == 0, ::-1]
        return FakeBackend(probabilities).predict(np.arange(len(rows))[:, None])


def new_cascade(rows=None):
    return Cascade([Stage(name, Graded()) for name in STAGES], POLICY, rows)


def write(path, rows):
    """Rows and labels as a file of the kind that its name ends with."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    label = np.where(rows[:, 0] > 0.5, "spam", "ham")
    table = pa.table({"a": rows[:, 0], "b": rows[:, 1], "label": label})
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    elif path.suffix == ".npz":
        np.savez(path, rows=rows, label=label)
    elif path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".jsonl":
        path.write_text(table.to_pandas().to_json(orient="records", lines=True, double_precision=15))
    else:
        parquet.write_table(table, path, row_group_size=700)
    return path


def answers(folder):
    """The answers in a folder, in the order of the rows."""
    import pyarrow as pa
    from pyarrow import parquet

    files = sorted(folder.glob("part-*.parquet"))
    return pa.concat_tables([parquet.read_table(each) for each in files], promote_options="default")


def run(config, cascade, source, folder, part_rows, on_part=lambda rows, is_new: None, **options):
    """A job in this process; returns its summary."""
    sources = open_sources(source, config, **options)
    with JobFolder.open(folder, {"part_rows": part_rows}, source_digests(sources)) as opened:
        job = BulkJob(sources, opened, cascade.policy, config.classes, part_rows)
        return job.run(LocalRun(cascade), on_part)
