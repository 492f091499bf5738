"""Segmentation metrics over label images: IoU, video consistency (mVC) and temporal consistency (TC).

Label images are (H, W) uint8 arrays of class ids; 255 (`IGNORE`) is void in the ground truth and unlabelled in a
prediction. Every metric takes one frame at a time and needs a fixed amount of memory. A metric without judged pixels is
nan.
"""

from __future__ import annotations

import numpy as np

from sdcpc_ros.labels.label_set import IGNORE

#: How VideoConsistency counts; see there.
MVC_MODES = ("clean", "reference")


def _check_pair(first: np.ndarray, second: np.ndarray, names: str) -> None:
    for labels in (first, second):
        if labels.dtype != np.uint8 or labels.ndim != 2:
            raise ValueError(
                f"{names} must be (height, width) uint8 label images, not {labels.dtype} of shape {labels.shape}"
            )
    if first.shape != second.shape:
        raise ValueError(f"{names} differ in size: {first.shape} and {second.shape} (height, width)")


def iou_of_counts(intersection: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Intersection over union of numbers of pixels (..., C), float64; nan for a class without pixels in the truth."""
    union = truth + predicted - intersection
    return np.divide(intersection, union, out=np.full(union.shape, np.nan), where=truth > 0)


class ConfusionMatrix:
    """Pixels by true class (row) and predicted class (column), pooled over all frames seen.

    Pixels whose ground truth is void are left out. An unlabelled pixel (255) with a true class counts as an error of
    that class; `unlabelled` holds their number by true class.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE:
            raise ValueError(f"num_classes is {num_classes}; 1 to {IGNORE} are allowed")
        self.num_classes = num_classes
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.unlabelled = np.zeros(num_classes, np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Counts one frame. Raises ValueError if the arrays differ in size or contain an id without a class."""
        _check_pair(truth, prediction, "truth and prediction")
        pairs = (truth.astype(np.uint16) << 8) | prediction
        counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        classes = slice(0, self.num_classes)
        without_class = slice(self.num_classes, IGNORE)
        for name, by_id in (("truth", counts.sum(axis=1)), ("prediction", counts.sum(axis=0))):
            if by_id[without_class].any():
                stray = self.num_classes + int(np.flatnonzero(by_id[without_class])[0])
                raise ValueError(
                    f"the {name} holds id {stray}; 0 to {self.num_classes - 1} and {IGNORE} (no label) are allowed"
                )
        self.matrix += counts[classes, classes]
        self.unlabelled += counts[classes, IGNORE]

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds the counts of another matrix of the same classes."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot merge matrices of {self.num_classes} and {other.num_classes} classes")
        self.matrix += other.matrix
        self.unlabelled += other.unlabelled

    def truth_pixels(self) -> np.ndarray:
        """Pixels by true class, (C,) int64."""
        return self.matrix.sum(axis=1) + self.unlabelled

    def iou(self) -> np.ndarray:
        """Intersection over union by class, (C,) float64; nan for a class without pixels in the ground truth."""
        return iou_of_counts(np.diag(self.matrix), self.truth_pixels(), self.matrix.sum(axis=0))

    def miou(self) -> float:
        """Mean IoU over the classes present in the ground truth."""
        iou = self.iou()
        present = iou[~np.isnan(iou)]
        return float(present.mean()) if present.size else float("nan")

    def weighted_iou(self) -> float:
        """IoU weighted by the classes' pixels in the ground truth."""
        truth = self.truth_pixels()
        total = int(truth.sum())
        return float(np.nansum(self.iou() * truth) / total) if total else float("nan")


class VideoConsistency:
    """mVC_n of VSPW (Miao et al., CVPR 2021): the consistency of the prediction where the ground truth is constant.

    For each window of n consecutive frames: of the pixels whose ground truth is constant over the window, the share
    whose prediction is constant too. The value is the mean over all windows of all videos, in 0..1. It does not measure
    whether the prediction is right. A window without a constant pixel is left out.

    Modes:
    - "clean": every window counts. A pixel that is void in one of the window's frames is left out of it.
    - "reference": counts as VSPW's published script does. The last window of each video is left out (so is every video
      of n frames or fewer), and void is a class. (The script compares masks on disk, where void has the ids 0 and 255;
      CFFM's version of it makes them one id, as does this one.)

    Memory and time per frame do not depend on n: for each pixel it keeps the frame since which its truth and its
    prediction have not changed.
    """

    def __init__(self, n: int, mode: str = "clean") -> None:
        if n < 2:
            raise ValueError(f"n is {n}; a window needs at least 2 frames")
        if mode not in MVC_MODES:
            raise ValueError(f"mode is '{mode}'; {' and '.join(MVC_MODES)} are allowed")
        self.n = n
        self.mode = mode
        self._counted = np.zeros(2)  # the sum of the windows' shares, and their number
        self._frame = 0
        #: Truth and prediction of the last frame of the video, (2, H, W), and since which frame each pixel has its id.
        self._last: np.ndarray | None = None
        self._since = np.zeros((0, 0, 0), np.int32)
        self._last_share: float | None = None  # in reference mode, a window counts when another follows

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> float | None:
        """Counts the next frame; returns the share of the window that ends with it, None if it has none.

        Raises ValueError if the arrays differ in size from each other or from earlier frames.
        """
        _check_pair(truth, prediction, "truth and prediction")
        pair = np.stack([truth, prediction])
        if self._last is None:
            self._last, self._since = pair, np.zeros(pair.shape, np.int32)
        if self._last.shape != pair.shape:
            raise ValueError(
                f"the size changed within a video, from {self._last.shape[1:]} to {truth.shape} (height, width); "
                "call end_video() between videos"
            )
        self._since[pair != self._last] = self._frame
        self._last = pair
        if self.mode == "clean":
            self._since[0][truth == IGNORE] = self._frame + 1  # constant from the next frame on, at the earliest

        window_start = self._frame - self.n + 1
        self._frame += 1
        if window_start < 0:
            return None
        if self._last_share is not None:
            self._counted += self._last_share, 1
            self._last_share = None
        stable_truth, stable_prediction = self._since <= window_start
        stable = np.count_nonzero(stable_truth)
        if not stable:
            return None
        share = np.count_nonzero(stable_truth & stable_prediction) / stable
        if self.mode == "clean":
            self._counted += share, 1
        else:
            self._last_share = share
        return share

    def end_video(self) -> None:
        """The next frame starts another video; no window contains frames of both."""
        self._frame, self._last, self._last_share = 0, None, None

    def value(self) -> float:
        """mVC_n in 0..1 over the windows counted so far."""
        shares, windows = self._counted.tolist()
        return shares / windows if windows else float("nan")


class TemporalConsistency:
    """TC: the consistency of the prediction along the optical flow.

    The prediction of frame t+1 is warped to frame t along the flow from t to t+1, by the nearest pixel. The value is
    the mIoU between the two over one confusion matrix for all pairs of frames, with the prediction of t as the truth.
    Pixels whose flow leaves the image are masked, and those that `valid` excludes, as occluded ones. VSPW's script
    masks neither, and uses RAFT's flow; report the flow's source beside the number.
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion = ConfusionMatrix(num_classes)

    def update(
        self, prediction: np.ndarray, next_prediction: np.ndarray, flow: np.ndarray, valid: np.ndarray | None = None
    ) -> None:
        """One pair of consecutive frames.

        `flow` (H, W, 2) float: a point at (x, y) in frame t is at (x + flow[y, x, 0], y + flow[y, x, 1]) in frame t+1.
        `valid` (H, W) bool: False where that point is not visible in frame t+1, or the flow is unknown.
        Raises ValueError for shapes that differ.
        """
        _check_pair(prediction, next_prediction, "the two predictions")
        warped, visible = warp_labels(next_prediction, flow, valid)
        # Points that are not visible again are void; points that lost their label count.
        self.confusion.update(np.where(visible, prediction, np.uint8(IGNORE)), warped)

    def value(self) -> float:
        """TC in 0..1 over the pairs seen so far."""
        return self.confusion.miou()


def warp_labels(labels: np.ndarray, flow: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns for every pixel (x, y) the label nearest to (x, y) + flow.

    `labels` (H, W) uint8; `flow` (H, W, 2) float, (dx, dy) in pixels; `valid` (H, W) bool. Returns the warped labels
    (H, W) and a mask (H, W) of those where the flow is finite, ends inside the image, and is `valid`.
    """
    height, width = labels.shape
    if flow.shape != (height, width, 2):
        raise ValueError(f"flow has shape {flow.shape}; {(height, width, 2)} is needed for these labels")
    if valid is not None and (valid.shape != labels.shape or valid.dtype != np.bool_):
        raise ValueError(f"valid is {valid.dtype} of shape {valid.shape}; bool of {labels.shape} is needed")
    visible = np.isfinite(flow).all(axis=2)
    rows, columns = np.ogrid[:height, :width]
    x = np.floor(columns + np.where(visible, flow[..., 0], 0) + 0.5)
    y = np.floor(rows + np.where(visible, flow[..., 1], 0) + 0.5)
    visible &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if valid is not None:
        visible &= valid
    source = np.where(visible, y * width + x, 0).astype(np.intp)
    return labels.ravel()[source], visible


class FlickerMap:
    """Counts label changes by pixel, in memory that depends on the size of the image only.

    With ground truth, pixels count whose true class is known and the same in both frames. Without it every pixel
    counts, so motion counts as change too. Frames of another size than the first are not in the map.
    """

    def __init__(self) -> None:
        self._previous: tuple[np.ndarray, np.ndarray | None] | None = None
        self.changes = np.zeros((0, 0), np.uint32)  #: (H, W), how often the label changed
        self.chances = np.zeros((0, 0), np.uint32)  #: (H, W), how often it could have been judged

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
        if not self.changes.size:
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
        rate = np.full(self.changes.shape, np.nan, np.float32)
        return np.divide(self.changes, self.chances, out=rate, where=self.chances > 0)
