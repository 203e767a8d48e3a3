"""Several models as one: they vote, or their class probabilities are averaged."""

import numpy as np

from cascade.backends.backend import Backend, BoundsCost
from cascade.backends.config import CombinationRule
from cascade.backends.stage_contract import StageContract
from cascade.errors import ConfigError
from cascade.prediction import Prediction

__all__ = ["EnsembleBackend"]


class EnsembleBackend:
    """Members that all predict every row.

    With "votes" the answer is that of most members (among equals, the one of the earliest member), and the confidence
    is the share of the members that agree: Kolawole, Dennis, Talwalkar, Smith, "Agreement-Based Cascading for Efficient
    Inference", TMLR 2025, https://arxiv.org/abs/2407.02348. With "mean" the class probabilities are the mean of the
    members'.

    Args:
        members: at least one, of the same classes.
        rule: how they are combined.
        classes: C, if the configuration names the classes.
    """

    def __init__(self, members: list[Backend], rule: CombinationRule = "votes", classes: int | None = None) -> None:
        self.members = members
        self.rule = rule
        self._contracts = [
            StageContract(f"member {k} of an ensemble", member, classes) for k, member in enumerate(members)
        ]

    def predict(self, rows: np.ndarray) -> Prediction:
        """Runs every member: (n, ...) -> n answers. Costs are the sum of the members' costs, if all return them.

        Raises:
            ConfigError: the rule is "mean", and not all members return probabilities of the same classes.
            StageError: a member failed, or broke the stage contract.
        """
        parts = [contract.predict(rows) for contract in self._contracts]
        cost, mflop = _sum([each.cost for each in parts]), _sum([each.mflop for each in parts])
        if self.rule == "votes":
            answer, share = _vote(np.stack([each.answer for each in parts], axis=1))
            return Prediction(answer, confidence=share, cost=cost, mflop=mflop)
        probabilities = [each.probabilities for each in parts if each.probabilities is not None]
        if len(probabilities) < len(parts) or len({each.shape for each in probabilities}) > 1:
            raise ConfigError(
                "an ensemble with the rule 'mean' needs class probabilities, and not all of its members return "
                "probabilities of the same classes; let them vote (rule: votes)"
            )
        mean = np.asarray(np.mean(np.stack(probabilities), axis=0, dtype=np.float64))
        return Prediction(mean.argmax(axis=1), mean, cost=cost, mflop=mflop)

    def highest_row_cost(self, rows: np.ndarray) -> float:
        """The sum of the members' bounds; inf if a member has none."""
        return sum(
            member.highest_row_cost(rows) if isinstance(member, BoundsCost) else np.inf for member in self.members
        )


def _sum(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """(n,) sum over the members; ``None`` if any lacks it."""
    known = [part for part in parts if part is not None]
    return np.asarray(np.sum(known, axis=0)) if len(known) == len(parts) else None


def _vote(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The answer of most members and its share: (n, M) int -> (n,) int64, (n,) float64 in [1 / M, 1]."""
    votes = (answers[:, :, None] == answers[:, None, :]).sum(axis=2)
    first = votes.argmax(axis=1)
    rows = np.arange(len(answers))
    return answers[rows, first].astype(np.int64), votes[rows, first] / answers.shape[1]
