"""InputError tells the whole story in one line, and the check of its form can fail."""

import inspect
import pickle

import pytest
from kit import TESTS, faults_of

from resnet_keras.errors import (
    InputError,
    did_you_mean,
    did_you_mean_beside,
    nearest,
)

GOOD = {"problem": "the side is odd", "received": 7, "accepted": "an even side"}


def test_the_message_and_its_parts():
    error = InputError("the side is odd", received=7, accepted="an even side")
    assert str(error) == "the side is odd. Received: 7; accepted: an even side"
    assert (error.problem, error.received, error.accepted) == (
        "the side is odd",
        "7",
        "an even side",
    )
    assert isinstance(error, ValueError)


def test_a_question_stands_for_what_is_accepted():
    error = InputError("unknown colour", received="'gren'", accepted="did you mean green?")
    assert str(error) == "unknown colour. Received: 'gren'; did you mean green?"
    assert error.accepted == "did you mean green?"


def test_items_follow_in_indented_lines():
    error = InputError(**GOOD, items=("a.png: 7", "b.png: 9"))
    assert str(error).splitlines() == [str(InputError(**GOOD)), "  a.png: 7", "  b.png: 9"]


@pytest.mark.parametrize("part", GOOD)
def test_every_part_is_one_line(part):
    """A folder's name may have line breaks, and bytes that are no UTF-8, which Python keeps so."""
    error = InputError(**{**GOOD, part: "a\nb\u2028c\r\udcff", "items": ["d\ne.png: 7"]})
    assert getattr(error, part) == r"a\nb\u2028c\r\udcff"
    assert str(error).splitlines()[1:] == [r"  d\ne.png: 7"]


def test_another_process_gets_the_same_error():
    error = InputError(**GOOD, items=("a.png: 7",))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is InputError
    assert (str(copy), vars(copy)) == (str(error), vars(error))


COLOURS = ["red", "green", "grey", "greenish"]


def test_nearest_asks_for_similar_names_and_lists_all_if_there_are_none():
    assert nearest("gren", COLOURS) == "did you mean green, grey, greenish?"
    assert nearest("turquoise", COLOURS) == "red, green, grey, greenish"


def test_did_you_mean_names_the_most_similar_word_if_there_is_one():
    assert did_you_mean("gren", iter(COLOURS)) == "; did you mean 'green'?"
    assert did_you_mean("turquoise", COLOURS) == ""


def test_did_you_mean_beside_names_a_neighbour_of_the_path(tmp_path):
    (tmp_path / "flowers").mkdir()
    assert did_you_mean_beside(tmp_path / "flower") == f"; did you mean '{tmp_path / 'flowers'}'?"
    assert did_you_mean_beside(tmp_path / "cars") == ""
    assert did_you_mean_beside(tmp_path / "no folder" / "flower") == ""


# The check that conftest.py makes of every error.


def unheard(**parts):
    """An InputError of which conftest.py does not hear: its form would fail the test."""
    error = InputError.__new__(InputError)
    inspect.unwrap(InputError.__init__)(error, **{**GOOD, **parts})
    return error


def test_a_good_error_has_no_faults():
    assert faults_of(InputError(**GOOD)) == []
    assert faults_of(InputError(**GOOD, items=("a.png: 7", "b.png: 9"))) == []
    assert faults_of(InputError(**{**GOOD, "accepted": "did you mean 8?"})) == []


@pytest.mark.parametrize("part", GOOD)
def test_an_empty_part_is_a_fault(part):
    assert faults_of(unheard(**{part: " "})) == [f"{part} is empty"]


@pytest.mark.parametrize("part", GOOD)
def test_a_part_that_the_message_lacks_is_a_fault(part):
    error = unheard()
    error.args = (str(error).replace(getattr(error, part), "nothing"),)
    assert faults_of(error) == [f"{part} is not in the message"]


@pytest.mark.parametrize("mark", [".", ":", ";"])
def test_a_problem_that_ends_in_a_punctuation_mark_is_a_fault(mark):
    (fault,) = faults_of(unheard(problem=f"the side is odd{mark}"))
    assert "punctuation" in fault


INNER = """
from resnet_keras.errors import InputError

def test_that_meets_a_bad_error():
    InputError("the side is odd.", received=7, accepted="an even side")

def test_that_meets_a_good_error():
    InputError("the side is odd", received=7, accepted="an even side")
"""


class Outcomes:
    """Plugin of pytest that collects which phases of which tests failed."""

    def __init__(self):
        self.passed, self.failed = [], []

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.rpartition("::")[2]
        (self.passed if report.passed else self.failed).append((name, report.when))


def test_a_test_that_meets_a_bad_error_fails(tmp_path, request, monkeypatch):
    (tmp_path / "test_inner.py").write_text(INNER)
    # The tests inside are under the same conftest.py, which remembers errors once more.
    monkeypatch.setattr(InputError, "__init__", inspect.unwrap(InputError.__init__))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    conftest = request.config.pluginmanager.getplugin(str(TESTS / "conftest.py"))
    outcomes = Outcomes()
    assert pytest.main([str(tmp_path), f"--rootdir={tmp_path}"], [conftest, outcomes]) == 1
    assert outcomes.failed == [("test_that_meets_a_bad_error", "teardown")]
    assert ("test_that_meets_a_good_error", "teardown") in outcomes.passed
