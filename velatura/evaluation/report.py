"""The report of a run: one page that says which checkpoint to use, why, and shows it.

The page is one file without requests, scripts or anything of the machine it was made on. The verdict comes
first, in words; every number stands beside the pictures it was taken from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from velatura.evaluation.charts import Curve, Point, Series, legend, line_chart, scatter
from velatura.evaluation.choose import Choice
from velatura.evaluation.gates import Gate, gates, passes
from velatura.evaluation.heldout import BANDS, HeldOutLoss
from velatura.evaluation.page import definitions, figure, picture, section, whole
from velatura.evaluation.results import CheckpointResult, Results, Sample

Pictures = Mapping[str, bytes]
"""Path in the results -> the file's bytes, any format that Pillow reads."""
ROWS_SHOWN = 6
PAIRS_SHOWN = 6


def report_page(
    results: Results,
    choice: Choice,
    *,
    pictures: Pictures,
    title: str,
    curves: Sequence[Curve] = (),
    portfolio: Sequence[tuple[str, bytes]] = (),
    strengths: Sequence[tuple[str, bytes]] = (),
    pairs: Sequence[tuple[str, bytes, bytes]] = (),
    next_steps: Sequence[tuple[str, str]] = (),
) -> str:
    """The whole page as HTML.

    Args:
        results: what was measured.
        choice: the advice.
        pictures: bytes of the samples and of the training pictures they are like; one that is missing is
            shown as missing.
        title: of the page, plain text.
        curves: of the training.
        portfolio: caption and bytes of the pictures to open with.
        strengths: label ("0.4") and bytes of one scene over rising strength.
        pairs: caption, bytes of the base model's picture, bytes of the same with the LoRA.
        next_steps: command and what it does.
    """
    checks = gates(results)
    best = None if choice.step is None else results.at(choice.step)
    parts = [
        f'<header>\n<p class="over">Training report</p>\n<h1>{escape(title)}</h1>\n</header>\n',
        _verdict(results, choice),
        "" if best is None else _facts(best),
        _portfolio(portfolio),
        _strengths(strengths),
        _pairs(pairs),
        _charts(results, choice, checks),
        _checks(choice, checks),
        _samples(results, choice, pictures),
        _likeness(results, choice, pictures),
        _colours(best),
        _training(curves, choice),
        section("How it was made", definitions(_settings(results))),
        _next(next_steps),
        "<footer>Made with Velatura. Intervals are 95 %. Scores compare checkpoints of one run on one set of "
        "pictures; they are no measure of taste. Look at the pictures.</footer>",
    ]
    return whole(title, "".join(parts))


def verdict(results: Results, choice: Choice) -> str:
    """The advice in one sentence, as the page and the terminal say it."""
    if choice.step is None:
        return "No checkpoint to recommend."
    if choice.basis != "style and adherence" or results.at(choice.step).held_out is None:
        return f"Try step {choice.step} first."
    return f"Use step {choice.step}."


def _verdict(results: Results, choice: Choice) -> str:
    sure = ""
    if choice.step is not None and len(results.checkpoints) > 1 and choice.probability:
        others = [step for step in choice.tied if step != choice.step]
        share = sum(choice.probability.get(step, 0.0) for step in choice.tied)
        if others:
            sure = f"The best lies among steps {_list(sorted(choice.tied))} in {share:.0%} of the resampled trials."
        else:
            sure = f"It came out best in {share:.0%} of the resampled trials."
    why = "".join(f"<li>{escape(reason)}</li>" for reason in choice.reasons)
    minds = "".join(f"<li>{escape(warning)}</li>" for warning in choice.warnings)
    minds = f'<ul class="minds">{minds}</ul>' if minds else ""
    return (
        f'<div class="verdict{"" if choice.step is not None else " none"}">'
        f"<strong>{escape(verdict(results, choice))}</strong>"
        f"{f'<p>{escape(sure)}</p>' if sure else ''}<ul>{why}</ul>"
        f"{minds}</div>\n"
    )


def _facts(one: CheckpointResult) -> str:
    def fact(value: str, says: str, gauge: float | None = None) -> str:
        share = 0 if gauge is None else round(100 * min(max(gauge, 0), 1))
        bar = "" if gauge is None else f'<i class="gauge"><i style="width:{share}%"></i></i>'
        return f'<div class="fact"><b>{escape(value)}</b>{bar}<span>{escape(says)}</span></div>'

    unknown = "not measured"
    style, adherence, copies, held_out = one.style_score, one.adherence, one.copies, one.held_out
    sign = "worse" if held_out is not None and held_out.value > 0 else "better"
    tiles = [
        fact(unknown if style is None else f"{style:.0%}", "of the way to real pictures of the style", style),
        fact(
            unknown if adherence is None else f"{adherence:.0%}",
            "as faithful to the prompt as the base model",
            adherence,
        ),
        fact(
            unknown if copies is None else f"{copies.flagged} of {copies.total}",
            "pictures too close to a training picture",
        ),
        fact(unknown if held_out is None else f"{abs(held_out.value):.1%}", f"{sign} than the base on new pictures"),
    ]
    return f'<div class="facts">{"".join(tiles)}</div>\n'


def _portfolio(entries: Sequence[tuple[str, bytes]]) -> str:
    shown = "".join(figure(data, caption, side=640) for caption, data in entries)
    return section("What it paints", f'<div class="hero">{shown}</div>' if shown else "")


def _strengths(entries: Sequence[tuple[str, bytes]]) -> str:
    shown = "".join(figure(data, f"strength {label}", side=384, label=f"strength {label}") for label, data in entries)
    return section(
        "Strength",
        f'<div class="strip">{shown}</div>' if shown else "",
        lead="The same prompt and seed with more and more of the LoRA.",
    )


def _pairs(entries: Sequence[tuple[str, bytes, bytes]]) -> str:
    shown = "".join(
        f'<figure class="pair">{figure(base, f"{caption}, base model", side=384, label="base model")}'
        f"{figure(ours, f'{caption}, with the LoRA', side=384, label='with the LoRA')}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, base, ours in entries
    )
    return section(
        "Before and after",
        f'<div class="pairs">{shown}</div>' if shown else "",
        lead="The same prompt and seed, without and with the LoRA.",
    )


def _charts(results: Results, choice: Choice, checks: Mapping[int, tuple[Gate, ...]]) -> str:
    cards = [_style_card(results, choice, checks)]
    cards += [_card(curve, choice.step) for curve in (_loss_curve(results), _band_curve(results))]
    shown = "".join(cards)
    return section("How the run went", f'<div class="charts">{shown}</div>' if shown else "")


def _card(curve: Curve, chosen: int | None) -> str:
    chart = line_chart(curve, chosen=chosen)
    if not chart:
        return ""
    note = f"<p>{escape(curve.note)}</p>" if curve.note else ""
    return f'<div class="card"><h3>{escape(curve.title)}</h3>{note}{chart}{legend(curve)}</div>'


def _style_card(results: Results, choice: Choice, checks: Mapping[int, tuple[Gate, ...]]) -> str:
    points = [
        Point(
            str(one.step),
            one.adherence,
            one.style_score,
            None if one.style is None else one.style.interval,
            one.step == choice.step,
            not passes(checks[one.step]),
        )
        for one in results.checkpoints
        if one.style_score is not None and one.adherence is not None
    ]
    if points:
        chart = scatter(points, x_name="follows the prompt", y_name="style", title="Style and adherence")
        note = "Each dot is a checkpoint. Up is more style, right is more obedience; hollow is ruled out."
        return f'<div class="card"><h3>Style and adherence</h3><p>{note}</p>{chart}</div>'
    scored = [(one.step, one.style) for one in results.checkpoints if one.style_score is not None]
    steps = [step for step, style in scored if style is not None]
    values = [style.score for _, style in scored if style is not None and style.score is not None]
    note = "0 is the base model, 1 is real pictures of the style."
    return _card(Curve("Style", (Series("style", steps, values),), "style", note), choice.step)


def _percent(name: str, losses: Sequence[tuple[int, HeldOutLoss]], *, band: bool = True) -> Series:
    intervals = [loss.interval for _, loss in losses]
    known = [(100 * one[0], 100 * one[1]) for one in intervals if one is not None]
    return Series(
        name,
        [step for step, _ in losses],
        [100 * loss.value for _, loss in losses],
        known if band and len(known) == len(losses) else (),
    )


def _loss_curve(results: Results) -> Curve:
    held_out = [(one.step, one.held_out) for one in results.checkpoints if one.held_out is not None]
    training = [(one.step, one.training) for one in results.checkpoints if one.training is not None]
    lines = [_percent("pictures it never saw", held_out), _percent("training pictures", training, band=False)]
    note = "Change against the base model; lower is better. Where the lines part, it learns by heart."
    return Curve("Loss on held-out pictures", [line for line in lines if line.values], "%", note)


def _band_curve(results: Results) -> Curve:
    measured = [(one.step, one.held_out) for one in results.checkpoints if one.held_out is not None]
    lines = []
    for name in BANDS:
        known = [(step, 100 * loss.bands[name]) for step, loss in measured if name in loss.bands]
        if known:
            lines.append(Series(name, [step for step, _ in known], [value for _, value in known]))
    note = "The same by noise level. Composition rising first means that layouts are being learnt by heart."
    return Curve("Held-out loss by what is decided", lines, "%", note)


def _checks(choice: Choice, checks: Mapping[int, tuple[Gate, ...]]) -> str:
    if not checks:
        return ""
    names = [gate.name for gate in next(iter(checks.values()))]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for step, found in checks.items():
        cells = "".join(
            f'<td class="{gate.status}" title="{escape(gate.says)}">{escape(_short(gate))}</td>' for gate in found
        )
        rows.append(f"<tr{' class=chosen' if step == choice.step else ''}><th>{step}</th>{cells}</tr>")
    table = f'<table class="gates"><thead><tr><th>Step</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    shown = choice.step if choice.step is not None else list(checks)[-1]
    says = definitions({gate.name: gate.says or "It was not measured." for gate in checks[shown]})
    return section(
        "Checks",
        f'<div class="scroll">{table}</div><details><summary>What they say of step {shown}</summary>{says}</details>',
        lead="A checkpoint that fails one is ruled out, whatever its score. Limits are relative to the base model "
        "or to the training pictures.",
    )


def _short(gate: Gate) -> str:
    return "" if gate.status == "unknown" else gate.value


def _samples(results: Results, choice: Choice, pictures: Pictures) -> str:
    columns: list[tuple[str, str, Sequence[Sample]]] = [("base model", "", results.base.samples)]
    for one in results.checkpoints:
        chosen = one.step == choice.step
        columns.append((f"step {one.step}", "chosen" if chosen else "", one.samples))
    count = max((len(samples) for _, _, samples in columns), default=0)
    real: dict[str, list[Sample]] = {}
    for sample in results.held_out:
        real.setdefault(sample.caption, []).append(sample)
    rows = []
    for index in range(count):
        cells = []
        caption = ""
        for label, kind, samples in columns:
            if index >= len(samples):
                cells.append("<td></td>")
                continue
            sample = samples[index]
            caption = sample.caption
            marked = "copied" if sample.copied else kind
            said = f"{label}, copy?" if sample.copied else label
            shown = figure(pictures.get(sample.path), f"{caption}, {label}", label=said)
            cells.append(f'<td class="{marked}">{shown}</td>')
        # A real picture stands beside the first row of its caption.
        if real.get(caption):
            held = real[caption].pop(0)
            cells.append(f"<td>{figure(pictures.get(held.path), f'{caption}, real', label='real, held out')}</td>")
        prompt = f'<tr><th class="prompt" colspan="{len(columns) + 1}"><span>{escape(caption)}</span></th></tr>'
        rows.append(f"{prompt}<tr>{''.join(cells)}</tr>")
    rest = [sample for samples in real.values() for sample in samples]
    strip = "".join(figure(pictures.get(sample.path), sample.caption) for sample in rest)
    strip = f'<h3>Real pictures that training never saw</h3><div class="strip">{strip}</div>' if strip else ""
    return section(
        "Samples",
        _folded(rows) + strip,
        lead="Each row is one prompt and one seed; only the checkpoint changes from left to right.",
    )


def _folded(rows: Sequence[str]) -> str:
    """The first rows in sight, the others behind a click."""
    if not rows:
        return ""

    def table(shown: Sequence[str]) -> str:
        return f'<div class="scroll"><table class="samples">{"".join(shown)}</table></div>'

    first, more = rows[:ROWS_SHOWN], rows[ROWS_SHOWN:]
    if not more:
        return table(first)
    return f"{table(first)}<details><summary>{len(more)} more prompts</summary>{table(more)}</details>"


def _likeness(results: Results, choice: Choice, pictures: Pictures) -> str:
    """Pairs of a generated picture and the training picture most like it, one per prompt and original."""
    found: dict[tuple[str, str], list[tuple[int, Sample]]] = {}
    for one in results.checkpoints:
        for sample in one.samples:
            if sample.nearest is not None and (sample.copied or one.step == choice.step):
                found.setdefault((sample.caption, sample.nearest), []).append((one.step, sample))
    pairs = [_strongest(entries, choice.step) for entries in found.values()]
    pairs.sort(key=lambda pair: (not pair[1].copied, choice.step not in pair[0], -(pair[1].likeness or 0.0)))
    flagged = sum(sample.copied for _, sample in pairs)
    shown = pairs[: max(PAIRS_SHOWN, min(flagged, 2 * PAIRS_SHOWN))]
    cards = "".join(_pair(steps, sample, pictures) for steps, sample in shown)
    if flagged:
        lead = "Generated on the left, from training on the right. Suspected copies come first, outlined."
    else:
        lead = "The pictures that come closest to a training picture (right). None is suspected of being a copy."
    return section("Nearest training pictures", f'<div class="pairs">{cards}</div>' if cards else "", lead=lead)


def _strongest(entries: Sequence[tuple[int, Sample]], chosen: int | None) -> tuple[list[int], Sample]:
    """Of one prompt and one original: the steps where it was met, and the picture to show."""
    copied = [entry for entry in entries if entry[1].copied] or list(entries)
    best = max(copied, key=lambda entry: (entry[0] == chosen, entry[1].likeness or 0.0))
    return [step for step, _ in copied], best[1]


def _pair(steps: Sequence[int], sample: Sample, pictures: Pictures) -> str:
    likeness = "" if sample.likeness is None else f", likeness {sample.likeness:.2f}"
    suspect = ' <span class="flagged">suspected copy</span>' if sample.copied else ""
    original = None if sample.nearest is None else pictures.get(sample.nearest)
    return (
        f'<figure class="pair{" flag" if sample.copied else ""}">{picture(pictures.get(sample.path), sample.caption)}'
        f"{picture(original, 'training picture')}"
        f"<figcaption>step {_list(steps)}{likeness}{suspect}<br>{escape(sample.caption)}</figcaption></figure>"
    )


def _colours(one: CheckpointResult | None) -> str:
    probe = None if one is None else one.separability
    if probe is None or not probe.guesses or len(probe.names) != len(probe.guesses):
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in probe.names)
    rows = []
    for name, counts in zip(probe.names, probe.guesses, strict=True):
        total = max(sum(counts), 1)
        cells = "".join(
            f'<td style="background:color-mix(in srgb,var(--accent) {round(55 * count / total)}%,transparent)">'
            f"{count or ''}</td>"
            for count in counts
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    table = f'<table class="confusion"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return section(
        "Colours asked for",
        f'<div class="scroll">{table}</div>',
        lead="Rows are what was asked, columns what the picture's palette looks like. A dark diagonal means that "
        "requests stay distinct in this style.",
    )


def _training(curves: Sequence[Curve], choice: Choice) -> str:
    cards = "".join(_card(curve, choice.step) for curve in curves)
    return section("Training", f'<div class="charts">{cards}</div>' if cards else "")


def _settings(results: Results) -> dict[str, str]:
    counted = {
        "base model": results.base.name,
        "training pictures": str(results.training_count) if results.training_count else "",
        "held-out pictures": str(len(results.held_out)) if results.held_out else "none",
    }
    missing = {f"{name}, not measured": why for name, why in results.not_measured.items()}
    return {name: value for name, value in {**counted, **results.settings, **missing}.items() if value}


def _next(steps: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<li>{escape(says)}<br><code>{escape(command)}</code></li>" for command, says in steps)
    return section("What to do next", f'<ul class="steps">{rows}</ul>' if rows else "")


def _list(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return str(steps[0])
    return f"{', '.join(str(step) for step in steps[:-1])} and {steps[-1]}"
