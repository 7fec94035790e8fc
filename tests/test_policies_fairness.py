"""The fairness of srpt: worked out by hand, and its bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paella import _core


def fill(policy, models):
    """Pushes jobs of each (model, remaining_us, count); says of which model each job is."""
    model_of = {}
    for model, remaining_us, count in models:
        for _ in range(count):
            model_of[len(model_of)] = model
            policy.push(len(model_of) - 1, model, remaining_us)
    return model_of


def pop_models(policy, model_of, count):
    return "".join(str(model_of[policy.pop()]) for _ in range(count))


def test_counters_of_two_models_by_hand():
    # Model 1 gains 1/2 with each dispatch of model 0 and reaches 2 after four. Its own dispatch
    # takes it to 2 + 1/2 - 1 = 3/2, one of model 0 back to 2, and so on in turn.
    policy = _core.Policy("srpt", threshold=2)
    model_of = fill(policy, [(0, 1.0, 8), (1, 100.0, 4)])
    assert pop_models(policy, model_of, 12) == "000010101010"


def test_counters_of_three_models_by_hand():
    # counters of 0, 1, 2 before each dispatch, in thirds, with a threshold of 3 thirds:
    #  0 0 0 -> 0;  -2 1 1 -> 0;  -4 2 2 -> 0;  -6 3 3 -> 1, shorter than 2;  -5 1 4 -> 2;
    # -4 2 2 -> 0;  -6 3 3 -> 1, its last: it leaves; 0 and 2 at -5/3 and 4/3 -> 2;
    # then -7/6 and 5/6 -> 0;  -10/6 and 8/6 -> 2
    policy = _core.Policy("srpt", threshold=1)
    model_of = fill(policy, [(0, 1.0, 9), (1, 50.0, 2), (2, 100.0, 4)])
    assert pop_models(policy, model_of, 10) == "0001201202"


def test_a_model_that_had_nothing_waiting_starts_anew():
    policy = _core.Policy("srpt", threshold=1)
    model_of = fill(policy, [(0, 1.0, 20), (1, 100.0, 1)])
    assert pop_models(policy, model_of, 3) == "001"
    # Had model 1 kept its 1/2, it would be next after one more dispatch of model 0; it had nothing
    # waiting, so that it takes two again.
    for job in (100, 101):
        model_of[job] = 1
        policy.push(job, 1, 100.0)
    assert pop_models(policy, model_of, 5) == "00101"


def test_threshold_zero_serves_who_is_furthest_behind():
    policy = _core.Policy("srpt", threshold=0)
    model_of = fill(policy, [(0, 3.0, 4), (1, 1.0, 4), (2, 2.0, 4)])
    assert pop_models(policy, model_of, 12) == "120" * 4


def test_shares_of_more_models_than_divide_evenly_are_not_lost():
    # Sixteen models reach 17 * 1/17 together, and all of them are served before model 0 again.
    policy = _core.Policy("srpt", threshold=1)
    model_of = fill(policy, [(0, 1.0, 20), *((model, 10.0 + model, 1) for model in range(1, 17))])
    models = [model_of[policy.pop()] for _ in range(36)]
    assert models == [0] * 17 + list(range(1, 17)) + [0] * 3


def test_a_decimal_threshold_is_met_exactly():
    # 2.2 is not a binary number; the others of five models have 11 * 1/5 after eleven dispatches.
    policy = _core.Policy("srpt", threshold=2.2)
    model_of = fill(policy, [(0, 1.0, 20), *((model, 10.0 + model, 1) for model in range(1, 5))])
    assert pop_models(policy, model_of, 17) == "0" * 11 + "1234" + "00"


REMAINING = st.lists(st.sampled_from([1.0, 2.0, 50.0, 1e4]), min_size=2, max_size=6)


def slack(models):
    """How far the fullest of n vessels can be above the threshold when it is always emptied first:
    the n-th harmonic number and one."""
    return 1 + sum(1 / k for k in range(1, models + 1))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 3.0, 10.0])
@settings(max_examples=40, deadline=None)
@given(remaining=REMAINING)
def test_unfairness_is_bounded_by_the_threshold(threshold, remaining):
    # Every model always has jobs waiting: none falls further behind its equal share.
    policy = _core.Policy("srpt", threshold=threshold)
    n = len(remaining)
    for model in (*range(n), *range(n)):
        policy.push(model, model, remaining[model])
    served = [0] * n
    for dispatch in range(1, 301):
        model = policy.pop()
        policy.push(model, model, remaining[model])
        served[model] += 1
        assert dispatch / n - min(served) <= threshold + slack(n)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 3.0, 10.0])
@settings(max_examples=40, deadline=None)
@given(remaining=REMAINING)
def test_a_wait_is_bounded_by_the_threshold(threshold, remaining):
    # One job a model, so that every counter starts anew after each of its dispatches.
    policy = _core.Policy("srpt", threshold=threshold)
    n = len(remaining)
    for model in range(n):
        policy.push(model, model, remaining[model])
    passed_over = [0] * n
    for _ in range(300):
        model = policy.pop()
        policy.push(model, model, remaining[model])
        passed_over = [0 if m == model else passes + 1 for m, passes in enumerate(passed_over)]
        assert max(passed_over) <= n * (threshold + slack(n))


def test_a_large_threshold_starves_what_is_long():
    policy = _core.Policy("srpt", threshold=1e6)
    policy.push(0, 0, 1.0)
    policy.push(1, 1, 2.0)
    for _ in range(5000):
        assert policy.pop() == 0
        policy.push(0, 0, 1.0)
