"""Best prefix sums of a growing set of rows, all at once.

Rows lie on leaves in a fixed order and change their weight one event after the other. The result is the largest sum of
a prefix of the leaves after each event. A segment tree processes one event in O(log n) steps; this one processes all
events together, level by level, with a few NumPy passes per level. A node keeps a (sum, best prefix sum) for each
number of its own events that have happened; two neighbours merge by

    sum = left sum + right sum,    best = max(left best, left sum + right best).

Which states of the children belong to a state of the parent depends only on the order of the rows, not on their
weights: it is computed once, in O(n log n), and used for all weights.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["BestPrefix"]


@dataclass(frozen=True, eq=False)
class _States:
    """The states of all nodes of a level, node after node: before its first event, after the first, ...

    Attributes:
        node: (m,) node of each event, rising.
        event: (m,) rising within a node, no value twice there.
        first: (nodes,) how many of the m belong to earlier nodes.
    """

    node: np.ndarray
    event: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, node: np.ndarray, event: np.ndarray, nodes: int) -> "_States":
        return cls(node, event, np.searchsorted(node, np.arange(nodes)))

    @property
    def before(self) -> np.ndarray:
        """(nodes,) index of the state before the first event."""
        return np.asarray(self.first + np.arange(len(self.first)))

    @property
    def after(self) -> np.ndarray:
        """(m,) index of the state after each event."""
        return np.asarray(np.arange(len(self.node)) + self.node + 1)

    def merged(self, events: int) -> tuple["_States", np.ndarray, np.ndarray]:
        """The level above: its states, and for each of them the index of the left and of the right child's state."""
        key = (self.node >> 1) * events + self.event
        order = np.argsort(key, kind="stable")
        key, is_right = key[order], (self.node[order] & 1).astype(np.intp)
        last = np.flatnonzero(np.append(key[1:] != key[:-1], True)[: len(key)])
        states = _States.of(key[last] // events, key[last] % events, len(self.first) // 2)
        counts = np.diff(np.append(self.first, len(self.node)))
        children = []
        for side, so_far in ((0, last + 1 - np.cumsum(is_right)[last]), (1, np.cumsum(is_right)[last])):
            in_earlier_nodes = np.cumsum(counts[side::2]) - counts[side::2]
            before = self.before[side::2]
            children.append(states.spread(before, (before - in_earlier_nodes)[states.node] + so_far))
        return states, children[0], children[1]

    def spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """One array over all states, of values (nodes,) before the first event and (m,) after each."""
        whole = np.empty(len(before) + len(after), dtype=before.dtype)
        whole[self.before], whole[self.after] = before, after
        return whole


class BestPrefix:
    """The largest prefix sum over the leaves after each event.

    Args:
        leaf: (n,) int in [0, leaves), the leaf of each row.
        event: (n,) int in [0, events), the event that changes the row's weight.
        leaves: number of leaves.
        events: number of events.

    Attributes:
        cell: (n,) int, rows of the same leaf and event are in the same cell.
        cells: number of cells.
    """

    def __init__(self, leaf: np.ndarray, event: np.ndarray, leaves: int, events: int) -> None:
        distinct, self.cell = np.unique(leaf.astype(np.int64) * events + event, return_inverse=True)
        self.cells = len(distinct)
        # A power of two, so that every node has two children; leaves without rows add a sum of 0.
        nodes = 1 << max(leaves - 1, 0).bit_length()
        states = self._leaves = _States.of(distinct // events, distinct % events, nodes)
        self._merges: list[tuple[np.ndarray, np.ndarray]] = []
        while len(states.first) > 1:
            states, left, right = states.merged(events)
            self._merges.append((left, right))
        self._state_after = np.searchsorted(states.event, np.arange(events), "right")

    def after_each_event(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The largest prefix sum after each event; a prefix has at least one leaf.

        Args:
            before: (cells,) weight of each cell before its event.
            after: (cells,) weight of each cell from its event on.

        Returns:
            (events,) float.
        """
        total = self._leaf_sums(before, after - before)
        best = total
        for left, right in self._merges:
            left_total = total[left]
            best = np.maximum(best[left], left_total + best[right])
            total = left_total + total[right]
        return np.asarray(best[self._state_after])

    def _leaf_sums(self, before: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Sum of each leaf in each of its states."""
        states = self._leaves
        start = np.bincount(states.node, weights=before, minlength=len(states.first))
        changed = np.cumsum(states.spread(np.zeros(len(start)), change))
        per_leaf = np.diff(np.append(states.before, len(changed)))
        return np.asarray(changed + np.repeat(start - changed[states.before], per_leaf))
