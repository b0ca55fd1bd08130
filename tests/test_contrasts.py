"""The estimator of notebook 07: closed forms, made-up studies whose truth is known, bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kit.contrasts import PAIRS, UNTRAINED, contrast, score_table, variance_ratio
from kit.core.stats import holm
from kit.effects import (
    Effect,
    alike,
    better,
    difficulty_steering,
    multi_turn_yield,
    spread,
    trained,
)
from kit.power import Components, smallest_effect, smallest_ratio


def made_up(rng, gain, studies=1, seeds=3, problems=36, samples=4, **sds):
    """Two arms of some studies of sampled answers, studies x seeds x problems.

    The first arm is better by `gain` (in logits). A pass rate comes from the problem, the seed
    (`seed`; the share `shared` of its variance is the same in both arms), the seed and problem
    together (0.5), the arm and problem (`arm`), the arm and snippet (`snippet`; a snippet has three
    problems). At 36 problems and 4 samples gains of 0.5 and 1 are 8 and 17 points.
    """
    sd = {"seed": 0.15, "arm": 0.0, "snippet": 0.0, "shared": 0.0} | sds
    difficulty = rng.normal(0, 1.5, (studies, 1, problems))
    common = rng.normal(0, 1, (studies, seeds, 1))
    out = []
    for shift in (gain, 0.0):
        alone = rng.normal(0, 1, (studies, seeds, 1))
        of_seed = np.sqrt(sd["shared"]) * common + np.sqrt(1 - sd["shared"]) * alone
        of_snippet = rng.normal(0, sd["snippet"], (studies, 1, problems // 3))
        logit = (
            difficulty
            + shift
            + sd["seed"] * of_seed
            + rng.normal(0, 0.5, (studies, seeds, problems))
            + rng.normal(0, sd["arm"], (studies, 1, problems))
            + np.repeat(of_snippet, 3, axis=2)
        )
        out.append(rng.binomial(samples, 1 / (1 + np.exp(-logit))) / samples)
    return out


def labelled(table, in_snippets=False):
    """One arm of one study as a frame."""
    names = [f"p{p}" for p in range(table.shape[1])]
    snippets = [f"s{p // 3}" if in_snippets else name for p, name in enumerate(names)]
    return pd.DataFrame(table, columns=pd.MultiIndex.from_arrays([names, snippets]))


def answers(rng, gain, **sizes):
    """The two arms of one study."""
    return [pd.DataFrame(arm[0]).add_prefix("p", axis=1) for arm in made_up(rng, gain, **sizes)]


def many_tests(a, b, in_snippets=False):
    """t and its degrees of freedom for many studies at once, written anew from the formulas."""
    blocks = [a - b] if a.shape[1] >= PAIRS else [a, -b]
    size = 3 if in_snippets else 1
    problems = a.shape[2]
    groups = problems // size

    def squares(rows):
        """Sum over clusters of the squared sums within them, by study."""
        summed = rows.reshape(*rows.shape[:-1], groups, size).sum(axis=-1)
        return (summed**2).sum(axis=-1) * groups / (groups - 1) / problems**2

    by_problem = sum(block.mean(axis=1) for block in blocks)
    value = by_problem.mean(axis=1)
    of_problems = squares(by_problem - value[:, None])
    added = 0.0
    uncertain = 0.0
    for block in blocks:
        seeds = block.shape[1]
        rows, columns = block.mean(axis=2, keepdims=True), block.mean(axis=1, keepdims=True)
        left = block - rows - columns + block.mean(axis=(1, 2), keepdims=True)
        of_rest = squares(left).sum(axis=1) / seeds / (seeds - 1)
        of_seeds = rows[:, :, 0].var(axis=1, ddof=1) / seeds
        added = added + of_seeds - of_rest
        uncertain = uncertain + (of_seeds**2 + of_rest**2 / (groups - 1)) / (seeds - 1)
    variance = of_problems + np.maximum(0, added)
    df = variance**2 / (of_problems**2 / (groups - 1) + uncertain)
    return value / np.sqrt(variance), np.where(added > 0, df, groups - 1)


def gaussian(rng, seeds, problems, mean=0.0, problem=0.0, seed=0.0, rest=0.1):
    """One arm with normal effects of these standard deviations."""
    return pd.DataFrame(
        mean
        + rng.normal(0, problem, problems)
        + rng.normal(0, seed, (seeds, 1))
        + rng.normal(0, rest, (seeds, problems))
    )


def shares(gain, studies, in_snippets=False, **sizes):
    """The shares of made-up studies that are supported and contradicted."""
    a, b = made_up(np.random.default_rng(2), gain, studies, **sizes)
    t, df = many_tests(a, b, in_snippets)
    # The kit says the same of the first ones.
    for k in range(20):
        arms = [labelled(arm[k], in_snippets) for arm in (a, b)]
        found = contrast([(1, arms[0]), (-1, arms[1])])
        assert np.isclose(found.value / found.standard_error, t[k])
        assert np.isclose(found.df, df[k])
    limit = stats.t.ppf(0.975, df)
    return [np.mean(t > limit), np.mean(t < -limit)]


VERDICTS = ("supported", "contradicted", "undecided", "not tested at this scale")


# ------------------------------------------------------------------ closed forms


def test_without_seed_effects_it_is_the_paired_t_test_over_problems():
    rng = np.random.default_rng(0)
    a, b = (pd.DataFrame(np.tile(rng.random(12), (3, 1))) for _ in range(2))
    found = contrast([(1, a), (-1, b)])
    known = stats.ttest_rel(a.loc[0], b.loc[0])
    assert np.isclose(found.value / found.standard_error, known.statistic)
    assert np.isclose(2 * min(found.supports, found.opposes), known.pvalue)
    assert np.allclose([found.low, found.high], known.confidence_interval())
    assert np.isclose(found.df, known.df)


def test_without_problem_effects_it_is_welchs_test_over_seeds():
    rng = np.random.default_rng(0)
    a, b = (pd.DataFrame(np.tile(rng.random((n, 1)), 12)) for n in (4, 3))
    found = contrast([(1, a), (-1, b)])
    known = stats.ttest_ind(a[0], b[0], equal_var=False)
    assert np.isclose(found.df, known.df)
    assert np.isclose(found.supports, 1 - stats.t.cdf(known.statistic, known.df))
    assert np.allclose([found.low, found.high], known.confidence_interval())


def test_a_balanced_two_way_table_by_hand():
    rng = np.random.default_rng(3)
    seeds, problems = 5, 7
    # Paired: the differences are one table of 5 seeds x 7 problems.
    a = gaussian(rng, seeds, problems, problem=0.3, seed=0.4)
    b = gaussian(rng, seeds, problems)
    found = contrast([(1, a), (-1, b)])
    y = (a - b).to_numpy()
    rows, columns = y.mean(axis=1), y.mean(axis=0)
    of_seeds = problems * ((rows - y.mean()) ** 2).sum() / 4
    of_problems = seeds * ((columns - y.mean()) ** 2).sum() / 6
    left = ((y - rows[:, None] - columns + y.mean()) ** 2).sum() / 24
    variance = (of_seeds + of_problems - left) / 35
    df = variance**2 * 35**2 / (of_seeds**2 / 4 + of_problems**2 / 6 + left**2 / 24)
    assert np.isclose(found.standard_error**2, variance)
    assert np.isclose(found.df, df)
    parts = found.components
    assert np.isclose(parts.seed, (of_seeds - left) / problems)
    assert np.isclose(parts.problem, (of_problems - left) / seeds)
    assert np.isclose(parts.rest, left)


def test_a_mixed_model_agrees():
    from statsmodels.regression import mixed_linear_model as models

    rng = np.random.default_rng(4)
    a = gaussian(rng, 8, 15, mean=0.2, problem=0.3, seed=0.3)
    found = contrast([(1, a), (-1, a * 0)])
    long = a.stack().rename_axis(["seed", "problem"]).rename("y").reset_index()
    kinds = {"seed": "0 + C(seed)", "problem": "0 + C(problem)"}
    model = models.MixedLM.from_formula(
        "y ~ 1", groups=np.ones(len(long)), vc_formula=kinds, data=long
    )
    fitted = model.fit(reml=True)
    assert np.isclose(found.value, fitted.params["Intercept"])
    assert np.isclose(found.standard_error, fitted.bse["Intercept"], rtol=0.01)
    parts = found.components
    known = dict(zip(model.exog_vc.names, fitted.vcomp))
    assert np.isclose(parts.seed, known["seed"], rtol=0.01)
    assert np.isclose(parts.problem, known["problem"], rtol=0.01)
    assert np.isclose(parts.rest, fitted.scale, rtol=0.01)


def test_the_untrained_policy_has_no_seeds():
    rng = np.random.default_rng(5)
    arm = pd.DataFrame(np.tile(rng.random(30), (3, 1)))
    before = pd.DataFrame([rng.random(30)], index=[UNTRAINED])
    found = contrast([(1, arm), (-1, before)])
    known = stats.ttest_rel(arm.loc[0], before.loc[UNTRAINED])
    assert np.isclose(found.supports, 1 - stats.t.cdf(known.statistic, 29))
    assert found.seeds == 3 and not found.untested


def test_weights_of_three_arms():
    rng = np.random.default_rng(6)
    a, b = (gaussian(rng, 6, 20, seed=0.2, problem=0.1) for _ in range(2))
    u = pd.DataFrame(rng.random((1, 20)), index=[UNTRAINED])
    found = contrast([(1, a), (-0.5, b), (-0.5, u)])
    whole = a - 0.5 * b - 0.5 * u.to_numpy()
    alone = contrast([(1, whole), (0, u)])
    assert found.seeds == 6
    assert np.isclose(found.value, alone.value)
    assert np.isclose(found.standard_error, alone.standard_error)
    assert np.isclose(found.df, alone.df)


# ------------------------------------------------------------------ clusters and pairing


def test_a_problem_counted_twice_adds_nothing():
    a, b = answers(np.random.default_rng(7), 0.5)
    once = contrast([(1, a), (-1, b)])
    twice = []
    for table in (a, b):
        both = pd.concat([table, table], axis=1)
        both.columns = pd.MultiIndex.from_tuples(
            [(f"{name}{copy}", name) for copy in (0, 1) for name in table.columns]
        )
        twice.append(both)
    found = contrast([(1, twice[0]), (-1, twice[1])])
    assert (found.problems, once.problems) == (72, 36)
    assert np.isclose(found.standard_error, once.standard_error)
    assert np.isclose(found.df, once.df)


def test_arms_are_paired_by_seed_from_five_shared_seeds_on():
    rng = np.random.default_rng(8)
    a, b = answers(rng, 0.5, seeds=8, seed=1.0, shared=1.0)
    paired = contrast([(1, a), (-1, b)])
    loose = contrast([(1, a), (-1, b.set_axis(range(100, 108)))])
    assert np.isclose(paired.value, loose.value)
    assert paired.standard_error < loose.standard_error / 2
    # With fewer it is as if none were shared, and all seeds count.
    few = b[: PAIRS - 1]
    one, two = (
        contrast([(1, a), (-1, few.set_axis(seeds))]) for seeds in (range(4), range(100, 104))
    )
    assert one == two and one.left_out == ""
    # One arm has seeds of its own: they are named, and not counted.
    some = contrast([(1, a), (-1, b[:6])])
    six = contrast([(1, a[:6]), (-1, b[:6])])
    assert some.seeds == 6 and some.value == six.value
    assert some.standard_error == six.standard_error
    assert some.left_out == "seeds that not every arm has: 6, 7"


# ------------------------------------------------------------------ size and power


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"seed": 0.3},
        {"seed": 1.0},
        {"arm": 0.5},
        {"snippet": 0.5, "in_snippets": True},
        {"problems": 99, "samples": 32},
        {"problems": 99, "samples": 32, "seed": 0.3},
        {"seeds": 5, "shared": 0.9, "seed": 0.5},
        {"seeds": 10, "shared": 0.5, "seed": 0.3, "problems": 99},
    ],
)
def test_without_an_effect_3_to_6_percent_get_a_verdict(sizes):
    sides = shares(0.0, 6000, **sizes)
    print(sizes, sides)
    assert 0.03 <= sum(sides) <= 0.06
    assert min(sides) >= 0.01


def test_where_seeds_do_not_differ_it_errs_on_the_safe_side():
    """In some studies they look as if they did, so fewer than 5% get a verdict."""
    assert 0.02 <= sum(shares(0.0, 4000, seed=0.0)) <= 0.05


def test_snippets_that_are_not_known_give_false_verdicts():
    assert sum(shares(0.0, 4000, snippet=0.5)) > 0.06


def test_power_is_at_least_that_of_the_table():
    powers = {points: shares(gain, 2000)[0] for gain, points in ((0.5, 8), (1.0, 17))}
    print(powers)
    assert powers[8] >= 0.23 and powers[17] >= 0.78
    assert shares(-1.0, 2000)[1] >= 0.78
    # Pairing finds what the same seeds by themselves do not: 5 seeds that are nearly alike.
    assert shares(0.5, 2000, seeds=5, seed=0.5, shared=0.9)[0] >= 0.5


@pytest.mark.parametrize("seeds", [4, 6])
def test_the_smallest_effect_is_found_in_80_percent(seeds):
    rng = np.random.default_rng(9)
    sd = {"problem": 0.1, "seed": 0.05, "rest": 0.2}
    # Both arms: twice the variance of one.
    parts = Components(*(2 * value**2 for value in sd.values()))
    effect = smallest_effect(parts, seeds, 40, 0.05)
    found = []
    for _ in range(500):
        arms = [gaussian(rng, seeds, 40, mean, **sd) for mean in (effect, 0)]
        # Unpaired: no seed of one arm is a seed of the other.
        arms[1].index += 100
        found.append(better(*arms).verdict() == "supported")
    print(effect, np.mean(found))
    assert 0.74 <= np.mean(found) <= 0.86


def test_the_smallest_effect_of_a_study_that_was_run():
    a, b = answers(np.random.default_rng(10), 0.5, seeds=6, seed=0.5, samples=8)
    b.index += 100
    found = better(a, b)
    assert found.components.seed > 0 and found.components.rest > 0
    again = smallest_effect(found.components, 6, 36, 0.05)
    assert np.isclose(again, found.smallest, rtol=0.05)
    more = smallest_effect(found.components, 6, 108, 0.05)
    assert smallest_effect(found.components, 12, 108, 0.05) < more < again
    assert smallest_effect(found.components, 6, 36, 0.005) > again
    # Student's t over 4 degrees of freedom: 2.8 standard errors would be the normal one.
    assert smallest_effect(Components(0, 0.03, 0), 3, 36, 0.05) > 0.1 * 3.5


def test_repeats_lie_where_it_says():
    rng = np.random.default_rng(12)
    sd = {"problem": 0.1, "seed": 0.05, "rest": 0.2}
    inside, in_interval = [], []
    for _ in range(400):
        # Ten seeds, then three other ones on other problems.
        first, again = (
            contrast([(1, gaussian(rng, *size, 0.1, **sd)), (-1, gaussian(rng, *size, **sd))])
            for size in ((10, 40), (3, 60))
        )
        low, high = first.repeat(3, 60)
        inside.append(low <= again.value <= high)
        in_interval.append(first.low <= again.value <= first.high)
    print(np.mean(inside), np.mean(in_interval))
    assert 0.92 <= np.mean(inside) <= 0.98
    # The interval is of the truth, not of another estimate.
    assert np.mean(in_interval) < 0.85


# ------------------------------------------------------------------ what is missing


def test_what_is_left_out_is_said():
    a, b = answers(np.random.default_rng(11), 0.5)
    a.attrs["arm"] = "easy"
    b.attrs["arm"] = "hard"
    whole = contrast([(1, a), (-1, b)])
    a.loc[1, "p7"] = np.nan
    found = contrast([(1, a), (-1, b.drop(columns="p3"))])
    assert found.problems == 34 and whole.left_out == ""
    assert found.left_out == (
        "problems that not every seed of easy has: p7; problems that not every seed of hard has: p3"
    )
    without = contrast([(1, a.drop(columns=["p3", "p7"])), (-1, b.drop(columns=["p3", "p7"]))])
    assert np.isclose(found.standard_error, without.standard_error)
    extra = b.assign(p99=[0, np.nan, 1])
    assert contrast([(1, a), (-1, extra)]).left_out.endswith("every seed of hard has: p99")
    # A seed that broke off takes itself away, not the problems.
    b.loc[2, b.columns[:30]] = np.nan
    found = contrast([(1, a), (-1, b)])
    assert (found.seeds, found.problems) == (2, 35)
    assert found.left_out.startswith("seeds of hard with few of the answers: 2; problems that")
    assert better(a, b).verdict() == "not tested at this scale"
    assert better(a, b).untested == "2 seeds, 3 are needed"


def test_what_cannot_be_tested_says_why():
    a, b = answers(np.random.default_rng(12), 3.0)
    no_effect = pd.DataFrame(0.0, range(3), a.columns)
    one_snippet = a.set_axis(pd.MultiIndex.from_tuples([(p, "s") for p in a.columns]), axis=1)
    cases = [
        (a, b[:1], "an arm has a single seed"),
        (a, b[:0], "an arm has no answers"),
        (a, pd.DataFrame(), "an arm has no answers"),
        (a, b * np.nan, "the arms have no answered problem in common"),
        (a, b.set_axis([f"q{p}" for p in range(36)], axis=1), "the arms have no answered problem"),
        (one_snippet, one_snippet, "all problems come from one snippet"),
        (no_effect, no_effect, "nothing differs between problems or seeds"),
        (a.iloc[:, :29], b, "29 problems in common, 30 are needed"),
        (a, b[:2], "2 seeds, 3 are needed"),
    ]
    for one, two, reason in cases:
        effect = better(one, two)
        assert effect.untested.startswith(reason)
        assert effect.verdict() == "not tested at this scale" and np.isnan(effect.p)
    assert np.isnan(contrast([(1, a), (-1, b[:1])]).low)
    assert contrast([(1, a), (-1, b[:1])]).value > 0.2


# ------------------------------------------------------------------ the table of scores


def test_the_table_of_an_arm():
    rows = [
        ("a", s, "after", f"p{i}", f"s{i % 2}", 4, i, 4, i > 2) for s in (1, 0) for i in range(5)
    ]
    rows += [("a", s, "before", "p1", "s1", n, 1, 2, 0) for s, n in ((0, 4), (1, 32))]
    rows.append(("a", 1, "after", "lost", None, 0, 0, 0, np.nan))
    columns = "arm seed checkpoint problem_id seed_id n solved lenient greedy".split()
    scores = pd.DataFrame(rows, columns=columns).assign(set="code").astype({"greedy": float})
    asked = [f"p{i}" for i in range(5)]
    table = score_table(scores, "a", "code")
    assert list(table.index) == [0, 1] and table.columns.names == ["problem_id", "snippet"]
    assert table[asked].to_numpy().tolist() == [[0, 0.25, 0.5, 0.75, 1]] * 2
    assert ("p3", "s1") in table and ("lost", "lost") in table
    assert table[("lost", "lost")].isna().all()
    assert table.attrs == {"arm": "a"}
    assert score_table(scores, "a", "code", "greedy")[asked].loc[0].tolist() == [0, 0, 0, 1, 1]
    assert score_table(scores, "a", "code", k=4)[asked].loc[1].tolist() == [0, 1, 1, 1, 1]
    assert (score_table(scores, "a", "code", "lenient")[asked] == 1).all(axis=None)
    before = score_table(scores, UNTRAINED, "code")
    assert before.to_dict("split")["data"] == [[1 / 32]] and list(before.index) == [UNTRAINED]
    plain = score_table(scores.drop(columns="seed_id"), "a", "code")
    assert ("p3", "p3") in plain
    assert score_table(scores, "a", "maths").empty
    assert contrast([(1, table), (-1, score_table(scores, "b", "code"))]).untested
    with pytest.raises(ValueError):
        score_table(pd.concat([scores, scores]), "a", "code")
    with pytest.raises(KeyError):
        score_table(scores.drop(columns="lenient"), "a", "code", "lenient")


# ------------------------------------------------------------------ ratios, alike, steering


@pytest.mark.parametrize(("sds", "truth"), [((0.05, 0.05), 1.0), ((0.1, 0.05), 4.0)])
def test_the_interval_of_a_ratio_of_variances_covers_it(sds, truth):
    rng = np.random.default_rng(13)
    covered, wrong, naive = [], [], []
    for _ in range(200):
        # The rest adds 0.04 to the deviation of a seed's mean.
        a, b = (gaussian(rng, 8, 40, problem=0.3, seed=sd, rest=0.25) for sd in sds)
        found = variance_ratio(a, b)
        covered.append(found.low <= truth <= found.high)
        wrong.append(found.high < truth or (truth == 1 and found.low > 1))
        naive.append(np.log(a.mean(axis=1).var() / b.mean(axis=1).var()))
        assert (found.low > 1) == (found.supports <= 0.025) or found.low == 1
    print(truth, np.mean(covered), np.exp(np.median(naive)))
    assert 0.93 <= np.mean(covered) <= 0.995
    if truth > 1:
        assert np.exp(np.median(naive)) < 3.6, "with the noise in it the ratio is too near 1"


def test_spread_of_seeds():
    rng = np.random.default_rng(2)
    many = [gaussian(rng, 8, 40, seed=sd, rest=0.02) for sd in (0.2, 0.01)]
    assert spread(*many).verdict() == "supported"
    assert spread(*many[::-1]).verdict() == "contradicted"
    assert spread(*(arm[:7] for arm in many)).untested == "7 seeds, 8 are needed"
    effect = spread(*many)
    assert effect.null == 1 and np.isclose(effect.smallest, smallest_ratio(8))
    assert 5 < smallest_ratio(8) < 10 and smallest_ratio(30) < 2.9
    still = pd.DataFrame(0.5, range(8), range(40))
    assert spread(still, still).untested


def alike_arms(rng, gain, short, seeds=6, problems=60):
    """Arms b with `gain` over u, and a that falls short of b by a share of it."""
    of_problem = rng.normal(0, 0.3, problems)
    sd = {"seed": 0.02, "rest": 0.1, "problem": 0.05}
    a, b = (
        gaussian(rng, seeds, problems, mean, **sd) + of_problem for mean in (gain - short, gain)
    )
    u = pd.DataFrame([of_problem + rng.normal(0, 0.05, problems)], index=[UNTRAINED])
    return a, b, u


def test_arms_are_alike_within_a_third_of_the_gain():
    rng = np.random.default_rng(14)

    def verdicts(gain, short, count=40):
        found = [alike(*alike_arms(rng, gain, short)).verdict() for _ in range(count)]
        return [np.mean([verdict == word for verdict in found]) for word in VERDICTS]

    assert verdicts(0.3, 0.0)[0] > 0.9
    assert verdicts(0.3, 0.3)[1] > 0.9 and verdicts(0.3, -0.3)[1] > 0.9
    # At the margin each verdict is false in 2.5%, and untrained arms are never alike.
    supported, contradicted, *_ = verdicts(0.3, 0.1, 120)
    assert supported <= 0.05 and contradicted <= 0.05
    assert verdicts(0.0, 0.0)[3] > 0.9
    effect = alike(*alike_arms(rng, 0.3, 0.0))
    assert effect.low < effect.value < effect.high
    idle = alike(*alike_arms(rng, -0.1, 0.0))
    assert "does not beat the untrained policy" in idle.untested


def changes(rng, snippets, turns, mean, asked="harder"):
    """Changes of the pass rate by turn; a snippet has a level of its own."""
    rows = [(s, mean + level) for s in range(snippets) for level in [rng.normal(0, 0.1)] * turns]
    table = pd.DataFrame(rows, columns=["seed_id", "change"])
    change = table.change + rng.normal(0, 0.3, len(table))
    return table.assign(change=change, before=0.5, asked=asked)


def test_a_wish_is_judged_against_the_control():
    rng = np.random.default_rng(15)
    # Turns fall by 0.3 whoever is asked: the old rule, against zero, gave "supported".
    asked, control = (changes(rng, 20, 3, -0.3) for _ in range(2))

    def verdict(mean, wish):
        return difficulty_steering(changes(rng, 20, 3, mean, wish), control, wish).verdict()

    effect = difficulty_steering(asked, control, "harder")
    assert effect.verdict() == "undecided"
    assert verdict(-0.6, "harder") == "supported"
    assert verdict(0.1, "harder") == "contradicted"
    assert verdict(0.1, "easier") == "supported"
    assert np.isclose(effect.value, control.change.mean() - asked.change.mean())
    assert (effect.seeds, effect.problems) == (20, 60) and effect.low < effect.value < effect.high
    few = difficulty_steering(asked[:12], control, "harder")
    assert few.untested == "4 seeds, 5 are needed"
    none = difficulty_steering(asked, control, "easier")
    assert none.verdict() == "not tested at this scale"


@pytest.mark.parametrize("snippets", [6, 20])
def test_without_a_wish_few_get_a_verdict(snippets):
    rng = np.random.default_rng(16)
    false = []
    for _ in range(300):
        asked = changes(rng, snippets, 2, -0.3)
        found = difficulty_steering(asked, changes(rng, snippets, 3, -0.3), "harder")
        false.append(found.verdict() != "undecided")
    print(snippets, np.mean(false))
    assert 0.015 <= np.mean(false) <= 0.065


def test_training_rates_are_compared_over_seeds():
    rng = np.random.default_rng(17)

    def curves(arm, seeds, rate):
        rows = [(arm, s, t, rate + rng.normal(0, 0.1)) for s in seeds for t in range(1, 21)]
        return pd.DataFrame(rows, columns=["arm", "seed", "step", "solved/hard"])

    def late(table):
        return table[table.step > 10].groupby("seed")["solved/hard"].mean()

    a, b = curves("a", range(4), 0.5), curves("b", range(3), 0.3)
    found = trained(pd.concat([a, b]), "a", "b", ["hard", "medium"])
    known = stats.ttest_ind(late(a), late(b), equal_var=False)
    assert np.allclose([found.low, found.high], known.confidence_interval())
    assert np.isclose(found.p, known.pvalue) and found.verdict() == "supported"
    a, b = curves("a", range(7), 0.5), curves("b", range(1, 7), 0.5)
    found = trained(pd.concat([a, b]), "a", "b", ["hard"])
    assert np.isclose(found.p, stats.ttest_rel(late(a)[1:], late(b)).pvalue)
    assert found.seeds == 6 and found.left_out == "seeds that not both arms have: [0]"
    assert trained(a, "a", "b", ["hard"]).untested
    assert trained(pd.concat([a[:40], b[:40]]), "a", "b", ["hard"]).verdict() == VERDICTS[3]


def test_a_ratio_is_judged_by_its_interval():
    def effect(*interval, over):
        columns = "environment seeds multi_kept single_kept ratio low high".split()
        row = ("all", 30, 12, 10, *interval)
        return multi_turn_yield(pd.DataFrame([row], columns=columns), over)

    def verdict(*interval, over):
        return effect(*interval, over=over).verdict()

    assert verdict(5.0, 4.1, 6.0, over=4) == verdict(2.0, 1.1, 4.5, over=1) == "supported"
    assert verdict(1.0, 0.5, 2.0, over=4) == verdict(0.0, 0.0, 0.9, over=4) == "contradicted"
    assert verdict(4.5, 2.0, 8.0, over=4) == verdict(3.0, 0.0, np.inf, over=1) == "undecided"
    assert verdict(np.inf, np.nan, np.nan, over=4) == VERDICTS[3]
    assert verdict(np.nan, np.nan, np.nan, over=1) == VERDICTS[3]
    found = effect(2.0, 1.1, 4.5, over=1)
    assert found.smallest > 1.5 and (found.seeds, found.problems, found.null) == (30, 10, 1)


# ------------------------------------------------------------------ verdicts and Holm


def test_the_verdict_follows_the_corrected_p_value():
    effect = Effect(0.2, 0.02, 0.4, supports=0.01, opposes=0.99)
    assert effect.p == 0.02 and effect.verdict() == "supported"
    assert effect.verdict(0.06) == "undecided" and effect.verdict(0.05) == "supported"
    assert Effect(-0.2, supports=0.99, opposes=0.01).verdict() == "contradicted"
    assert Effect().verdict() == VERDICTS[3]
    assert Effect(0.2, supports=0.01, opposes=0.99, untested="why").verdict(0.01) == VERDICTS[3]


def test_holm():
    assert holm([0.01, 0.04, 0.03]).tolist() == [0.03, 0.06, 0.06]
    assert holm([0.5, np.nan, 0.01]).tolist()[::2] == [0.5, 0.02]
    assert np.isnan(holm([np.nan])).all() and len(holm([])) == 0
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    from statsmodels.stats import multitest as known

    p = np.random.default_rng(18).random(30) ** 3
    assert np.allclose(holm(p), known.multipletests(p, method="holm")[1])
