"""What the options of a SequenceVAEGAN may be, alone and together."""

from typing import Any

from hybridgen import heads
from hybridgen.closest import did_you_mean
from hybridgen.models.sequence_gan_options import PENALTIES, SCHEDULES, SCORES

RECONSTRUCTIONS = ("likelihood", "features", "both", "none")
SEEN = ("draws", "means")


def check_options(options: dict[str, Any]) -> None:
    """Check the value of every option, alone and beside the others.

    Raises:
        ValueError: if one does not fit; the message names the option.
    """
    for name, known in (
        ("reconstruction", RECONSTRUCTIONS),
        ("critic_sees", SEEN),
        ("penalty", PENALTIES),
        ("scores", SCORES),
        ("schedule", SCHEDULES),
        ("head", (None, *heads.element_names())),
    ):
        if options[name] not in known:
            names = [str(choice) for choice in known if choice is not None]
            hint = did_you_mean(options[name], names, f"choose one of {', '.join(names)}")
            raise ValueError(f"{name} is {options[name]!r}: {hint}")
    for name in (
        "latent_size",
        "steps_per_call",
        "critic_steps",
        "penalty_every",
        "accumulate_batches",
        "iwae_samples",
    ):
        if type(options[name]) is not int or options[name] < 1:
            raise ValueError(f"{name} is {options[name]!r}: give a whole number of at least 1")
    least = ("likelihood_weight", "feature_weight", "adversarial_weight", "penalty_weight", "weight_decay")
    for name in (*least, "warmup_steps"):
        if not options[name] >= 0:
            raise ValueError(f"{name} is {options[name]!r}: give a number of at least 0")
    for name in ("learning_rate", "critic_learning_rate", "gradient_clip_val"):
        if options[name] is not None and not options[name] > 0:
            raise ValueError(f"{name} is {options[name]!r}: give a number above 0")
    if not 0 <= options["history_dropout"] < 1:
        raise ValueError(f"history_dropout is {options['history_dropout']!r}: give a probability in [0, 1)")
    if not 0 <= options["final_learning_rate"] <= 1:
        raise ValueError(f"final_learning_rate is {options['final_learning_rate']!r}: give a fraction, 0 to 1")
    _check_together(options)


def _check_together(options: dict[str, Any]) -> None:
    reconstruction, adversarial = options["reconstruction"], options["adversarial"]
    if reconstruction in ("features", "both") and not adversarial:
        raise ValueError(
            f"reconstruction {reconstruction!r} compares features of the critic, which learns from the adversarial "
            "part: set adversarial to true, or reconstruction to 'likelihood'"
        )
    if reconstruction == "none" and not adversarial:
        raise ValueError("reconstruction is 'none' and adversarial is false: nothing is left to learn from")
    if reconstruction == "none" and options["variational"]:
        raise ValueError("variational needs an encoder, which reconstruction 'none' has not: set variational to false")
    if options["kl"] and not options["variational"]:
        raise ValueError("kl is of a variational model: set variational to true, or leave it out")
    if options["autoregressive"] and options["steps_per_call"] != 1:
        raise ValueError("an autoregressive decoder goes step by step: set steps_per_call to 1")
    if options["autoregressive"] and options["critic_sees"] == "means":
        raise ValueError("an autoregressive decoder reads its own draws: set critic_sees to 'draws'")
    if options["history_dropout"] and not options["autoregressive"]:
        raise ValueError("history_dropout is of an autoregressive decoder: set autoregressive to true, or leave it out")
