"""Every Python block of the README and of docs/ runs, on networks that the package has never seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import landscape as ls

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks() -> list[pytest.param]:
    return [
        pytest.param(code, id=f"{page.name}-{i}")
        for page in PAGES
        for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M))
    ]


class UsersNetwork(nn.Module):
    """Grouped, transposed and depthwise convolutions, group norm, dropout, and a tuple for an output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.GELU(), nn.Dropout(0.5))
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.up(self.down(self.stem(x))).mean((2, 3))
        return self.head(features), features


def hugging_face_network() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4,
        num_labels=5,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def images(n: int = 10) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches = torch.utils.data.TensorDataset(torch.randn(n, 3, 8, 8), torch.randint(0, 5, (n,)))
    return list(torch.utils.data.DataLoader(batches, batch_size=4))


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("code", blocks())
def test_blocks_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(code, {"net": plain(), "student": plain(), "teacher": plain(), "loader": images()})


@pytest.mark.parametrize("network", [UsersNetwork, hugging_face_network])
def test_the_readme_measures_networks_it_has_never_seen(
    network: type[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net, loader = network(), images()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert first is not None
    names: dict[str, object] = {"net": net, "loader": loader}
    exec(first.group(1), names)

    net.eval()
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for inputs, labels in loader:
            output = net(inputs)
            logits = output[0] if isinstance(output, tuple) else output.logits
            total += nn.functional.cross_entropy(logits, labels, reduction="none").double().sum()
    surface = ls.load("surface.h5")
    assert isinstance(surface, ls.Surface)
    assert surface.values("ce")[5, 5] == pytest.approx(float(total) / 10, rel=1e-6)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert (tmp_path / "contour.pdf").stat().st_size > 5_000
    assert (tmp_path / "surface.html").stat().st_size > 100_000


def test_the_readme_shows_the_numbers_of_the_study() -> None:
    shown = re.search(r"<!-- table: (\S+) -->\n(.*?)<!-- end of table -->", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None
    kept = (ROOT / shown.group(1)).read_text().splitlines()
    assert [line.strip() for line in shown.group(2).strip().splitlines() if line.strip()] == [s.strip() for s in kept]
