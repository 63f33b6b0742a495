"""Which options of a text VAE fit, and which fit together."""

from typing import Any

from hybridgen import heads
from hybridgen.models.text_vae_parts import LATENT_TO, POOLINGS, POSTERIORS, PRIORS
from hybridgen.objectives.variational import AggressiveTraining, KLControl
from hybridgen.objectives.variational.schedules import check_options

_CHOICES = {
    "pooling": POOLINGS,
    "latent_to": LATENT_TO,
    "posterior": POSTERIORS,
    "prior": PRIORS,
}


def check_choices(options: dict[str, Any]) -> None:
    """Check that every option has one of the values there are.

    Raises:
        ValueError: for the first option that has not.
    """
    for name, allowed in (_CHOICES | {"head": heads.names()}).items():
        if options[name] not in allowed:
            raise ValueError(f"{name} is {options[name]!r}: choose one of {', '.join(allowed)}")
    for name in ("embedding_dropout", "word_dropout"):
        if not 0 <= options[name] < 1:
            raise ValueError(f"{name} is {options[name]}: give a probability in [0, 1)")
    for name, least in (("latent_size", 1), ("embedding_size", 1), ("pretrain_epochs", 0), ("monitor_sentences", 0)):
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number of at least {least}")
    samples = options["iwae_samples"]
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool) or samples < 1):
        raise ValueError(
            f"iwae_samples is {samples!r}: an importance-weighted bound needs at least 1 sample; null leaves it out"
        )


def check_fit(options: dict[str, Any]) -> dict[str, Any]:
    """Check what must fit together; returns the options of :class:`~hybridgen.objectives.variational.KLControl`.

    Raises:
        ValueError: if two options exclude each other; the message names both.
    """
    kl = dict(options["kl"] or {})
    check_options("kl", kl, KLControl)
    if isinstance(options["aggressive"], dict):
        check_options("aggressive", options["aggressive"], AggressiveTraining)
    spherical, learned = options["posterior"] == "vmf", options["prior"] != "standard"
    if spherical and options["latent_size"] < 2:
        raise ValueError("posterior 'vmf' lies on a sphere: set latent_size to 2 or more")
    if spherical and learned:
        raise ValueError(
            f"posterior 'vmf' has the uniform prior on the sphere: prior {options['prior']!r} does not fit"
        )
    floors = [name for name in ("batch_norm_gamma", "delta") if options[name] is not None]
    if len(floors) > 1:
        raise ValueError("batch_norm_gamma and delta both shape the posterior: give one of them")
    for name in floors:
        if spherical or learned:
            raise ValueError(f"{name} is made for a Gaussian posterior with the standard prior: leave it out")
    kind = (kl.get("free_bits") or {}).get("kind", "dimension") if kl.get("free_bits") else "total"
    if kind != "total" and (spherical or learned):
        raise ValueError(
            f"free_bits kind is {kind!r}, but with posterior {options['posterior']!r} and prior {options['prior']!r} "
            "the KL is known only in total: use kind 'total'"
        )
    return kl
