"""What does a Haar rejector before MTCNN save, at the same certified recall, and how does OpenCV's detector compare?

    python -m cascade.benchmarks.experiments.detection.face_composites

One run trains, collects, searches, certifies and detects, for every recall, in about ten minutes of one core. Times are
seconds of the processor, which other processes disturb less than those of the clock.

The images are those of ``composites.py``. Five folds over the 100 faces, as in ``haar_faces.py``: the composites of a
face meet the Haar cascade that was trained on the other 80. Half of the faces of each fold are for calibration, the
other half for the test, so thresholds, too, are tested on other faces. The data set does not name the persons.

1. Rows for calibration: of each composite the window that overlaps most with the face, and random other ones. The
   mixed cascade is what ``cascade search`` finds among the stages haar, p, r (which only reject) and o, with haar
   before it if it is left out; it and P-R-O are calibrated for the same recall, which holds for the best window of
   such a composite.
2. All windows of the test composites through ``Detector``, one image after the other, all detectors by turns, one
   thread. P is fully convolutional there, so its time is what a careful detector takes. Beside it: the same cascades
   on gathered windows.
3. A face is found if a box overlaps with it by at least 0.4 (intersection over union); a box that does not is a false
   positive. Detectors are compared at the highest recall that all of them reach, by thresholds on their boxes.
   OpenCV's: haarcascade_frontalface_default, detectMultiScale3 with scaleFactor 1.25 as ours, minNeighbors 1.
   Its frame is larger than these crops, which have no hair and no neck; that costs it recall.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.progress import track

from cascade import Detector, datasets
from cascade.backends.detection.boxes import overlap
from cascade.backends.detection.haar.bootstrapping import HaarTrainer
from cascade.backends.detection.haar.grey_windows import grey
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.training_windows import training_windows
from cascade.benchmarks.experiments.detection.composites import Composite, composite, face_free, labelled_windows
from cascade.benchmarks.experiments.detection.haar_faces import FOLDS
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.calibration import Policy, ScoreTable, calibrate
from cascade.calibration.choice.choose_cascade import choose_cascade
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.fitting.rejection_trace import fit_rejection_trace
from cascade.cascade import Cascade, load_stages
from cascade.cli.shared.console import console
from cascade.collection.collect import collect
from cascade.collection.measure import use_threads
from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model

RECIPE = Path(__file__).resolve().parents[3] / "examples" / "faces" / "recipes" / "rejector_discrete.yaml"
CLASSES, REJECTED = ("other", "face"), {"reject": "other"}
NETWORKS = ("p", "r", "o")
CURVE_SECONDS = 2.0
TOGETHER = RowsTogether((1024,))
HIT, NEGATIVES, RESAMPLES = 0.4, 120, 2000
SOUGHT_SAVING = 3.0
RECALLS = [0.9, 0.8]
CASCADES = ("mixed", "p_r_o")
THEIR_CASCADE, THEIR_SCALE_FACTOR, THEIR_SIZE = "haarcascade_frontalface_default", 1.25, (24, 24)


Key = tuple[str, str]
"""A cascade, and the recall that it was calibrated for."""


class Faces(NamedTuple):
    """The 100 faces.

    Attributes:
        rows: (200, 25, 25) uint8, all windows of the data set.
        labels: (200,) int64.
        places: (100,) int64, rows of the faces.
        folds: numbers of the faces of each fold.
    """

    rows: np.ndarray
    labels: np.ndarray
    places: np.ndarray
    folds: list[np.ndarray]

    def fold(self, face: int) -> int:
        """Fold that holds out a face."""
        return next(number for number, fold in enumerate(self.folds) if face in fold)


def load_faces(seed: int) -> Faces:
    """The faces and their folds."""
    rows, labels = datasets.load("faces", "train")
    places = np.flatnonzero(labels == 1)
    return Faces(rows, labels, places, np.array_split(np.random.default_rng(seed).permutation(len(places)), FOLDS))


def train_folds(faces: Faces, folder: Path) -> list[Path]:
    """The Haar cascade of each fold; files that are in the folder already are not trained again."""
    recipe = load_yaml_model(RECIPE, HaarRecipe, ConfigError).model_copy(update={"unused_rows": 0})
    fit = partial(fit_rejection_trace, min_recall=recipe.min_recall, delta=recipe.delta)
    files = [folder / f"haar{number}.safetensors" for number in range(len(faces.folds))]
    for file, fold in track(list(zip(files, faces.folds, strict=True)), "folds", console=console):
        if not file.is_file():
            kept = np.delete(np.arange(len(faces.rows)), faces.places[fold])
            images = datasets.load("cifar10", "train").rows
            windows = training_windows(recipe, faces.rows[kept], faces.labels[kept], images)
            HaarTrainer(recipe, windows, fit, file.with_suffix(".checkpoint")).fit().save(file)
    return files


def config_of(stages: tuple[str, ...], haar: Path) -> CascadeConfig:
    """A cascade of some stages; all but the last one reject."""
    backends: dict[str, dict[str, Any]] = {"haar": {"type": "haar", "model": str(haar)}}
    backends |= {network: {"type": "mtcnn", "network": network, "threads": 1} for network in NETWORKS}
    entries: list[dict[str, Any]] = [{"name": name, "backend": backends[name]} for name in stages]
    for entry in entries[:-1]:
        entry["router"] = REJECTED
    rows = {"shape": [24, 24], "dtype": "uint8"}
    values = {"name": "faces", "rows": rows, "classes": CLASSES, "stages": entries, "detection": {}}
    return CascadeConfig.model_validate(values)


def make(faces: Faces, half: slice, count: int, tiles: np.ndarray, seed: int) -> list[Composite]:
    """Composites of one half of the faces of each fold, in the order of the folds."""
    random = np.random.default_rng(seed)
    chosen = np.concatenate([random.choice(fold[half], count // FOLDS) for fold in faces.folds])
    made = []
    for number, face in enumerate(chosen.tolist()):
        free = face_free(number, tiles, random)
        made.append(composite(faces.rows[faces.places[face]], face, free, random))
    return made


def score_table(made: list[Composite], faces: Faces, models: list[Path], seed: int) -> ScoreTable:
    """All stages on the labelled windows; each window meets the Haar cascade of its fold."""
    random = np.random.default_rng(seed)
    parts = [labelled_windows(each, NEGATIVES, random) for each in made]
    rows, label = (np.concatenate(column) for column in zip(*parts, strict=True))
    of_fold = np.repeat([faces.fold(each.face) for each in made], NEGATIVES + 1)
    tables = []
    for number, model in enumerate(models):
        stages = load_stages(config_of(("haar", *NETWORKS), model).stages, None, CLASSES)
        here = of_fold == number
        seconds = 0.0 if number else CURVE_SECONDS
        tables.append(
            collect(stages, rows[here], label[here], classes=CLASSES, keep_scores=False, curve_seconds=seconds)
        )
    first, *others = tables
    # One model of costs for all folds: networks cost what the first fold measured, Haar rows by their operations.
    cost = np.concatenate([first.cost, *(_at_prices_of(first, other) for other in others)])
    highest = cost.max(axis=0) if first.highest_cost is None else np.maximum(first.highest_cost, cost.max(axis=0))
    return replace(
        first,
        prediction=np.concatenate([table.prediction for table in tables]),
        confidence=np.concatenate([table.confidence for table in tables]),
        cost=cost,
        highest_cost=highest,
        label=label,
        model=None,
    )


def _at_prices_of(first: ScoreTable, other: ScoreTable) -> np.ndarray:
    """(n, K) costs of the rows of another table."""
    if first.cost_per_mflop is None or other.cost_per_mflop is None:
        raise ConfigError("a Haar cascade must count the operations of its rows")
    counted = first.cost_per_mflop > 0
    scale = np.where(counted, first.cost_per_mflop / np.where(counted, other.cost_per_mflop, 1.0), 1.0)
    return np.asarray(np.where(counted, other.cost * scale, first.cost[:1]))


class Run(NamedTuple):
    """A detector on one image.

    Attributes:
        seconds: of the processor, on one thread, which other processes disturb less than those of the clock.
        boxes: of each, its confidence and its overlap with the face.
        answered: number of windows that each stage answered.
    """

    seconds: float
    boxes: list[tuple[float, float]]
    answered: dict[str, int]


def run_detector(detector: Detector, made: Composite) -> Run:
    """One of our cascades."""
    start = time.process_time()
    found = detector.detect(made.image)
    seconds = time.process_time() - start
    return Run(seconds, _boxes(found.boxes, found.confidence, made), dict(found.answered))


def run_opencv(classifier: Any, made: Composite) -> Run:
    """OpenCV's detector."""
    start = time.process_time()
    boxes, _, weights = classifier.detectMultiScale3(
        made.image, scaleFactor=THEIR_SCALE_FACTOR, minNeighbors=1, minSize=THEIR_SIZE, outputRejectLevels=True
    )
    seconds = time.process_time() - start
    found = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Run(seconds, _boxes(found, np.array(weights, dtype=np.float64).ravel(), made), {})


def _boxes(boxes: np.ndarray, confidence: np.ndarray, made: Composite) -> list[tuple[float, float]]:
    return list(zip(confidence.tolist(), overlap(made.box, boxes).tolist(), strict=True))


def opencv_classifier() -> Any:
    """OpenCV's cascade of frontal faces, in one thread."""
    import cv2

    cv2.setNumThreads(1)
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"{THEIR_CASCADE}.xml"))  # type: ignore[attr-defined]


def recall_and_false_positives(runs: list[Run], threshold: float) -> tuple[float, int]:
    """Share of the images whose face is found, and the number of other boxes, among boxes of enough confidence."""
    kept = [[shared >= HIT for confidence, shared in run.boxes if confidence >= threshold] for run in runs]
    return float(np.mean([any(hits) for hits in kept])), sum(len(hits) - sum(hits) for hits in kept)


def at_recall(runs: list[Run], recall: float) -> tuple[float, int]:
    """The highest threshold with at least a recall: its recall and its false positives."""
    best = [max((sure for sure, shared in run.boxes if shared >= HIT), default=-np.inf) for run in runs]
    return recall_and_false_positives(runs, float(np.sort(best)[::-1][int(np.ceil(recall * len(runs) - 1e-9)) - 1]))


def gathered_ms(cascades: dict[Key, Cascade], windows: np.ndarray) -> dict[Key, float]:
    """Milliseconds per window of each cascade on gathered windows: the least of three turns, in calls of 512."""
    times = dict.fromkeys(cascades, float("inf"))
    for _ in range(3):
        for key, cascade in cascades.items():
            start = time.process_time()
            for first in range(0, len(windows), 512):
                cascade.predict(windows[first : first + 512])
            times[key] = min(times[key], (time.process_time() - start) / len(windows) * 1e3)
    return times


def cascades_of(policies: dict[Key, Policy], models: list[Path]) -> dict[Key, list[Detector]]:
    """By cascade and recall, its detectors of all folds."""
    found = {}
    for key, policy in policies.items():
        configs = [config_of(tuple(policy.stages), model) for model in models]
        found[key] = [
            Detector(Cascade(load_stages(config.stages, None, CLASSES), policy, config.rows), config)
            for config in configs
        ]
    return found


def main(
    models: Annotated[Path | None, typer.Option(help="Folder that keeps the Haar cascades of the folds.")] = None,
    calibration: Annotated[int, typer.Option(min=100, help="Composites for calibration.")] = 200,
    test: Annotated[int, typer.Option(min=10, help="Composites for the test.")] = 500,
    min_recall: Annotated[list[float], typer.Option(min=0.5, max=0.999, help="Recalls to certify.")] = RECALLS,
    seed: int = 0,
) -> Found:
    """Train five folds, search, calibrate, detect."""
    use_threads(1)
    faces = load_faces(seed)
    tiles = grey(datasets.load("cifar10", "test").rows)
    half = len(faces.folds[0]) // 2
    with TemporaryDirectory() as scratch:
        files = train_folds(faces, models or Path(scratch))
        table = score_table(make(faces, slice(half), calibration, tiles[::2], seed + 1), faces, files, seed + 2)
        asked = {f"{recall:g}": recall for recall in min_recall}
        choices = {
            name: choose_cascade(table, min_recall=recall, positive="face", arrivals=TOGETHER, seed=seed)
            for name, recall in asked.items()
        }
        policies = {}
        for name, choice in choices.items():
            best = choice.best.stages
            for cascade, stages in (("mixed", best if "haar" in best else ("haar", *best)), ("p_r_o", NETWORKS)):
                policies[cascade, name] = calibrate(
                    table.select(stages), min_recall=asked[name], positive="face", arrivals=TOGETHER, seed=seed
                )
        detectors = cascades_of(policies, files)
        made = make(faces, slice(half, None), test, tiles[1::2], seed + 3)
        runs = run_all(detectors, made, faces)
        windows = [labelled_windows(each, NEGATIVES, np.random.default_rng(seed + 4))[0] for each in made]
        sample = np.concatenate([each[1:5] for each in windows])[:2048]
        gathered = gathered_ms({key: each[0].cascade for key, each in detectors.items()}, sample)
        hits = {
            key: [
                int(each[faces.fold(image.face)].cascade.predict(part[:1]).answer[0])
                for image, part in zip(made, windows, strict=True)
            ]
            for key, each in detectors.items()
        }
    per_image = sum(runs["p_r_o", next(iter(asked))][0].answered.values())
    found: dict[str, Any] = {"windows_per_image": per_image, "images": len(made), "at_recall": {}}
    for name, choice in choices.items():
        here = {cascade: runs[cascade, name] for cascade in CASCADES} | {"opencv": runs["opencv", ""]}
        found["at_recall"][name] = {
            "search": choice.to_dict(),
            "policies": {cascade: policies[cascade, name].to_dict() for cascade in CASCADES},
            "positive_windows": {cascade: _recall(hits[cascade, name], made) for cascade in CASCADES},
            "gathered_ms_per_window": {cascade: gathered[cascade, name] for cascade in CASCADES},
            **compared(here, len(made) * per_image),
        }
    return found


def run_all(detectors: dict[Key, list[Detector]], made: list[Composite], faces: Faces) -> dict[Key, list[Run]]:
    """All detectors on all images, by turns; each image's first detector is another one.

    Args:
        detectors: by cascade and recall, of all folds.
        made: the images.
        faces: their faces.
    """
    workers: dict[Key, Callable[[Composite], Run]] = {
        key: lambda image, of_fold=of_fold: run_detector(of_fold[faces.fold(image.face)], image)  # type: ignore[misc]
        for key, of_fold in detectors.items()
    }
    workers["opencv", ""] = partial(run_opencv, opencv_classifier())
    for work in workers.values():
        work(made[0])
    keys = list(workers)
    runs: dict[Key, list[Run]] = {key: [] for key in keys}
    for number, image in enumerate(track(made, "composites", console=console)):
        turn = number % len(keys)
        for key in keys[turn:] + keys[:turn]:
            runs[key].append(workers[key](image))
    return runs


def compared(runs: dict[str, list[Run]], windows: int) -> dict[str, Any]:
    """Times, answers and boxes of the detectors.

    Args:
        runs: by name of a detector, on all images.
        windows: number of them in all images.
    """
    return {
        "us_per_window": {name: sum(run.seconds for run in each) / windows * 1e6 for name, each in runs.items()},
        "saving_interval": _ratio_interval(runs["p_r_o"], runs["mixed"]),
        "over_opencv_interval": _ratio_interval(runs["mixed"], runs["opencv"]),
        "answered_share": {
            name: {stage: sum(run.answered[stage] for run in runs[name]) / windows for stage in runs[name][0].answered}
            for name in CASCADES
        },
        "as_calibrated": {name: recall_and_false_positives(each, -np.inf) for name, each in runs.items()},
        "at_common_recall": _common(runs),
    }


def _recall(hits: list[int], made: list[Composite]) -> dict[str, Any]:
    """Recall, its exact interval over composites, and its interval by resampled faces, whose composites go together."""
    by_face: dict[int, list[int]] = {}
    for hit, image in zip(hits, made, strict=True):
        by_face.setdefault(image.face, []).append(hit)
    sums = np.array([(sum(part), len(part)) for part in by_face.values()])
    drawn = sums[np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))].sum(axis=1)
    return {
        "recall": sum(hits) / len(hits),
        "interval": exact_interval(sum(hits), len(hits), 0.025),
        "interval_over_faces": np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975]).tolist(),
        "faces": len(sums),
    }


def _ratio_interval(slow: list[Run], fast: list[Run]) -> list[float]:
    """95 % percentile bootstrap over images of the ratio of the total times."""
    seconds = np.array([[run.seconds for run in slow], [run.seconds for run in fast]])
    drawn = seconds[:, np.random.default_rng(0).integers(seconds.shape[1], size=(RESAMPLES, seconds.shape[1]))]
    low, high = np.quantile(drawn[0].sum(axis=1) / drawn[1].sum(axis=1), [0.025, 0.975])
    return [float(low), float(high)]


def _common(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """At the recall that all detectors reach: the false positives of each."""
    recall = min(recall_and_false_positives(each, -np.inf)[0] for each in runs.values())
    found = {name: at_recall(each, recall) for name, each in runs.items()}
    return {name: {"recall": value, "false_positives": count} for name, (value, count) in found.items()}


def figures(found: Found) -> Figures:
    """Times, recalls and false positives at every recall."""
    return {
        f"{name}, recall {recall}": figure
        for recall, part in found["at_recall"].items()
        for name, figure in _at_recall(part).items()
    }


def _at_recall(part: Found) -> Figures:
    times, common, gathered = part["us_per_window"], part["at_common_recall"], part["gathered_ms_per_window"]
    theirs = common["opencv"]["false_positives"]
    named = {
        "the search chose the Haar rejector (1: yes)": Figure(float("haar" in part["search"]["choices"][0]["stages"])),
        "time per window of P-R-O over that of the mixed cascade": Figure(
            times["p_r_o"] / times["mixed"], SOUGHT_SAVING, ">="
        ),
        "the same, lower end of the 95 % interval": Figure(part["saving_interval"][0]),
        "the same, upper end": Figure(part["saving_interval"][1]),
        "the same on gathered windows": Figure(gathered["p_r_o"] / gathered["mixed"]),
        "time per window of the mixed cascade over that of OpenCV's detector": Figure(times["mixed"] / times["opencv"]),
        "recall that all detectors reach": Figure(common["opencv"]["recall"]),
        "false positives of the mixed cascade at this recall": Figure(
            common["mixed"]["false_positives"], max(theirs - 1, 0)
        ),
        "false positives of P-R-O at this recall": Figure(common["p_r_o"]["false_positives"]),
        "false positives of OpenCV at this recall": Figure(theirs),
    }
    for name in (*CASCADES, "opencv"):
        recall, count = part["as_calibrated"][name]
        named |= {f"faces found, {name}": Figure(recall), f"false positives, {name}": Figure(count)}
        named |= {f"microseconds per window, {name}": Figure(times[name])}
    for name, hits in part["positive_windows"].items():
        named |= {f"recall of the best windows, {name}": Figure(hits["recall"])}
        low, high = hits["interval_over_faces"]
        named |= {f"the same, lower end over faces, {name}": Figure(low), f"the same, upper end, {name}": Figure(high)}
        named[f"certified recall (bound), {name}"] = Figure(_bound(part["policies"][name]))
    return named


def _bound(policy: dict[str, Any]) -> float | None:
    """The certified recall."""
    tests = policy["certificate"].get("tests", [])
    return next((float(test["bound"]) for test in tests if test["target"] == "min_recall"), None)


if __name__ == "__main__":
    run_experiment(main, figures)
