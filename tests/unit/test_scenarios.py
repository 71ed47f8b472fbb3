"""Every scenario of the tables, at each of its moments: the rules, a naive replay and the words all agree."""

from __future__ import annotations

import pytest

from ledger.core.decide import EMPTY_STATE, Evaluator, decide_history, fold
from tests.unit.naive_replay import Question, replay_history
from tests.unit.scenario import Moment, Scenario, ms
from tests.unit.scenarios_of_change import SCENARIOS as OF_CHANGE
from tests.unit.scenarios_of_choice import SCENARIOS as OF_CHOICE
from tests.unit.scenarios_of_people import SCENARIOS as OF_PEOPLE

SCENARIOS = (*OF_CHOICE, *OF_PEOPLE, *OF_CHANGE)
CASES = [
    pytest.param(scenario, moment, id=f"{scenario.name}: {moment.asked}")
    for scenario in SCENARIOS
    for moment in scenario.moments
]


def test_no_scenario_is_told_twice_and_each_has_several_moments() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(len(scenario.moments) > 1 for scenario in SCENARIOS)


@pytest.mark.parametrize(("scenario", "moment"), CASES)
class TestEveryMoment:
    def test_has_its_answer(self, scenario: Scenario, moment: Moment) -> None:
        events = scenario.of(moment.device)
        for told in (events, events[::-1]):
            outcome = decide_history(
                scenario.policies,
                told,
                moment.purpose,
                at_ms=ms(moment.at),
                region=moment.region,
                gpc=moment.gpc,
                known_seq=moment.known,
                account_events=scenario.accounts,
                marks=scenario.marks,
            )
            assert moment.of(outcome) == moment.expected

    def test_has_the_answer_of_a_naive_replay(self, scenario: Scenario, moment: Moment) -> None:
        ask = Question(ms(moment.at), moment.region, moment.gpc, moment.known, scenario.marks)
        naive = replay_history(scenario.versions, scenario.of(moment.device), moment.purpose, ask, scenario.accounts)
        assert f"{naive.decision} {naive.reason}" == moment.answer.rpartition(" ")[0]
        assert (naive.ask, naive.notify, naive.conflict, naive.conditional) == (
            moment.ask,
            moment.notify,
            moment.conflict,
            moment.conditional,
        )

    def test_is_explained(self, scenario: Scenario, moment: Moment) -> None:
        at_ms, known = ms(moment.at), moment.known
        known_events = [one for one in scenario.told if known is None or one.seq <= known]
        known_scenario = scenario._replace(told=tuple(known_events))
        state = fold(EMPTY_STATE, known_scenario.of(moment.device), until_ms=at_ms)
        linked = None if state.account is None else known_scenario.accounts[state.account]
        account = None if linked is None else fold(EMPTY_STATE, linked, until_ms=at_ms)
        evaluator = Evaluator(scenario.policies, moment.purpose, at_ms=at_ms, known_seq=known)
        said = evaluator.explain(state, moment.region, moment.gpc, account, scenario.marks, known_events)
        decision, reason, _ = moment.answer.split(" ")
        assert f"So the answer is {decision}, for the reason {reason}." in said
        assert sum(sentence.startswith(f"Rule {reason} applies: ") for sentence in said) == 1
