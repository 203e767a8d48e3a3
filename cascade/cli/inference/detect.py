"""``cascade detect``: boxes around the objects in images."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from cascade.cli.shared.console import JsonOption, console
from cascade.cli.shared.inputs import ConfigArgument, PolicyOption

if TYPE_CHECKING:
    import numpy as np

    from cascade.detection.detections import Detections

__all__ = ["detect"]

FORMATS = ("json", "coco")


def detect(
    config_path: ConfigArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="JPEG, PNG or WebP files.")],
    policy_path: PolicyOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the images with boxes, and for detections.json.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of detections.json: json, or coco for the format of the COCO data set.")
    ] = "json",
    as_json: JsonOption = False,
) -> None:
    """Find objects in images, by the section 'detection' of the config.

    An image that cannot be used is named on standard error, and the others go on; then the exit code is 3.
    """
    from cascade.detection.detector import Detector
    from cascade.errors import DataError, InputError

    if form not in FORMATS:
        raise typer.BadParameter(f"--format must be one of {', '.join(FORMATS)}; got {form!r}")
    detector = Detector.load(config_path, policy_path)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Detections] = {}
    written: set[str] = set()
    failed = 0
    with Progress(console=console, transient=True) as progress:
        for path in progress.track(images, description="images"):
            try:
                pixels = detector.read(path)
                found[str(path)] = detector.detect(pixels)
            except InputError as error:
                failed += 1
                console.print(f"{path}: {error}", markup=False, highlight=False, soft_wrap=True)
                continue
            if out is not None:
                _draw(out, path, pixels, found[str(path)], written)
    _write(found, out, form, as_json)
    if failed:
        raise DataError(f"{failed} of {len(images)} images could not be used")


def _draw(out: Path, path: Path, pixels: "np.ndarray", found: "Detections", written: set[str]) -> None:
    """Writes an image with its boxes: a JPEG stays one, everything else becomes a PNG.

    Images of one name from several folders get numbers; ``written`` has the names so far.
    """
    from cascade.detection.detection_files import draw_boxes

    suffix = path.suffix.lower() if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    numbered = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    name = next(n for end in numbered if (n := f"{path.stem}-boxes{end}{suffix}") not in written)
    written.add(name)
    (out / name).write_bytes(draw_boxes(pixels, found, suffix))


def _write(found: "dict[str, Detections]", out: Path | None, form: str, as_json: bool) -> None:
    """Writes detections.json, and prints the same or one line for each image."""
    from cascade.detection.detection_files import coco_document, json_text

    content = coco_document(found) if form == "coco" else {name: each.to_dict() for name, each in found.items()}
    if out is not None:
        (out / "detections.json").write_text(json_text(content), encoding="utf-8")
    if as_json:
        typer.echo(json_text(content), nl=False)
        return
    for name, each in found.items():
        boxes = ", ".join(f"{confidence:.2f}" for confidence in each.confidence.tolist()[:8])
        more = ", ..." if len(each) > 8 else ""
        line = f"{name}: {len(each)} x {each.label}{f' ({boxes}{more})' if boxes else ''}; {each.windows} windows"
        Console().print(escape(f"{line}{f'; {each.note}' if each.note else ''}"), highlight=False, soft_wrap=True)
