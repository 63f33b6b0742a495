"""`hybridgen sample`: new text, series, sounds or music from a checkpoint."""

import sys
from typing import Any

from hybridgen.commands.decoding import add_decoding, decoding_from
from hybridgen.commands.latent import prior_rows
from hybridgen.commands.options import Parser, at_home, check_folder_above, check_number, check_out_file, read_text
from hybridgen.commands.sequences import add_sequence_options, refuse_for_text, write_sequences
from hybridgen.commands.writing import write_json_lines


def run(arguments: list[str]) -> int:
    """Write text to the terminal as it grows or to a JSONL file; series, sounds and music to files of their own.

    Raises:
        ValueError: if the checkpoint, an option or the place of the output does not fit; the message is for the user.
    """
    parser = Parser(prog="hybridgen sample", description="New text, series, sounds or music from a checkpoint.")
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint that fit wrote")
    parser.add_argument("--prompt", help="text to continue; - reads it from standard input")
    parser.add_argument("--prompt_file", metavar="FILE", help="file with the text to continue")
    parser.add_argument("--num_samples", type=int, default=1, help="number of samples")
    parser.add_argument("--out", metavar="PATH", help="text: JSON lines; else csv, npz, mid, png... or a folder")
    add_decoding(parser)
    add_sequence_options(parser)
    options = parser.parse_args(arguments)
    check_number("--num_samples", options.num_samples, 1)
    decoding = decoding_from(options)
    prompt = _prompt(options.prompt, options.prompt_file)
    if options.out is not None:
        out = at_home(options.out, "--out")
        check_folder_above(out)
        options.out = str(out)

    from hybridgen.loading import load

    model = load(options.ckpt)
    if not hasattr(model, "sample_prior") and not hasattr(model, "generate_stream"):
        write_sequences(model, options)
        return 0
    refuse_for_text(options, type(model).__name__)
    check_out_file(options.out)
    if hasattr(model, "sample_prior"):
        _write(options.out, prior_rows(model, options.num_samples, decoding, prompt))
        return 0
    if options.num_beams > 1:
        if options.num_samples > options.num_beams:
            raise ValueError(
                f"--num_samples is {options.num_samples}, but a search with --num_beams {options.num_beams} finds "
                f"{options.num_beams} texts: give at most so many samples, or more beams"
            )
        texts = model.search(prompt, decoding)[: options.num_samples]
        _write(options.out, [{"sample": i, "prompt": prompt, **row} for i, row in enumerate(texts)])
    elif options.out is None and options.num_samples == 1:
        _print_as_it_grows(model, prompt, decoding)
    else:
        samples = model.generate([prompt] * options.num_samples, decoding)
        rows = [
            {
                "sample": i,
                "seed": decoding.seed,
                "prompt": prompt,
                "text": text,
                "tokens": int(length),
                "nats": -float(nats.sum()),
                "finish_reason": reason,
            }
            for i, (text, length, nats, reason) in enumerate(
                zip(samples.texts, samples.lengths, samples.log_probs, samples.finish_reasons, strict=True)
            )
        ]
        _write(options.out, rows)
    return 0


def _prompt(prompt: str | None, path: str | None) -> str:
    if prompt is not None and path is not None:
        raise ValueError("--prompt and --prompt_file are both given: choose one")
    if prompt == "-":
        return _standard_input()
    return (prompt or "") if path is None else read_text(path, "--prompt_file")


def _standard_input() -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise ValueError("--prompt - reads standard input, which is closed: give the text itself, or --prompt_file")
    try:
        return sys.stdin.read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompt -: standard input is not UTF-8 at byte {error.start}") from None


def _print_as_it_grows(model: Any, prompt: str, decoding: Any) -> None:
    print(prompt, end="", flush=True)
    for event in model.generate_stream([prompt], decoding):
        print(event.texts[0], end="", flush=True)
    print()


def _write(out: str | None, rows: list[dict[str, Any]]) -> None:
    if out is None:
        for row in rows:
            print(f"--- sample {row['sample']}\n{row['prompt']}{row['text']}")
        return
    write_json_lines(out, rows)
    print(f"{len(rows)} samples written to {out}", file=sys.stderr)
