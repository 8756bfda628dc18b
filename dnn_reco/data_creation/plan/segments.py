"""The processing steps of a config: segments, their arguments, and what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from dnn_reco.config.sources import KeyPath, Notice
from dnn_reco.config.typed_settings import STRICT, check_names
from dnn_reco.config.value_types import Flag
from dnn_reco.config.yaml_file import YamlFile
from dnn_reco.data_creation.plan.checked import NameList, checked
from dnn_reco.data_creation.plan.keys import SEGMENTS, STEPS, WRITE_KEYS
from dnn_reco.data_creation.plan.patterns import PatternFiller
from dnn_reco.data_creation.plan.records import Outputs, Segment
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import did_you_mean

_CONTEXT, _CONFIG = "context-->", "<config>"
_CLASS, _KWARGS, _TIMER = "ModuleClass", "ModuleKwargs", "ModuleTimer"
_WITHOUT_EFFECT = ("CompressionLevel",)
_STREAMS = ("Q", "P", "I", "S", "M", "m", "W", "X")


@settings(frozen=True, config=STRICT)
class _WriteKeys:
    write_i3: Flag = False
    write_hdf5: Flag = True
    i3_ending: Literal["i3.zst", "i3.gz", "i3.bz2", "i3"] = "i3.zst"


@settings(frozen=True, config=STRICT)
class _I3Keys:
    i3_streams: NameList = _STREAMS


@settings(frozen=True, config=STRICT)
class _Hdf5Keys:
    keys: Annotated[NameList, Field(alias="Keys")] = ()
    streams: Annotated[NameList, Field(alias="SubEventStreams")] = ("InIceSplit",)


@dataclass(frozen=True)
class Step:
    """A processing step.

    Attributes
    ----------
    at
        Its key path in the config.
    content
        Its keys, which win over those of data sets.
    segments
        What it runs.
    """

    at: KeyPath
    content: Mapping[str, Any]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Writing:
    """What is written of each run, and the frame objects to write as they stand in the config."""

    outputs: Outputs
    hdf5_keys: tuple[str, ...]


def read_steps(file: YamlFile) -> tuple[Step, ...]:
    """The processing steps of a config.

    Raises
    ------
    ConfigError
        If there is none, or a segment has no class, unknown keys or values of the wrong kind.
    """
    steps = []
    for at, content in file.mappings((), file.values, STEPS):
        if not all(isinstance(key, str) for key in content):
            raise file.wrong(at, content, "a mapping of keys")
        steps.append(Step(at, content, _segments_of(file, at, content)))
    if not steps:
        raise ConfigError(f"{file.where((STEPS,))}: '{STEPS}' must list at least one step")
    return tuple(steps)


def _segments_of(file: YamlFile, at: KeyPath, step: Mapping[str, Any]) -> tuple[Segment, ...]:
    """The segments of a step; those of the whole config if it has none itself."""
    if SEGMENTS not in step:
        at, step = ((), file.values) if SEGMENTS in file.values else (at, step)
    found = file.mappings(at, step, SEGMENTS)
    if not found:
        raise ConfigError(f"{file.where(at)}: this step has no '{SEGMENTS}'")
    return tuple(_segment(file, here, content) for here, content in found)


def _segment(file: YamlFile, at: KeyPath, content: Mapping[str, Any]) -> Segment:
    known = (_CLASS, _KWARGS, _TIMER)
    for key in content:
        if key not in known:
            raise ConfigError(
                f"{file.where((*at, str(key)))}: unknown key '{key}' of a segment."
                f"{did_you_mean(key, known)} Its keys are {', '.join(known)}"
            )
    name, timer = content.get(_CLASS), content.get(_TIMER)
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        if _CLASS not in content:
            raise ConfigError(f"{file.where(at)}: this segment has no '{_CLASS}'")
        raise file.wrong((*at, _CLASS), name, "the dotted name of a segment")
    kwargs = content.get(_KWARGS)
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise file.wrong((*at, _KWARGS), kwargs, "a mapping of the segment's arguments")
    if timer is not None and not isinstance(timer, bool):
        raise file.wrong((*at, _TIMER), timer, "true or false")
    return Segment(name, kwargs, file.where((*at, _CLASS)))


def read_writing(file: YamlFile, steps: Sequence[Step], is_last: bool) -> Writing:
    """What the last of these steps writes.

    Parameters
    ----------
    file
        The config.
    steps
        The steps that are run.
    is_last
        Whether the last of them is the last of the config: otherwise it hands on frames.
    """
    step = steps[-1]
    written = {**file.values, **step.content}
    if not is_last:
        written |= {"write_i3": True, "write_hdf5": False, **step.content}

    def where(at: KeyPath) -> str:
        return file.where((*step.at, *at) if at and at[0] in step.content else at)

    keys = checked(_WriteKeys, written, where)
    if not (keys.write_i3 or keys.write_hdf5):
        raise ConfigError(
            f"{where(('write_hdf5',))}: nothing would be written: set write_hdf5 or write_i3 to "
            "true"
        )
    i3 = _arguments(_I3Keys, ("i3_streams",), written, "write_i3_kwargs", where)
    names = ("Keys", "SubEventStreams", *_WITHOUT_EFFECT)
    hdf5 = _arguments(_Hdf5Keys, names, written, "write_hdf5_kwargs", where)
    if wrong := [stream for stream in i3.i3_streams if len(stream) != 1]:
        raise ConfigError(
            f"{where(('write_i3_kwargs', 'i3_streams'))}: '{wrong[0]}' is no kind of frame: each "
            "is one letter, such as Q and P"
        )
    outputs = Outputs(keys.write_i3, keys.write_hdf5, keys.i3_ending, i3.i3_streams, hdf5.streams)
    return Writing(outputs, hdf5.keys)


def _arguments(
    kind: type[Any], names: Sequence[str], written: Mapping[str, Any], key: str, where: Any
) -> Any:
    """The arguments of a writer, which stand in a mapping."""
    values = {} if written.get(key) is None else written[key]
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where((key,))}: '{key}' is {values!r}; allowed: a mapping")
    check_names(values, names, f"{where((key,))}: {key}", ConfigError)
    return checked(kind, values, lambda at: where((key, *at)))


def notices_of_steps(file: YamlFile, steps: Sequence[Step]) -> list[Notice]:
    """Messages that only the last step's choice of outputs counts."""
    return [
        Notice(
            "info",
            f"{file.where((*step.at, key))}: '{key}' has no effect in a step before the last: "
            "frames pass on from step to step without files",
            only_in_checks=True,
        )
        for step in steps[:-1]
        for key in WRITE_KEYS
        if key in step.content
    ]


def fill_segments(
    segments: Sequence[Segment], filler: PatternFiller, context: Mapping[str, Any]
) -> tuple[Segment, ...]:
    """Segments whose arguments are filled in, for one run.

    Filled are arguments that are texts: `context-->a.b` stands for a value of the context,
    `<config>` for all keys; in others patterns are filled.

    Raises
    ------
    ConfigError
        If an argument refers to something that does not exist.
    """
    return tuple(
        replace(each, kwargs={k: _value(v, each, filler, context) for k, v in each.kwargs.items()})
        for each in segments
    )


def _value(value: Any, segment: Segment, filler: PatternFiller, context: Mapping[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    if value == _CONFIG:
        return dict(filler.values)
    if _CONTEXT not in value:
        return filler.fill(value, segment.where)
    found: Any = context
    for key in value.replace(_CONTEXT, "").strip().split("."):
        if not isinstance(found, Mapping) or key not in found:
            known = ", ".join(f"{_CONTEXT}{a}.{b}" for a in context for b in context[a])
            raise ConfigError(
                f"{segment.where}: '{value}' of {segment.module_class} does not exist"
                + (f". There are {known}" if known else ": there are no runs here")
            )
        found = found[key]
    return found


def hdf5_keys_of(writing: Writing, segments: Sequence[Segment]) -> tuple[str, ...]:
    """Frame objects to write: those of the config, and those that the segments add."""
    given = [each.kwargs.get("OutputKey") for each in segments]
    added = [key for key in given if isinstance(key, str)]
    return tuple(dict.fromkeys([*writing.hdf5_keys, *added]))
