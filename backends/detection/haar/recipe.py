"""The recipe of a boosted Haar cascade: ``type: haar`` in a file for ``cascade train``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cascade.backends.detection.haar.boosting import Boosting

__all__ = ["HaarRecipe", "Views"]

DataName = Literal["cifar10", "faces", "fashion_mnist"]


class Views(BaseModel):
    """Changed copies of the positives.

    Attributes:
        number: copies of each positive, with the unchanged one.
        shift: pixels, at most, to each side.
        turn: degrees, at most.
        zoom: share of the size, at most, by which a copy is larger or smaller.
        flip: whether half of the copies are mirrored.
        light: standard deviations of a window, at most, that light from one side adds at its edges; only for boosting.
        covered: share of the copies in which one edge, a third of the window at most, is covered; only for boosting.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int = Field(default=1, ge=1)
    shift: float = Field(default=0.0, ge=0)
    turn: float = Field(default=0.0, ge=0)
    zoom: float = Field(default=0.0, ge=0, lt=0.5)
    flip: bool = False
    light: float = Field(default=0.0, ge=0)
    covered: float = Field(default=0.0, ge=0, le=1)


class HaarRecipe(BaseModel):
    """Data, features and targets of a training.

    Attributes:
        dataset: of the positives; its training split.
        positive: label of the positives in it.
        classes: names of the negative and the positive class.
        negatives: data set of images without positives, from whose training split windows are cut at random places and
            sizes; ``None`` for the rows of ``dataset`` with other labels.
        height: of a window, in pixels.
        width: of a window, in pixels.
        form: "soft": one sum and a rejection threshold after every weak learner (Bourdev and Brandt 2005); "staged": a
            sum and a threshold for each stage (Viola and Jones 2001).
        stages: weak learners of each stage. Before a stage, negatives are drawn anew among the false positives so far.
            A stage of a staged cascade gets fewer if it reaches its targets before.
        detection: share of the positives that a stage must pass, in (0, 1). In a soft cascade this threshold is only
            used to draw negatives.
        false_positives: share of the negatives that a stage of a staged cascade may pass.
        boosting: "real" or "discrete" votes.
        negatives_per_stage: false positives to draw.
        most_windows: windows to draw them from, at most.
        pool: features drawn at random for a stage.
        tried: features of the pool drawn at random for a weak learner.
        views: copies of the positives for boosting and for fitting the thresholds.
        blends: number of weighted means of two positives that are added for boosting, each in three changed copies.
        smallest_cut: size of the smallest window cut from an image of ``negatives``, as a share of the image.
        fitting_share: share of the positives, for the thresholds.
        certifying_share: share of the positives, for the certificate of a soft cascade; 0 for no certificate.
        min_recall: share of the positives that the cascade must pass, in (0, 1).
        delta: probability that the recall is below it, in (0, 1).
        unused_rows: number of rows of ``dataset``, the last ones, that the training never sees.
        seed: of all random choices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["haar"]
    dataset: DataName
    positive: int
    classes: tuple[str, str]
    negatives: DataName | None = None
    height: int = Field(default=24, ge=4, le=64)
    width: int = Field(default=24, ge=4, le=64)
    form: Literal["soft", "staged"] = "soft"
    stages: tuple[int, ...] = Field(min_length=1)
    detection: float = Field(default=0.995, gt=0, lt=1)
    false_positives: float = Field(default=0.5, gt=0, lt=1)
    boosting: Boosting = "real"
    negatives_per_stage: int = Field(default=4000, ge=10)
    most_windows: int = Field(default=1_000_000, ge=100)
    pool: int = Field(default=2000, ge=1)
    tried: int = Field(default=500, ge=1)
    views: Views = Views()
    blends: int = Field(default=0, ge=0)
    smallest_cut: float = Field(default=0.6, gt=0, le=1)
    fitting_share: float = Field(default=0.2, gt=0, lt=1)
    certifying_share: float = Field(default=0.2, ge=0, lt=1)
    min_recall: float = Field(default=0.99, gt=0, lt=1)
    delta: float = Field(default=0.05, gt=0, lt=1)
    unused_rows: int = Field(default=0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fitting_share + self.certifying_share >= 1:
            raise ValueError(
                "fitting_share and certifying_share must leave positives for boosting; they are "
                f"{self.fitting_share} and {self.certifying_share}"
            )
        if min(self.stages) < 1:
            raise ValueError(f"every stage needs at least one weak learner; got {list(self.stages)}")
        if self.classes[0] == self.classes[1]:
            raise ValueError(f"classes must be two names; got {list(self.classes)}")
        return self
