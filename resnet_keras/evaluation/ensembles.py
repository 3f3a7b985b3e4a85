"""Several runs that answer together: the average of their probabilities.

He et al. 2016, "Deep Residual Learning", table 5, has the error of six networks.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resnet_keras.data.checks import CheckedSource
from resnet_keras.data.splits import Source
from resnet_keras.errors import InputError
from resnet_keras.evaluation.checks import check_distinct, check_measurable
from resnet_keras.evaluation.evaluate import data_of, probabilities, score
from resnet_keras.evaluation.protocols import ONE_VIEW, Protocol
from resnet_keras.evaluation.results import (
    ErrorRates,
    Evaluation,
    from_content,
    to_content,
    with_names,
)
from resnet_keras.files import structured
from resnet_keras.files.atomic import PARTIAL, check_writable, make_folder, write_text
from resnet_keras.files.structured import JsonObject
from resnet_keras.runs.run import Run, RunDetails

FOLDER = "the ensemble's folder"  # as messages call it
RESULT = "ensemble.json"
ACCEPTED = "the folder of an ensemble (evaluate --ensemble writes a new one)"
FORMAT_VERSION = 1
SHOWN_CLASSES = 5  # of each run, in an error


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        run: its folder, as it was given.
        network: its name.
        protocol: how it was tested; with the scales of this network, if it has some.
        alone: what it would reach alone.
    """

    run: str
    network: str
    protocol: Protocol
    alone: ErrorRates


@dataclass(frozen=True)
class Ensemble:
    """What ensemble.json tells.

    Attributes:
        members: the runs, in the order given.
        protocol: how each of them was tested, as it was asked for.
        data, fingerprint: of the source, as in `RunDetails`.
        class_names: in the order of the probabilities.
        evaluation: of the averaged probabilities.
    """

    members: tuple[Member, ...]
    protocol: Protocol
    data: str
    fingerprint: str
    class_names: tuple[str, ...]
    evaluation: Evaluation

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("there are no runs in it")


def default_folder(runs: Sequence[Run], protocol: Protocol, parent: Path) -> Path:
    """Where an ensemble goes if nobody says: another folder for other runs and protocols."""
    networks = "+".join(sorted({run.read_details().network for run in runs}))
    return parent / f"ensemble-{networks}-{protocol.name}-{_key(runs, protocol)}"


def _key(runs: Sequence[Run], protocol: Protocol) -> str:
    """Tells ensembles apart; the same in whatever order the runs are given."""
    told = [str(protocol), *sorted(str(run.folder.resolve()) for run in runs)]
    return hashlib.sha256("\0".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def evaluate_ensemble(
    runs: Sequence[Run],
    folder: Path,
    protocol: Protocol = ONE_VIEW,
    source: Source | None = None,
    verbose: int | str = "auto",
) -> Ensemble:
    """Measures runs together on their test images, and keeps the result as ensemble.json.

    Args:
        runs: two at least; each is measured by its best model.
        folder: of the result; made if missing. One with the result of the same runs by the same
            protocol is measured again, one with anything else is left alone.
        protocol: how to test every one of them.
        source: of the test images; None finds it by the name that the runs tell.
        verbose: see `evaluation.evaluate_run`.

    Raises:
        InputError: there is one run or one is there twice, a run cannot be measured so, the runs
            have other classes or other data, or the folder holds other things.
    """
    details_of_runs = _check_runs(runs, protocol)
    check_writable(folder, FOLDER)
    data = _common_data(runs, source)
    key = _key(runs, protocol)
    _make_folder(folder, key)
    test = data.load("test")
    sums = np.zeros((len(test), len(data.class_names)), np.float32)
    members = []
    for run, details in zip(runs, details_of_runs, strict=True):
        print(f"testing {run}, protocol {protocol}", flush=True)
        answers = probabilities(run, test, protocol, verbose)
        alone = score(answers, test.labels)
        members.append(
            Member(
                str(run),
                details.network,
                protocol.at(details.image_size),
                ErrorRates(alone.images, alone.top1_error, alone.top5_error),
            )
        )
        sums += answers
    evaluation = with_names(score(sums / len(runs), test.labels), test, data.class_names)
    ensemble = Ensemble(
        members=tuple(members),
        protocol=protocol,
        data=data.name,
        fingerprint=data.fingerprint,
        class_names=data.class_names,
        evaluation=evaluation,
    )
    _write(folder, ensemble, key)
    return ensemble


def _check_runs(runs: Sequence[Run], protocol: Protocol) -> list[RunDetails]:
    if len(runs) < 2:
        raise InputError(
            "an ensemble needs several runs",
            received=", ".join(map(str, runs)) or "none",
            accepted="two run folders or more",
        )
    check_distinct(runs)
    return [check_measurable(run, protocol) for run in runs]


def _common_data(runs: Sequence[Run], source: Source | None) -> CheckedSource:
    first, *others = runs
    data = data_of(first, source)
    for run in others:
        its_data = data_of(run, source)
        if its_data.class_names != data.class_names:
            raise InputError(
                "the runs have different classes, or a different order of classes",
                received=f"{_some(data.class_names)} in {first}, "
                f"{_some(its_data.class_names)} in {run}",
                accepted="runs on the same data",
            )
        if its_data.fingerprint != data.fingerprint:
            raise InputError(
                "the runs have different images",
                received=f"{data.name}, {data.fingerprint}, in {first} and "
                f"{its_data.name}, {its_data.fingerprint}, in {run}",
                accepted="runs on the same data",
            )
    return data


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN_CLASSES])
    return f"{shown}, … ({len(names)})" if len(names) > SHOWN_CLASSES else shown


def _make_folder(folder: Path, key: str) -> None:
    """Makes a folder that holds nothing, or the result of this very ensemble.

    Raises:
        InputError: it cannot be made or written, or it holds other things.
    """
    make_folder(folder, FOLDER)
    inside = [path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL)]
    if inside and (RESULT not in inside or _read(folder).get("key") != key):
        other = "the result of another ensemble" if RESULT in inside else "files of something else"
        raise InputError(
            f"the folder holds {other}", received=folder, accepted="a new or an empty folder"
        )


def _write(folder: Path, ensemble: Ensemble, key: str) -> None:
    content = {
        "format": FORMAT_VERSION,
        "key": key,
        "data": ensemble.data,
        "fingerprint": ensemble.fingerprint,
        "class_names": ensemble.class_names,
        "members": [
            {
                **asdict(member),
                "top1_interval": member.alone.top1_interval,
                "top5_interval": member.alone.top5_interval,
            }
            for member in ensemble.members
        ],
        "evaluation": to_content(ensemble.evaluation, ensemble.protocol),
    }
    write_text(folder / RESULT, json.dumps(content, indent=2) + "\n")


def read_ensemble(folder: Path) -> Ensemble:
    """The result in an ensemble's folder.

    Raises:
        InputError: there is none, or its file is damaged or of a later format.
    """
    path = folder / RESULT
    content = _read(folder)
    protocol, evaluation = from_content(content.get("evaluation"), path)
    told = {name: content.get(name) for name in ("members", "data", "fingerprint", "class_names")}
    told |= {"protocol": asdict(protocol), "evaluation": asdict(evaluation)}
    # The members' intervals are for other readers.
    return structured.convert(told, Ensemble, path, ACCEPTED, extra="ignore")


def _read(folder: Path) -> JsonObject:
    try:
        return structured.read_format(folder / RESULT, [FORMAT_VERSION], ACCEPTED)
    except FileNotFoundError as error:
        raise InputError(
            "the folder holds no ensemble",
            received=f"{folder} ({RESULT} is missing)",
            accepted=ACCEPTED,
        ) from error
