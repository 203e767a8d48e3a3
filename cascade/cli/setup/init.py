"""``cascade init``: a configuration for models that are there."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.setup.schema import schema_text
from cascade.cli.shared.console import JsonOption, print_result
from cascade.errors import ConfigError, InputError, WeightsError

__all__ = ["init"]

SCHEMA = "config.schema.json"
ONNX_TYPES = {"float": "float32", "double": "float64", "float16": "float16"} | {
    name: name for name in ("uint8", "int8", "int32", "int64")
}

ModelArgument = Annotated[
    list[str],
    typer.Argument(metavar="STAGE=FILE...", help="Models, cheapest first: skops or ONNX files, such as big=net.onnx."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--rows", help="Labelled rows that show shape, columns and types.", show_default="the models'"),
]


def init(
    models: ModelArgument,
    rows: DataOption = None,
    folder: Annotated[Path, typer.Option(help="Where to write; is created.")] = Path(),
    name: Annotated[str, typer.Option(help="Name of the cascade.")] = "cascade",
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust all types in the skops files, because you know where they come from.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a config.yaml for models that you have, and its JSON schema."""
    import yaml

    from cascade.config import CascadeConfig

    path = folder / "config.yaml"
    if path.exists():
        raise InputError(f"{path} exists; choose another --folder, or remove it")
    files = _files(models)
    folder.mkdir(parents=True, exist_ok=True)
    backends = {stage: _backend(file, folder, trust) for stage, file in files.items()}
    facts = [_facts(file, backends[stage]) for stage, file in files.items()]
    form = _form_of_file(rows) if rows is not None else next((f["rows"] for f in facts if f.get("rows")), None)
    if form is None:
        raise ConfigError("the models do not have the shape of a row; show a file of rows with --rows")
    classes = next((f["classes"] for f in facts if f.get("classes")), None)
    entry = {"name": name, "rows": form} | ({} if classes is None else {"classes": classes})
    entry["stages"] = [{"name": stage, "backend": backend} for stage, backend in backends.items()]
    head = f"# yaml-language-server: $schema={SCHEMA}\n"
    text = head + str(yaml.safe_dump(entry, sort_keys=False, default_flow_style=None))
    (folder / SCHEMA).write_text(schema_text(), encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        CascadeConfig.load(path)
    except ConfigError:
        path.unlink()
        raise
    labelled = "labelled.npz" if rows is None else rows
    then = (
        f"cascade check {path}",
        f"cascade collect {path} --rows {labelled}",
        f"cascade calibrate {path} --max-accuracy-drop 0.01",
        f"cascade serve {path}",
    )
    print_result(
        {"config": str(path), "rows": form, "classes": classes} | ({} if not as_json else {"then": then}), as_json
    )
    if not as_json:
        typer.echo("\n".join(("\nNow:", *(f"  {line}" for line in then))))


def _files(models: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in models:
        stage, equals, file = text.rpartition("=")
        stage = stage if equals else Path(file).stem
        if not stage or stage in files:
            raise typer.BadParameter(f"each model must be STAGE=FILE with a name of its own; got {text!r}")
        if not Path(file).is_file():
            raise InputError(f"the model {file} does not exist")
        if Path(file).suffix not in (".skops", ".onnx"):
            raise InputError(
                f"{file} must be a .skops or .onnx file; other models are described by hand (docs/reference.md). "
                "skops.io.dump(estimator, FILE) writes one for a scikit-learn model"
            )
        files[stage] = Path(file)
    return files


def _backend(file: Path, folder: Path, trust: bool) -> dict[str, Any]:
    relative = Path(os.path.relpath(file, folder)).as_posix()
    if file.suffix == ".onnx":
        return {"type": "onnx", "model": relative}
    import skops.io

    backend: dict[str, Any] = {"type": "sklearn", "model": relative}
    try:
        types = skops.io.get_untrusted_types(file=file)
    except Exception as error:  # a damaged archive can raise anything
        raise WeightsError(f"{file} is not a whole skops file: {error}") from error
    unknown = sorted(set(types) - {"numpy.dtype"})
    if unknown and not trust:
        raise WeightsError(
            f"{file} holds types that skops does not trust: {unknown}; if you know where the file comes from, add "
            "--trust"
        )
    return backend | ({"trusted": unknown} if unknown else {})


def _facts(file: Path, backend: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of a row and the classes, as far as the model has them."""
    if file.suffix == ".onnx":
        return {"rows": _onnx_row(file)}
    import skops.io

    try:
        model = skops.io.load(file, trusted=[*backend.get("trusted", ()), "numpy.dtype"])
    except Exception as error:  # a damaged archive can raise anything
        raise WeightsError(f"{file} is not a whole skops file: {error}") from error
    if not hasattr(model, "predict_proba") or not hasattr(model, "classes_"):
        raise WeightsError(f"{file} holds a {type(model).__name__}, which has no predict_proba")
    names = [str(each) for each in model.classes_.tolist()]
    count = getattr(model, "n_features_in_", None)
    form = {"shape": [int(count)], "dtype": "float64"} if count and not hasattr(model, "feature_names_in_") else None
    return {"classes": names, "rows": form}


def _onnx_row(file: Path) -> dict[str, Any] | None:
    try:
        import onnxruntime

        first = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_inputs()[0]
    except ImportError as error:
        raise ConfigError("ONNX models need the extra: pip install 'idk-cascade[onnx]'") from error
    except Exception as error:  # onnxruntime raises types of its own
        raise WeightsError(f"{file} is not a whole ONNX file: {error}") from error
    shape, dtype = first.shape[1:], ONNX_TYPES.get(first.type.removeprefix("tensor(").removesuffix(")"))
    return {"shape": shape, "dtype": dtype} if dtype and all(isinstance(each, int) for each in shape) else None


def _form_of_file(path: Path) -> dict[str, Any]:
    from cascade.files.npz import load_arrays
    from cascade.files.tables import is_table_file
    from cascade.rows.table_rows import read_table_rows, table_columns

    if is_table_file(path):
        columns = table_columns(path)
        if columns is not None:
            return {"columns": columns}
        rows = read_table_rows(path)[0]
    else:
        arrays = load_arrays(path, None, InputError)
        if "rows" not in arrays:
            return {"dtype": "text"}
        rows = arrays["rows"]
    if rows.dtype == object:
        return {"dtype": "text"}
    return {"shape": list(rows.shape[1:]), "dtype": str(rows.dtype)}
