"""Several optimizers on one loss: which trains what, and that they step as PyTorch's do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import make_small_run
from torch import Tensor, nn

from dnn_reco.config import load_config
from dnn_reco.errors import ConfigError
from dnn_reco.training.objectives import Objective
from dnn_reco.training.objectives_from_config import make_objectives

RATE = {
    "full_class_string": "dnn_reco.utils.learning_rate.PiecewiseConstantDecay",
    "settings": {"boundaries": [3], "values": [0.02, 0.01]},
}
OF_MUON = {"weight_decay": 0.3, "momentum": 0.8, "adjust_lr_fn": "match_rms_adamw"}
MUON = {
    "vars": "layers.*",
    "matrices_only": True,
    "optimizer": "Muon",
    "optimizer_settings": {"learning_rate": RATE, **OF_MUON},
}
ENTRY: dict[str, Any] = {
    "optimizer": "AdamW",
    "optimizer_settings": {"learning_rate": 0.01, "weight_decay": 0.1},
    "other_optimizers": {"muon": MUON},
    "loss_class": "dnn_reco.modules.loss.default_loss.mse",
    "clip_gradients_value": 1.0,
    "accumulate_steps": 2,
}


class Layers(nn.Module):
    """A convolution, then two dense layers with a norm between, and heads of two groups."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.convolution = nn.Conv1d(2, 3, 2)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 6))
        self.head, self.width = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layers(self.convolution(inputs).sum(dim=2)).tanh()
        result: Tensor = self.head(hidden) + self.width(hidden).exp()
        return result

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        unc = list(self.width.parameters())
        return {"pred": [p for p in self.parameters() if all(p is not q for q in unc)], "unc": unc}


ALL = {name for name, _ in Layers().named_parameters()}
MATRICES = {"layers.0.weight", "layers.2.weight"}


def objective_of(folder: Path, network: nn.Module, entry: dict[str, Any]) -> Objective:
    run = make_small_run(folder, 10)
    config = load_config([run.config_file], {"model_optimizer_dict": {"only": entry}})
    (objective,) = make_objectives(config, network)  # type: ignore[arg-type]
    return objective


def trained_by(folder: Path, **changes: Any) -> dict[str, set[str]]:
    """Names of the parameters of each optimizer."""
    objective = objective_of(folder, Layers(), {**ENTRY, **changes})
    return {each.name: set(each.parameters) for each in objective.optimizers}


def batches() -> list[Tensor]:
    random = torch.Generator().manual_seed(5)
    return [torch.randn(7, 2, 5, generator=random) for _ in range(8)]


def test_the_same_steps_as_those_of_a_loop_by_hand(tmp_path: Path) -> None:
    """Optimizers of PyTorch on the clipped mean gradient of two batches."""
    network, loop = Layers(), Layers()
    factors = {"layers.2.*": 0.5}
    objective = objective_of(tmp_path, network, {**ENTRY, "learning_rate_factors": factors})
    for iteration, inputs in enumerate(batches()):
        objective.set_learning_rate(iteration)
        gradient = objective.gradient(network(inputs).square().mean(), keep_graph=False)
        objective.step(gradient)

    weights = dict(loop.named_parameters())
    muon = {n: torch.optim.Muon([weights[n]], **OF_MUON) for n in MATRICES}  # type: ignore[arg-type]
    adamw = {
        n: torch.optim.AdamW([weights[n]], lr=0.01, eps=1e-7, weight_decay=0.1)
        for n in weights
        if n not in MATRICES
    }
    adamw["layers.2.bias"].param_groups[0]["lr"] = 0.005
    for iteration, inputs in enumerate(batches()):
        (loop(inputs).square().mean() / 2).backward()
        if iteration % 2 == 1:
            torch.nn.utils.clip_grad_norm_(loop.parameters(), 1.0)
            rate = 0.02 if iteration <= 3 else 0.01
            muon["layers.0.weight"].param_groups[0]["lr"] = rate
            muon["layers.2.weight"].param_groups[0]["lr"] = rate / 2
            for optimizer in (*muon.values(), *adamw.values()):
                optimizer.step()
            loop.zero_grad()

    start = dict(Layers().named_parameters())
    for name, weight in network.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-6)
        assert (weight - start[name]).abs().max() > 1e-3, name


def test_one_gradient_for_all_of_them(tmp_path: Path) -> None:
    """One entry is one loss, with its gradient by all parameters together."""
    objective = objective_of(tmp_path, Layers(), {**ENTRY, "accumulate_steps": 1})
    assert [each.name for each in objective.optimizers] == ["only", "only/muon"]
    parts = [torch.full_like(p, 3.0) for p in objective.parameters.values()]
    norm = objective.step(parts)
    assert norm.item() == pytest.approx(3.0 * sum(p.numel() for p in parts) ** 0.5)


def test_who_trains_what(tmp_path: Path) -> None:
    assert trained_by(tmp_path) == {"only": ALL - MATRICES, "only/muon": MATRICES}
    unc = {"width.weight", "width.bias"}
    other = {"vars": ["unc", "head.bias"], "optimizer": "SGD"}
    assert trained_by(tmp_path, other_optimizers={"muon": MUON, "sgd": other}) == {
        "only": ALL - MATRICES - unc - {"head.bias"},
        "only/muon": MATRICES,
        "only/sgd": unc | {"head.bias"},
    }
    everything = {**MUON, "vars": "*"}
    assert trained_by(tmp_path, other_optimizers={"muon": everything})["only/muon"] == {
        *MATRICES,
        "head.weight",
        "width.weight",
    }
    of_pred = {**MUON, "vars": "*"}
    assert trained_by(tmp_path, vars="pred", other_optimizers={"muon": of_pred}) == {
        "only": ALL - MATRICES - unc - {"head.weight"},
        "only/muon": MATRICES | {"head.weight"},
    }
    frozen = {"layers.0.*": 0.0}
    assert trained_by(tmp_path, learning_rate_factors=frozen) == {
        "only": {name for name in ALL - MATRICES if not name.startswith("layers.0.")},
        "only/muon": {"layers.2.weight"},
    }


def test_vars_of_an_entry_may_be_patterns(tmp_path: Path) -> None:
    found = trained_by(tmp_path, vars=["*.bias", "unc"], other_optimizers={})
    biases = {name for name in ALL if name.endswith(".bias")}
    assert found == {"only": biases | {"width.weight"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"other_optimizers": {"a": MUON, "b": {"vars": ["head.*", "layers.2.*"]}}},
            r"only\.other_optimizers: 'a' and 'b' would both train layers\.2\.weight: name these",
        ),
        ({"other_optimizers": {"a": {"vars": "*"}}}, "leave none to .* 'AdamW': write the set"),
        (
            {"other_optimizers": {"a": {**MUON, "vars": ["pred", "trunk.*"]}}},
            r"only\.other_optimizers\.a\.vars names 'trunk\.\*', .*groups pred, unc, .*layers\.0",
        ),
        (
            {"vars": "unc", "other_optimizers": {"a": MUON}},
            r"a\.vars names 'layers\.\*', which contains none .* such as width\.weight",
        ),
        (
            {"other_optimizers": {"a": {**MUON, "vars": "*.bias"}}},
            r"a\.vars contain no matrices, only convolution\.bias.*or leave out matrices_only",
        ),
        (
            {"other_optimizers": {"a": {**MUON, "matrices_only": False}}},
            r"a: Muon trains matrices only, but layers\.0\.bias, .* none: .*matrices_only: True",
        ),
        ({"optimizer": "Muon", "other_optimizers": {}}, "only: Muon .*convolution.weight.* beside"),
        (
            {"learning_rate_factors": {"layers.*.weight": 0.0}},
            r"factors freezes all .*_optimizers\.muon: layers\.0\.weight, layers\.2\.weight\.",
        ),
        (
            {"vars": ["pred", "trunk.*"]},
            r"only\.vars names \['trunk.*has the groups \['pred', 'unc",
        ),
        (
            {"other_optimizers": {"a": {**MUON, "optimizer_settings": {"adjust_lr_fn": "none"}}}},
            r"other_optimizers\.a: Muon rejects .*none is not supported",
        ),
        (
            {"other_optimizers": {"a": {**MUON, "optimizer_settings": {"clipnorm": 1.0}}}},
            r"other_optimizers\.a\.optimizer_settings.*it has clipnorm; .*settings of the entry",
        ),
        ({"other_optimizers": {"a": {"optimizer": "Muon"}}}, r"lacks the key 'vars'"),
        (
            {"other_optimizers": {"a": {"vars": "*", "matrices_ony": True}}},
            "did you mean 'matrices_only'",
        ),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trained_by(tmp_path, **changes)


def test_a_pytorch_without_muon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    message = r"only\.other_optimizers\.muon: there is no optimizer 'Muon'; there are ASGD"
    with pytest.raises(ConfigError, match=message):
        trained_by(tmp_path)
