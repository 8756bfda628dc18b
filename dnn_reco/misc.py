"""Functions of the TensorFlow version's module `dnn_reco.misc`, for users' own modules."""

import pkgutil
from typing import Any


def print_warning(msg: str) -> None:
    """Print a message in yellow."""
    print(f"\033[93m{msg}\033[0m")


def load_class(full_class_string: str) -> Any:
    """The class or function of a dotted name, such as "my_package.my_module.MyClass".

    Raises
    ------
    ImportError, AttributeError
        If its module, or it in the module, does not exist.
    """
    return pkgutil.resolve_name(full_class_string)


def get_full_class_string_of_object(object_instance: object) -> str:
    """The dotted name of an object's class; of built-in classes the name alone."""
    kind = type(object_instance)
    is_builtin = kind.__module__ in (None, "builtins")
    return kind.__name__ if is_builtin else f"{kind.__module__}.{kind.__name__}"
