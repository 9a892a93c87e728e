"""Obvious versions of what landscape computes, written from the definitions: loops over everything, on the CPU.

Also what many tests share: a small network with every hazard in it, and a fingerprint of what must not change.
"""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Axis = Mapping[str, Tensor]


def averages(
    model: nn.Module,
    objective: Callable[..., Any],
    batches: Sequence[Any],
    axes: Sequence[Axis],
    point: Sequence[float],
) -> dict[str, tuple[float, float]]:
    """Mean and standard error of each term at one point: every example in a list, summed exactly."""
    module = copy.deepcopy(model).cpu().eval()
    moved = {name: t.detach() for name, t in [*module.named_parameters(), *module.named_buffers()]}
    for coordinate, axis in zip(point, axes, strict=True):
        for name, direction in axis.items():
            moved[name] = moved[name] + coordinate * direction.cpu()
    examples: dict[str, list[float]] = {}
    for batch in batches:
        for term, values in objective(lambda *args: functional_call(module, moved, args), batch).items():
            examples.setdefault(term, []).extend(values.detach().double().tolist())
    return {
        term: (math.fsum(v) / len(v), statistics.stdev(v) / math.sqrt(len(v)) if len(v) > 1 else math.nan)
        for term, v in examples.items()
    }


def brute_force(
    model: nn.Module,
    objective: Callable[..., Any],
    batches: Sequence[Any],
    axes: Sequence[Axis] = (),
    point: Sequence[float] = (),
) -> dict[str, tuple[float, float]]:
    """Mean and standard error of each term at one point, as a script would take them: moved weights in a deep copy.

    Without a direction it is the plain evaluation loop. The torch operations are fixed, for comparisons bit for bit:
    ``torch.add(w, d, alpha=x)`` for each direction in turn, in the model's dtype, and a float64 sum of every batch.
    """
    module = copy.deepcopy(model).eval()
    totals: dict[str, float] = {}
    examples: dict[str, list[float]] = {}
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            for coordinate, axis in zip(point, axes, strict=True):
                if name in axis:
                    tensor.copy_(torch.add(tensor, axis[name], alpha=coordinate))
        for batch in batches:
            for term, values in objective(module, batch).items():
                totals[term] = totals.get(term, 0.0) + values.double().sum().item()
                examples.setdefault(term, []).extend(values.double().tolist())
    return {term: (totals[term] / len(v), standard_error(v)) for term, v in examples.items()}


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent examples, ``s / sqrt(n)``, in exact sums."""
    if len(values) < 2:
        return math.nan
    if not all(map(math.isfinite, values)):
        return math.nan
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def plane(
    model: nn.Module,
    objective: Callable[..., Any],
    batches: Sequence[Any],
    axes: Sequence[Axis],
    xs: Sequence[float],
    ys: Sequence[float],
) -> dict[str, np.ndarray]:
    """``{term: [2, ny, nx]}``: means and standard errors, one cell after the other."""
    cells = [[averages(model, objective, batches, axes, (float(x), float(y))) for x in xs] for y in ys]
    terms = cells[0][0]
    return {t: np.array([[[cell[t][k] for cell in row] for row in cells] for k in (0, 1)]) for t in terms}


def filters(module: nn.Module, inputs: Tensor, channel_axis: int) -> list[Tensor]:
    """For each output unit, the mask of the weights that it depends on, found by differentiating it."""
    outputs = module(inputs)
    masks = []
    for unit in range(outputs.shape[channel_axis]):
        loss = outputs.select(channel_axis, unit).square().sum()
        (gradient,) = torch.autograd.grad(loss, module.weight, retain_graph=True)
        masks.append(gradient != 0)
    return masks


def filter_normalized(direction: Tensor, weight: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Every filter of the direction with the norm of the filter that it moves (Li et al. 2018, section 4)."""
    scaled = torch.zeros_like(direction)
    for mask in masks:
        length = math.sqrt(math.fsum(v * v for v in direction[mask].tolist()))
        wanted = math.sqrt(math.fsum(v * v for v in weight[mask].tolist()))
        scaled[mask] = direction[mask] * (wanted / length)
    return scaled


def gradients(
    model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str
) -> list[dict[str, np.ndarray]]:
    """For each batch ``{module name: flat gradient}`` of the term's mean, by an ordinary backward pass."""
    module = copy.deepcopy(model).cpu().eval()
    found = []
    for batch in batches:
        module.zero_grad(set_to_none=True)
        objective(module, batch)[term].mean().backward()
        layers: dict[str, list[np.ndarray]] = {}
        for name, p in module.named_parameters():
            if p.requires_grad:
                flat = np.zeros(p.numel()) if p.grad is None else p.grad.double().flatten().numpy().copy()
                layers.setdefault(".".join(name.split(".")[:-1]) or "(root)", []).append(flat)
        found.append({name: np.concatenate(parts) for name, parts in layers.items()})
    return found


def example_gradients(
    model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str
) -> list[list[np.ndarray]]:
    """For each batch the flat gradient of the term at each of its values, over all parameters that need one."""
    module = copy.deepcopy(model).cpu().eval()
    wanted = [p for p in module.parameters() if p.requires_grad]
    found = []
    for batch in batches:
        values = objective(module, batch)[term]
        each = values.values[values.counted] if hasattr(values, "counted") else values
        rows = []
        for value in each:
            gradients = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
            flat = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, wanted, strict=True)]
            rows.append(torch.cat([g.reshape(-1) for g in flat]).double().numpy())
        found.append(rows)
    return found


def gradient_of_mean(
    model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str, moved: np.ndarray | None = None
) -> np.ndarray:
    """Of the term's mean over all its values ``[D]``, with the weights moved by a vector: an ordinary backward pass."""
    module = copy.deepcopy(model).cpu().eval()
    wanted = [p for p in module.parameters() if p.requires_grad]
    start = 0
    for p in wanted if moved is not None else ():
        p.data += torch.as_tensor(moved[start : start + p.numel()]).reshape(p.shape).to(p)
        start += p.numel()
    total, n = sum_of(module, objective, batches, term)
    gradients = torch.autograd.grad(total / n, wanted, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, wanted, strict=True)]
    return torch.cat([g.reshape(-1) for g in flat]).double().numpy()


def sum_of(model: Any, objective: Callable[..., Any], batches: Sequence[Any], term: str) -> tuple[Tensor, int]:
    """The sum of a term's values over all batches, and how many they are."""
    found = [objective(model, batch)[term] for batch in batches]
    each = [v.values[v.counted] if hasattr(v, "counted") else v for v in found]
    return sum(v.sum() for v in each), sum(len(v) for v in each)


def hessian(
    model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str, moved: np.ndarray | None = None
) -> np.ndarray:
    """The dense Hessian ``[D, D]`` of the term's mean by the weights that need gradients: forward over reverse mode."""
    module = copy.deepcopy(model).cpu().eval()
    weights = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in weights.values()])
        state = {n: part.reshape(p.shape) for part, (n, p) in zip(parts, weights.items(), strict=True)}
        total, n = sum_of(lambda *args: functional_call(module, state, args), objective, batches, term)
        return total / n

    at = torch.cat([p.reshape(-1) for p in weights.values()])
    return torch.func.hessian(loss)(at if moved is None else at + torch.as_tensor(moved)).numpy()


def hessian_by_differences(
    model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str, vector: np.ndarray
) -> np.ndarray:
    """The Hessian's product with a vector, from gradients on both sides, in the model's own precision."""
    h = 1e-5 / np.linalg.norm(vector)
    low, high = (gradient_of_mean(model, objective, batches, term, sign * h * vector) for sign in (-1, 1))
    return (high - low) / (2 * h)


def gauss_newton(model: nn.Module, loss: Callable[..., Tensor], inputs: Tensor, targets: Sequence[Any]) -> np.ndarray:
    """The mean over examples of J^T H J: J the logits by the weights, row by row, and H the loss by the logits.

    ``loss(logits [C], target)`` is of one example.
    """
    module = copy.deepcopy(model).cpu().eval()
    wanted = [p for p in module.parameters() if p.requires_grad]
    total = 0.0
    for image, target in zip(inputs, targets, strict=True):
        logits = module(image[None]).reshape(-1)
        rows = [torch.autograd.grad(z, wanted, retain_graph=True, allow_unused=True) for z in logits]
        J = torch.stack(
            [
                torch.cat(
                    [(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(row, wanted, strict=True)]
                )
                for row in rows
            ]
        )
        H = torch.func.hessian(lambda z, target=target: loss(z, target))(logits.detach())
        total = total + J.T @ H @ J
    return (total / len(inputs)).detach().double().numpy()


def empirical_fisher(model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str) -> np.ndarray:
    """The mean of g g^T over the gradients of the term at each of its values."""
    rows = [row for batch in example_gradients(model, objective, batches, term) for row in batch]
    return sum(np.outer(g, g) for g in rows) / len(rows)


def parts(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The consistent part of two vectors and what is left of each, from the sentence that defines them."""
    if not a.any() or not b.any():
        return np.zeros_like(a), a, b
    u = a / np.linalg.norm(a) + b / np.linalg.norm(b)
    if np.linalg.norm(u) < 1e-14:
        return np.zeros_like(a), a, b
    u = u / np.linalg.norm(u)
    consistent = max(0.0, min(a @ u, b @ u)) * u
    return consistent, a - consistent, b - consistent


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors, NaN where one is zero."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) if a.any() and b.any() else math.nan


class HazardNet(nn.Module):
    """Batch norm with lived-in statistics, dropout, a tied weight, a frozen one, a raw parameter, mixed modes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.hidden = nn.Linear(4 * 4 * 4, 8)
        self.again = nn.Linear(8, 8)
        self.and_again = nn.Linear(8, 8)
        self.and_again.weight = self.again.weight
        self.mix = nn.Parameter(torch.randn(8, 3))
        for _ in range(3):
            self(torch.randn(16, 1, 6, 6) * 2 + 1)
        self.hidden.weight.requires_grad_(False)
        self.again.weight.grad = torch.randn(8, 8)
        self.train()
        self.norm.eval()

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 1, 6, 6]`` to logits ``[N, 3]``."""
        z = self.drop(F.relu(self.norm(self.conv(images)))).flatten(1)
        z = torch.tanh(self.and_again(torch.tanh(self.again(self.hidden(z)))))
        return z @ self.mix


def images(n: int = 22) -> tuple[Tensor, Tensor]:
    """Examples for `HazardNet`."""
    return torch.randn(n, 1, 6, 6), torch.randint(0, 3, (n,))


def batched(x: Tensor, y: Tensor, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Batches of ``size``, the last one as it comes."""
    return list(zip(x.split(size), y.split(size), strict=True))


def objective(model: Callable[..., Tensor], batch: Any) -> dict[str, Tensor]:
    """Cross-entropy, a distillation term against a fixed teacher, and a count."""
    inputs, labels = batch
    logits = model(inputs)
    teacher = torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype, device=logits.device).expand_as(logits)
    return {
        "ce": F.cross_entropy(logits, labels, reduction="none"),
        "kd": F.kl_div(logits.log_softmax(1), teacher.softmax(1), reduction="none").sum(1),
        "correct": logits.argmax(1) == labels,
    }


def fingerprint(model: nn.Module, *generators: torch.Generator) -> dict[str, str]:
    """What every measurement must leave as it was: tensors, gradients, modes, random states, threads."""

    def of(t: Tensor | None) -> Any:
        if t is not None and t.dtype == torch.bfloat16:  # NumPy has none
            return (id(t), t._version, t.data_ptr(), t.detach().cpu().view(torch.int16).numpy().tobytes())
        return None if t is None else (id(t), t._version, t.data_ptr(), t.detach().cpu().numpy().tobytes())

    tensors = [*model.named_parameters(), *model.named_buffers()]
    states = {
        "tensors": {name: of(t) for name, t in tensors},
        "gradients": {name: of(t.grad) for name, t in tensors},
        "requires_grad": {name: t.requires_grad for name, t in tensors},
        "modes": {name: m.training for name, m in model.named_modules()},
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state().tolist(),
        "cuda": [s.tolist() for s in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
        "generators": [g.get_state().tolist() for g in generators],
        "threads": torch.get_num_threads(),
        "grad_enabled": torch.is_grad_enabled(),
    }
    return {name: hashlib.sha256(pickle.dumps(value)).hexdigest()[:12] for name, value in states.items()}


class Quadratic(nn.Module):
    """Loss ``L + g.e + e.H e / 2`` at ``w = w0 + e``, the same for each example; float64."""

    def __init__(self, h: np.ndarray, g: np.ndarray | None = None, w: np.ndarray | None = None, loss: float = 1.0):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(np.ones(len(h)) if w is None else w, dtype=torch.float64))
        self.register_buffer("w0", self.w.detach().clone())
        self.register_buffer("h", torch.as_tensor(h, dtype=torch.float64))
        self.register_buffer("g", torch.as_tensor(np.zeros(len(h)) if g is None else g, dtype=torch.float64))
        self.loss = loss

    def forward(self, examples: Tensor) -> Tensor:
        """``[N]``."""
        e = self.w - self.w0
        return (self.loss + self.g @ e + e @ self.h @ e / 2).expand(len(examples))


def random_quadratic(d: int, seed: int, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """A random symmetric matrix with eigenvalues from ``smallest`` to 3, and a vector."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((d, d)))
    values = np.linspace(smallest, 3.0, d)
    return (basis * values) @ basis.T, rng.standard_normal(d)


def largest_in_ball(h: np.ndarray, g: np.ndarray, radius: float) -> float:
    """The maximum of ``g.e + e.H e / 2`` over ``|e| <= radius``: the trust-region problem, by its secular equation."""
    values, vectors = np.linalg.eigh(h)
    along = vectors.T @ g
    if values[-1] < 0 and np.linalg.norm(along / values) <= radius:
        e = -along / values  # the top lies inside
        return float(along @ e + values @ e**2 / 2)
    low = max(values[-1], 0.0)
    near = low + 1e-13 * max(1.0, abs(low))
    if np.linalg.norm(along / (near - values)) < radius:  # the hard case: the rest goes along the top eigenvector
        e = np.where(values < values[-1], along / np.where(values < values[-1], low - values, 1.0), 0.0)
        e[-1] = math.sqrt(radius**2 - e @ e)
    else:
        high = low + np.linalg.norm(along) / radius + 1.0
        for _ in range(200):
            middle = (near + high) / 2
            near, high = (middle, high) if np.linalg.norm(along / (middle - values)) > radius else (near, middle)
        e = along / (high - values)
    return float(along @ e + values @ e**2 / 2)


def largest_in_box(h: np.ndarray, g: np.ndarray, bounds: np.ndarray) -> float:
    """The maximum of a convex ``g.e + e.H e / 2`` over ``|e_i| <= bounds_i``: at a corner, and all are tried."""
    corners = np.array(np.meshgrid(*[(-b, b) for b in bounds])).reshape(len(bounds), -1).T
    return float(max(g @ e + e @ h @ e / 2 for e in corners))


def share_below(corners: np.ndarray, points: int = 400) -> float:
    """Which share of a unit cell ``[[a, b], [c, d]]`` is not above 0, of the mean of both cuts: by counting points."""
    t = (np.arange(points) + 0.5) / points
    x, y = np.meshgrid(t, t)
    (a, b), (c, d) = corners
    # on either side of the diagonal from b to c, then from a to d
    one = np.where(x + y < 1, a + (b - a) * x + (c - a) * y, d + (c - d) * (1 - x) + (b - d) * (1 - y))
    other = np.where(x > y, a + (b - a) * x + (d - b) * y, a + (c - a) * y + (d - c) * x)
    return float(((one <= 0).mean() + (other <= 0).mean()) / 2)


def rescaled(model: nn.Module, factors: Sequence[Tensor | float]) -> nn.Module:
    """The same function by other weights: units of a sequence of linear or convolution layers with ReLU in between.

    Args:
        model: Its layers with weights in the order in which they are passed through.
        factors: For each layer but the last a positive factor, of all its units or one for each (``[units]``): incoming
            weights and bias are multiplied by it, and the weights that go out of a unit are divided by it.
    """
    twin = copy.deepcopy(model)
    layers = [m for m in twin.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        for layer, after, factor in zip(layers[:-1], layers[1:], factors, strict=True):
            of_unit = torch.as_tensor(factor, dtype=layer.weight.dtype).expand(len(layer.weight))
            layer.weight *= of_unit.reshape(-1, *[1] * (layer.weight.ndim - 1))
            layer.bias *= of_unit
            inputs = after.weight.shape[1]
            assert inputs % len(of_unit) == 0
            repeated = of_unit.repeat_interleave(inputs // len(of_unit))  # a channel is several inputs once flattened
            after.weight /= repeated.reshape(1, -1, *[1] * (after.weight.ndim - 2))
    return twin


def dense_curvature(model: nn.Module, objective: Callable[..., Any], batches: Sequence[Any], term: str) -> np.ndarray:
    """Hessian ``[D, D]`` of a term's mean over all examples, in float64: the gradient's, one entry after the other."""
    module = copy.deepcopy(model).cpu().double().eval()
    wanted = [p for p in module.parameters() if p.requires_grad]
    values = torch.cat([objective(module, (x.cpu().double(), y.cpu()))[term] for x, y in batches])
    gradients = torch.autograd.grad(values.sum() / len(values), wanted, create_graph=True)
    rows = []
    for entry in torch.cat([g.reshape(-1) for g in gradients]):
        second = torch.autograd.grad(entry, wanted, retain_graph=True, allow_unused=True)
        pairs = zip(second, wanted, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if s is None else s).reshape(-1) for s, p in pairs]))
    return torch.stack(rows).numpy()
