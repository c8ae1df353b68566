"""Choices are values: invalid combinations cannot be written, and files keep their words."""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path

import pytest

import dequnmix_jax as dq
from dequnmix_jax.abundances import least_squares
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli import main, parser
from dequnmix_jax.cli.config_file import read_configuration
from dequnmix_jax.equilibrium import config as equilibrium_config
from dequnmix_jax.solvers import config as solvers_config
from dequnmix_jax.training import checkpoint
from dequnmix_jax.training import words as training_words

MODELS = {
    "default": dq.Model(),
    "paper": dq.Model(
        gradient=dq.equilibrium.Residual(normalisation="spectral"),
        init="random",
        constraint=dq.equilibrium.Softmax(3.0),
    ),
    "prox of its own": dq.Model(
        gradient=dq.equilibrium.Energy(width=8, kernel=5),
        prox=dq.equilibrium.Conv(width=4),
        constraint=dq.equilibrium.Soft(0.7),
    ),
    "learned prior": dq.Model(prior="learned"),
    "prox alone": dq.Model(gradient=dq.equilibrium.Analytic(), prox=dq.equilibrium.Conv(kernel=5), metric="euclidean"),
    "best step": dq.Model(constraint=dq.equilibrium.Simplex(), step=None, prior="neighbours"),
    "kernel": dq.Model(constraint=dq.equilibrium.Simplex(), nonlinear=dq.equilibrium.KHype(xi=2.0)),
    "multilinear": dq.Model(constraint=dq.equilibrium.Simplex(), nonlinear=dq.equilibrium.MLM()),
    "plain, cut short": dq.Model(forward=dq.Solver(dq.solvers.Picard(0.5)), backward=dq.Adjoint(dq.solvers.Neumann(3))),
    "jaxopt, phantom": dq.Model(
        forward=dq.Solver(dq.solvers.JaxoptAnderson(3)), backward=dq.Adjoint(dq.solvers.Phantom(4, 0.2), 0.1)
    ),
    "broyden, one step": dq.Model(forward=dq.Solver(dq.solvers.Broyden(2)), backward=dq.Adjoint(dq.solvers.OneStep())),
    "anderson twice": dq.Model(
        forward=dq.Solver(dq.solvers.Anderson(3, 1e-4, 0, 0.9), 1e-3, 50),
        backward=dq.Adjoint(dq.solvers.Anderson(4, damping=0.8), max_steps=7),
    ),
}
KINDS = [
    kind for parts in training_words.CHOICES.values() for kinds in parts.values() for kind in kinds.values() if kind
]


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_a_choice_is_frozen_hashable_and_equal_to_its_like_alone(kind):
    one = kind()
    assert one == kind() and hash(one) == hash(kind())
    assert all(one != other() for other in KINDS if other is not kind)
    for item in fields(one):
        with pytest.raises(FrozenInstanceError):
            setattr(one, item.name, 1)
    for item in fields(one):
        with pytest.raises(InputError, match=rf"{kind.__name__}\.{item.name} is"):
            kind(**{item.name: "many"})
        with pytest.raises(InputError, match=rf"{kind.__name__}\.{item.name} is"):
            kind(**{item.name: -1})


def test_the_library_and_the_words_know_the_same_choices():
    public = {**vars(solvers_config), **vars(equilibrium_config)}
    assert {
        getattr(dq.equilibrium, kind.__name__, None) or getattr(dq.solvers, kind.__name__) for kind in KINDS
    } == set(KINDS)
    made = {value for value in public.values() if isinstance(value, type) and "word" in vars(value)}
    assert made == set(KINDS)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: dq.Model(gradient=dq.equilibrium.Residual),
         "Model.gradient is the class Residual; write gradient=Residual("),
        (lambda: dq.Model(prox="none"), "Model.prox is 'none'; write prox=None."),
        (lambda: dq.Model(constraint="box"), "one of Simplex(), Cone(), Soft(slack=0.3), Softmax(gamma=100.0)."),
        (lambda: dq.Model(constraint=dq.equilibrium.Energy()), "expected one of Simplex(), Cone(), Soft("),
        (lambda: dq.Model(gradient=None), "Model.gradient is None; expected one of Energy("),
        (lambda: dq.Model(forward=dq.solvers.Picard()), "write forward=Solver(Picard(damping=1.0))."),
        (lambda: dq.Model(backward=dq.solvers.Neumann(10)), "write backward=Adjoint(Neumann(terms=10))."),
        (lambda: dq.Model(forward="picard"), "Model.forward is 'picard'; write forward=Solver()."),
        (lambda: dq.Solver("newton"), "Solver.method is 'newton'; expected one of Anderson("),
        (lambda: dq.Adjoint(dq.solvers.Picard()), "expected one of BiCGSTAB(), Anderson("),
        (lambda: dq.Adjoint(dq.solvers.Neumann(5), max_steps=9),
         "a sum of 5 terms; expected None. Leave max_steps out"),
        (lambda: dq.Adjoint(dq.solvers.OneStep(), max_steps=9),
         "with OneStep(), a sum; expected None. Leave max_steps out"),
        (lambda: dq.Model(gradient=dq.equilibrium.Analytic(), init="random"), "has nothing random"),
        (lambda: dq.equilibrium.Energy(kernel=4), "Energy.kernel is 4; expected an odd number"),
        (lambda: dq.equilibrium.Energy(width=2.5), "Energy.width is 2.5; expected an integer from 1 to 4096."),
        (lambda: dq.equilibrium.Energy(attention=1), "Energy.attention is 1; expected True or False."),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_with_what_to_write(make, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        make()


def test_a_word_is_the_value_with_its_defaults():
    assert dq.Solver("picard") == dq.Solver(dq.solvers.Picard()) and hash(dq.Solver("picard"))
    assert dq.Adjoint("neumann").method == dq.solvers.Neumann()
    model = dq.Model(gradient="analytic", constraint="soft")
    assert model == dq.Model(gradient=dq.equilibrium.Analytic(), constraint=dq.equilibrium.Soft())
    assert dq.Model(prox="conv") == dq.Model(prox=dq.equilibrium.Conv())


def test_what_does_not_belong_together_cannot_be_written():
    for make in (
        lambda: dq.Model(constraint=dq.equilibrium.Simplex(slack=0.9)),
        lambda: dq.Model(gradient=dq.equilibrium.Analytic(width=64)),
        lambda: dq.Model(gradient=dq.equilibrium.Energy(normalisation="spectral")),
        lambda: dq.Solver(dq.solvers.Picard(memory=3)),
        lambda: dq.Adjoint(dq.solvers.BiCGSTAB(memory=3)),
    ):
        with pytest.raises(TypeError, match="unexpected keyword"):
            make()


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_words_give_the_model_back(config):
    words = training_words.words_of(config)
    assert training_words.model_of(json.loads(json.dumps(words))) == config
    assert training_words.from_older(words) == words
    assert checkpoint.model_from({"model": words}, Path("m.npz")) == config
    assert training_words.plain({"model": config, "solver": config.forward})["model"] == words


def older(**words):
    """Return the words that a checkpoint held before choices were values: every number, whatever was chosen."""
    solver = {"tolerance": 1e-4, "max_steps": 200, "memory": 5, "damping": 1.0, "ridge": 1e-6, "restart": 20}
    adjoint = {"tolerance": None, "max_steps": 200, "memory": 5, "damping": 0.5}
    return {
        "gradient": "energy", "prox": "none", "constraint": "cone", "start": "physical", "metric": "data",
        "proximity": 5e-4, "step": 1.0, "width": 32, "kernel": 3, "prior": "none", "slack": 0.3, "gamma": 100.0,
        "attention": True, "normalisation": "none", "forward": {"method": "anderson"} | solver,
        "backward": {"method": "bicgstab"} | adjoint,
    } | words  # fmt: skip


def test_an_older_checkpoint_is_the_model_that_it_was():
    forward, adjoint = older()["forward"], older()["backward"]
    cases = [
        (dq.Model(backward=dq.Adjoint(max_steps=200)), older()),
        (
            dq.Model(
                gradient=dq.equilibrium.Analytic(),
                prox=dq.equilibrium.Conv(width=8),
                constraint=dq.equilibrium.Softmax(7.0),
                backward=dq.Adjoint(dq.solvers.Anderson(memory=3), max_steps=200),
            ),
            older(
                gradient="analytic", prox="conv", width=8, constraint="softmax", gamma=7.0,
                backward=adjoint | {"method": "anderson", "memory": 3},
            ),
        ),
        (
            dq.Model(
                gradient=dq.equilibrium.Energy(width=8),
                prox=dq.equilibrium.Conv(width=8),
                constraint=dq.equilibrium.Soft(2.0),
                backward=dq.Adjoint(dq.solvers.Phantom(200, 0.5)),
            ),
            older(prox="conv", width=8, constraint="soft", slack=2.0, backward=adjoint | {"method": "phantom"}),
        ),
        (
            dq.Model(
                gradient=dq.equilibrium.Residual(attention=False),
                init="random",
                forward=dq.Solver(dq.solvers.Broyden()),
                backward=dq.Adjoint(dq.solvers.OneStep()),
            ),
            older(
                gradient="residual", attention=False, start="random", forward=forward | {"method": "broyden"},
                backward=adjoint | {"method": "one_step"},
            ),
        ),
    ]  # fmt: skip
    for config, words in cases:
        assert checkpoint.model_from({"model": words}, Path("m.npz")) == config
    words = training_words.words_of(config)  # of the time between: the numbers of the choices alone, but `start`
    words["start"] = words.pop("init")
    assert checkpoint.model_from({"model": words}, Path("m.npz")) == config


@pytest.mark.parametrize("metadata", [{}, {"model": 3}, {"model": {"gradient": []}}, {"model": older(forward=3)},
                                      {"model": {"width": "wide"}}, {"model": {"gradient": "newton"}}])  # fmt: skip
def test_a_damaged_description_of_a_model_is_a_sentence(metadata):
    with pytest.raises(InputError, match="expected"):
        checkpoint.model_from(metadata, Path("m.npz"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("slack = 0.5", 'says model.slack = 0.5 belongs to constraint = "soft", and the choice is constraint = "cone"'),
        ('gradient = "analytic"\nwidth = 8', 'says model.width = 8 belongs to gradient = "residual" or gradient = "e'),
        ('gradient = "energy"\nnormalisation = "spectral"', 'belongs to gradient = "residual"'),
        ("prox_width = 8", 'belongs to prox = "conv"'),
        ('[model.forward]\nmethod = "picard"\nmemory = 3', "says model.forward.memory = 3 belongs to method = "),
        ("[model.backward]\ndamping = 0.3", "says model.backward.damping = 0.3 belongs to method = "),
        ('[model.backward]\nmethod = "one_step"\nmax_steps = 3', "says model.backward.max_steps = 3 belongs to"),
        ('[model.backward]\nmethod = "newton"', "says model.backward.method is 'newton'; expected one of"),
    ],
)
def test_a_word_beside_another_choice_is_refused(tmp_path, text, sentence):
    path = tmp_path / "c.toml"
    path.write_text(f"[model]\n{text}")
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        read_configuration(path)
    assert str(error.value).startswith(f"{path} says ")


@pytest.mark.parametrize(
    ("text", "options", "constraint"),
    [
        ("", {"mixing": "linear"}, dq.equilibrium.Simplex()),
        ("", {"mixing": "scaled"}, dq.equilibrium.Cone()),
        ("", {"mixing": "soft"}, dq.equilibrium.Soft()),
        ("", {"mixing": "linear", "constraint": "softmax"}, dq.equilibrium.Softmax()),
        ('mixing = "linear"', {}, dq.equilibrium.Simplex()),
        ('mixing = "linear"\nconstraint = "softmax"\ngamma = 3.0', {}, dq.equilibrium.Softmax(3.0)),
        ('mixing = "soft"\nslack = 0.5', {}, dq.equilibrium.Soft(0.5)),
        ('constraint = "soft"\nslack = 0.5', {"mixing": "soft"}, dq.equilibrium.Soft(0.5)),
        ('constraint = "softmax"\ngamma = 3.0', {"mixing": "linear"}, dq.equilibrium.Softmax(3.0)),
        ('constraint = "softmax"', {"mixing": "linear", "constraint": "simplex"}, dq.equilibrium.Simplex()),
        ('constraint = "soft"\nslack = 0.5', {"mixing": "linear"}, dq.equilibrium.Simplex()),
        ('mixing = "scaled"', {"mixing": "linear"}, dq.equilibrium.Simplex()),
        ('mixing = "linear"', {"constraint": "cone"}, dq.equilibrium.Cone()),
    ],
)
def test_mixing_is_another_word_for_the_constraint(tmp_path, text, options, constraint):
    path = tmp_path / "c.toml"
    path.write_text(f"[model]\n{text}")
    found = read_configuration(path, options)
    assert found.model == dq.Model(constraint=constraint) and "model.constraint" in found.stated
    assert "model.mixing" not in read_configuration(None, options).stated
    if not text:
        assert read_configuration(None, options)[:3] == found[:3]


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (
            "",
            {"mixing": "linear", "constraint": "cone"},
            "--mixing is 'linear' and --constraint is 'cone', which is scaled",
        ),
        (
            "",
            {"mixing": "soft", "constraint": "softmax"},
            "'softmax', which is linear mixing; expected one mixing model",
        ),
        (
            'mixing = "linear"\nconstraint = "soft"',
            {},
            "model.mixing is 'linear' and model.constraint is 'soft', which",
        ),
        ('mixing = "cone"', {}, "model.mixing is 'cone'; expected one of 'linear', 'scaled', 'soft'."),
        ("mixing = 3", {}, "model.mixing is 3; expected one of 'linear', 'scaled', 'soft'."),
        ('mixing = "linear"\nconstraint = "box"', {}, "model.constraint is 'box'; expected one of"),
        ("constraint = 3", {"mixing": "linear"}, "model.constraint = 3; expected a word in quotes"),
    ],
)
def test_two_mixing_models_at_one_place_are_refused(tmp_path, text, options, sentence):
    path = tmp_path / "c.toml"
    path.write_text(f"[model]\n{text}")
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_configuration(path, options)
    if not text:
        with pytest.raises(InputError, match=re.escape(sentence)):
            read_configuration(None, options)


def test_an_option_replaces_a_choice_of_the_file_with_its_numbers(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[model]\nconstraint = "soft"\nslack = 0.9\nwidth = 8\n[model.backward]\nmethod = "neumann"\nmax_steps = 9'
    )
    found = read_configuration(path).model
    expected = dq.Model(
        gradient=dq.equilibrium.Energy(width=8),
        constraint=dq.equilibrium.Soft(0.9),
        backward=dq.Adjoint(dq.solvers.Neumann(9)),
    )
    assert found == expected
    found = read_configuration(path, {"constraint": "simplex", "gradient": "residual"}).model
    assert found == replace(expected, constraint=dq.equilibrium.Simplex(), gradient=dq.equilibrium.Residual(width=8))
    path.write_text("[model]\nslack = 0.9")  # a number for the choice that the option makes
    assert read_configuration(path, {"constraint": "soft"})[0] == dq.Model(constraint=dq.equilibrium.Soft(0.9))
    with pytest.raises(InputError, match="--gradient is 'newton'; expected one of \"analytic\""):
        read_configuration(path, {"gradient": "newton", "constraint": "soft"})


def test_the_usual_weights_of_the_sum_agree():
    """The classical solver does not know the model; the endmembers of one are passed to the other."""
    assert dq.equilibrium.Soft().slack == least_squares.SLACK


def test_model_for_keeps_the_weight_that_was_asked_for():
    found = dq.endmembers.Selection(*[0] * len(dq.endmembers.Selection._fields)).with_constraint("soft")
    assert dq.training.model_for(found).constraint == dq.equilibrium.Soft()
    assert dq.training.model_for(
        found, dq.Model(constraint=dq.equilibrium.Soft(0.9))
    ).constraint == dq.equilibrium.Soft(0.9)


def test_choices_are_read_without_jax():
    """A parser of the command line needs no array library."""
    text = (
        "import sys, types; package = types.ModuleType('dequnmix_jax'); package.__path__ = [sys.argv[1]];"
        "sys.modules['dequnmix_jax'] = package; import dequnmix_jax.cli.config_file; sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text, str(Path(dq.__file__).parent)], check=False, timeout=60)
    assert done.returncode == 0


def commands():
    return next(action for action in main.parser("0")._actions if action.dest == "command").choices


@pytest.mark.parametrize("command", commands())
def test_help_states_every_default(command):
    for action in commands()[command]._actions:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        said = re.search(r"\((required|default: .+)\)$", action.help)
        assert said and action.required == (said.group(1) == "required"), action.option_strings
        if action.default not in (None, False):
            default = f"{action.default:g}" if isinstance(action.default, float) else action.default
            assert said.group(1) == f"default: {default}", action.option_strings


def test_help_states_the_defaults_of_the_file_of_choices():
    text = " ".join(commands()["fit"].epilog.split())
    training, rates = dq.RECOMMENDED
    expected = training_words.words_of(dq.Model()) | asdict(training) | rates._asdict()
    for name, value in expected.items():
        if not isinstance(value, dict):
            assert f"{name} = {json.dumps('none' if value is None else value)}" in text
    for words in (
        'constraint = "soft", slack = 0.3',
        'constraint = "softmax", gamma = 100.0',
        'method = "phantom", max',
    ):
        assert words in text
    counts = next(a.help for a in commands()["demo"]._actions if a.dest == "endmembers")
    assert all(f"{count} for {name}" in counts for name, count in parser.DEMO_SCENES.items())
