"""Maps flicker: pixels whose label changes from frame to frame although the truth does not."""

from __future__ import annotations

import numpy as np

from sdcpc_ros.labels.label_set import IGNORE


class FlickerMap:
    """Counts label changes by pixel, in memory that depends on the size of the image only.

    With ground truth, pixels count whose true class is known and the same in both frames. Without it every pixel
    counts, so motion counts as change too. Frames of another size than the first are not in the map.
    """

    def __init__(self) -> None:
        self._previous: tuple[np.ndarray, np.ndarray | None] | None = None
        self.changes: np.ndarray | None = None  #: (H, W) uint32, how often the label changed
        self.chances: np.ndarray | None = None  #: (H, W) uint32, how often it could have been judged

    def update(self, labels: np.ndarray, truth: np.ndarray | None) -> float | None:
        """The next frame, (H, W) uint8 labels and truth (255 = void).

        Returns the share of judged pixels that kept their label since the frame before, in 0..1; None for the first
        frame of a stream, and where no pixel could be judged.
        """
        previous, self._previous = self._previous, (labels, truth)
        if previous is None:
            return None
        last_labels, last_truth = previous
        if truth is not None and last_truth is not None:
            judged = (truth == last_truth) & (truth != IGNORE)
        elif truth is None and last_truth is None:
            judged = np.ones(labels.shape, bool)
        else:
            return None
        changed = (labels != last_labels) & judged
        if self.changes is None or self.chances is None:
            self.changes, self.chances = np.zeros(labels.shape, np.uint32), np.zeros(labels.shape, np.uint32)
        if self.changes.shape == labels.shape:
            self.changes += changed
            self.chances += judged
        chances = np.count_nonzero(judged)
        return 1 - np.count_nonzero(changed) / chances if chances else None

    def break_stream(self) -> None:
        """The next frame does not continue the last one."""
        self._previous = None

    def rate(self) -> np.ndarray:
        """Changes per frame by pixel, (H, W) float32 in 0..1, nan where never judged; (0, 0) before a second frame."""
        if self.changes is None or self.chances is None:
            return np.zeros((0, 0), np.float32)
        rate = np.full(self.changes.shape, np.nan, np.float32)
        return np.divide(self.changes, self.chances, out=rate, where=self.chances > 0)
