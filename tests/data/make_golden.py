"""Makes the file of reference values, in float64 with PyTorch.

    python tests/data/make_golden.py new.npz            # the same inputs
    python tests/data/make_golden.py new.npz --seed 1   # other inputs

Each function follows the code that the authors of a method published, or the
definition in the paper where there is none, and says which. None of it is code
of `keras_finegrain`: the tests compare the two. `tests/golden_test.py` checks
that this file still makes `official_float64.npz`.
"""

import argparse
import math
import pathlib

import numpy as np
import torch
from torch.nn import functional

GOLDEN = pathlib.Path(__file__).with_name("official_float64.npz")
Case = dict[str, np.ndarray]


def soft_triple(inputs: Case) -> Case:
    """Qian et al. 2019, as in github.com/idstcv/SoftTriple.

    It adds 1e-5 under the root of the regularizer for the sake of the gradient.
    The tests compare the regularizer with that in mind.
    """
    features, centers = _leaf(inputs["features"]), _leaf(inputs["centers"])
    labels = torch.tensor(inputs["labels"])
    scale, gamma, tau, margin = (
        float(inputs[name]) for name in ("scale", "gamma", "tau", "margin")
    )
    num_classes, per_class, _ = centers.shape
    unit = functional.normalize(centers, dim=-1)
    each = torch.einsum(
        "bd,ckd->bck", functional.normalize(features, dim=-1), unit
    )
    similarity = (torch.softmax(each / gamma, dim=-1) * each).sum(dim=-1)
    margins = margin * functional.one_hot(labels, num_classes).double()
    crossentropy = functional.cross_entropy(
        scale * (similarity - margins), labels, reduction="none"
    )
    regularizer = torch.zeros((), dtype=torch.float64)
    for first in range(per_class):
        for second in range(first + 1, per_class):
            cosine = (unit[:, first] * unit[:, second]).sum(dim=-1)
            apart = torch.sqrt(2.0 + 1e-5 - 2.0 * cosine).sum()
            regularizer = regularizer + apart / (
                num_classes * per_class * (per_class - 1)
            )
    total = crossentropy.mean() + tau * regularizer
    total.backward()
    return {
        "similarity": _array(similarity),
        "hard_similarity": _array(each.max(dim=-1).values),
        "crossentropy": _array(crossentropy),
        "regularizer": _array(regularizer),
        "total": _array(total),
        "grad_features": _array(features.grad),
        "grad_centers": _array(centers.grad),
    }


def center(inputs: Case) -> Case:
    """Wen et al. 2016, equations 2 to 4, and two published variants.

    `pytorch_center_loss` is github.com/KaiyangZhou/pytorch-center-loss: the
    mean squared distance, without ½, to which the other classes add 1e-12 each.
    `normalized_class_mean` divides each half squared distance of unit vectors
    by the count of its class.
    """
    features, centers = _leaf(inputs["features"]), _leaf(inputs["centers"])
    labels = torch.tensor(inputs["labels"])
    alpha = float(inputs["alpha"])
    own = centers[labels]
    squared = (features - own).square().sum(dim=-1)
    squared.mean().backward()
    after = centers.detach().clone()
    for label in labels.unique():
        members = features.detach()[labels == label]
        steps = (centers.detach()[label] - members).sum(dim=0)
        after[label] -= alpha * steps / (1 + len(members))
    counts = torch.bincount(labels)[labels]
    of_unit = (
        (functional.normalize(features, dim=-1) - own).square().sum(dim=-1)
    )
    return {
        "per_sample": _array(squared / 2),
        "mean": _array(squared.mean() / 2),
        "sum": _array(squared.sum() / 2),
        "centers_after": _array(after),
        "pytorch_center_loss": _array(
            squared.mean() + 1e-12 * (len(centers) - 1)
        ),
        "pytorch_center_loss_grad_centers": _array(centers.grad),
        "pytorch_center_loss_grad_features": _array(features.grad),
        "normalized_class_mean": _array((of_unit / 2 / counts).sum()),
    }


def mc(inputs: Case) -> Case:
    """Chang et al. 2020, as in github.com/PRIS-CV/Mutual-Channel-Loss.

    The sum is that of its CUB-200-2011 script: 1.5 · L_dis + 20 · L_div, where
    L_div is 1 − diversity / ξ.
    """
    feature_map = _leaf(inputs["feature_map_nhwc"])
    size = int(inputs["channels_per_class"])
    scores, diversity = _groups(
        feature_map,
        [size] * int(inputs["num_classes"]),
        torch.tensor(inputs["masks"].reshape(-1)),
    )
    discriminality = functional.cross_entropy(
        scores, torch.tensor(inputs["labels"])
    )
    gap = 1 - diversity.mean() / size
    total = 1.5 * discriminality + 20 * gap
    total.backward()
    return {
        "discriminality": _array(discriminality),
        "diversity_gap": _array(gap),
        "diversity": _array(diversity.mean()),
        "total_official": _array(total),
        "grad_nhwc": _array(feature_map.grad),
    }


def mc_unequal(inputs: Case) -> Case:
    """The same with groups of two sizes, which the published code lacks."""
    scores, diversity = _groups(
        torch.tensor(inputs["feature_map_nhwc"]),
        inputs["sizes"].tolist(),
        torch.tensor(inputs["mask"]),
    )
    discriminality = functional.cross_entropy(
        scores, torch.tensor(inputs["labels"])
    )
    return {
        "class_scores": _array(scores),
        "discriminality": _array(discriminality),
        "diversity": _array(diversity.mean()),
        "diversity_per_class": _array(diversity),
    }


def cosine(inputs: Case) -> Case:
    """NormFace (20), CosFace (64, 0.35) and ArcFace (64, 0.5) by definition."""
    features = functional.normalize(torch.tensor(inputs["features"]), dim=-1)
    weights = functional.normalize(torch.tensor(inputs["weights"]), dim=-1)
    labels = torch.tensor(inputs["labels"])
    cosines = features @ weights.T
    own = cosines.gather(1, labels[:, None])
    turned = torch.cos(torch.acos(own) + 0.5)
    # Beyond π the cosine would rise again: the published code goes on so.
    turned = torch.where(
        own >= math.cos(math.pi - 0.5), turned, own - 0.5 * math.sin(0.5)
    )

    def crossentropy(scale: float, of_own: torch.Tensor) -> np.ndarray:
        logits = cosines.scatter(1, labels[:, None], of_own)
        return _array(functional.cross_entropy(scale * logits, labels))

    return {
        "cosine": _array(cosines),
        "normface_20": crossentropy(20, own),
        "cosface_64_035": crossentropy(64, own - 0.35),
        "arcface_64_05": crossentropy(64, turned),
    }


def _groups(
    feature_map: torch.Tensor, sizes: list[int], kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and diversity `(batch, num_classes)` of a map `(b, h, w, n)`."""
    channels = feature_map.flatten(1, 2).transpose(1, 2)
    shares = torch.softmax(channels, dim=-1)
    masked = (channels * kept[:, None]).split(sizes, dim=1)
    scores = [_first_maximum(group).mean(dim=-1) for group in masked]
    diversity = [
        _first_maximum(group).sum(dim=-1) for group in shares.split(sizes, 1)
    ]
    return torch.stack(scores, dim=1), torch.stack(diversity, dim=1)


def _first_maximum(group: torch.Tensor) -> torch.Tensor:
    """The maximum over a group's channels; a tie's gradient goes to the first.

    So does the pooling of the published code. After a ReLU half of the entries
    are ties.
    """
    is_highest = (group == group.amax(dim=1, keepdim=True)).to(torch.int8)
    first = is_highest.argmax(dim=1, keepdim=True)
    return group.gather(1, first).squeeze(1)


def _leaf(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


METHODS = {
    "soft_triple": soft_triple,
    "center": center,
    "mc": mc,
    "mc_unequal": mc_unequal,
    "cosine": cosine,
}


def golden_inputs() -> dict[str, Case]:
    """The inputs of each case of the committed file."""
    results = {}
    with np.load(GOLDEN) as file:
        for key in file.files:
            case, _, field = key.rpartition("/")
            results.setdefault(case, {})[field] = file[key]
    return {
        case: {
            field: fields[field]
            for field in fields
            if field not in METHODS[case.split("/")[0]](fields)
        }
        for case, fields in results.items()
    }


def with_other_values(inputs: Case, generator: np.random.Generator) -> Case:
    """The same sizes and settings, with new features, centers and labels."""
    classes = next(
        len(inputs[name])
        for name in ("centers", "weights", "sizes", "masks")
        if name in inputs
    )
    changed = dict(inputs)
    for name, values in inputs.items():
        if values.ndim and values.dtype == np.float64:
            changed[name] = generator.normal(size=values.shape)
    changed["labels"] = generator.integers(classes, size=inputs["labels"].shape)
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, help="draw other inputs")
    arguments = parser.parse_args()
    file = {}
    for case, inputs in golden_inputs().items():
        if arguments.seed is not None:
            generator = np.random.default_rng(arguments.seed)
            inputs = with_other_values(inputs, generator)
        outputs = METHODS[case.split("/")[0]](inputs)
        for field, values in {**inputs, **outputs}.items():
            file[f"{case}/{field}"] = values
    np.savez_compressed(arguments.output, **file)


if __name__ == "__main__":
    main()
