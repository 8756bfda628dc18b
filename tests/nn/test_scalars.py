"""Numbers that a user's network or loss reports."""

import pytest
import torch

from dnn_reco.errors import ConfigError
from dnn_reco.nn.scalars import add_scalar, collect_scalars


def test_scalars_are_collected_where_somebody_asks() -> None:
    scalars: dict[str, float] = {}
    add_scalar("nobody/listens", 1)
    with collect_scalars(scalars):
        add_scalar("own/width", 2)
        add_scalar("own/loss", torch.tensor([3.5]))
        inner: dict[str, float] = {}
        with collect_scalars(inner):
            add_scalar("inner", 4)
        add_scalar("own/width", 5)
    add_scalar("nobody/listens", 6)
    assert scalars == {"own/width": 5.0, "own/loss": 3.5}
    assert inner == {"inner": 4.0}


@pytest.mark.parametrize("value", ["wide", None, torch.zeros(2)])
def test_anything_else_is_refused(value: object) -> None:
    with (
        collect_scalars({}),
        pytest.raises(
            ConfigError, match=r"add_scalar\('own/width', …\) takes a number or a tensor"
        ),
    ):
        add_scalar("own/width", value)  # type: ignore[arg-type]
