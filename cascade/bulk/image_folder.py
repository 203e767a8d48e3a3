"""A folder of images as a source of parts: every JPEG, PNG or WebP file in it, and in its folders, is a row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cascade.bulk.part import Damage, Part, PartKey, Unit, even_firsts
from cascade.config import RowsConfig
from cascade.detection.image_files import decode_image, to_channels
from cascade.errors import ConfigError, DataError, RowsError

__all__ = ["IMAGE_SUFFIXES", "ImageFolder", "image_form"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
CHANNELS = (1, 3)
MAX_BYTES = 64 << 20
MAX_PIXELS = 178_956_970
"""As Pillow's own limit, above which an image is taken for an attack."""
MOST_LISTED = 5


def image_form(form: RowsConfig) -> tuple[tuple[int, ...], bool]:
    """The shape of a row as an image, (height, width) or (height, width, channels), and whether channels come first.

    Raises:
        ConfigError: rows are not 8-bit images.
    """
    shape = form.shape
    if form.dtype == "uint8" and form.columns is None:
        if len(shape) == 2 or (len(shape) == 3 and shape[2] in CHANNELS):
            return shape, False
        if len(shape) == 3 and shape[0] in CHANNELS:
            return (*shape[1:], shape[0]), True
    kind = f"columns {list(form.columns)}" if form.columns is not None else f"{list(shape)} of {form.dtype}"
    raise ConfigError(
        "a folder of images needs rows of dtype uint8 and shape [height, width], [height, width, 1 or 3] or "
        f"[1 or 3, height, width]; the config has {kind}"
    )


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images.

    Attributes:
        path: of the folder.
        files: paths of the images in it, in the order of the rows.
        form: the configuration's ``rows``.
        classes: the configuration's.
        resize: scale images of another size, instead of refusing them.
        skip_broken: give rows for images that cannot be read, without an answer, instead of refusing their part.
    """

    path: Path
    files: tuple[str, ...]
    form: RowsConfig
    classes: tuple[str, ...] | None
    resize: bool = False
    skip_broken: bool = False

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.path.name

    def paths(self) -> list[Path]:
        """The images."""
        return [self.path / file for file in self.files]

    def count(self) -> int:
        """Images."""
        return len(self.files)

    def firsts(self, part_rows: int) -> list[int]:
        """Reading can begin at every part; some of them suffice."""
        return even_firsts(len(self.files), part_rows)

    @cached_property
    def label(self) -> np.ndarray | None:
        """(n,) ids of the classes that the first folders are called after; ``None`` if none of them is a class.

        Raises:
            DataError: only some folders are.
        """
        parents = [Path(file).parts[:-1] for file in self.files]
        folders = [parts[0] if parts else None for parts in parents]
        ids = {name: number for number, name in enumerate(self.classes or ())}
        known = sorted({folder for folder in folders if folder is not None and folder in ids})
        other = next((file for file, folder in zip(self.files, folders, strict=True) if folder not in ids), None)
        if not known:
            return None
        if other is not None:
            raise DataError(
                f"{self.path}: the folder {known[0]!r} is called after a class, so its images have this label; "
                f"{other} is in no such folder. Put every image into the folder of its class, or none"
            )
        return np.array([ids[str(folder)] for folder in folders], dtype=np.int64)

    def read(self, unit: Unit, part_rows: int, done: frozenset[int]) -> Iterator[Part | Damage]:
        """Decodes the images of the parts that are not done.

        Raises:
            DataError: only some folders are called after classes.
        """
        stop = -(-len(self.files) // part_rows) if unit.stop is None else unit.stop
        for number in range(unit.first, stop):
            if number in done:
                continue
            start = number * part_rows
            files = self.files[start : start + part_rows]
            rows, broken = self._decoded(files)
            if broken and not self.skip_broken:
                yield Damage(_listed(broken))
                continue
            label = None
            if self.label is not None:
                good = [start + place for place in range(len(files)) if place not in broken]
                label = self.label[good]
            yield Part(PartKey(unit.source, number), files, start, rows, label, len(rows), broken)

    def _decoded(self, files: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
        rows, broken = [], {}
        for place, file in enumerate(files):
            try:
                rows.append(self._row((self.path / file).read_bytes()))
            except (RowsError, OSError) as error:
                broken[place] = f"{self.path / file}: {error}"
        return np.stack(rows) if rows else np.zeros((0, *self.form.shape), np.uint8), broken

    def _row(self, content: bytes) -> np.ndarray:
        shape, channels_first = image_form(self.form)
        image = to_channels(decode_image(content, MAX_BYTES, MAX_PIXELS), shape if shape[2:] == (3,) else shape[:2])
        if image.shape[:2] != shape[:2]:
            if not self.resize:
                raise RowsError(
                    f"the image has {image.shape[1]} x {image.shape[0]} pixels, and rows have {shape[1]} x {shape[0]}; "
                    "scale it, or give --resize"
                )
            from PIL import Image

            scaled = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
            image = np.asarray(scaled)
        row = image.reshape(shape)
        return np.ascontiguousarray(row.transpose(2, 0, 1) if channels_first else row)


def _listed(broken: dict[int, str]) -> str:
    listed = list(broken.values())
    more = f"\n(and {len(listed) - MOST_LISTED} more of its part)" if len(listed) > MOST_LISTED else ""
    return "\n".join(listed[:MOST_LISTED]) + more
