"""hybridgen: recurrent generative models on one shared cell library."""

__version__ = "0.1.0.dev0"
