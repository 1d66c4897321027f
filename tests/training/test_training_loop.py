"""The training loop and scoring."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import nn

from genets.core.class_balance import balanced_images
from genets.core.errors import TrainingError
from genets.data import Nuisance, load_digits
from genets.training import Recipe, evaluate, train
from genets.training.loop import estimate_norm_statistics


class Fixed:
    """A split of given tensors, in order; it records its calls."""

    def __init__(self, images, labels):
        self.images, self.labels, self.calls = images, labels, []

    def __len__(self):
        return len(self.images)

    def batches(self, batch_size, *, epoch=None, seed=0):
        self.calls.append((epoch, seed))
        stop = len(self) // batch_size * batch_size if epoch is not None else len(self)
        for start in range(0, stop or len(self), batch_size):
            yield self.images[start : start + batch_size], self.labels[start : start + batch_size]


def random_split(count=24, classes=3, size=6):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(count, 3, size, size, generator=generator)
    return Fixed(images, torch.randint(0, classes, (count,), generator=generator))


def small_net(seed=0, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        )


def weights(net):
    return torch.cat([value.flatten().float() for value in net.state_dict().values()])


def test_norm_statistics_are_the_means_over_the_training_images():
    split, net = random_split(count=24), small_net()
    net[1].running_mean.fill_(7)
    others = {name: value.clone() for name, value in net.named_parameters()}
    estimate_norm_statistics(net, split, Recipe(epochs=1, batch_size=8), seed=0)
    with torch.no_grad():
        outputs = net[0](split.images)
        variances = [part.var((0, 2, 3)) for part in outputs.split(8)]
    torch.testing.assert_close(net[1].running_mean, outputs.mean((0, 2, 3)))
    torch.testing.assert_close(net[1].running_var, torch.stack(variances).mean(0))
    assert [epoch for epoch, _ in split.calls] == [0, 1, 2, 3], "a small split is repeated"
    assert not net.training
    assert all(torch.equal(value, others[name]) for name, value in net.named_parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_two_steps_by_hand(momentum):
    split = random_split(count=8)
    recipe = Recipe(
        epochs=2, batch_size=8, momentum=momentum, weight_decay=0.01, label_smoothing=0.0
    )
    linear = nn.Linear(3 * 36, 3)
    net = nn.Sequential(nn.Flatten(), linear)
    weight = linear.weight.detach().clone().double()
    bias = linear.bias.detach().clone().double()
    x, truth = split.images.flatten(1).double(), F.one_hot(split.labels, 3).double()
    buffers = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for step in range(2):
        rate = 0.1 * 8 / 256 * 0.5 * (1 + math.cos(math.pi * step / 2))
        error = ((x @ weight.T + bias).softmax(1) - truth) / 8
        for value, gradient, buffer in zip(
            (weight, bias), (error.T @ x, error.sum(0)), buffers, strict=True
        ):
            gradient = gradient + 0.01 * value
            buffer.mul_(momentum).add_(gradient)
            value.sub_(rate * (gradient + momentum * buffer))
    train(net, split, recipe, seed=0)
    assert torch.allclose(linear.weight.double(), weight, atol=1e-7)
    assert torch.allclose(linear.bias.double(), bias, atol=1e-7)


def test_same_seed_same_weights_other_seed_other_weights():
    data = load_digits(8)
    recipe = Recipe(epochs=1)
    nets = [small_net(classes=10) for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        torch.rand(seed)  # the global generator's state does not matter
        train(net, data.train, recipe, seed=seed)
    assert torch.equal(weights(nets[0]), weights(nets[1]))
    assert not torch.allclose(weights(nets[0]), weights(nets[2]))


def test_global_generator_and_mode_afterwards():
    net, state = small_net(), torch.get_rng_state()
    train(net, random_split(), Recipe(epochs=2, batch_size=8), seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module.training for module in net.modules())


def test_epochs_and_seed_reach_the_split_and_the_caller():
    split, seen = random_split(), []
    train(
        small_net(),
        split,
        Recipe(epochs=3, batch_size=8),
        seed=9,
        on_epoch=lambda epoch, loss: seen.append((epoch, loss)),
    )
    assert split.calls == [(0, 9), (1, 9), (2, 9)]
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert all(0 < loss < 5 for _, loss in seen)


def test_mean_loss_of_an_epoch():
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    seen = []
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=1e-9)
    train(net, random_split(), recipe, seed=0, on_epoch=lambda _, loss: seen.append(loss))
    assert seen == [pytest.approx(math.log(3), abs=1e-5)]


def test_frozen_layers_keep_weights_and_statistics():
    net = small_net()
    net[:2].requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, random_split(), Recipe(epochs=1, batch_size=8, learning_rate=1.0), seed=0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("6.")), name


def test_the_teacher_is_called_without_gradients_and_followed():
    split = random_split()
    target = torch.tensor([0.0, 4.0, 0.0])
    seen = []

    def teacher(images):
        seen.append((len(images), torch.is_grad_enabled()))
        return target.expand(len(images), -1)

    net = small_net()
    recipe = Recipe(epochs=60, batch_size=8, learning_rate=2.0, soft_label_weight=1.0)
    train(net, split, recipe, seed=0, teacher=teacher)
    assert set(seen) == {(8, False)}
    with torch.no_grad():
        assert torch.allclose(net(split.images).softmax(1), target.softmax(0), atol=0.1)


def test_teacher_network_keeps_its_weights_and_statistics():
    teacher = small_net(1)
    before = weights(teacher)
    train(small_net(), random_split(), Recipe(epochs=1, batch_size=8), seed=0, teacher=teacher)
    assert torch.equal(weights(teacher), before)


def test_evaluate_against_brute_force():
    split, net = random_split(count=23), small_net().eval()
    correct = total = 0.0
    with torch.no_grad():
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            p = net(image[None]).double().softmax(1)[0]
            correct += p.argmax().item() == label
            total -= math.log(p[label])
    for batch_size in (23, 5):
        score = evaluate(net, split, batch_size)
        assert score.images == 23
        assert score.top1 == pytest.approx(correct / 23)
        assert score.cross_entropy == pytest.approx(total / 23, rel=1e-5)


@pytest.mark.parametrize("most", [0, 1, 100])
def test_evaluate_with_little_memory(most):
    """Fewer images are scored at a time; where not even one fits, the error remains."""
    net, images = small_net(), random_split(count=300)
    expected, sizes = evaluate(net, images), []

    def small_machine(module, inputs):
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        sizes.append(len(inputs[0]))

    net.register_forward_pre_hook(small_machine)
    if not most:
        with pytest.raises(torch.OutOfMemoryError):
            evaluate(net, images)
        return
    score = evaluate(net, images)
    assert score.top1 == expected.top1
    assert score.cross_entropy == pytest.approx(expected.cross_entropy, abs=1e-6)
    assert (max(sizes), sum(sizes)) == ({1: 1, 100: 64}[most], len(images))


def test_training_works_after_evaluation():
    data = load_digits(8, views=1)
    net = small_net(classes=10)
    evaluate(net, data.train)
    train(net, data.train, Recipe(epochs=1), seed=0)
    images, labels = next(data.train.batches(8))
    F.cross_entropy(net(images), labels).backward()


def test_non_finite_loss_names_epoch_and_step():
    split = random_split()
    split.images[17] = math.nan
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1, step 3"):
        train(small_net(), split, Recipe(epochs=1, batch_size=8), seed=0)


def test_non_finite_outputs_are_no_score():
    net = small_net()
    net[6].bias.data.fill_(math.inf)
    with pytest.raises(TrainingError, match="no score: the network's cross-entropy is nan"):
        evaluate(net, random_split())


def test_bf16():
    net, seen = small_net(), []
    recipe = Recipe(epochs=2, batch_size=8, precision="bf16")
    train(net, random_split(), recipe, seed=0, on_epoch=lambda _, loss: seen.append(loss))
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    assert all(math.isfinite(loss) for loss in seen)


def test_a_tiny_network_learns_the_digits():
    easy = Nuisance(
        rotation_degrees=10,
        scale=(0.9, 1.0),
        shear=0.0,
        shift=0.05,
        contrast=(0.9, 1.0),
        colour=0.0,
        tint=0.0,
        noise=0.05,
    )
    data = load_digits(16, nuisance=easy, views=1)
    blocks = [ByoBlockCfg("basic", d=1, c=c, s=2, gs=0, br=1.0) for c in (16, 32)]
    config = ByoModelCfg(tuple(blocks), stem_chs=8, stem_type="3x3", stem_pool="", num_features=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ByobNet(config, num_classes=10)
    train(net, data.train, Recipe(epochs=8, learning_rate=0.3, warmup_epochs=0.5), seed=0)
    score = evaluate(net, data.validation)
    assert score.top1 > 0.8
    assert evaluate(net, data.train).top1 > score.top1 - 0.05


def labels_of(net, split):
    with torch.no_grad():
        return net.eval()(split.images).argmax(1)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_is_scikit_learns_and_ignores_classes_without_images():
    split, net = random_split(count=50, classes=4), small_net(classes=6)
    split.labels[split.labels == 1] = 0  # class 1 has no image, and nor have classes 4 and 5
    split.labels[:20] = labels_of(net, split)[:20]
    score = evaluate(net, split, 8)
    assert score.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(split.labels, labels_of(net, split))
    )
    counts = torch.bincount(split.labels)
    assert score.balanced_images == pytest.approx(balanced_images(counts.tolist()))
    assert score.is_unbalanced


@pytest.mark.parametrize("first", [0, 7, 24])
def test_the_parts_of_several_processes_give_the_score_of_the_whole(first):
    """Each process calls `total` once for each sum, also a process without images."""
    split, net = random_split(), small_net()
    parts = [Fixed(split.images[s], split.labels[s]) for s in (slice(first), slice(first, None))]
    if first == 0:
        parts.reverse()  # the first one has images, as otherwise it has no score alone
    told = []
    evaluate(net, parts[0], total=lambda sums: told.append(sums.clone()) or sums)
    left = iter(told)
    found = evaluate(net, parts[1], total=lambda sums: sums + next(left))
    whole = evaluate(net, split)
    assert next(left, None) is None
    assert found.by_metric() == pytest.approx(whole.by_metric())
    assert (found.images, found.balanced_images) == (24, pytest.approx(whole.balanced_images))
