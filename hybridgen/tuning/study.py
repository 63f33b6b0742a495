"""A study: trials one after another, remembered in a database, so that any number of workers may join or go on."""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hybridgen.data.files import write_text
from hybridgen.tuning.space import Range, Space, as_plain, with_options
from hybridgen.tuning.trial import Outcome, run_trial

#: Trials in a row that may fail before the study gives up.
PATIENCE = 3
_BEAT, _GRACE = 15, 60


class Study:
    """Trials of a space over a configuration.

    Args:
        config: of `hybridgen fit`, as read.
        space: what is tried.
        folder: where configurations, runs and results of the trials go.
        monitor: the logged value to make small.
        storage: a database URL that Optuna understands; ``sqlite:///FOLDER/study.db`` by default.
        name: of the study in the database.
        seed: of the sampler.

    Raises:
        ValueError: if Optuna is not installed, the storage cannot be used, or it holds a study of another space.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        space: Space,
        folder: Path,
        *,
        monitor: str,
        storage: str | None = None,
        name: str = "tune",
        seed: int = 0,
    ) -> None:
        try:
            import optuna
        except ImportError:
            raise ValueError("tuning needs Optuna: install it by `pip install 'hybridgen[tune]'`") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.config, self.space, self.folder, self.monitor = config, space, folder, monitor
        samplers: dict[str, Callable[[], Any]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "grid": lambda: optuna.samplers.GridSampler(space.grid(), seed=seed),
        }
        pruners: dict[str, Callable[[], Any]] = {
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
            "hyperband": optuna.pruners.HyperbandPruner,
            "none": optuna.pruners.NopPruner,
        }
        sampler, pruner = samplers[space.sampler](), pruners[space.pruner]()
        if folder.is_file():
            raise ValueError(f"--out: {folder} is a file: give a folder")
        folder.mkdir(parents=True, exist_ok=True)
        url = storage or f"sqlite:///{(folder / 'study.db').absolute()}"
        try:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of experimental arguments
                database = optuna.storages.RDBStorage(
                    url,
                    heartbeat_interval=_BEAT,
                    grace_period=_GRACE,
                    failed_trial_callback=optuna.storages.RetryFailedTrialCallback(max_retry=1),
                )
                self.study = optuna.create_study(
                    storage=database,
                    study_name=name,
                    sampler=sampler,
                    pruner=pruner,
                    load_if_exists=True,
                )
        except Exception as error:  # whatever the database's own library raises
            said = " ".join(str(error).split())
            raise ValueError(f"--storage: {url} cannot be used as a study's storage: {said[:200]}") from None
        question = json.dumps({"space": space.to_json(), "config": config, "monitor": monitor}, sort_keys=True)
        known = self.study.user_attrs.get("question")
        if known is not None and known != question:
            raise ValueError(
                f"the study {name!r} in {url} is of another space, configuration or monitor: go on with that one, or "
                "give another --out or --name"
            )
        self.study.set_user_attr("question", question)

    @property
    def finished(self) -> list[Any]:
        """The trials that have a value, or were stopped as hopeless."""
        return [trial for trial in self.study.trials if trial.state.name in ("COMPLETE", "PRUNED")]

    def run(self, trials: int, tell: Callable[[str], None]) -> None:
        """Try until the study has so many finished trials, this worker's and all others' together.

        Args:
            trials: how many.
            tell: gets a line for each trial that ends.

        Raises:
            ValueError: if a trial's configuration does not fit (the message is what `fit` said), or several in a row
                failed.
        """
        import optuna

        failures: list[str] = []

        def objective(trial: Any) -> float:
            drawn = {name: _suggest(trial, name, choice) for name, choice in self.space.options.items()}
            outcome = self._train(trial, drawn)
            if outcome.stopped:
                tell(f"trial {trial.number}: stopped early at {outcome.values[-1]:.4f} {drawn}")
                raise optuna.TrialPruned
            finite = [value for value in outcome.values if math.isfinite(value)]
            if outcome.code or not finite:
                failures.append(outcome.message)
                said = outcome.message if outcome.code else f"no validation gave a finite {self.monitor}"
                tell(f"trial {trial.number}: failed ({said}) {drawn}")
                if outcome.code == 2 and not outcome.values and not self.finished:
                    raise ValueError(f"trial {trial.number} cannot be trained: {outcome.message}")
                if len(failures) >= PATIENCE:
                    raise ValueError(f"{PATIENCE} trials in a row failed, the last with: {said}")
                raise _Failed(said)
            failures.clear()
            tell(f"trial {trial.number}: {min(finite):.4f} in {outcome.seconds:.0f} s {drawn}")
            return min(finite)

        enough = optuna.study.MaxTrialsCallback(
            trials, states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        )
        if len(self.finished) < trials:
            self.study.optimize(objective, callbacks=[enough], catch=(_Failed,))

    def _train(self, trial: Any, drawn: Mapping[str, Any]) -> Outcome:
        folder = self.folder / f"{self.study.study_name}-trial-{trial.number:04d}"
        # Another study's run of that name may be there: `fit` takes the first number that is free, and so is this.
        version = next(number for number in itertools.count() if not (folder / str(number)).exists())
        path = self.folder / f"{folder.name}.yaml"
        config = yaml.safe_dump(with_options(self.config, {**self.space.fixed, **drawn}), sort_keys=False)
        write_text(path, config)
        trial.set_user_attr("config", config)  # the text: another machine's worker may write the results
        trial.set_user_attr("run", f"{folder.name}/{version}")

        def hopeless(number: int, value: float) -> bool:
            trial.report(value if math.isfinite(value) else math.inf, number)
            return bool(trial.should_prune())

        outcome = run_trial(path, folder / str(version), self.monitor, hopeless=hopeless)
        trial.set_user_attr("seconds", round(outcome.seconds, 1))
        return outcome


class _Failed(Exception):
    """A trial that went wrong; the study goes on."""


def _suggest(trial: Any, name: str, choice: list[Any] | Range) -> Any:
    if isinstance(choice, list):
        drawn = trial.suggest_categorical(name, [as_plain(value) for value in choice])
        return next(value for value in choice if as_plain(value) == drawn and type(as_plain(value)) is type(drawn))
    draw = trial.suggest_int if choice.whole else trial.suggest_float
    step = {} if choice.log or choice.step is None else {"step": choice.step}
    return draw(name, choice.low, choice.high, log=choice.log, **step)
