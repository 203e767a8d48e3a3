"""MTCNN's proposal network on the windows of a whole pyramid level: they overlap, and share most of its operations."""

import weakref
from typing import cast

import numpy as np
import torch
from torch.nn import functional

from cascade.backends.config import MtcnnConfig
from cascade.backends.detection.level import Level
from cascade.backends.detection.mtcnn import MtcnnBackend, PNet
from cascade.backends.detection.windows import Windows
from cascade.prediction import Prediction

__all__ = ["ProposalBackend"]

MAP_STRIDE = 2
"""Pixels between two windows of the network's map, from its pooling."""
SAVING = 6
"""Operations of a window alone, divided by those of one place of the map: 44.6 and 7.1 thousand multiply-adds."""
STRIP_PIXELS = 1 << 19
"""Pixels of the network's input that are computed at a time; their hidden maps take about 30 MiB."""


class ProposalBackend(MtcnnBackend):
    """The P network, which :meth:`predict_windows` applies to a level as one convolutional network.

    A window of 12 k x 12 k pixels is averaged over areas of k x k pixels. Windows whose corners have the same remainder
    by 2 k lie on one map of the network; each such map is computed once for a level.

    Args:
        config: of the network "p".

    Raises:
        ConfigError, WeightsError: as for :class:`MtcnnBackend`.
    """

    def __init__(self, config: MtcnnConfig) -> None:
        super().__init__(config)
        self._level: weakref.ref[Level] | None = None
        self._maps: dict[tuple[int, int], np.ndarray | None] = {}

    def predict_windows(self, windows: Windows) -> Prediction:
        """Windows of one level -> P(not a face), P(face), as :meth:`predict` on the gathered windows, up to rounding.

        Windows of other sizes than multiples of 12 x 12 pixels, and those of which a map would hold too few, are
        gathered.
        """
        factor, rest = divmod(windows.level.window[0], PNet.size)
        if rest or not factor or windows.level.window[0] != windows.level.window[1]:
            return self.predict(np.asarray(windows))
        if self._level is None or self._level() is not windows.level:
            self._level, self._maps = weakref.ref(windows.level), {}
        step = MAP_STRIDE * factor
        tops, lefts = windows.tops, windows.lefts
        offsets = (tops % step) * step + lefts % step
        probability = np.empty((len(windows), 2), dtype=np.float32)
        for offset in np.unique(offsets).tolist():
            here = np.flatnonzero(offsets == offset)
            found = self._map(windows, divmod(offset, step), factor)
            if found is None:
                probability[here] = self.predict(np.asarray(windows[here])).probabilities
            else:
                probability[here] = found[:, tops[here] // step, lefts[here] // step].T
        return Prediction.from_probabilities(probability)

    def _map(self, windows: Windows, offset: tuple[int, int], factor: int) -> np.ndarray | None:
        """(2, h, w) probabilities of the windows with these remainders; ``None`` if it would not pay."""
        if offset not in self._maps:
            step = MAP_STRIDE * factor
            level = windows.level
            size = [(length - at) // step for length, at in zip((level.height, level.width), offset, strict=True)]
            rows, columns = (int((starts % step == at).sum()) for starts, at in zip((level.tops, level.lefts), offset))
            pays = rows * columns * SAVING >= size[0] * size[1]
            self._maps[offset] = self._computed(windows.pixels[offset[0] :, offset[1] :], factor) if pays else None
        return self._maps[offset]

    def _computed(self, pixels: np.ndarray, factor: int) -> np.ndarray:
        """(2, h, w), strip by strip, so that memory does not grow with the level."""
        network = cast(PNet, self.network)
        height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
        rows = (height - PNet.size) // MAP_STRIDE + 1
        strip = max(1, STRIP_PIXELS // (MAP_STRIDE * width))
        found = []
        for start in range(0, rows, strip):
            count = min(strip, rows - start)
            first, last = MAP_STRIDE * start, MAP_STRIDE * (start + count - 1) + PNet.size
            part = self._tensor(np.ascontiguousarray(pixels[None, first * factor : last * factor, : width * factor]))
            with torch.inference_mode(), self._precision():
                if factor > 1:
                    part = functional.avg_pool2d(part, factor)
                maps = torch.softmax(network.maps(part)[0, :, :count].float(), dim=0)
            found.append(maps.cpu().numpy())
        return np.concatenate(found, axis=1)
