"""Every public function, class and method says what it takes, what it gives, what it raises and where it is from."""

import ast
import builtins

import pytest
import pytorch_lightning as pl
import reading
import torch
from pytorch_lightning import callbacks, cli, loggers, strategies
from pytorch_lightning.plugins import CheckpointIO
from reading import RAISED_ELSEWHERE, Public

#: Whose methods may be overridden without a word: their own documents tell what they are.
FRAMEWORKS = [
    *(torch.nn.Module, torch.autograd.Function, torch.utils.data.Dataset, torch.utils.data.Sampler),
    *(pl.LightningModule, pl.LightningDataModule, pl.Callback, pl.Trainer, strategies.Strategy, CheckpointIO),
    *(cli.LightningCLI, loggers.WandbLogger, loggers.CSVLogger, callbacks.ModelCheckpoint, callbacks.WeightAveraging),
]
#: A module that breaks the rules, and one function that keeps them.
MADE = '''
from torch import Tensor

def bare(x): pass

def shapeless(x: Tensor) -> Tensor:
    """Double it."""
    if x is None:
        raise ValueError("no")

def good(x: Tensor, *, y: int) -> Tensor:
    """Double ``x (B, T)``.

    Args:
        x: numbers.
        y: how often.

    Raises:
        ValueError: if not.
    """
    raise ValueError("no")
'''
PUBLICS = list(reading.publics())
#: What is told of by equations or papers: every cell, every objective, every model, every figure.
SOURCED = ["cells", "models", "objectives.adversarial", "objectives.variational", "objectives.likelihood"]
SOURCED += ["evaluation", "evaluation.series", "evaluation.sounds", "evaluation.images"]
#: Parts of these rooms that hold or name things, and so have no paper.
PLAIN = {"Hidden", "HiddenAndCell", "Masks", "Noise", "Cell", "make", "names", "register", "cell_class", "options_of"}
PLAIN |= {"double_backward", "from_torch", "to_torch", "ways", "find", "Mixture", "shuffle_between", "SeriesReport"}


def overrides_a_framework(public: Public) -> bool:
    return public.owner is not None and any(hasattr(each, public.object.name) for each in FRAMEWORKS)


def functions():
    for public in PUBLICS:
        node = reading.node_of(public)
        if not isinstance(node, ast.ClassDef):
            yield public, node


def ancestors(name: str) -> set[str]:
    """Names of the classes that an exception is one of."""
    if isinstance(known := getattr(builtins, name, None), type):
        return {each.__name__ for each in known.__mro__}
    ours = [public.object for public in PUBLICS if public.object.name == name and public.object.is_class]
    return {name}.union(*(ancestors(str(base)) for each in ours for base in each.bases))


def test_the_walk_finds_the_package():
    found = {public.path for public in PUBLICS}
    assert {
        "hybridgen.loading.load",
        "hybridgen.cells.base.Cell.step",
        "hybridgen.cells.base.Cell.forward",
        "hybridgen.data.text.TextData.vocab_size",
        "hybridgen.evaluation.series.report.evaluate_series",
    } <= found
    assert len(found) > 1000


def test_everything_public_has_a_docstring():
    missing = [each.path for each in PUBLICS if not each.text.strip() and not overrides_a_framework(each)]
    assert not missing


def test_docstrings_begin_with_one_sentence_on_a_line():
    crooked = []
    for public in PUBLICS:
        first = public.text.strip().splitlines()[:2]
        if first and ((len(first) == 2 and first[1].strip()) or first[0][-1] not in ".:?!"):
            crooked.append((public.path, first))
    assert not crooked


def test_what_is_raised_is_told():
    silent = []
    for public in PUBLICS:
        node = reading.node_of(public)
        made = [node]
        if isinstance(node, ast.ClassDef):
            made = [each for each in node.body if getattr(each, "name", "") in ("__init__", "__post_init__", "__new__")]
        told = reading.told(public.text)
        for name in set().union(*(reading.raised(each) for each in made)) - RAISED_ELSEWHERE:
            if not ancestors(name) & told:
                silent.append(f"{public.path} raises {name}")
    assert not silent


def test_sections_name_arguments_that_there_are():
    wrong = []
    for public, node in functions():
        if public.object.docstring is None:
            continue
        have = {each.arg for each in reading.arguments(node)} | {
            each.arg for each in (node.args.vararg, node.args.kwarg) if each is not None
        }
        wrong += [f"{public.path}: {name}" for name in reading.described(public.text) if name not in have]
    assert not wrong


def test_tensors_have_shapes():
    shapeless = [
        public.path
        for public, node in functions()
        if public.text
        and reading.takes_tensors(node)
        and not (reading.SHAPE.search(public.text) or reading.REFERENCE.search(public.text))
    ]
    assert not shapeless


@pytest.mark.parametrize("room", SOURCED)
def test_mathematics_has_a_source(room):
    exported = reading.exported(f"hybridgen.{room}")
    assert exported
    unsourced = [
        found.path
        for name, found in exported.items()
        if name not in PLAIN and not reading.SOURCE.search(reading.text_of(found) + reading.text_of(found.module))
    ]
    assert not unsourced


def test_the_check_sees_what_is_missing(tmp_path):
    # Each rule on a module made to break it.
    (tmp_path / "made.py").write_text(MADE)
    module = reading.load("made", tmp_path)
    bare, shapeless, good = (Public(f"made.{n}", module.members[n], None) for n in ("bare", "shapeless", "good"))
    assert not bare.text
    assert reading.takes_tensors(reading.node_of(shapeless))
    assert not reading.SHAPE.search(shapeless.text)
    assert reading.raised(reading.node_of(shapeless)) == {"ValueError"}
    assert not reading.told(shapeless.text)
    assert reading.SHAPE.search(good.text)
    assert reading.told(good.text) == {"ValueError"}
    assert reading.described(good.text) == ["x", "y"]
