"""A bulk job from the files that describe it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cascade.backends.digest import model_digest
from cascade.bulk.image_folder import ImageFolder
from cascade.bulk.job import BulkJob, PartScorer
from cascade.bulk.job_folder import JobFolder
from cascade.bulk.local_run import LocalRun
from cascade.bulk.sources import open_sources, source_digests
from cascade.calibration import PolicySet
from cascade.cascade import Cascade, check_models
from cascade.config import CascadeConfig, RowsConfig
from cascade.errors import DataError
from cascade.files.tables import need_package

__all__ = ["BulkOptions", "open_job"]

MOST_PART_ROWS, LEAST_PART_ROWS = 16_384, 64
PART_BYTES = 16 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BulkOptions:
    """What a bulk job is.

    Attributes:
        config: path of the configuration.
        policy: path of the policy; ``None`` for the configuration's.
        source: a file, a folder of files, or a folder of images.
        folder: of the answers.
        part_rows: rows of a part; ``None`` for as many as 16 MiB hold, from 64 to 16,384.
        resize: scale images to the rows' size.
        skip_broken: go on after images that cannot be read.
        ray: run on Ray, not in this process.
        address: of a cluster; ``None`` starts a Ray.
    """

    config: Path
    policy: Path | None
    source: Path
    folder: Path
    part_rows: int | None = None
    resize: bool = False
    skip_broken: bool = False
    ray: bool = False
    address: str | None = None


@contextmanager
def open_job(options: BulkOptions, progress: Progress = lambda line: None) -> Iterator[tuple[BulkJob, PartScorer]]:
    """Opens the folder of a job, and loads or starts what scores its parts.

    Args:
        options: what the job is.
        progress: called with a line for each step that takes long.

    Raises:
        DataError: the input is missing or has another format; or pyarrow is not installed.
        ConfigError, PolicyError, WeightsError: a file of the cascade cannot be used.
        InputError: the folder cannot be used.
    """
    need_package("pyarrow.parquet", "writing Parquet", DataError)
    config = CascadeConfig.load(options.config)
    policy = check_models(PolicySet.load(options.policy or config.policy).best, config.stages)
    sources = open_sources(options.source, config, options.resize, options.skip_broken)
    part_rows = options.part_rows or default_part_rows(config.rows)
    job = {
        "input": str(options.source.resolve()),
        "policy": policy.version,
        "stages": list(policy.stages),
        "models": [model_digest(stage.backend) for stage in config.stages],
        "part_rows": part_rows,
        "resize": options.resize,
    }
    with JobFolder.open(options.folder, job, source_digests(sources), progress) as folder:
        found = BulkJob(sources, folder, policy, config.classes, part_rows)
        if not options.ray:
            yield found, LocalRun(Cascade.load(options.config, options.policy))
            return
        from cascade.bulk.ray_session import ray_run

        images = isinstance(sources[0], ImageFolder)
        with ray_run(config, policy, options.config.resolve().parent, options.address, images, progress) as run:
            yield found, run


def default_part_rows(form: RowsConfig) -> int:
    """Rows of a part: as many as ``PART_BYTES`` hold, within limits; rows of texts and columns have no known size."""
    fitting = PART_BYTES // form.row_bytes if form.row_bytes else MOST_PART_ROWS
    return min(MOST_PART_ROWS, max(LEAST_PART_ROWS, fitting))
