"""Serves a cascade from Python and asks its handle; prints the answer as JSON. Arguments: configuration, rows."""

import json
import sys
from pathlib import Path

import numpy as np

from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.serving.deploy.cluster import running_cascade

path, rows = Path(sys.argv[1]), json.loads(sys.argv[2])
config = CascadeConfig.load(path)
with running_cascade(config, Policy.load(config.policy), path.parent) as handle:
    answer = handle.predict.remote(np.array(rows)).result(timeout_s=20)
print(json.dumps(answer, separators=(",", ":")))
