"""The short help of `hybridgen fit | validate | test | predict`, which needs no import of torch."""

_OF_FIT = """
options of a training:
  --name NAME             of the run; by default that of the configuration
  --runs FOLDER           where run folders go (default: runs)
  --resume auto|PATH|never
                          go on with the newest unfinished run of this name, or with the run at PATH
  --save_every_minutes N  between two saves of checkpoints/last.ckpt within an epoch
  --monitor NAME          the logged value that best.ckpt has least of (default: the model's choice)
  --seed_everything N     of weights, batches and noise (default 0)
  --wandb auto|online|offline|off
                          auto is offline without a key or network; also --wandb_project, --wandb_group, --wandb_tags
"""

_OF_OTHERS = """
options of an evaluation:
  --ckpt_path FILE        the checkpoint to take, such as RUN/checkpoints/best.ckpt
"""

_EXAMPLES = {
    "fit": """
  hybridgen fit --config language_model/embedded        (names: hybridgen config ls)
  hybridgen fit --config language_model/ptb --trainer.max_epochs 3 --model.init_args.learning_rate 10
  hybridgen fit --config language_model/ptb --resume auto
""",
    "validate": """
  hybridgen validate --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt
""",
    "test": """
  hybridgen test --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt
""",
    "predict": """
  hybridgen predict --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt --predictions rows.jsonl
""",
}


def short_help(command: str) -> str:
    """What `hybridgen COMMAND --help` prints.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
    """
    predictions = (
        (
            "  --predictions FILE      JSON lines to write, one for each row of the test text under a LanguageModel;\n"
            "                          for others there are hybridgen sample and hybridgen test\n"
        )
        if command == "predict"
        else ""
    )
    return f"""usage: hybridgen {command} --config NAME_OR_FILE [options]

examples:{_EXAMPLES[command]}
what is trained on what:
  --config NAME_OR_FILE   an experiment or a YAML file; of several the last one wins, entry by entry
  --model.init_args.X V, --data.init_args.X V, --trainer.X V
                          another value of an entry, by its place in the configuration
{_OF_FIT if command == "fit" else _OF_OTHERS + predictions}
more help:
  --model.help CLASS      options of a model, such as hybridgen.models.LanguageModel; --data.help, --trainer.help too
  --print_config          the whole configuration, defaults and all, instead of running
  --help_all              every option
"""
