"""Import and call the functions and classes that dotted names of a config refer to."""

import ast
import hashlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from dnn_reco.errors import ConfigError, DataError, DnnRecoError
from dnn_reco.suggestions import nearest


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
                "installed, or on PYTHONPATH?"
            ) from error
        raise ConfigError(
            f"'{key}' is '{dotted_name}', whose module '{module}' needs '{error.name}', which is "
            "not installed"
        ) from error
    except Exception as error:  # whatever a user's module does when it is imported
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


def source_hash(plugin: Any) -> str:
    """SHA-256 of the source file that defines a function or class: it changes with the code.

    Raises
    ------
    ConfigError
        If there is no such file.
    """
    module = inspect.getmodule(plugin) or inspect.getmodule(type(plugin))
    file = inspect.getsourcefile(module) if module and hasattr(module, "__file__") else None
    if file is None:
        raise ConfigError(f"{plugin!r} is not defined in a Python source file")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def call_plugin(
    function: Callable[..., Any], name: str, key: str, occasion: str, *arguments: object
) -> Any:
    """Call a user's function; an exception in it becomes a DataError with file and line.

    Parameters
    ----------
    function
        The function.
    name, key
        Its name, and its config key.
    occasion
        Why it is called, for the message, such as "for 'events.hdf5'".
    arguments
        Its arguments.

    Raises
    ------
    DataError
        If it raises an exception that is not a DnnRecoError.
    """
    try:
        return function(*arguments)
    except (DnnRecoError, MemoryError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        place = f" (line {frames[0].lineno} of '{frames[0].filename}')" if frames else ""
        raise DataError(
            f"{name} ({key}) failed {occasion}: {type(error).__name__}: {error}{place}"
        ) from error
