"""`hybridgen fit | validate | test | predict`: the Lightning CLI with run folders and short errors."""

import logging
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import yaml
from jsonargparse import set_parsing_settings
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from hybridgen.commands import resuming, wandb_options
from hybridgen.commands.as_meant import read_as_meant
from hybridgen.commands.explaining import explain, with_named_configs
from hybridgen.commands.launching import launched, processes, script, unused_gpu
from hybridgen.commands.model_and_data import check_match, check_predicts, class_of
from hybridgen.commands.options import at_home, check_out_file
from hybridgen.commands.trainer_fit import check_trainer
from hybridgen.commands.trainer_parts import checkpoint_plugins, common_callbacks, training_callbacks
from hybridgen.reliability.run_choice import Choice, lock, unlock
from hybridgen.reliability.termination import Terminated
from hybridgen.tracking.predictions import WritePredictions
from hybridgen.tracking.run_folder import SaveConfig, keep_table, loggers, next_run_folder
from hybridgen.tracking.wandb_logger import WANDB_MODES

#: Norm that gradients are clipped to, where the configuration does not say.
DEFAULT_CLIP = 1.0

# Options may hold anything (a stack, a codec) and come from files: what they hold is data, never a class to build.
with suppress(TypeError, ValueError):  # an older jsonargparse has no such setting
    set_parsing_settings(instantiate_subclass_spec_in_any=False)
read_as_meant()


class ShortErrors(LightningArgumentParser):
    """The Lightning parser without the usage of 400 lines; it names the closest option instead."""

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Print one sentence and leave with exit code 2."""
        print(f"hybridgen: error: {self.sentence(message)}", file=sys.stderr)
        raise SystemExit(2)

    def sentence(self, message: str) -> str:
        """What is wrong, in one sentence."""
        return explain(str(message), self)


class TrainingCLI(LightningCLI):
    """Lightning's CLI; every fit gets a run folder of its own, or goes on in one.

    What a model may say about itself, all of it optional:

    * ``run_callbacks(folder: Path) -> list[Callback]``: callbacks of its own for training in a run folder (samples,
      reconstructions, scores of what it generates...). They write into ``folder``, say in ``folder / "samples"``, which
      need not exist yet.
    * ``monitor: str``: the logged value that its best checkpoint has least of, where ``--monitor`` does not say;
      ``val/loss`` without.
    * ``step_metric: str``: the logged value that learning curves on the dashboard are drawn against (tokens seen, say)
      instead of the number of steps.
    * ``predict_step`` returns a list of mappings of plain values: ``hybridgen predict`` writes them as JSON lines.
    * ``automatic_optimization = False``, as everywhere in Lightning: then the model clips its gradients itself, and the
      trainer's default of 1.0 is left out.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of ours beside those of the trainer, the model and the data."""
        parser.add_argument("--runs", type=str, default="runs", help="folder that run folders go to")
        parser.add_argument(
            "--name", type=str | None, default=None, help="name of the run; by default that of the configuration file"
        )
        parser.add_argument(
            "--wandb", default="auto", choices=WANDB_MODES, help="auto is offline without key or network"
        )
        wandb_options.add_options(parser)
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="what the best checkpoint has least of (default: the model's choice)",
        )
        parser.add_argument(
            "--predictions",
            type=str,
            default="predictions.jsonl",
            help="file that predict writes: a JSON object a line for each row of the test text under a LanguageModel "
            "(its position, text, tokens, nats, perplexity); rows are lines with data.layout lines, else chunks of "
            "evaluation_bptt tokens",
        )
        resuming.add_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line; ``--config`` may be the name of an experiment."""
        self.arguments = with_named_configs(sys.argv[1:] if args is None else args)
        self.config = parser.parse_args(self.arguments)

    #: Where a training goes on, or None for a new one.
    choice: Choice | None = None
    #: Of the model that is evaluated, as its checkpoint has it.
    codec: dict[str, Any] | None = None

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint that training goes on from, or the options of the model that is evaluated.

        Lightning's own way lets a checkpoint undo what the command line says.
        """
        subcommand = self.config.get("subcommand")
        if subcommand is None:
            return
        config = self.config[subcommand]
        _check_seed(config.seed_everything)
        if subcommand != "fit":
            if not config.get("ckpt_path"):
                raise ValueError(
                    f"{subcommand} takes a trained model: give --ckpt_path RUN/checkpoints/best.ckpt, without which "
                    "the weights would be random"
                )
            given = None if config.model is None else config.model.get("class_path")
            chosen = resuming.chosen_options(self.arguments, config.model)
            model = resuming.model_of(config.ckpt_path, given, chosen)
            self.codec = model.get("init_args", {}).pop("codec", None)
            self.config = self.parser.parse_object({subcommand: {"model": model}}, self.config)
            return
        self.choice = resuming.choose(config, config.name or _name_of(config))
        if self.choice is not None:
            config.ckpt_path = str(self.choice.checkpoint)
            if rank_zero_only.rank == 0:
                text = self._parser(subcommand).dump(config, skip_none=False)
                resuming.tell_differences(self.choice, yaml.safe_load(text))

    def before_instantiate_classes(self) -> None:
        """Ask whether model, data and command go together.

        The model that is evaluated gets its codec as it is: a parser reads each word of it as YAML (``10:``).
        """
        config = self.config[self.subcommand]
        model = class_of(config.get("model"))
        if self.subcommand == "predict":
            check_predicts(model)
        check_match(model, class_of(config.get("data")))
        if self.codec is None:
            return
        from hybridgen import models

        name, codec = self.config[self.subcommand].model.class_path.rpartition(".")[2], self.codec

        def with_codec(model: type, *args: Any, **options: Any) -> pl.LightningModule:
            return model(*args, **options | {"codec": codec})

        self.parser.add_instantiator(with_codec, getattr(models, name), subclasses=False, prepend=True)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer, with the run folder's loggers and callbacks where it trains."""
        config = self.config[self.subcommand]
        fits = {"default_clip": DEFAULT_CLIP, "training": self.subcommand == "fit"}
        check_trainer(config.trainer, self.model, self.datamodule, **fits)
        kwargs |= launched(config.trainer)
        if not self.model.automatic_optimization and config.trainer.gradient_clip_val == DEFAULT_CLIP:
            kwargs.setdefault("gradient_clip_val", None)
        own = self.config_init[self.subcommand].trainer.callbacks or []
        own = [*(own if isinstance(own, list) else [own])]
        callbacks = own + common_callbacks(own, config)
        plugins, training = self.config_init[self.subcommand].trainer.plugins, self.subcommand == "fit"
        kwargs["plugins"] = checkpoint_plugins(plugins, config, self.model, self.choice, training=training)
        if self.subcommand == "predict":
            check_out_file(config.predictions, "--predictions")
            callbacks.append(WritePredictions(at_home(config.predictions, "--predictions")))
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            name = config.name or _name_of(config)
            going_on = self.choice is not None and self.choice.folder is not None
            if going_on and config.name is None:
                name = self.choice.folder.absolute().parent.name
            self.folder = self.choice.folder if going_on else next_run_folder(config.runs, name)
            self.save_config_kwargs |= {"folder": self.folder, "name": name}
            if rank_zero_only.rank == 0:
                lock(self.folder)
            if config.trainer.logger in (None, True):
                rows, labels = self.choice.rows_before if going_on else None, wandb_options.labels(config)
                if going_on and self.choice.branches and rank_zero_only.rank == 0:
                    keep_table(self.folder)
                kwargs["logger"] = loggers(
                    self.folder, name=name, wandb_mode=config.wandb, rows_before=rows, labels=labels
                )
            callbacks += training_callbacks(own, config, self.model, self.folder)
        elif config.trainer.logger in (None, True):
            kwargs.setdefault("logger", False)  # Lightning's own would leave a folder that nobody asked for
        return super().instantiate_trainer(**kwargs, callbacks=callbacks)

    @rank_zero_only
    def before_fit(self) -> None:
        """Say where the run goes, what its processes share out, and whether a GPU is left alone."""
        print(f"run folder: {getattr(self, 'folder', 'none (fast_dev_run)')}", file=sys.stderr)
        for line in (processes(self.trainer), unused_gpu(self.trainer)):
            if line is not None:
                print(line, file=sys.stderr)


def _check_seed(seed: Any) -> None:
    """Refuse a seed that no generator takes; true and false are Lightning's: a drawn one, and none."""
    if not isinstance(seed, bool) and seed is not None and not 0 <= int(seed) < 2**32:
        raise ValueError(f"--seed_everything is {seed}: give a whole number of at least 0 and below 2**32")


def _name_of(config: Any) -> str:
    paths = [Path(str(p)) for p in (config.get("config") or [])]
    return paths[-1].stem if paths else "run"


def _quieten() -> None:
    """Leave out what is advertising, or about code that is not the user's."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda r: "Tip:" not in r.getMessage())
    for message in (
        "Experiment logs directory",
        "Checkpoint directory .* exists and is not empty",  # where a run goes on
        r"`isinstance\(treespec, LeafSpec\)`",
        ".*does not have many workers",
        "Be aware that when using `ckpt_path`",  # evaluation needs no callbacks of training
    ):
        warnings.filterwarnings("ignore", message)


def run(arguments: list[str]) -> int:
    """Train or evaluate; see `hybridgen fit --help`.

    Raises:
        ValueError: if an option, a value, a file or the data does not fit; the message is for the user.
    """
    _quieten()
    # Lightning re-executes this line for further processes.
    sys.argv = [script(sys.argv[0]), *resuming.with_saved_config(arguments)]
    try:
        training_cli(None)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error  # options of the trainer that do not fit
    except Terminated as stopped:
        return _stopped(stopped)
    except SIGTERMException:
        return _stopped(Terminated(signal.SIGTERM))
    except KeyboardInterrupt:
        return _stopped(Terminated(signal.SIGINT))
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):  # Lightning's way to leave after Ctrl-C
            return _stopped(Terminated(signal.SIGINT))
        raise
    return 0


def _stopped(by: Terminated) -> int:
    """Say what stopped the command; returns the exit code."""
    if rank_zero_only.rank == 0:
        print(f"hybridgen: {by}", file=sys.stderr)
    return int(by.code)


def training_cli(
    arguments: list[str] | None,
    *,
    cli: type[TrainingCLI] = TrainingCLI,
    parser: type[ShortErrors] = ShortErrors,
) -> TrainingCLI:
    """Do what a command line says, that of this process where none is given."""
    try:
        return cli(
            args=arguments,
            parser_class=parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            trainer_defaults={"gradient_clip_val": DEFAULT_CLIP, "log_every_n_steps": 20},
            auto_configure_optimizers=False,
        )
    finally:
        unlock()
