"""Import and call the functions and classes that dotted names of a config refer to."""

import ast
import hashlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from dnn_reco.errors import ConfigError, DataError, DnnRecoError
from dnn_reco.suggestions import nearest

_PACKAGE = __name__.partition(".")[0]

# How functions of users are called, by the last part of the config key that names them: the number
# of arguments by position, and all of them in words.
_CALLED_AS = {
    "data_handler_label_class": (3, "(input_data, config, label_names=None, *args, **kwargs)"),
    "data_handler_misc_class": (3, "(input_data, config, misc_names=None, *args, **kwargs)"),
    "data_handler_filter_class": (
        8,
        "(data_handler, input_data, config, x_ic78, x_deepcore, labels, misc_data, "
        "time_range_start, *args, **kwargs)",
    ),
    "event_weight_class": (3, "(truth, misc, config)"),
    "data_format": (
        0,
        "(dom_charges, rel_dom_times, global_time_offset, local_time_offset, config, "
        "dom_exclusions, partial_exclusion, frame, om_key, *args, **kwargs), all by name",
    ),
    "evaluation_class": (3, "(train, val, context)"),
    "loss_class": (3, "(prediction, truth, context)"),
    "model_class": (
        1,
        "(spec, **model_kwargs), with random_seed and dtype among the model_kwargs; its forward as "
        "(hits), or (hits, misc)",
    ),
}

_folders: list[Path] = []


def allow_plugins_beside(files: Iterable[str | Path]) -> None:
    """Make modules in the folders of config files importable, after all that is installed.

    Only for configs that a user names: a folder of somebody else may hold anything.

    Raises
    ------
    ConfigError
        If another module of the same name was imported from the folder of another config.
    """
    for folder in dict.fromkeys(Path(file).resolve().parent for file in files):
        if folder not in _folders:
            _check_same_names(folder)
            _folders.append(folder)
            sys.path.append(str(folder))


def plugin_folders() -> tuple[Path, ...]:
    """The folders that :func:`allow_plugins_beside` made importable so far."""
    return tuple(_folders)


def _check_same_names(folder: Path) -> None:
    for path in sorted(folder.glob("*.py")):
        former = getattr(sys.modules.get(path.stem), "__file__", None)
        if not former or Path(former).parent not in _folders:
            continue
        if path.read_bytes() != Path(former).read_bytes():
            raise ConfigError(
                f"'{path}' and '{former}' are two modules of one name, beside two configs, and "
                "Python can import only one of them: rename one, or run a command for each"
            )


def resolve(dotted_name: str, key: str) -> Any:
    """Import the object that a dotted name refers to.

    Parameters
    ----------
    dotted_name
        `package.module.name`; nested names (`…Class.method`) are allowed.
    key
        The config key that holds it, for messages.

    Raises
    ------
    ConfigError
        Naming the part that does not exist and the nearest name that does, or why its module
        cannot be imported.
    """
    parts = dotted_name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(f"'{key}' is '{dotted_name}': not a dotted name (package.module.name)")
    found: Any = _import(parts[0], dotted_name, key)
    for depth, part in enumerate(parts[1:], start=1):
        before = ".".join(parts[:depth])
        if hasattr(found, part):
            found = getattr(found, part)
        elif _is_package(found) and find_spec(f"{before}.{part}"):
            found = _import(f"{before}.{part}", dotted_name, key)
        else:
            raise ConfigError(
                f"'{key}' is '{dotted_name}', but '{before}' has no '{part}'"
                f"{_did_you_mean(found, part)}"
            )
    return found


def defined_in_source(dotted_name: str) -> ast.stmt | None:
    """The statement of a module of this package that defines a name; the module is not imported.

    None if the name is defined elsewhere, or not so simply: then :func:`resolve` finds it.
    """
    module, _, name = dotted_name.rpartition(".")
    package, *parts = module.split(".")
    if package != __package__.split(".")[0]:
        return None
    path = Path(__file__).parents[1].joinpath(*parts).with_suffix(".py")
    if not path.is_file():
        return None
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return statement
    return None


def _import(module: str, dotted_name: str, key: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise ConfigError(
                f"'{key}' is '{dotted_name}', but no module '{module}' can be imported: is it "
                "installed, on PYTHONPATH, or beside the config?"
            ) from error
        raise ConfigError(
            f"'{key}' is '{dotted_name}', whose module '{module}' needs '{error.name}', which is "
            "not installed"
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's module does when it is imported
        raise ConfigError(
            f"'{key}' is '{dotted_name}', whose module '{module}' cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _is_package(found: Any) -> bool:
    return isinstance(found, ModuleType) and hasattr(found, "__path__")


def _did_you_mean(found: Any, part: str) -> str:
    names = [name for name in dir(found) if not name.startswith("_")]
    if _is_package(found):
        names += [module.name for module in pkgutil.iter_modules(found.__path__)]
    return f"; the nearest name there is '{nearest(part, names)}'" if names else ""


def is_of_package(plugin: object) -> bool:
    """Whether a function, class or object is defined in this package, not by a user."""
    return _module_name(plugin).partition(".")[0] == _PACKAGE


def _module_name(plugin: object) -> str:
    return str(getattr(plugin, "__module__", None) or type(plugin).__module__)


def source_hash(plugin: Any) -> str:
    """SHA-256 of the source file that defines a function or class: it changes with the code.

    Raises
    ------
    ConfigError
        If there is no such file.
    """
    file = _source_file(plugin)
    if file is None:
        raise ConfigError(f"{plugin!r} is not defined in a Python source file: move it to one")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _source_file(plugin: Any) -> str | None:
    module = inspect.getmodule(plugin) or inspect.getmodule(type(plugin))
    return inspect.getsourcefile(module) if module and hasattr(module, "__file__") else None


def check_signature(
    function: Callable[..., Any], name: str, key: str, keywords: Iterable[str] = ()
) -> None:
    """Check that a user's function accepts the arguments that it will be called with.

    Parameters
    ----------
    function
        The function or class.
    name, key
        Its name, and its config key, which decides on the arguments by position.
    keywords
        Names of its arguments by keyword.

    Raises
    ------
    ConfigError
        Naming its signature, and how it is called.
    """
    if not callable(function):
        raise ConfigError(f"{name} ({key}) is a {type(function).__name__}, not a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    number, called_as = _CALLED_AS[key.rpartition(".")[2]]
    try:
        signature.bind(*[None] * number, **dict.fromkeys(keywords))
    except TypeError as error:
        raise ConfigError(
            f"{name} ({key}) is called as {called_as}, but its signature is {signature}: {error}"
        ) from error


def call_plugin(
    function: Callable[..., Any],
    name: str,
    key: str,
    occasion: str,
    *arguments: object,
    error: type[DnnRecoError] = DataError,
    **keywords: object,
) -> Any:
    """Call a user's function; an exception in it becomes one of ours, with file and line.

    Parameters
    ----------
    function
        The function.
    name, key
        Its name, and its config key.
    occasion
        Why it is called, for the message, such as "for 'events.hdf5'".
    arguments, keywords
        Its arguments.
    error
        Class of the error to raise.

    Raises
    ------
    DnnRecoError
        If it raises an exception that is not a DnnRecoError, nor for lack of memory.
    """
    try:
        return function(*arguments, **keywords)
    except (DnnRecoError, MemoryError):
        raise
    except (Exception, SystemExit) as problem:
        if type(problem).__name__ == "OutOfMemoryError":  # of PyTorch, on a GPU
            raise
        raise error(
            f"{name} ({key}) failed {occasion}: {type(problem).__name__}: {problem}"
            f"{_place(problem, function)}"
        ) from problem


def _place(problem: BaseException, function: Any) -> str:
    """Line of the function's own file where it failed, else the first line outside of this one."""
    frames = traceback.extract_tb(problem.__traceback__)[1:]
    if not frames:
        return ""
    own = [frame for frame in frames if frame.filename == _source_file(function)]
    frame = own[-1] if own else frames[0]
    return f" (line {frame.lineno} of '{frame.filename}')"
