"""MCP-CL, multivariate class prototypes with contrastive learning: a loss on features, for training only.

Cen et al. (2025) state class-level constraints that make features of different classes distinct and those of one class
diverse, with prototypes taken from correctly predicted pixels only. The form is inferred; its closest precedent is
Zhou et al., "Rethinking Semantic Segmentation: A Prototype View" (CVPR 2022).

Embedded are the static features S: every frame has them, they are what a frame leaves for later ones, and the
aggregated features start as their copy. A pixel is correct where the static head, which reads the same features, is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.training.distributed import all_reduce_sum, mean_share
from sdcpc_ros.training.recipe import PrototypeSettings

_SHARPNESS, _ITERATIONS = 0.05, 3  # of the assignment, see `sinkhorn`


class ClassPrototypes(nn.Module):
    """Several prototypes a class on the unit sphere, and the loss that draws pixels to those of their class.

    It stands beside the network, not in it: no weight of it is needed for, or exported with, a model. In distributed
    training all that is counted or averaged is reduced over the ranks first, so that ranks which see parts of a batch
    hold the prototypes, and give the mean loss, of one process that sees it whole.
    """

    prototypes: Tensor

    def __init__(self, features: int, num_classes: int, settings: PrototypeSettings, seed: int = 0) -> None:
        """features: channels D of what is embedded. seed: of prototypes, projection and the draw of pixels."""
        super().__init__()
        self.settings, self.seed = settings, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.project = nn.Sequential(
                nn.Linear(features, settings.dimension),
                nn.ReLU(inplace=True),
                nn.Linear(settings.dimension, settings.dimension),
            )
            prototypes = torch.randn(num_classes, settings.per_class, settings.dimension)
            self.register_buffer("prototypes", F.normalize(prototypes, dim=-1))

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor, step: int) -> Tensor:
        """The loss of a batch; in training mode the prototypes then move towards it.

        features (B, D, h, w), logits (B, C, h, w) of their classes, labels (B, h, w) int64; ids from C on, 255 among
        them, are void. step: seeds the draw of pixels. Where no pixel is labelled and correct the loss is 0.
        Always in float32, under autocast too.
        """
        with torch.autocast(features.device.type, enabled=False):
            embeddings, classes = self.draw_pixels(features, logits, labels, step)
            fixed = self.prototypes.flatten(0, 1).clone()  # the gradient needs them as they are before the update
            cosines = embeddings @ fixed.T  # (P, C*m)
            assigned = self._assign(cosines, classes)
            loss = self._loss(cosines, assigned)
            if self.training:
                self._update(embeddings, assigned)
        return loss

    def draw_pixels(self, features: Tensor, logits: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Correctly predicted pixels, at most `pixels_per_class` of each class and image.

        Returns their embeddings (P, E) float32, of length 1, and classes (P,) int64.

        One random order of the positions serves all images, so which pixels are drawn of an image depends on nothing
        but the image and the step: not on the rank that sees it, nor on its place in the batch.
        """
        num_classes = self.prototypes.shape[0]
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        order = torch.randperm(labels[0].numel(), generator=generator).to(labels.device)
        shuffled = labels.flatten(1)[:, order]  # (B, h*w)
        correct = logits.flatten(2).argmax(1)[:, order] == shuffled
        by_class = F.one_hot(shuffled.where(correct, num_classes), num_classes + 1)[..., :-1]  # (B, h*w, C)
        drawn = ((by_class.cumsum(1) <= self.settings.pixels_per_class) & by_class.bool()).any(2)
        image, place = drawn.nonzero(as_tuple=True)
        chosen = features.flatten(2)[image, :, order[place]].float()  # (P, D)
        return F.normalize(self.project(chosen), dim=-1), shuffled[image, place]

    @torch.no_grad()
    def _assign(self, cosines: Tensor, classes: Tensor) -> Tensor:
        """Which of all C*m prototypes each pixel belongs to, one of its class: (P,) int64."""
        num_classes, per_class = self.prototypes.shape[:2]
        own = classes[:, None] * per_class + torch.arange(per_class, device=classes.device)  # (P, m)
        shares = sinkhorn(cosines.gather(1, own) / _SHARPNESS, classes, num_classes, _ITERATIONS)
        return classes * per_class + shares.argmax(1)

    def _loss(self, cosines: Tensor, assigned: Tensor) -> Tensor:
        """Cross-entropy over all prototypes, and how far each pixel is from its own."""
        contrast = F.cross_entropy(cosines / self.settings.temperature, assigned, reduction="sum")
        compactness = (1 - cosines.gather(1, assigned[:, None])).square().sum()
        pixels = torch.tensor(float(len(assigned)), device=cosines.device)
        return mean_share(contrast + self.settings.compactness_weight * compactness, pixels)

    @torch.no_grad()
    def _update(self, embeddings: Tensor, assigned: Tensor) -> None:
        """Move every prototype that has pixels towards their mean direction; the others stay."""
        classes, per_class, dimension = self.prototypes.shape
        sums = torch.zeros(classes * per_class, dimension + 1, device=self.prototypes.device)
        counted = torch.cat((embeddings, torch.ones_like(embeddings[:, :1])), 1)
        all_reduce_sum(sums.index_add_(0, assigned, counted))
        sums = sums.view(classes, per_class, dimension + 1)
        mean = F.normalize(sums[..., :-1], dim=-1)
        momentum = self.settings.momentum
        moved = F.normalize(momentum * self.prototypes + (1 - momentum) * mean, dim=-1)
        self.prototypes.copy_(torch.where(sums[..., -1:] > 0, moved, self.prototypes))


@torch.no_grad()
def sinkhorn(scores: Tensor, classes: Tensor, num_classes: int, iterations: int) -> Tensor:
    """Soft assignment of pixels to the prototypes of their class that uses each prototype equally (Cuturi, 2013).

    scores: (P, m), to be exponentiated; classes: (P,) int64 in 0..num_classes - 1. Returns (P, m): each row sums to 1,
    and the rows of a class, over all ranks, sum to nearly its pixels / m, the nearer the more iterations.
    """
    # A row belongs to one pixel and so to one rank: only the column sums travel. Scaling a row, here by its maximum
    # against overflow, leaves the limit what it is.
    smallest = torch.finfo(scores.dtype).tiny
    mass = (scores - scores.amax(1, keepdim=True)).exp()
    for _ in range(iterations):
        columns = torch.zeros(num_classes, scores.shape[1], device=scores.device, dtype=scores.dtype)
        columns = all_reduce_sum(columns.index_add_(0, classes, mass))
        mass = mass / columns.clamp_min(smallest)[classes]
        mass = mass / mass.sum(1, keepdim=True).clamp_min(smallest)
    return mass
