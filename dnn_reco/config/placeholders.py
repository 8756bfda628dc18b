"""Filling `{key}` in string values from the other keys of the config."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dnn_reco.suggestions import nearest

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
TUTORIAL = "insert_DNN_HOME"
"""What stands for the user's folder in the configs of the tutorial."""

_WHOLE_TRAINING = "{num_training_iterations}"
_PATH_KEYS = (
    "log_path",
    "data_cache_dir",
    "trafo_model_path",
    "model_checkpoint_path",
    "model_initial_weights",
    "training_data_file",
    "validation_data_file",
    "test_data_file",
    "trafo_data_file",
)
_FILLED_MAPPINGS = ("i3_data",)
_MOST_NESTED = 50
_MOST_CHARACTERS = 100_000  # of all insertions: few keys that name each other can make any length


@dataclass
class _Filler:
    """Fills values on demand, so that the order of keys does not matter."""

    written: Mapping[str, Any]
    constants: Mapping[str, Any]
    where: Callable[[str], str]
    problems: list[str]
    filled: dict[str, Any] = field(default_factory=dict)
    open_keys: list[str] = field(default_factory=list)
    num_inserted: int = 0

    def value(self, key: str) -> Any:
        """Value of a written key with all its placeholders filled."""
        if key not in self.filled:
            self.open_keys.append(key)
            self.filled[key] = self._fill(key, self.written[key])
            self.open_keys.pop()
        return self.filled[key]

    def _fill(self, key: str, value: Any) -> Any:
        if isinstance(value, dict) and key in _FILLED_MAPPINGS:
            return {name: self._fill(key, entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [self._fill(key, entry) if isinstance(entry, str) else entry for entry in value]
        if not isinstance(value, str):
            return value
        text = _PLACEHOLDER.sub(lambda match: self._replacement(key, match), value)
        # Lines continued with a backslash often leave blanks around the slashes of a path.
        return re.sub(r"\s*/\s*", "/", text).strip() if key in _PATH_KEYS else text

    def _fits(self, text: str) -> bool:
        self.num_inserted += len(text)
        return self.num_inserted <= _MOST_CHARACTERS

    def _replacement(self, key: str, match: re.Match[str]) -> str:
        name = match[1].strip()
        problem = None
        if name == TUTORIAL:
            pass  # reported once for all files, with the command that fixes it
        elif name in self.open_keys:
            problem = f"it refers to itself: {' -> '.join([*self.open_keys, name])}"
        elif len(self.open_keys) >= _MOST_NESTED:
            problem = f"more than {_MOST_NESTED} keys refer to each other"
        elif name in self.written:
            value = self.value(name)
            if value is None or isinstance(value, list | dict):
                problem = f"the key '{name}' holds {value!r}, which cannot be inserted into text"
            elif self._fits(text := str(value)):
                return text
            else:
                problem = f"placeholders insert more than {_MOST_CHARACTERS:,} characters"
        elif name in self.constants:
            return str(self.constants[name])
        else:
            known = [*self.written, *self.constants]
            problem = f"there is no such key; the nearest is '{nearest(name, known)}'"
        if problem:
            self.problems.append(
                f"{self.where(key)}: the placeholder '{match[0]}' of '{key}' cannot be filled: "
                f"{problem}"
            )
        return match[0]


def fill_placeholders(
    written: Mapping[str, Any],
    constants: Mapping[str, Any],
    where: Callable[[str], str],
    problems: list[str],
) -> dict[str, Any]:
    """Fill `{key}` in all string values, also inside lists of strings, and of `i3_data`.

    Parameters
    ----------
    written
        Values of all keys, as written by the user.
    constants
        Further values: `config_name` and the plain defaults of keys that are not written.
    where
        Returns the file and line of a key.
    problems
        Placeholders that cannot be filled are appended here, and remain in the text.
    """
    filler = _Filler(written, constants, where, problems)
    filled = {key: filler.value(key) for key in written}
    left_over = [key for key, value in filled.items() if "{" + TUTORIAL + "}" in str(value)]
    if left_over:
        problems.append(f"{where(left_over[0])}: {insert_folder(left_over)}")
    return filled


def insert_folder(keys: Iterable[str], file: str = "<config file>") -> str:
    """Message that `{insert_DNN_HOME}` still stands in the values of these keys of a file."""
    return (
        f"the text '{{{TUTORIAL}}}' must be replaced by your folder (in {', '.join(keys)}). "
        f"Run once:\n    sed -i -e 's,{{{TUTORIAL}}},'\"$DNN_HOME\"',g' {file}"
    )


def keys_in_placeholders(written: Mapping[str, Any]) -> set[str]:
    """The keys whose values fill placeholders in values of other keys."""
    values = [
        entry
        for key, value in written.items()
        for entry in (
            value.values() if key in _FILLED_MAPPINGS and isinstance(value, dict) else [value]
        )
    ]
    texts = [
        text
        for value in values
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str)
    ]
    return {match.strip() for text in texts for match in _PLACEHOLDER.findall(text)}


def fill_iterations(settings: Any, iterations: Any) -> Any:
    """Nested settings with the text `{num_training_iterations}` replaced by that number.

    A learning-rate schedule can thus end with the training, whatever its length.
    """
    if isinstance(settings, dict):
        return {key: fill_iterations(value, iterations) for key, value in settings.items()}
    if isinstance(settings, list):
        return [fill_iterations(value, iterations) for value in settings]
    return iterations if settings == _WHOLE_TRAINING and iterations is not None else settings
