"""Finds objects in images: windows of a pyramid through a cascade, positive windows to boxes."""

from pathlib import Path

import numpy as np

from cascade.backends.detection.pyramid import Pyramid
from cascade.calibration import Policy, PolicySet
from cascade.cascade import Cascade, check_models, load_stages
from cascade.config import CascadeConfig, DetectionConfig
from cascade.detection.candidates import Candidates
from cascade.detection.detections import Detections
from cascade.detection.image_files import decode_image, to_channels
from cascade.detection.parts_run import PartsRun
from cascade.errors import ConfigError, DataError, RowsError

__all__ = ["Detector", "checked_pyramid", "detection_section"]


class Detector:
    """A cascade whose rows are windows of images.

    Memory for an image of P pixels is at most 20 P bytes for image and pyramid, and for each stage two batches of
    ``detection.batch_windows`` gathered windows with what its model needs for them; it does not depend on the number
    of windows.

    Args:
        cascade: the stages and the policy.
        config: of the cascade, with a section ``detection``.

    Raises:
        ConfigError: the configuration has no section ``detection``.

    Example:
        >>> from cascade import Detector
        >>> detector = Detector.load("faces/config.yaml")  # doctest: +SKIP
        >>> detector.detect("group.jpg").boxes  # doctest: +SKIP
    """

    def __init__(self, cascade: Cascade, config: CascadeConfig) -> None:
        self.cascade = cascade
        self.config = config
        self._detection = detection_section(config)

    def __repr__(self) -> str:
        height, width = self.config.rows.shape[:2]
        return f"Detector({self.cascade!r}, windows of {width} x {height} pixels)"

    @classmethod
    def load(cls, config_path: Path | str, policy_path: Path | str | None = None) -> "Detector":
        """Loads a detector from its configuration and policy.

        Args:
            config_path: YAML file with a section ``detection``.
            policy_path: JSON file; by default the configuration's. Of a policy set, the best gear is used.

        Raises:
            ConfigError, WeightsError, PolicyError: a file cannot be used.
        """
        config = CascadeConfig.load(config_path)
        detection_section(config)
        policy: Policy = check_models(PolicySet.load(policy_path or config.policy).best, config.stages)
        stages = load_stages(config.stages, Path(config_path).resolve().parent, config.classes)
        return cls(Cascade(stages, policy, config.rows), config)

    def detect(self, image: np.ndarray | bytes | Path | str) -> Detections:
        """Finds the objects in one image.

        Args:
            image: pixels, (height, width) grey or (height, width, 3) RGB, uint8; or a JPEG, PNG or WebP file, as its
                bytes or its path.

        Returns:
            The boxes; none if the image is smaller than a window.

        Raises:
            RowsError: the image cannot be decoded, or exceeds a limit of the section ``detection``; or a model refuses
                the windows.
            DataError: the file cannot be read.
            StageError: a model failed, or broke the stage contract.
        """
        pixels = to_channels(self.read(image), self.config.rows.shape)
        pyramid = checked_pyramid(pixels, self.config)
        candidates = Candidates(self.config, self._detection, self.cascade.policy, pyramid)
        run = PartsRun(self.cascade.stages, self.cascade.policy, self._detection.batch_windows, candidates.add)
        run.run(pyramid.windows(pixels))
        return candidates.detections()

    def read(self, image: np.ndarray | bytes | Path | str) -> np.ndarray:
        """The upright pixels of an image, (height, width) grey or (height, width, 3) RGB.

        Raises:
            RowsError: the image cannot be decoded, or exceeds a limit.
            DataError: the file cannot be read.
        """
        detection = self._detection
        if isinstance(image, Path | str):
            image = _read(Path(image), detection.max_bytes)
        if isinstance(image, bytes):
            image = decode_image(image, detection.max_bytes, detection.max_pixels)
        return np.asarray(image)


def detection_section(config: CascadeConfig) -> DetectionConfig:
    """The section ``detection`` of a configuration.

    Raises:
        ConfigError: there is none.
    """
    if config.detection is None:
        raise ConfigError(
            f"cascade {config.name!r} finds no objects in images: its config has no section 'detection'; add "
            "'detection: {}' if its rows are windows of images"
        )
    return config.detection


def checked_pyramid(image: np.ndarray, config: CascadeConfig) -> Pyramid:
    """The pyramid of an image, within the configured limits.

    Args:
        image: (height, width) or (height, width, 3) uint8.
        config: with a section ``detection``.

    Raises:
        RowsError: the image or its largest level has too many pixels, or there are too many windows.
    """
    detection = detection_section(config)
    height, width = image.shape[:2]
    window = (config.rows.shape[0], config.rows.shape[1])
    pyramid = Pyramid(
        height, width, window, detection.scale_factor, detection.stride, detection.min_size, detection.max_size
    )
    if height * width > detection.max_pixels:
        raise RowsError(f"an image may have {detection.max_pixels} pixels; got {width} x {height}")
    for level in pyramid.levels[:1]:
        if level.height * level.width > detection.max_pixels:
            raise RowsError(
                f"objects of {detection.min_size} pixels need an image of {level.width} x {level.height} pixels, above "
                f"the limit of {detection.max_pixels}; set a larger detection.min_size, or send a smaller image"
            )
    if len(pyramid) > detection.max_windows:
        raise RowsError(
            f"an image may have {detection.max_windows} windows; this one has {len(pyramid)}; set a larger "
            "detection.stride or detection.min_size, or send a smaller image"
        )
    return pyramid


def _read(path: Path, max_bytes: int) -> bytes:
    """A file's bytes, and one more than the limit at most."""
    try:
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
