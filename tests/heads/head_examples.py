"""Heads that the tests share, in double precision, with all parameters away from their special start."""

import torch
from torch import nn

from hybridgen import heads

HIDDEN, CLASSES, ROWS = 6, 23, 17

# Every kind of head with every set of options that changes its mathematics: name -> (head, options).
EXAMPLES = {
    "categorical": ("categorical", {}),
    "categorical-no-bias": ("categorical", {"bias": False}),
    "categorical-tied": ("categorical", {"tied": HIDDEN}),
    "categorical-tied-projected": ("categorical", {"tied": 4}),
    "adaptive": ("adaptive", {"div_value": 2.0}),
    "adaptive-no-bias": ("adaptive", {"bias": False, "cutoffs": [5]}),
    "adaptive-tied": ("adaptive", {"tied": HIDDEN, "cutoffs": [3, 5, 11]}),
    "adaptive-tied-projected": ("adaptive", {"tied": 4}),
    "mixture": ("mixture", {"num_experts": 3}),
    "mixture-tied": ("mixture", {"num_experts": 2, "tied": 4}),
    "mixture-no-bias": ("mixture", {"num_experts": 3, "latent_size": 5, "bias": False}),
}


def build(example, dtype=torch.float64, **more):
    """A head of :data:`EXAMPLES`; ``tied`` in its options is the width of the embedding."""
    name, options = EXAMPLES[example]
    options = {**options, **more}
    if isinstance(options.get("tied"), int):
        options["tied"] = nn.Embedding(CLASSES, options["tied"])
    head = heads.make(name, HIDDEN, CLASSES, **options).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return head


def batch(dtype=torch.float64, rows=ROWS, width=HIDDEN, classes=CLASSES):
    hidden = torch.randn(rows, width, dtype=dtype, requires_grad=True)
    return hidden, torch.randint(classes, (rows,))


def assert_close(mine, reference, tolerance=1e-10):
    torch.testing.assert_close(mine, reference, rtol=tolerance, atol=tolerance)
