"""Run options survive the way over a command line, as of the processes of one training."""

from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.cli.options import split_run_options
from dnn_reco.cli.train import train_command
from dnn_reco.run_options import RunOptions

options_of_train = st.builds(
    RunOptions,
    iterations=st.none() | st.integers(1, 10**9),
    device=st.sampled_from(["auto", "cpu", "cuda:1"]),
    deterministic=st.booleans(),
    checkpoint_exit_code=st.none() | st.integers(0, 255),
    cache_dir=st.none() | st.sampled_from(["store", "/a folder/with spaces"]),
    num_threads=st.integers(0, 256),
    log_level=st.sampled_from(["DEBUG", "INFO", "WARNING"]),
    print_format=st.sampled_from(["table", "reference", "none"]),
)


@given(options_of_train)
def test_a_command_line_gives_the_same_options(options: RunOptions) -> None:
    words = ["config.yaml", *options.to_argv()]
    parsed, others = split_run_options(train_command.make_context("train", words).params)
    assert parsed == options
    others = {name: value for name, value in others.items() if not name.startswith("cluster")}
    assert others == {
        "config_files": ("config.yaml",),
        "processes": 1,
        "estimate": False,
        "quiet": False,
    }


def test_defaults_need_no_words() -> None:
    assert RunOptions().to_argv() == []
    assert RunOptions(iterations=20, deterministic=True).to_argv() == [
        "--iterations",
        "20",
        "--deterministic",
    ]


def test_iterations_override_the_config() -> None:
    assert RunOptions(iterations=7).overrides == {"num_training_iterations": 7}
    assert RunOptions().overrides == {}
