import pytest
import yaml

from kit.core import profile
from kit.core.profile import ProfileError


@pytest.mark.parametrize("name", profile.profile_names())
def test_every_shipped_profile_loads_and_says_where_its_values_come_from(name):
    loaded = profile.load_profile(name)
    assert loaded.name == name
    text = (profile.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert ("# our choice" in text and "# paper" in text) or (
        "base: " in text and ("# our choice" in text or "# paper" in text)
    )


def test_a_profile_may_stand_on_another(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "base: cpu\nname: mine\nteacher:\n  sampling: {temperature: 0.1}\ngrpo: {steps: 7}\n"
    )
    mine = profile.load_profile(str(tmp_path / "mine.yaml"))
    cpu = profile.load_profile("cpu")
    assert (mine.name, mine.grpo.steps, mine.teacher.sampling.temperature) == ("mine", 7, 0.1)
    assert mine.teacher.sampling.top_p == cpu.teacher.sampling.top_p and mine.rounds == cpu.rounds
    (tmp_path / "lost.yaml").write_text("base: cqu\nname: lost\n")
    with pytest.raises(ProfileError, match="no profile 'cqu'"):
        profile.load_profile(str(tmp_path / "lost.yaml"))


def test_overrides_reach_nested_keys_and_none_is_skipped():
    loaded = profile.load_profile(
        "cpu", {"teacher.sampling.temperature": 0.1, "rounds.turns": 5, "seed": None}
    )
    plain = profile.load_profile("cpu")
    assert loaded.teacher.sampling.temperature == 0.1
    assert loaded.rounds.turns == 5
    assert loaded.seed == plain.seed
    assert loaded.teacher.sampling.top_p == plain.teacher.sampling.top_p and plain.rounds.turns != 5


@pytest.mark.parametrize(
    "key, where, known",
    [
        ("round.turns", "round", "rounds"),
        ("rounds.turn", "rounds.turn", "turns"),
        ("grpo.epsilon_hi", "grpo.epsilon_hi", "epsilon_high"),
        ("teacher.sampling.temprature", "teacher.sampling.temprature", "temperature"),
    ],
)
def test_a_misspelt_key_is_named_with_the_keys_known_at_its_place(key, where, known):
    with pytest.raises(ProfileError) as e:
        profile.load_profile("cpu", {key: 1})
    line = str(e.value).splitlines()[1]
    named, _, rest = line.partition(f": unknown key; did you mean {known}?; known here: ")
    assert named.strip() == where and known in rest.split(", ")


@pytest.mark.parametrize(
    "overrides",
    [
        {"seeds.lines": [50, 25]},
        {"rounds.visible": 4},
        {"rounds.easier_at": 0.7},
        {"rounds.target": [0.65, 0.35]},
        {"filters.p_min": 0.98},
        {"grpo.batch": 5},
        {"evaluation.ks": [1, 99]},
        {"evaluation.ks.0": [0]},
        {"rounds.target.1": [0.1, 65.0]},
    ],
)
def test_values_that_do_not_fit_together_are_refused(overrides):
    (where,) = overrides
    given = {where.removesuffix(".0").removesuffix(".1"): overrides[where]}
    with pytest.raises(ProfileError, match=where + ": "):
        profile.load_profile("cpu", given)


def edited(tmp_path, old, new):
    text = (profile.FOLDER / "cpu.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "mine.yaml").write_text(text.replace(old, new), encoding="utf-8")
    return str(tmp_path / "mine.yaml")


def test_a_number_that_yaml_reads_as_text_is_explained(tmp_path):
    assert isinstance(yaml.safe_load("x: 1e-6")["x"], str)  # the trap itself
    with pytest.raises(
        ProfileError,
        match=r"mine.yaml(.|\n)*grpo.learning_rate: '1e-6' is text to YAML.*write 1.0e-6",
    ):
        profile.load_profile(edited(tmp_path, "learning_rate: 1.0e-5", "learning_rate: 1e-6"))


def test_every_wrong_key_is_in_one_message():
    with pytest.raises(ProfileError) as e:
        profile.load_profile(
            "cpu",
            {"rounds.turns": 0, "filters.p_max": 1.5, "grpo.loss_type": "ppo", "colour": "red"},
        )
    assert all(
        key in str(e.value) for key in ("rounds.turns", "filters.p_max", "grpo.loss_type", "colour")
    )


@pytest.mark.parametrize(
    "key, value",
    [
        ("rounds.turns", 2.5),
        ("seeds.lines", [0, 25]),
        ("rounds.baseline", "yes"),
        ("grpo.group_size", 1),
        ("rounds.environments", []),
        ("rounds.environments", ["deduktion"]),
        ("curriculum.environments", {"deduktion": 1.0}),
    ],
)
def test_wrong_values_are_refused_by_key(key, value):
    with pytest.raises(ProfileError, match=key):
        profile.load_profile("cpu", {key: value})


def test_the_untrained_policy_may_have_more_samples_than_a_trained_one():
    study = profile.load_profile("study").evaluation
    assert (study.samples("before"), study.samples("after"), study.samples("step 10")) == (32, 4, 4)
    plain = profile.load_profile("cpu").evaluation
    assert plain.samples("before") == plain.samples("after") == plain.n
    with pytest.raises(ProfileError, match="evaluation.n_before: must not be below n"):
        profile.load_profile("cpu", {"evaluation.n_before": 2})


def test_an_override_below_a_single_value_is_refused():
    with pytest.raises(ProfileError, match=r"seed: .*integer \(got {'x': 1}\)"):
        profile.load_profile("cpu", {"seed.x": 1})


@pytest.mark.parametrize(
    "text, message",
    [("a: [1", "is not YAML"), ("- a\n- b", "should be a mapping"), ("", "should be a mapping")],
)
def test_a_file_that_is_no_profile(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message):
        profile.load_profile(str(path))


def test_an_unknown_profile_lists_those_that_are_there():
    with pytest.raises(ProfileError, match="no profile 'cup'; there are .*cpu.*smoke"):
        profile.load_profile("cup")


DEEP = "x: " + "[" * 3000 + "]" * 3000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: cpu\nname: me\nteacher: &a {extra: {x: *a}}\n", "holds itself"),
        (f"base: cpu\nname: me\n{DEEP}\n", "not YAML|too deeply"),
        ("base: cpu\nname: me\nseed: 1\nseed: 2\n", "stands there twice"),
        ("base: cpu\nname: ../../x\n", "name"),
        ("base: cpu\nname: /tmp/x\n", "name"),
        ('base: cpu\nname: "a\\nb"\n', "name"),
        ('base: cpu\nname: "a\\0b"\n', "name"),
        ("base: cpu\nname: me\ngrpo: {learning_rate: .nan}\n", "grpo.learning_rate"),
        ("base: me.yaml\nname: me\n", "no profile|leads not back"),
        ("base: [cpu]\nname: me\n", "name another profile"),
    ],
)
def test_a_hostile_profile_is_refused_by_name(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me.yaml").write_text(text)
    with pytest.raises(ProfileError, match=message):
        profile.load_profile("me.yaml")
