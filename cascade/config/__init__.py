"""The configuration of a cascade: one model for each part of the YAML file."""

from cascade.config.audit_config import AuditConfig
from cascade.config.cascade_config import CascadeConfig
from cascade.config.detection_config import DetectionConfig
from cascade.config.fields import VariableName
from cascade.config.gears_config import GearsConfig
from cascade.config.review_config import ReviewConfig
from cascade.config.rows_config import RowsConfig
from cascade.config.serving_config import ServingConfig
from cascade.config.stage_config import RouterConfig, StageConfig
from cascade.config.traces_config import TracesConfig

__all__ = [
    "AuditConfig",
    "CascadeConfig",
    "DetectionConfig",
    "GearsConfig",
    "ReviewConfig",
    "RouterConfig",
    "RowsConfig",
    "ServingConfig",
    "StageConfig",
    "TracesConfig",
    "VariableName",
]
