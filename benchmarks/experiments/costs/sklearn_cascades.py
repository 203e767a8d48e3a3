"""Cascades of scikit-learn models to try things on, trained on a labelled rows file.

    python -m cascade.benchmarks.experiments.costs.sklearn_cascades letter letter.npz letter/
    python -m cascade.benchmarks.experiments.costs.sklearn_cascades mails mails.npz mails/

Letter Recognition (20,000 rows of 16 numbers, 26 classes) is ``sklearn.datasets.fetch_openml("letter", version=1)``;
mails are any texts with labels. Each makes a folder with models, a configuration, and ``calibration.npz`` and
``held_out.npz``: rows that the models were not trained on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skops.io
import typer
import yaml

from cascade.cli.shared.inputs import load_rows
from cascade.rows.rows_file import load_rows as read_rows
from cascade.rows.rows_file import save_rows

TRAIN_SHARE, CALIBRATION_SHARE = 0.4, 0.3


def letter_models() -> dict[str, Any]:
    """Four models of numbers."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    svc = CalibratedClassifierCV(SVC(C=10, gamma=0.15), ensemble=False, cv=3)
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "forest": RandomForestClassifier(10, random_state=0),
        "trees": ExtraTreesClassifier(50, random_state=0),
        "svc": make_pipeline(StandardScaler(), svc),
    }


def mail_models() -> dict[str, Any]:
    """Three pipelines of texts."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return {
        "hashed": make_pipeline(HashingVectorizer(n_features=1 << 12), LogisticRegression(C=10, max_iter=2000)),
        "words": make_pipeline(TfidfVectorizer(min_df=2), LogisticRegression(C=30, max_iter=2000)),
        "characters": make_pipeline(
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), max_features=100_000, sublinear_tf=True),
            LogisticRegression(C=100, max_iter=2000),
        ),
    }


CASCADES: dict[str, Callable[[], dict[str, Any]]] = {"letter": letter_models, "mails": mail_models}


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(CASCADES)}.")],
    rows_file: Annotated[Path, typer.Argument(help="Labelled rows (.npz).")],
    folder: Annotated[Path, typer.Argument(help="To write to.")],
    seed: int = 0,
) -> None:
    """Train, and write a cascade."""
    with np.load(rows_file, allow_pickle=False) as file:
        classes = sorted(set(map(str, file["label"].tolist())))
    rows, ids = read_rows(rows_file, classes)
    label = np.array(classes)[ids]
    order = np.random.default_rng(seed).permutation(len(rows))
    cuts = np.cumsum([int(TRAIN_SHARE * len(rows)), int(CALIBRATION_SHARE * len(rows))])
    train, calibration, held_out = np.split(order, cuts)
    folder.mkdir(parents=True, exist_ok=True)
    text = rows.dtype == object
    stages = []
    for stage, model in CASCADES[name]().items():
        fitted = model.fit(rows[train].tolist() if text else rows[train], label[train])
        skops.io.dump(fitted, folder / f"{stage}.skops")
        trusted = skops.io.get_untrusted_types(file=folder / f"{stage}.skops")
        backend = {"type": "sklearn", "model": f"{stage}.skops", **({"trusted": trusted} if trusted else {})}
        stages.append({"name": stage, "backend": backend})
        typer.echo(f"{stage}: {np.mean(fitted.predict(rows[held_out]) == label[held_out]):.4f}")
    described = {"dtype": "text"} if text else {"shape": list(rows.shape[1:]), "dtype": str(rows.dtype)}
    config = {"name": name, "rows": described, "classes": classes, "stages": stages}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    save_rows(folder / "calibration.npz", rows[calibration], label[calibration])
    save_rows(folder / "held_out.npz", rows[held_out], label[held_out])
    load_rows(None, "test", folder / "held_out.npz", classes)


if __name__ == "__main__":
    typer.run(main)
