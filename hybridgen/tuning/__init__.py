"""Choosing options by trying them: a space of options, trials that are runs like any other, and what they taught."""

from hybridgen.tuning.results import write_results
from hybridgen.tuning.space import Space, read_space, with_options
from hybridgen.tuning.study import Study

__all__ = ["Space", "Study", "read_space", "with_options", "write_results"]
