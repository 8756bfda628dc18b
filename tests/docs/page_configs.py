"""Complete configs of the parts that pages show."""

from pathlib import Path

from ruamel.yaml import YAML


def complete_config(part: str, within: str | None, base: Path, target: Path) -> None:
    """Write the config `base` with the keys of a part, which belong to the path `within`."""
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(base)
    place = config
    for key in within.split(".") if within else ():
        place = place.setdefault(key, {})
    place.update(yaml.load(part))
    with target.open("w", encoding="utf-8") as file:
        yaml.dump(config, file)
