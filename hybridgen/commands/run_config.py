"""The data of a run, from the config.yaml that `fit` wrote into its folder."""

from pathlib import Path
from typing import Any

from hybridgen import experiments


def config_of(checkpoint: str | Path, given: str | None) -> Path:
    """The configuration to take the data from: the one given, else the one in the checkpoint's run folder.

    Raises:
        ValueError: if there is none.
    """
    if given is not None:
        return experiments.find(given)
    path = Path(checkpoint).parent.parent / "config.yaml"
    if not path.is_file():
        raise ValueError(
            f"--config: {checkpoint} lies in no run folder (no {path}): give the config.yaml of a run, or a name of "
            "`hybridgen config ls`"
        )
    return path


def data_section(config: Path) -> tuple[str, dict[str, Any]]:
    """Class name and arguments of the data of a configuration.

    Raises:
        ValueError: if it is no configuration with data.
    """
    import yaml

    try:
        data = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
        return data["class_path"].rpartition(".")[2], dict(data.get("init_args") or {})
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"--config: {config} is no configuration with data: give the config.yaml of a run") from None
