"""The pages of the benchmarks in docs/explanation, from what the benchmarks found last."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import measuring
import peers
from growth import BATCHES, CIFAR_DEPTHS, IMAGENET_DEPTHS, RECOMPUTED, RESNEXT, VERY_DEEP, Case, fit
from inference import BATCHES as AT_ONCE

from resnet_keras.files import html

HERE = Path(__file__).parent
AIMS = {  # of ours over a peer, as ResNet-50 is trained: aim and stretch aim
    "mixed_bfloat16": {peers.APPLICATIONS: (1.6, 1.8), "PyTorch's best": (1.2, 1.3)},
    "float32": {peers.APPLICATIONS: (1.4, 1.5)},
}
FLOOR = 0.9  # share of the convolutions' speed, as an aim
STEPS = {  # results by heading; the last are kept from a run on another processor
    "mixed_bfloat16": "training_step-mixed_bfloat16",
    "float32": "training_step-float32",
    "float32, with AVX2 alone, before Winograd's convolutions": "training_step-float32-avx2",
}


PAGES = {"benchmarks.md": "page.md.j2", "benchmark-details.md": "details.md.j2"}
"""Pages of docs/explanation, and their templates."""


def written(page: str) -> str:
    """One of PAGES, from what was found last."""
    found = {
        name: measuring.read_results(name)
        for name in (*STEPS.values(), "fit", "inference", "growth", "growth-very-deep", "gpu")
    }
    usual = where(found["fit"]) if found["fit"] else ""
    return (
        html.templates(HERE)
        .get_template(PAGES[page])
        .render(
            steps={heading: found[name] for heading, name in STEPS.items() if found[name]},
            verdicts=verdicts,
            found=found,
            training_tables=training_tables,
            fit_table=fit_table,
            inference_table=inference_table,
            speedup=speedup,
            fastest_table=fastest_table,
            growth_table=growth_table,
            lines=lines,
            by_depth=by_depth,
            cold_table=cold_table,
            gpu_table=gpu_table,
            usual=usual,
            elsewhere=lambda results: "" if where(results) == usual else f"{where(results)}.",
            cifar=CIFAR_DEPTHS,
            imagenet=IMAGENET_DEPTHS,
            batches=BATCHES,
            recomputed=RECOMPUTED,
            resnext=RESNEXT,
            very_deep=(*RECOMPUTED, *VERY_DEEP),
            deepest=VERY_DEEP,
        )
    )


def where(results: dict[str, Any]) -> str:
    """Machine, date and versions in a line."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"{results['machine']}; {results['date']}; {versions}"


def ratio(values: Sequence[float], references: Sequence[float]) -> str:
    """Median of the rounds' ratios, lowest and highest."""
    return measuring.spread(measuring.ratios(values, references))


def training_tables(results: dict[str, Any]) -> Iterable[tuple[dict[str, Any], str]]:
    """A task and its table for each network."""
    for comparison in results["comparisons"].values():
        found = comparison["found"]
        ours = found[peers.OURS]
        rows = [
            (
                peer,
                measuring.spread(speeds, 1),
                "" if peer == peers.OURS else _emphasized(ratio(ours, speeds)),
            )
            for peer, speeds in found.items()
        ]
        columns = ("peer", "images/s", "ours over it, round by round")
        yield comparison["task"], html.table(columns, rows)


def _emphasized(spread: str) -> str:
    median, rest = spread.split(" ", 1)
    return f"**{median}** {rest}"


def verdicts(results: dict[str, Any]) -> list[str]:
    """The aims for ResNet-50, and whether they were reached."""
    if "resnet50" not in results["comparisons"]:
        return []
    comparison = results["comparisons"]["resnet50"]
    found = dict(comparison["found"])
    ours = found[peers.OURS]
    torch = [found[peer] for peer in (peers.TORCH, peers.TORCH_COMPILED) if peer in found]
    if torch:
        found["PyTorch's best"] = max(torch, key=statistics.median)
    told = []
    for peer, (least, hoped) in AIMS[comparison["task"]["policy"]].items():
        if peer in found:
            reached = statistics.median(measuring.ratios(ours, found[peer]))
            told.append(
                f"Over {peer} {reached:.2f}: aim {least} {_verdict(reached >= least)}, "
                f"stretch aim {hoped} {_verdict(reached >= hoped)}."
            )
    share = statistics.median(measuring.ratios(ours, found[peers.CONVOLUTIONS]))
    speed = f"{share:.0%} of the convolutions' speed: aim {FLOOR:.0%} {_verdict(share >= FLOOR)}."
    return [*told, speed]


def _verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "**missed**"


def fit_table(results: dict[str, Any]) -> str:
    """`fit` beside bare steps."""
    found = results["images_per_second"]
    bare = next(iter(found))
    rows = [
        (name, measuring.spread(speeds, 1), "" if name == bare else ratio(speeds, found[bare]))
        for name, speeds in found.items()
    ]
    return html.table(("", "images/s", "share of the bare step"), rows)


def inference_table(results: dict[str, Any]) -> str:
    """Images a second of every file."""
    rows = [
        (name, *(measuring.spread(speeds[str(batch)], 1) for batch in AT_ONCE))
        for name, speeds in results["images_per_second"].items()
    ]
    return html.table(("", *(f"{batch} a call, images/s" for batch in AT_ONCE)), rows)


def speedup(results: dict[str, Any], runtime: str) -> str:
    """Of int8 over float32 in a runtime, one image a call."""
    found = results["images_per_second"]
    fast, slow = (found[f"resnet_keras, {runtime}, {kind}"]["1"] for kind in ("int8", "float32"))
    return ratio(fast, slow)


def fastest_table(results: dict[str, Any]) -> str:
    """The fastest of ours over the fastest of the others, with int8 and in floats alone."""
    rows = []
    for batch in AT_ONCE:
        found = {name: of[str(batch)] for name, of in results["images_per_second"].items()}
        mine = {name: of for name, of in found.items() if name.startswith(peers.OURS)}
        second = _fastest({name: of for name, of in found.items() if name not in mine})
        floats = {name: of for name, of in mine.items() if "int8" not in name}
        for first in (_fastest(mine), _fastest(floats)):
            over = measuring.ratios(found[first], found[second])
            verdict = "faster" if statistics.median(over) >= 1 else "**slower**"
            rows.append((f"{batch} a call", first, second, f"{measuring.spread(over)}, {verdict}"))
    return html.table(("", "ours", "of the others", "ours over it"), rows, words=3)


def _fastest(speeds: dict[str, list[float]]) -> str:
    return max(speeds, key=lambda name: statistics.median(speeds[name]))


def _of(results: dict[str, Any], case: Case, name: str) -> list[float]:
    return [
        row[name]
        for row in results["measurements"]
        if all(row[field] == getattr(case, field) for field in Case.__dataclass_fields__)
    ]


def growth_table(results: dict[str, Any], cases: Sequence[Case]) -> str:
    """What each case took; a median where it was measured more than once."""
    rows = [
        (
            case.network + (", recomputed" if case.recompute else ""),
            f"{case.image_size}x{case.image_size}, {case.batch_size}",
            *(
                measuring.spread(values, 2) if len(set(values)) > 1 else f"{values[0]:.2f}"
                for name in ("build", "first_step", "step", "memory")
                if (values := _of(results, case, name))
            ),
        )
        for case in cases
    ]
    columns = ("network", "images", "build, s", "first step, s", "step, s", "memory, GB")
    return html.table(columns, rows, words=2)


def lines(results: dict[str, Any], cases: Sequence[Case], by: str) -> str:
    """The straight lines through what was measured, by depth or batch."""
    rows = []
    for name, unit in (("build", "s"), ("step", "s"), ("memory", "GB")):
        if name == "build" and by == "batch":
            continue
        slope, intercept, explained = _line(results, cases, by, name)
        rows.append((f"{name}, {unit}", f"{slope:.4f}", f"{intercept:.2f}", f"{explained:.3f}"))
    each = "an image" if by == "batch" else "a layer"
    return html.table(("", each, "fixed", "of the variance explained"), rows)


def by_depth(results: dict[str, Any], cases: Sequence[Case], name: str, depth: int) -> str:
    """What the line by depth says of a deeper network."""
    slope, intercept, _ = _line(results, cases, "depth", name)
    return f"{slope * depth + intercept:.1f}"


def _line(
    results: dict[str, Any], cases: Sequence[Case], by: str, name: str
) -> tuple[float, float, float]:
    from resnet_keras.architectures import find

    xs = [case.batch_size if by == "batch" else find(case.network).depth for case in cases]
    return fit(xs, [statistics.median(_of(results, case, name)) for case in cases])


def cold_table(results: dict[str, Any]) -> str:
    """Seconds from the start of a process to its end."""
    rows = [(name, measuring.spread(of, 2)) for name, of in results["cold_start"].items()]
    return html.table(("from a cold start", "seconds"), rows)


def gpu_table(results: dict[str, Any]) -> str:
    """What gpu.py found."""
    cases = dict.fromkeys(
        (row["precision"], row["batch_size"], row["peer"]) for row in results["measurements"]
    )
    rows = []
    for case in cases:
        speeds = [
            row["images_per_second"]
            for row in results["measurements"]
            if (row["precision"], row["batch_size"], row["peer"]) == case
            and "images_per_second" in row
        ]
        told = measuring.spread(speeds, 0) if speeds else "failed"
        rows.append((*map(str, case), told))
    return html.table(("precision", "batch", "peer", "images/s"), rows, words=3)
