"""Learning-rate schedules: the formulas of Keras, worked out by hand, and their settings."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.config import ScheduleSettings, load_config
from dnn_reco.errors import ConfigError, DataError, DnnRecoError
from dnn_reco.training.optimizers import learning_rate_schedule
from dnn_reco.utils.learning_rate import (
    Cosine,
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    MultiLearningRateScheduler,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
    WarmUp,
    make_schedule,
    rate_at,
)

KERAS = "tensorflow.keras.optimizers.schedules"
PRODUCTION_STYLE = Path(__file__).parents[1] / "config" / "production_style.yaml"


OURS = "dnn_reco.utils.learning_rate"
LINEAR = {"initial_learning_rate": 1.0, "decay_steps": 10, "end_learning_rate": 0.0}


def schedule(name: str, prefix: str = KERAS, /, **settings: Any) -> dict[str, Any]:
    return {"full_class_string": f"{prefix}.{name}", "settings": settings}


# --------------------------------------------------------------------------------------------------
# Formulas
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.01), (5, 0.0055), (9, 0.0019), (10, 0.001), (11, 0.001), (10**9, 0.001)],
)
def test_polynomial_decay_is_linear_then_constant(step: int, rate: float) -> None:
    assert PolynomialDecay(0.01, 10, 0.001)(step) == pytest.approx(rate, rel=1e-12)


def test_polynomial_decay_with_power() -> None:
    root = PolynomialDecay(0.1, 10000, 0.01, power=0.5)
    assert root(7500) == pytest.approx(0.01 + 0.09 * 0.5)
    square = PolynomialDecay(0.1, 100, power=2)  # ends at 0.0001 by default
    assert square(90) == pytest.approx(0.0999 * 0.01 + 0.0001)
    assert PolynomialDecay(0.1, 4, 0.3)(3) == pytest.approx(0.25)  # upwards


@pytest.mark.parametrize(
    ("step", "rate"),
    # decay_steps 10, 10, 10, 20, 20, 30: the first multiple of 10 that is not below the step
    [(0, 1.0), (4, 0.6), (10, 0.0), (11, 0.45), (20, 0.0), (21, 0.3)],
)
def test_polynomial_decay_in_cycles(step: int, rate: float) -> None:
    cyclic = PolynomialDecay(1.0, 10, 0.0, cycle=True)
    assert cyclic(step) == pytest.approx(rate, abs=1e-12)


def test_exponential_decay() -> None:
    smooth = ExponentialDecay(0.1, 1000, 0.96)
    assert smooth(0) == 0.1
    assert smooth(500) == pytest.approx(0.1 * math.sqrt(0.96))
    assert smooth(2000) == pytest.approx(0.1 * 0.96 * 0.96)
    stairs = ExponentialDecay(0.1, 1000, 0.96, staircase=True)
    assert [stairs(step) for step in (0, 999)] == [0.1, 0.1]
    assert [stairs(step) for step in (1000, 1999)] == pytest.approx([0.096, 0.096])
    assert stairs(2000) == pytest.approx(0.1 * 0.96 * 0.96)


def test_inverse_time_decay() -> None:
    smooth = InverseTimeDecay(0.1, 10, 0.5)
    assert [smooth(step) for step in (0, 5, 20)] == pytest.approx([0.1, 0.1 / 1.25, 0.05])
    stairs = InverseTimeDecay(0.1, 10, 0.5, staircase=True)
    assert [stairs(s) for s in (9, 10, 29, 30)] == pytest.approx([0.1, 0.1 / 1.5, 0.05, 0.04])


def test_cosine_decay() -> None:
    plain = CosineDecay(0.1, 1000)
    rates = [plain(step) for step in (0, 250, 500, 1000, 5000)]
    expected = [0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.0, 0.0]
    assert rates == pytest.approx(expected, abs=1e-15)
    floor = CosineDecay(0.1, 1000, alpha=0.2)
    assert [floor(step) for step in (0, 500, 1000)] == pytest.approx([0.1, 0.06, 0.02])


def test_cosine_decay_with_warm_up() -> None:
    """Linear from 0.01 to 0.1 in 10 steps, then down to a tenth of it in 1000."""
    warm = CosineDecay(0.01, 1000, alpha=0.1, warmup_target=0.1, warmup_steps=10)
    rates = [warm(step) for step in (0, 5, 9, 10, 510, 1010, 9999)]
    assert rates == pytest.approx([0.01, 0.055, 0.091, 0.1, 0.055, 0.01, 0.01])


def test_cosine_decay_restarts() -> None:
    """Periods of 10, 20, 40 … steps, each half as high as the one before."""
    restarts = CosineDecayRestarts(1.0, 10, t_mul=2.0, m_mul=0.5, alpha=0.2)
    rates = [restarts(step) for step in (0, 5, 10, 20, 30, 50, 70)]
    heights = [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert rates == pytest.approx([0.8 * height + 0.2 for height in heights])
    even = CosineDecayRestarts(1.0, 10, t_mul=1.0)
    assert [even(step) for step in (0, 5, 10, 15, 1005)] == pytest.approx([1, 0.5, 1, 0.5, 0.5])
    fading = CosineDecayRestarts(1.0, 10, t_mul=1.0, m_mul=0.5)
    assert [fading(step) for step in (0, 10, 20, 35)] == pytest.approx([1, 0.5, 0.25, 0.0625])
    assert CosineDecayRestarts(1.0, 3, t_mul=3.0)(3 * (1 + 3 + 9)) == 1.0  # exactly at a restart


@given(
    step=st.integers(0, 10**6),
    first=st.integers(1, 1000),
    t_mul=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
)
def test_restarts_equal_the_closed_form(step: int, first: int, t_mul: float) -> None:
    """Keras computes the period by a logarithm, which may err by one close to a restart only."""
    done = step / first
    if t_mul == 1:
        fraction = done - math.floor(done)
    else:
        period = math.floor(math.log(1 - done * (1 - t_mul)) / math.log(t_mul))
        fraction = (done - (1 - t_mul**period) / (1 - t_mul)) / t_mul**period
    if 1e-6 < fraction < 1 - 1e-6:
        expected = 0.5 * (1 + math.cos(math.pi * fraction))
        assert CosineDecayRestarts(1.0, first, t_mul)(step) == pytest.approx(expected, abs=1e-6)


def test_piecewise_constant_decay() -> None:
    steps = PiecewiseConstantDecay([100000, 110000], [1.0, 0.5, 0.1])
    rates = [steps(step) for step in (0, 100000, 100001, 110000, 110001)]
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.1]
    assert PiecewiseConstantDecay([], [0.3])(7) == 0.3


def test_cosine() -> None:
    down = Cosine(0.1, 1000, final_rate=0.02)
    assert [down(step) for step in (0, 500, 1000, 9999)] == pytest.approx([0.1, 0.06, 0.02, 0.02])
    assert [Cosine(0.0, 2, 0.4)(step) for step in (0, 1, 2)] == pytest.approx([0.0, 0.2, 0.4])


@given(steps=st.integers(4, 500), share=st.floats(0.1, 0.9), step=st.integers(0, 600))
def test_one_cycle_is_that_of_pytorch(steps: int, share: float, step: int) -> None:
    """There the last step is number total_steps - 1, and the highest rate in pct_start of them."""
    total = steps + 1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.3, total_steps=total, pct_start=(share * steps + 1) / total
    )
    for _ in range(min(step, steps)):
        optimizer.step()
        theirs.step()
    ours = OneCycle(0.3, steps, rise=share)
    assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)


def test_what_is_not_given_is_as_in_keras_and_pytorch() -> None:
    """Restarts double the period, nothing is faded, nothing is left at the end."""
    restarts = CosineDecayRestarts(1.0, 10)
    assert [restarts(step) for step in (0, 5, 10, 20, 30, 50)] == pytest.approx(
        [1.0, 0.5, 1.0, 0.5, 1.0, 0.5]
    )
    assert CosineDecay(0.01, 100, warmup_target=0.1)(0) == 0.1
    assert Cosine(0.1, 10)(10) == 0
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=100_001)
    assert OneCycle(0.3, 100_000)(0) == pytest.approx(theirs.get_last_lr()[0])
    assert OneCycle(0.3, 100_000)(30_000) == pytest.approx(0.3)
    assert OneCycle(0.3, 100_000)(29_000) < OneCycle(0.3, 100_000)(31_000) < 0.3


def test_warm_up() -> None:
    flat = WarmUp(0.4, 4)
    assert [flat(step) for step in (0, 1, 3, 4, 99)] == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4])
    falling = WarmUp(schedule("PolynomialDecay", **LINEAR), 5)
    assert [falling(step) for step in (0, 4, 5)] == pytest.approx([0.2, 0.6, 0.5])


def test_a_boundary_belongs_to_the_earlier_schedule_and_later_ones_count_from_it() -> None:
    def counting(step: int) -> float:
        return step / 1000

    several = MultiLearningRateScheduler(
        [10, 20, 100],
        [counting, lambda step: 1 + counting(step), lambda step: 2 + counting(step), counting],
    )
    rates = [several(step) for step in (0, 10, 11, 20, 21, 100, 101, 350)]
    assert rates == pytest.approx([0, 0.01, 1.001, 1.01, 2.001, 2.08, 0.001, 0.25])


# --------------------------------------------------------------------------------------------------
# In a config
# --------------------------------------------------------------------------------------------------
# Warming up, a plateau, decay: as in configs of production.
STAGES = {
    "full_class_string": "dnn_reco.utils.learning_rate.MultiLearningRateScheduler",
    "settings": {
        "boundaries": [10, 10000, 1000000],
        "scheduler_settings": [
            schedule(
                "PolynomialDecay",
                initial_learning_rate=0.01,
                decay_steps=10,
                end_learning_rate=0.001,
            ),
            schedule(
                "PolynomialDecay",
                initial_learning_rate=0.001,
                decay_steps=10,
                end_learning_rate=0.001,
            ),
            schedule(
                "PolynomialDecay",
                initial_learning_rate=0.001,
                decay_steps=500000,
                end_learning_rate=1e-6,
                power=2,
            ),
            schedule(
                "ExponentialDecay", initial_learning_rate=1e-6, decay_steps=10, decay_rate=0.5
            ),
        ],
    },
}


def test_stages_of_a_config() -> None:
    rates = make_schedule("key", STAGES)
    for step, rate in [
        (0, 0.01),
        (4, 0.0064),
        (10, 0.001),
        (11, 0.001),
        (10000, 0.001),
        (10000 + 250000, (0.001 - 1e-6) / 4 + 1e-6),
        (600000, 1e-6),
        (1000000, 1e-6),
        (1000010, 5e-7),
    ]:
        assert rates(step) == pytest.approx(rate, rel=1e-12), step


@pytest.mark.parametrize(
    "prefix",
    [
        KERAS,
        "tf.keras.optimizers.schedules",
        "keras.optimizers.schedules",
        "tf.optimizers.schedules",
        "tensorflow.optimizers.schedules",
        "dnn_reco.utils.learning_rate",
    ],
)
def test_names_of_keras_without_tensorflow(prefix: str) -> None:
    arguments = {"initial_learning_rate": 0.4, "decay_steps": 2, "decay_rate": 1.0, "name": "mine"}
    rates = make_schedule("key", schedule("InverseTimeDecay", prefix, **arguments))
    assert rates(2) == pytest.approx(0.2)


def test_a_schedule_of_the_older_generation() -> None:
    """Rates of `model_optimizer_dict.Warm` of a config in the style of production."""
    config = load_config([PRODUCTION_STYLE])
    (optimizer,) = config.optimizers.values()
    assert isinstance(optimizer.optimizer_settings["learning_rate"], ScheduleSettings)
    rates = learning_rate_schedule("key", optimizer.optimizer_settings)
    # 1e-5 to 1e-4 within 1000 steps, then 1e-3 to 1e-4 within 100
    for step, rate in [(0, 1e-5), (500, 5.5e-5), (1000, 1e-4), (1001, 9.91e-4), (1050, 5.5e-4)]:
        assert rates(step) == pytest.approx(rate, rel=1e-9), step
    assert rates(2000) == pytest.approx(1e-4)


def test_a_schedule_of_the_newer_generation(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"""
model_optimizer_dict:
  main:
    optimizer: Adam
    loss_class: dnn_reco.modules.loss.default_loss.mse
    optimizer_settings:
      learning_rate:
        full_class_string: {KERAS}.CosineDecay
        settings: {{initial_learning_rate: 0, decay_steps: 8, warmup_target: 1e-2, warmup_steps: 4}}
""")
    settings = load_config([path]).optimizers["main"].optimizer_settings
    rates = learning_rate_schedule("key", settings)
    assert [rates(step) for step in (0, 1, 4, 8)] == pytest.approx([0, 0.0025, 0.01, 0.005])


@pytest.mark.parametrize("settings", [{"learning_rate": 0.02}, {"lr": 0.02}])
def test_a_number_is_the_rate_of_every_step(settings: dict[str, float]) -> None:
    rates = learning_rate_schedule("key", settings)
    assert rates(0) == rates(10**6) == 0.02
    assert learning_rate_schedule("key", {})(5) == 0.001


def test_schedules_of_users() -> None:
    halving = schedule("Halving", "schedules_of_a_user", start=0.8, every=10)
    rates = make_schedule("key", halving)
    assert [rates(step) for step in (9, 10, 25)] == [0.8, 0.4, 0.2]
    both = {
        "full_class_string": "dnn_reco.utils.learning_rate.MultiLearningRateScheduler",
        "settings": {"boundaries": [100], "scheduler_settings": [halving, halving]},
    }
    assert make_schedule("key", both)(110) == 0.4


SCHEDULES = "CosineDecay, CosineDecayRestarts, ExponentialDecay, InverseTimeDecay, Piecewise"
GOOD = {"initial_learning_rate": 0.1, "decay_steps": 10}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (schedule("Polynomial", **GOOD), rf"^key.full_class_string .*'Polynomial'.*{SCHEDULES}"),
        (schedule("Decay", "nowhere"), "'key.full_class_string' is 'nowhere.Decay'.*no module"),
        (schedule("PolynomialDecay", **GOOD, end=1), r"^key.settings: .*'end'\. Known: initial_le"),
        (schedule("PolynomialDecay", decay_steps=10), "^key.settings: 'initial_learning_rate' is"),
        (schedule("PolynomialDecay", **GOOD | {"decay_steps": 0}), "settings: 'decay_steps' is 0"),
        (schedule("PolynomialDecay", **GOOD | {"decay_steps": "ten"}), "'decay_steps' is 'ten'"),
        (schedule("PolynomialDecay", **GOOD, cycle=1), "'cycle' is 1 .*allowed: true or false"),
        (schedule("ExponentialDecay", **GOOD, decay_rate=-1), "'decay_rate' is -1"),
        (schedule("CosineDecay", **GOOD, warmup_target="a"), "'warmup_target' is 'a'"),
        (schedule("CosineDecayRestarts", initial_learning_rate=1, first_decay_steps=9, t_mul=0.5),
         "'t_mul' is 0.5 .*allowed: a number >= 1"),
        (schedule("PiecewiseConstantDecay", boundaries=[1, 2], values=[1, 2]), "2 'boundaries'"),
        (schedule("PiecewiseConstantDecay", boundaries=[2, 1], values=[1, 2, 3]), "increasing"),
        (schedule("PiecewiseConstantDecay", boundaries=5, values=[1]), "'boundaries' is 5.*a list"),
        (schedule("Cosine", OURS, rate=-1, steps=4), "settings: 'rate' is -1 .*allowed"),
        (schedule("OneCycle", OURS, rate=1, steps=4, rise=1), "'rise' is 1 .*allowed"),
        (schedule("WarmUp", OURS, schedule=1, steps=0), "settings: 'steps' is 0 .*allowed"),
        (schedule("WarmUp", OURS, schedule="fast", steps=4), "'schedule' is 'fast'.*allowed"),
        (schedule("WarmUp", OURS, schedule=schedule("Cosine"), steps=4),
         r"key\.settings\.schedule\.full_class_string is .*'Cosine'"),
        (schedule("number", "schedules_of_a_user", rate=1.0), "cannot be called with a step"),
        ({"full_class_string": f"{KERAS}.CosineDecay", "settings": [1]}, "key: 'settings' is"),
        ({"full_class_string": f"{KERAS}.CosineDecay", **GOOD},
         "unknown setting 'initial_learning_rate'. Known: full_class_string, settings"),
        ({"settings": GOOD}, "'full_class_string' is missing"),
        ("fast", "'full_class_string', 'settings'"),
    ],
)  # fmt: skip
def test_errors_name_the_key(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_schedule("key", settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boundaries": [10, 20]}, r"^key.settings: there are 2 'boundaries' and 4 'scheduler_"),
        ({"boundaries": [10, 30, 20]}, r"^key.settings: 'boundaries' .*increasing"),
        ({"scheduler_settings": 5}, r"^key.settings: 'scheduler_settings' is 5 .*allowed: a list"),
        ({"limits": [1]}, r"^key.settings: .*limits.*Known: boundaries, scheduler_settings"),
    ],
)
def test_wrong_stages(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_schedule("key", {**STAGES, "settings": {**STAGES["settings"], **change}})


def test_errors_inside_a_stage_name_the_whole_key_path() -> None:
    wrong = {"boundaries": [5], "scheduler_settings": [STAGES, schedule("Cosine", **GOOD)]}
    settings = {**STAGES, "settings": wrong}
    path = r"^key\.settings\.scheduler_settings\[1\]\.full_class_string is .*'Cosine'"
    with pytest.raises(ConfigError, match=path):
        make_schedule("key", settings)


def test_errors_in_schedules_of_users() -> None:
    key = "model_optimizer_dict.main.optimizer_settings.learning_rate"
    sinking = make_schedule(key, schedule("sinking", "schedules_of_a_user", start=0.1))
    assert rate_at(key, sinking, 2) == 0
    for step, message in ((3, "learning rate of step 3 is -1.0; it must be"), ("x", "TypeError")):
        with pytest.raises(DnnRecoError, match=message) as error:
            rate_at(key, sinking, step)  # type: ignore[arg-type]
        assert key in str(error.value)
    with pytest.raises(ConfigError, match=r"Halving' rejects .*'every'.*: start, every$"):
        make_schedule(key, schedule("Halving", "schedules_of_a_user", start=0.1))
    deaf = make_schedule(key, schedule("Deaf", "schedules_of_a_user"))
    with pytest.raises(ConfigError, match="step 0 is nan"):
        rate_at(key, deaf, 0)
    with pytest.raises(DataError, match=r"schedules_of_a_user.broken .*out of order.*line \d+ of"):
        make_schedule(key, schedule("broken", "schedules_of_a_user", rate=1.0))
