"""What measuring gradient conflict costs, beside a plain loop with one forward and one backward pass a term.

    python scripts/bench_conflict.py -o figures/performance/bench-conflict-cpu.json
    python scripts/bench_conflict.py --device cuda -o figures/performance/bench-conflict-gpu.json

The plain loop takes the gradient of each term's mean on each batch by torch.autograd.grad, and drops it. `measure` is
called as a user calls it: with its private copy, its digest of the weights, the inner products, the halves and all that
is said of them. Both alternate in rounds in one process, and the medians of the ratios of each round are printed; on
the CPU those of processor time too, which other programs disturb less. What a call costs once (the copy, the digest,
the sums' memory) is spread over --batches. Then what recording adds to a training with its default of one record in so
many steps, what is recorded once an epoch of 50,000 images included: records and plain steps alternate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from bench_networks import resnet20
from bench_recording import recording
from stamped import stamped
from torch import nn

import landscape as ls
from landscape.problem import PerToken

GOAL = 1.1
"""Of the ratio of `measure` to the plain loop."""


def classes(model: nn.Module, batch: Any) -> dict[str, Any]:
    """Cross-entropy and distillation from fixed logits."""
    images, labels, taught = batch
    logits = model(images)
    kd = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(taught / 4, 1), reduction="none").sum(1)
    return {"ce": F.cross_entropy(logits, labels, reduction="none"), "kd": 16 * kd}


def tokens(model: nn.Module, batch: Any) -> dict[str, Any]:
    """The next token and distillation from fixed logits, for each token."""
    ids, taught = batch
    logits = model(input_ids=ids).logits[:, :-1]
    counted = torch.ones_like(ids[:, 1:], dtype=torch.bool)
    kd = F.kl_div(F.log_softmax(logits, 2), F.softmax(taught, 2), reduction="none").sum(2)
    ce = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return {"ce": PerToken(ce, counted), "kd": PerToken(kd, counted)}


def pictures(device: torch.device, batches: int) -> ls.Problem:
    """ResNet-20 on random images of 32 x 32, batches of 64."""
    data = [(torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,)), torch.randn(64, 10)) for _ in range(batches)]
    return ls.Problem(resnet20().to(device), classes, [tuple(t.to(device) for t in batch) for batch in data])


def language(device: torch.device, batches: int) -> ls.Problem:
    """GPT-2's architecture with 4 layers of width 256 and 1000 tokens, batches of 8 sequences of 128."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=1000, n_positions=128, n_embd=256, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0)
    )
    data = [(torch.randint(0, 1000, (8, 128)), torch.randn(8, 127, 1000)) for _ in range(batches)]
    return ls.Problem(model.to(device), tokens, [tuple(t.to(device) for t in batch) for batch in data])


CASES: dict[str, Callable[[torch.device, int], ls.Problem]] = {
    "ResNet-20, 2 terms, batches of 64": pictures,
    "GPT-2-like, 2 terms, batches of 8 x 128 tokens": language,
}


def plain(problem: ls.Problem) -> None:
    """What nobody can do without."""
    model = problem.model.eval()
    parameters = list(model.parameters())
    for batch in problem.batches:  # type: ignore[union-attr]
        losses = list(problem.objective(model, batch).values())
        for i, loss in enumerate(losses):
            torch.autograd.grad(loss.mean(), parameters, retain_graph=i + 1 < len(losses))


class Took(NamedTuple):
    """Seconds on the wall's clock, and of the processor."""

    wall: float
    processor: float


def seconds(work: Callable[[], object], device: torch.device) -> Took:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Took(time.perf_counter() - wall, time.process_time() - processor)


def measuring(device: torch.device, use: argparse.Namespace) -> dict[str, Any]:
    """For each case the seconds of a batch, of both ways, and the median of their ratios."""
    results: dict[str, Any] = {}
    batches = use.batches
    for name, make in CASES.items():
        if use.case not in name:
            continue
        torch.manual_seed(0)
        problem = make(device, batches)
        ways = {"plain": lambda p=problem: plain(p), "measure": lambda p=problem: ls.conflict.measure(p)}
        times: dict[str, list[Took]] = {way: [] for way in ways}
        for number in range(use.rounds + 1):
            for way, work in ways.items():
                took = seconds(work, device)
                if number:  # the first round warms up
                    times[way].append(took)
        pairs = list(zip(times["measure"], times["plain"], strict=True))
        ratios = [mine.wall / theirs.wall for mine, theirs in pairs]
        processor = [mine.processor / theirs.processor for mine, theirs in pairs]
        results[name] = {
            "parameters": sum(p.numel() for p in problem.model.parameters()),
            "seconds_of_a_batch": {
                way: statistics.median(took.wall for took in found) / batches for way, found in times.items()
            },
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            **({"ratio_of_processor_time": statistics.median(processor)} if device.type == "cpu" else {}),
            "goal": GOAL,
        }
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--case", help="only those whose name has this in it", default="")
    parser.add_argument("-o", "--output", type=Path)
    use = parser.parse_args()
    device = torch.device(use.device)
    results = {"measure": measuring(device, use), "recording": recording(device, use.rounds, use.case)}
    for name, found in results["measure"].items():
        on_cpu = f" ({found['ratio_of_processor_time']:.3f} of processor time)" if device.type == "cpu" else ""
        each = ", ".join(f"{way} {1e3 * took:.1f} ms" for way, took in found["seconds_of_a_batch"].items())
        print(f"{name}: {each} a batch; ratio {found['ratio']:.3f}{on_cpu}, goal {GOAL}", file=sys.stderr)
    for name, found in results["recording"].items():
        for method in ("kd-sgd", "kd-dot"):
            share, record, step = (found[method][key] for key in ("share", "record", "step"))
            print(
                f"recording while training, {name}, {method}: {1e3 * record:.1f} ms a record, {1e3 * step:.1f} ms a "
                f"step; {100 * share:.1f} % of the time, goal {100 * found['goal']:.0f} %",
                file=sys.stderr,
            )
    text = json.dumps(stamped(device, {"results": results}), indent=2)
    if use.output is not None:
        use.output.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
