"""Calibrators, threshold search, certificates and evaluation: offline work on arrays."""

from cascade.calibration.calibrate import Guarantee, calibrate
from cascade.calibration.calibrate_gears import calibrate_gears
from cascade.calibration.calibrators import CALIBRATORS, Identity, Isotonic, Platt, Temperature
from cascade.calibration.choice.choose_cascade import choose_cascade
from cascade.calibration.choice.idk_order import optimal_order
from cascade.calibration.evaluation.evaluation import Evaluation, evaluate
from cascade.calibration.evaluation.judgement import Judgement, TargetJudgement, judge
from cascade.calibration.fitting.calibrator_fitting import fit_calibrator
from cascade.calibration.fitting.head_fitting import HEADS
from cascade.calibration.policies.policy import Policy
from cascade.calibration.policies.policy_set import PolicySet
from cascade.calibration.search.frontier import OperatingPoint, frontier
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget

__all__ = [
    "CALIBRATORS",
    "HEADS",
    "Evaluation",
    "Guarantee",
    "Identity",
    "InfeasibleTarget",
    "Isotonic",
    "Judgement",
    "OperatingPoint",
    "Platt",
    "Policy",
    "PolicySet",
    "ScoreTable",
    "TargetJudgement",
    "Temperature",
    "calibrate",
    "calibrate_gears",
    "choose_cascade",
    "evaluate",
    "fit_calibrator",
    "frontier",
    "judge",
    "optimal_order",
]
