"""Classes of unequal size: a mean over classes, its uncertainty, and the weights of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Of two classes, one then has more than 1.6 times the images of the other.
BALANCED_SHARE = 0.95
MAX_RATIO = 5  # of the sizes of two classes, above which users get advice


def balanced_accuracy(right: Sequence[float], images: Sequence[float]) -> float:
    """The mean over the classes of the share of right images.

    Args:
        right: For each class, the number of its images that are recognised.
        images: For each class, the number of its images; a class without images does not count.

    Returns:
        The mean, 0 to 1; equal to top-1 where all classes have equally many images.
    """
    shares = [own / count for own, count in zip(right, images, strict=True) if count]
    return sum(shares) / len(shares)


def balanced_images(images: Sequence[float]) -> float:
    """The number of images in classes of equal size that are as informative as these.

    A share of n images has the variance p (1 - p) / n. If every class is recognised with the same
    probability p, the mean of the shares of C classes has the variance p (1 - p) / n, too, with
    n = C^2 / (1 / n_1 + ... + 1 / n_C). That is C times the harmonic mean of the classes' sizes.

    Args:
        images: For each class, the number of its images; a class without images does not count.
    """
    counts = [count for count in images if count]
    return len(counts) ** 2 / sum(1 / count for count in counts)


def is_unbalanced(effective: float, images: float) -> bool:
    """Whether the classes differ so much that balanced accuracy and top-1 can differ.

    Args:
        effective: See `balanced_images`.
        images: The number of all images.
    """
    return effective < BALANCED_SHARE * images


def balanced_weights(images: Sequence[int]) -> list[float]:
    """The weight of an image of each class that gives all classes the same total weight.

    It is N / (classes x n) for a class with n of N images, as in scikit-learn's
    `compute_class_weight`, so the mean weight of the images is 1. Classes without images are not
    counted, and have weight 0.
    """
    classes = sum(count > 0 for count in images)
    return [sum(images) / (classes * count) if count else 0.0 for count in images]


def balance_advice(images: Mapping[int, int], class_names: Sequence[str], cure: str) -> str:
    """Advice where the largest and the smallest class differ much; otherwise empty.

    Args:
        images: The number of training images of each class.
        class_names: The names of the classes.
        cure: The options that make all classes count the same; empty where they are given.
    """
    if not images or not cure:
        return ""
    largest, smallest = max(images, key=images.__getitem__), min(images, key=images.__getitem__)
    if images[largest] <= MAX_RATIO * images[smallest]:
        return ""
    return (
        f"class {class_names[largest]} has {images[largest]} training images, and class "
        f"{class_names[smallest]} has {images[smallest]}; to let all classes count the same, give "
        f"{cure}"
    )
