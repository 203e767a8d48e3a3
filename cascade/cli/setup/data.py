"""``cascade data``: downloads a data set into the cache."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cascade.cli.shared.console import JsonOption, console, print_result

__all__ = ["data"]


def data(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="cifar10, clips, faces, fashion_mnist, gestures, shapes.")
    ],
    pack: Annotated[
        Path | None, typer.Option(help="Folder: write the data set there too, as parts of less than 45 MB.")
    ] = None,
    parts: Annotated[Path | None, typer.Option(help="Folder of such parts, read instead of a download.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a data set into the cache, once, and verify it; or bring it to a machine without a network."""
    from cascade import datasets

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=as_json) as bar:
        task = bar.add_task(name, total=None)
        folder = datasets.fetch(
            name,
            on_bytes=lambda done, total: bar.update(task, completed=done, total=total or None),
            on_note=lambda note: None if as_json else bar.print(note),
            parts=parts,
        )
        bar.update(task, description=f"{name} is ready", total=1, completed=1)
    splits: tuple[Literal["train", "test"], ...] = ("train", "test")
    has = [split for split in splits if f"{split}_rows" in datasets.DATASETS[name].sha256]
    rows = {split: len(datasets.load(name, split).rows) for split in has}
    packed = {} if pack is None else {"packed": [str(file) for file in datasets.pack(name, pack)]}
    print_result({"data_set": name, "folder": str(folder), "rows": rows} | packed, as_json)
