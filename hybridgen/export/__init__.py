"""A trained model as files that need no trainer: weights with their configuration, or a graph for another runtime."""

from hybridgen.export.graphs import write_graphs
from hybridgen.export.int8_products import int8_steps
from hybridgen.export.networks import TokenNetwork, plain_network
from hybridgen.export.weights import load_network, read_folder, write_weights

__all__ = [
    "TokenNetwork",
    "int8_steps",
    "load_network",
    "plain_network",
    "read_folder",
    "write_graphs",
    "write_weights",
]
