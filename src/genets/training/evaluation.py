"""Scoring: a trained network on every image of a split."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genets.core.errors import DivergedError, TrainingError, is_out_of_memory
from genets.data import Split
from genets.training.predictions import Predictions
from genets.training.score import Score
from genets.training.step import move, repeatable


def evaluate(
    net: nn.Module,
    split: Split,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    *,
    channels_last: bool = True,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Score:
    """Score a network on every image of a split.

    Args:
        net: The network; it is moved to `device` and left in eval mode.
        split: The images.
        batch_size: Images that are processed together; fewer where memory runs out, which changes
            the score by rounding at most.
        device: The device to compute on.
        channels_last: Whether to lay the weights out with their channels last; False leaves the
            layout as it is.
        total: Adds up sums over processes, where each process has a share of the split.

    Returns:
        The score.

    Raises:
        TrainingError: The outputs of the network are not finite, or no image can be read.
    """
    score, _ = _evaluate(net, split, batch_size, device, channels_last, total, keep=False)
    return score


def evaluate_images(
    net: nn.Module,
    split: Split,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> tuple[Score, Predictions]:
    """Score a network as `evaluate` does, and give its prediction for every image."""
    return _evaluate(net, split, batch_size, device, True, lambda sums: sums, keep=True)


def _evaluate(
    net: nn.Module,
    split: Split,
    batch_size: int,
    device: str | torch.device,
    channels_last: bool,
    total: Callable[[Tensor], Tensor],
    *,
    keep: bool,
) -> tuple[Score, Predictions]:
    """Score a network; see `evaluate`.

    Args:
        keep: Whether the predictions are kept; otherwise they are empty.
    """
    move(net, device, channels_last=channels_last)
    net.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    by_class = torch.zeros(2, 0, dtype=torch.float64, device=device)  # images, and right ones
    pairs = [torch.zeros(2, 0, dtype=torch.int64, device=device)]
    size = batch_size
    for batch, labels in split.batches(batch_size):
        # Not around the loop: tensors made in inference mode, such as images that a split caches,
        # cannot be trained on.
        with torch.inference_mode(), repeatable():
            logits, size = _logits(net, batch, device, size)
            labels = labels.to(device, non_blocking=True)
            best = logits.argmax(dim=1)
            right = (best == labels).to(sums)
            sums[0] += F.cross_entropy(logits, labels, reduction="sum")
            sums[1] += len(labels)
            if not by_class.numel():
                by_class = sums.new_zeros(2, logits.shape[1])
                sums[2:] = sums.new_tensor([logits.shape[1], 1])
            by_class[0].index_add_(0, labels, torch.ones_like(right))
            by_class[1].index_add_(0, labels, right)
            if keep:
                pairs.append(torch.stack([labels, best]))
    entropy, images, outputs, parts = total(sums).tolist()
    if not images:
        raise TrainingError("there is no score: none of the images could be read")
    if not by_class.numel():  # other processes have all images
        by_class = sums.new_zeros(2, round(outputs / parts))
    # A copy, because a tensor made in inference mode cannot be changed outside it.
    counts, right_counts = total(by_class.clone()).tolist()
    score = Score.from_classes(counts, right_counts, entropy / images)
    if not math.isfinite(score.cross_entropy):
        raise DivergedError(
            f"there is no score: the network's cross-entropy is {score.cross_entropy}"
        )
    return score, Predictions(*torch.cat(pairs, dim=1).cpu().numpy())


def _logits(
    net: nn.Module, images: Tensor, device: str | torch.device, size: int
) -> tuple[Tensor, int]:
    """Run a network on `size` images at a time, and on half of them each time memory runs out.

    Returns:
        The logits, float32, and the number of images that fits.
    """
    while True:
        try:
            parts = torch.split(images, size)
            logits = [net(part.to(device, non_blocking=True)).float() for part in parts]
            return (logits[0] if len(logits) == 1 else torch.cat(logits)), size
        except (RuntimeError, MemoryError) as error:
            size = min(size, len(images)) // 2
            if not size or not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback keeps the tensors of the failed run in memory.
        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()
