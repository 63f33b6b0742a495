"""The common cell library: every recurrent cell of the toolkit, behind one contract.

See :class:`Cell` for the contract, :class:`Stack` for layers and regularisation, and
:mod:`~hybridgen.cells.through_time` for how a sequence is walked.
"""

from hybridgen.cells.base import Cell, Hidden, HiddenAndCell
from hybridgen.cells.convert import from_torch, to_torch
from hybridgen.cells.gru import GRU
from hybridgen.cells.indrnn import IndRNN
from hybridgen.cells.initialise import initialise_
from hybridgen.cells.layernorm_gru import LayerNormGRU
from hybridgen.cells.layernorm_lstm import LayerNormLSTM
from hybridgen.cells.lstm import LSTM
from hybridgen.cells.masks import Masks
from hybridgen.cells.mgu import MGU
from hybridgen.cells.mingru import MinGRU
from hybridgen.cells.minlstm import MinLSTM
from hybridgen.cells.mlstm import MLSTM
from hybridgen.cells.mogrifier_lstm import MogrifierLSTM
from hybridgen.cells.noise import Noise
from hybridgen.cells.peephole_lstm import PeepholeLSTM
from hybridgen.cells.qrnn import QRNN
from hybridgen.cells.registry import cell_class, make, names, options_of, register
from hybridgen.cells.rglru import RGLRU
from hybridgen.cells.rnn import RNN
from hybridgen.cells.slstm import SLSTM
from hybridgen.cells.sru import SRU
from hybridgen.cells.stack import Stack
from hybridgen.cells.through_time import double_backward, ways

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "MLSTM",
    "QRNN",
    "RGLRU",
    "RNN",
    "SLSTM",
    "SRU",
    "Cell",
    "Hidden",
    "HiddenAndCell",
    "IndRNN",
    "LayerNormGRU",
    "LayerNormLSTM",
    "Masks",
    "MinGRU",
    "MinLSTM",
    "MogrifierLSTM",
    "Noise",
    "PeepholeLSTM",
    "Stack",
    "cell_class",
    "double_backward",
    "from_torch",
    "initialise_",
    "make",
    "names",
    "options_of",
    "register",
    "to_torch",
    "ways",
]
