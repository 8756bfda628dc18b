"""Lists in the `*_settings` blocks of the convolutional network, one entry for each layer."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dnn_reco.config.sources import KeyPath

_NETWORKS = "dnn_reco.modules.models.general_IC86"
_SIZES = ("num_filters_list", "fc_sizes")
# One flat list of these is the value of all layers.
_PER_AXIS = ("strides_list", "dilation_rate_list", "pooling_ksize_list", "pooling_strides_list")


def wrong_layer_lists(values: Mapping[str, Any], where: Callable[[KeyPath], str]) -> list[str]:
    """Messages for lists of layers that are shorter than those beside them.

    Parameters
    ----------
    values
        Values of known keys, in the newer spelling.
    where
        Returns the file and line of a value.
    """
    kwargs = values.get("model_kwargs")
    if not str(values.get("model_class")).startswith(_NETWORKS) or not isinstance(kwargs, dict):
        return []
    blocks = [(name, block) for name, block in kwargs.items() if isinstance(block, dict)]
    return [text for name, block in blocks for text in _wrong_lists(name, block, where)]


def _wrong_lists(
    name: str, block: Mapping[str, Any], where: Callable[[KeyPath], str]
) -> Iterator[str]:
    """Messages of one block, whose number of layers is the length of its list of sizes.

    Longer lists are allowed: their further entries have no effect. If all of them are longer, the
    list of sizes is too short.
    """
    sizes = next((key for key in _SIZES if isinstance(block.get(key), list)), None)
    if sizes is None:
        return
    layers = len(block[sizes])
    lengths = {key: len(v) for key, v in block.items() if key != sizes and _is_per_layer(key, v)}

    def at(key: str) -> str:
        return where(("model_kwargs", name, key))

    for key, length in lengths.items():
        if length < layers:
            yield (
                f"{at(key)}: 'model_kwargs.{name}.{key}' has {length} entries, but '{sizes}' "
                f"({at(sizes)}) has {layers}: give one for each layer, or one value for all"
            )
    if len(lengths) > 1 and min(lengths.values()) > layers:
        shortest = min(lengths, key=lambda key: lengths[key])
        yield (
            f"{at(sizes)}: 'model_kwargs.{name}.{sizes}' has {layers} entries, but all other lists "
            f"have more ('{shortest}' {lengths[shortest]}): give one size for each layer"
        )


def _is_per_layer(key: str, value: Any) -> bool:
    return isinstance(value, list) and (
        key not in _PER_AXIS or any(isinstance(entry, list) for entry in value)
    )
