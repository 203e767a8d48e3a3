"""What all parts of the configuration share: their model, and types of fields."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

from cascade.files.yaml_files import text_of_form

__all__ = ["ConfigModel", "ConfigName", "ConfigPath", "VariableName"]


class ConfigModel(BaseModel):
    """A part of the configuration: never changed, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", Path()), path)


# Not checked for existence: offline work needs neither keys nor certificates.
ConfigPath = Annotated[Path, AfterValidator(_from_folder)]
VariableName = Annotated[
    str, text_of_form(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name: letters of ASCII, digits and '_', no digit first")
]
ConfigName = Annotated[str, text_of_form(r"[A-Za-z0-9_-]{1,40}", "1 to 40 letters of ASCII, digits, '_' and '-'")]
