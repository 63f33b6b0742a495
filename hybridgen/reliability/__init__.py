"""Training that survives: checkpoints that are whole or refused, exact resume, signals, the choice of a run folder.

What a model must do so that a training of it goes on exactly (every later loss, batch and weight bit for bit, on a
CPU) after ``kill -9``:

1. **Everything that the next step depends on is in the checkpoint.** Parameters, buffers and what optimisers and
   schedulers know are there already. Anything else (a counter, a flag, a phase, a running mean of an alarm, copies of
   good weights) goes into ``on_save_checkpoint`` and comes back in ``on_load_checkpoint``, as plain values and tensors:
   numbers, strings, lists, dicts. Nothing else can be read again.
2. **What only this process has** (a state that is carried over the lanes of its rank, a queue of its samples) is
   returned by ``rank_state() -> dict`` and taken back by ``load_rank_state(state)``: it is gathered over the processes.
   ``on_save_checkpoint`` of the first process would be all that the file knows.
3. **Draws** come from torch's, numpy's or Python's global generator, whose states of every process are saved and
   restored just before the first batch, or from a generator that is made anew from (seed, step, rank) for every batch
   or epoch. A ``torch.Generator`` that is kept over batches must be saved by rule 1 or 2.
4. **Hooks that a resumed run does not see again**: in the middle of an epoch there is no ``on_train_epoch_start``, and
   ``on_fit_start`` comes after the weights are loaded. What they prepare is prepared when it is missing
   (``if self._order is None``), from the seed, the epoch and the weights alone.
5. **Gradients that are kept over batches** (accumulation by hand) are saved when the property ``holds_gradients`` is
   true; Lightning's own ``accumulate_grad_batches`` needs nothing.
6. **Schedules are functions of** ``self.global_step`` or ``current_epoch``, not of calls counted since the start.
7. ``on_save_checkpoint`` changes nothing: a checkpoint is written at moments that differ from run to run.
8. ``options`` (what builds the model again) names its constructor's arguments: where an option that was changed does
   not fit the saved weights, the message names it.

``tests/reliability/test_exact_resume.py`` has a matrix of models: add a line for a new one.
"""
