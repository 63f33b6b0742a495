"""The options of Weights & Biases beside its mode."""

from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from hybridgen.tracking.wandb_logger import WandbLabels


def add_options(parser: LightningArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument(
        "--wandb_project", type=str | None, default=None, help="project (default: WANDB_PROJECT, or hybridgen)"
    )
    parser.add_argument(
        "--wandb_group", type=str | None, default=None, help="group of runs that belong together, as those of a sweep"
    )
    parser.add_argument("--wandb_tags", type=list[str] | None, default=None, help="words to filter by: '[small, gru]'")
    parser.add_argument(
        "--wandb_checkpoints", type=bool, default=False, help="keep best.ckpt and last.ckpt there, as an artifact"
    )


def labels(config: Any) -> WandbLabels:
    """What the options say."""
    return WandbLabels(config.wandb_project, config.wandb_group, tuple(config.wandb_tags or ()))
