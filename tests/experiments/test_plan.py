"""From plan files to runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gradprom.errors import UserError
from gradprom.experiments.plan import (
    Grid,
    Plan,
    PlannedRun,
    expand,
    merged,
    normalised,
    read_plan,
    run_key,
    run_name,
    shipped_plans,
    with_seeds,
)
from gradprom.training.check import check
from gradprom.training.config import Config, DatasetConfig, PromotionConfig, RecognizerConfig, parse, to_dict

BASE = """
base:
  dataset: {name: isic2018, max_side: 512}
  enhancer: {name: residual_unet, channels: 4}
  diagnosis: {encoder: resnet18}
  segmentation: {encoder: resnet34}
  training: {view: whole, size: 32}
"""
Write = Callable[..., Path]


def judged(training: str) -> str:
    """A reader of another architecture than the base's recognizers."""
    return f"reader: {{diagnosis: {{encoder: vgg11}}, segmentation: {{encoder: vgg11}}, training: {{{training}}}}}"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a plan file, with a base of its own unless told otherwise."""

    def make(text: str, name: str = "plan.yaml", base: str = BASE) -> Path:
        path = tmp_path / name
        path.write_text(base + text, encoding="utf-8")
        return path

    return make


def axes_of(runs: list[PlannedRun], *names: str) -> list[tuple[object, ...]]:
    return [tuple(run.axes[name] for name in names) for run in runs]


def test_the_whole_of_a_plan(write: Write, tmp_path: Path) -> None:
    plan = read_plan(
        write(
            """
name: table2
title: Ablation
paper: table2
scales:
  laptop: {training: {warmup: {steps: 7}}}
  paper: {enhancer: {name: srresnet}, training: {size: 64}}
axes:
  degradation: [gaussian 0.1, "gaussian 0.3 + poisson 0.1"]
  strategy: [enhancer_only, gradprom]
  auxiliary: [segmentation]
  weight: [1e-4]
  seed: [0, 1]
"""
        )
    )
    assert (plan.name, plan.title, plan.paper) == ("table2", "Ablation", "table2")
    runs = expand(plan, "laptop", tmp_path / "data")
    assert axes_of(runs, "degradation", "strategy", "seed") == list(
        itertools.product(["gaussian 0.1", "gaussian 0.3 + poisson 0.1"], ["enhancer_only", "gradprom"], [0, 1])
    )
    assert len({run.key for run in runs}) == len({run.name for run in runs}) == len(runs)
    run = runs[2]
    assert run.name == f"isic2018-gaussian0.1-gradprom-seg-sup-w1e-4-s0-{run.key[:12]}"
    assert run.plans == ("table2",)
    assert run.axes == {
        "dataset": "isic2018",
        "degradation": "gaussian 0.1",
        "strategy": "gradprom",
        "supervision": "supervised",
        "auxiliary": "segmentation",
        "weight": 1e-4,
        "gate": "hard",
        "enhancer": "residual_unet",
        "recognizer": "resnet34",
        "seed": 0,
    }
    assert run.config.dataset.root == str(tmp_path / "data" / "isic2018")
    assert run.config.dataset.max_side == 512
    assert run.config.diagnosis is None
    assert run.config.segmentation == RecognizerConfig("resnet34")
    assert (run.config.enhancer.channels, run.config.training.warmup.steps) == (4, 7)
    at_paper_scale = expand(plan, "paper", tmp_path / "data")[2].config
    assert at_paper_scale.enhancer.channels is None  # another enhancer's
    assert (at_paper_scale.training.size, at_paper_scale.training.view) == (64, "whole")


def test_what_is_expanded_can_be_read_back_as_a_configuration(write: Write, tmp_path: Path) -> None:
    axes = """
axes:
  dataset: [isic2018, {name: lizard, max_side: 128}]
  degradation: [downsample 2, none]
  strategy: [enhancer_only, recognizer_only, joint, frozen, gradprom]
  supervision: [supervised, unsupervised]
  auxiliary: [none, diagnosis, both]
  gate: [hard, cone 0.5, soft cone 2]
  enhancer: [srresnet, {name: estr, blocks: 1}]
"""
    runs = expand(read_plan(write(axes)), data=tmp_path)
    assert len(runs) > 100
    for run in runs[::7]:
        check(run.config)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(to_dict(run.config)))
        assert parse(path) == run.config == normalised(run.config)


def test_combinations_that_mean_the_same_run_are_one(write: Write) -> None:
    axes = """
axes:
  strategy: [enhancer_only, recognizer_only, joint, frozen, gradprom]
  supervision: [supervised, unsupervised]
  auxiliary: [none, segmentation]
  weight: [0, 1]
  gate: [hard, soft, cone 0.5]
"""
    runs = expand(read_plan(write(axes)))
    found = axes_of(runs, "strategy", "supervision", "auxiliary", "weight", "gate")
    settings = list(itertools.product(["supervised", "unsupervised"], ["segmentation"], [0.0, 1.0]))
    assert set(found) == {
        ("enhancer_only", None, "none", None, None),
        ("recognizer_only", "supervised", "segmentation", None, None),
        *(
            (strategy, *rest, gate)
            for strategy in ("joint", "frozen")
            for rest in settings
            for gate in (None, "cone 0.5")
        ),
        *(("gradprom", *rest, gate) for rest in settings for gate in ("hard", "soft", "cone 0.5")),
    }
    assert len(found) == len(set(found))
    alone = runs[0].config
    assert (alone.tasks, alone.promotion, alone.supervision) == ({}, PromotionConfig(), "supervised")
    assert alone.training.pretrain.steps == 0
    ratios = {run.axes["gate"]: run.config.promotion for run in runs if run.config.strategy == "gradprom"}
    assert (ratios["cone 0.5"].gate, ratios["cone 0.5"].max_ratio) == ("hard", 0.5)
    assert (ratios["soft"].gate, ratios["soft"].max_ratio) == ("soft", None)


def test_the_base_s_gate_is_gradprom_s_alone(write: Write) -> None:
    text = "axes: {strategy: [joint, gradprom]}"
    base = BASE + "  promotion: {gate: soft, combine: all, max_ratio: 2}\n"
    joint, gradprom = expand(read_plan(write(text, base=base)))
    assert (joint.config.promotion.gate, joint.config.promotion.combine, joint.axes["gate"]) == (
        "hard",
        "each",
        "cone 2",
    )
    assert (gradprom.config.promotion.combine, gradprom.axes["gate"]) == ("all", "soft cone 2")


def test_exclusions_and_further_grids(write: Write) -> None:
    text = """
axes:
  strategy: [joint, frozen, gradprom]
  gate: [hard, cone 0.50]
  weight: [1.0e-4, 1]
exclude:
  - {strategy: [joint, frozen], gate: cone 0.5}
  - {weight: 0.0001, strategy: frozen}
extra:
  - axes: {strategy: enhancer_only, seed: [0, 1]}
  - axes: {strategy: gradprom, weight: [1, 2]}
    exclude: [{weight: 3}]
"""
    assert axes_of(expand(read_plan(write(text))), "strategy", "gate", "weight", "seed") == [
        ("joint", None, 1e-4, 0),
        ("joint", None, 1.0, 0),
        ("frozen", None, 1.0, 0),
        ("gradprom", "hard", 1e-4, 0),
        ("gradprom", "hard", 1.0, 0),
        ("gradprom", "cone 0.5", 1e-4, 0),
        ("gradprom", "cone 0.5", 1.0, 0),
        ("enhancer_only", None, None, 0),
        ("enhancer_only", None, None, 1),
        ("gradprom", "hard", 2.0, 0),
    ]


def test_a_grid_s_own_base_and_scales_win(write: Write) -> None:
    text = """
scales:
  laptop: {training: {warmup: {steps: 7}, cascade: {steps: 8}}}
  paper: {training: {size: 64}}
axes: {strategy: [enhancer_only]}
extra:
  - base: {training: {cascade: {steps: 9}}}
    axes: {strategy: [joint, frozen]}
  - scales: {laptop: {training: {warmup: {steps: 10}}}}
"""
    plan = read_plan(write(text))
    found = [(run.config.strategy, run.config.training) for run in expand(plan)]
    assert [(strategy, training.warmup.steps, training.cascade.steps) for strategy, training in found] == [
        ("enhancer_only", 7, 8),
        ("joint", 7, 9),
        ("frozen", 7, 9),
        ("gradprom", 10, 8),
    ]
    assert {run.config.training.size for run in expand(plan, "paper")} == {64}


def test_groups_of_options_as_values(write: Write, tmp_path: Path) -> None:
    text = """
axes:
  strategy: [gradprom]
  dataset: [isic2018, {name: isic2018, max_side: 256}, {name: lizard, split_seed: 1}]
  enhancer: [residual_unet, {name: estr, blocks: 2}]
  recognizer: [resnet50, {encoder: resnet18, pretrained: imagenet}]
  auxiliary: [both]
exclude:
  - {dataset: lizard, recognizer: resnet18}
"""
    runs = expand(read_plan(write(text)), data=tmp_path)
    assert axes_of(runs, "dataset", "enhancer", "recognizer") == [
        (dataset, enhancer, recognizer)
        for dataset in ("isic2018", "isic2018 max_side 256", "lizard split_seed 1")
        for enhancer in ("residual_unet", "estr blocks 2")
        for recognizer in ("resnet50", "resnet18 pretrained imagenet")
        if not (dataset.startswith("lizard") and recognizer.startswith("resnet18"))
    ]
    first, last = runs[0].config, runs[-1].config
    assert first.diagnosis == first.segmentation == RecognizerConfig("resnet50")
    assert runs[1].config.diagnosis == RecognizerConfig("resnet18", "imagenet")
    assert (first.dataset.max_side, runs[4].config.dataset.max_side, last.dataset.max_side) == (512, 256, 512)
    assert (first.enhancer.channels, last.enhancer.channels, last.enhancer.blocks) == (4, None, 2)


def test_seeds_in_place_of_the_plan_s(write: Write) -> None:
    plan = read_plan(write("axes: {strategy: [joint], seed: [7]}\nextra: [{axes: {strategy: frozen}}]"))
    assert axes_of(expand(with_seeds(plan, [3, 1])), "strategy", "seed") == [
        ("joint", 3),
        ("joint", 1),
        ("frozen", 3),
        ("frozen", 1),
    ]


def test_a_plan_without_axes_is_one_run(write: Write) -> None:
    (run,) = expand(read_plan(write("")))
    assert (run.config.strategy, run.axes["auxiliary"]) == ("gradprom", "both")


def test_a_plan_extends_another(write: Write, tmp_path: Path) -> None:
    write(
        "name: first\ntitle: First\npaper: table1\naxes: {seed: [0, 1], weight: [1]}\nexclude: [{seed: 1}]",
        "first.yaml",
    )
    write("extends: first\nbase: {training: {size: 16}}\naxes: {weight: [2, 3]}", "second.yaml", base="")
    (tmp_path / "deep").mkdir()
    third = write("extends: ../second.yaml\ntitle: Third\nexclude: []", "deep/third.yaml", base="")
    second = read_plan(tmp_path / "second.yaml")
    assert (second.name, second.title, second.paper) == ("second", "second", "table1")
    assert second.base["training"] == {"view": "whole", "size": 16}
    assert axes_of(expand(second), "seed", "weight") == [(0, 2.0), (0, 3.0)]
    assert read_plan(third).title == "Third"
    assert axes_of(expand(read_plan(third)), "seed", "weight") == [(0, 2.0), (0, 3.0), (1, 2.0), (1, 3.0)]


def test_shipped_plans_go_by_their_names(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr("gradprom.experiments._plan_file.SHIPPED", shipped)
    write("title: Shipped", "shipped/known.yaml")
    write("title: To be extended", "shipped/_common.yaml")
    assert read_plan("known").title == "Shipped"
    assert [plan.name for plan in shipped_plans()] == ["known"]
    assert read_plan(write("extends: _common", "mine.yaml", base="")).paper is None
    assert read_plan(write("extends: known", "mine.yaml", base="")).base["dataset"]["name"] == "isic2018"
    with pytest.raises(UserError, match=r"^unknown: no such plan: give .*\(known\)"):
        read_plan("unknown")
    with pytest.raises(UserError, match="no such plan"):
        read_plan("../shipped/known")


def test_an_independent_reader(write: Write, tmp_path: Path) -> None:
    text = """
axes:
  dataset: [isic2018, camus]
  strategy: [enhancer_only, gradprom]
  degradation: [gaussian 0.1, gaussian 0.2]
  auxiliary: [segmentation]
  seed: [0, 5]
test_on: [camus, brain_mr]
reader:
  diagnosis: null
  segmentation: {encoder: resnet50}
  training: {pretrain: {steps: 600}}
"""
    runs = expand(read_plan(write(text)), data=tmp_path)
    readers = [run.reader for run in runs]
    assert len({reader.key for reader in readers if reader}) == 2  # one for each dataset, whatever else
    reader = readers[0]
    assert reader is not None
    config = reader.config
    assert (config.strategy, config.degradation, config.supervision) == ("recognizer_only", "none", "supervised")
    assert config.tasks == {"segmentation": RecognizerConfig("resnet50")}
    assert (config.training.pretrain.steps, config.training.warmup.steps) == (600, 0)
    # with the runs' own seed it would be their recognizer, pretrained on the same batches from the same weights
    assert config.training.seed not in (0, 5)
    assert config.dataset == runs[0].config.dataset
    assert [run.reader.config.dataset.name for run in runs if run.reader] == ["isic2018"] * 8 + ["camus"] * 8
    assert runs[0].test_on == {"camus": str(tmp_path / "camus"), "brain_mr": None}
    assert runs[-1].test_on == {"brain_mr": None}


def test_a_reader_learns_what_its_dataset_has_truths_for(write: Write, tmp_path: Path) -> None:
    text = """
axes: {dataset: [isic2018, covid_ct, camus], strategy: enhancer_only}
reader: {training: {pretrain: {steps: 600}}}
"""
    runs = expand(read_plan(write(text)), data=tmp_path)
    assert [list(run.reader.config.tasks) for run in runs if run.reader] == [
        ["diagnosis", "segmentation"],
        ["diagnosis"],
        ["segmentation"],
    ]


def test_a_reader_s_own_seed(write: Write) -> None:
    (run,) = expand(read_plan(write(judged("seed: 4"))))
    assert run.reader is not None
    assert run.reader.config.training.seed == 4


def test_the_key_is_of_what_makes_the_result(write: Write) -> None:
    config = Config(segmentation=RecognizerConfig())
    for section, changes in {
        "dataset": {"max_pixels": 5, "root": "elsewhere"},
        "training": {"stages": "kept", "cache_gb": 1.0, "checkpoint_every": 3},
    }.items():
        other = replace(config, **{section: replace(getattr(config, section), **changes)})
        assert run_key(other) == run_key(config)
    for section, changes in {
        "dataset": {"split_seed": 1},
        "training": {"seed": 1},
        "promotion": {"weight": 1.0},
        "enhancer": {"blocks": 1},
    }.items():
        other = replace(config, **{section: replace(getattr(config, section), **changes)})
        assert run_key(other) != run_key(config)
    folders = [replace(config, dataset=replace(config.dataset, name="folder", root=root)) for root in ("a", "b")]
    assert run_key(folders[0]) != run_key(folders[1])
    (a,) = expand(read_plan(write("axes: {degradation: challenging}")))
    (b,) = expand(read_plan(write("axes: {degradation: gaussian 0.30 + poisson 0.1 + blur 3 2.0}")))
    assert (a.key, a.axes) == (b.key, b.axes)


def test_a_key_knows_what_a_file_with_a_split_says_and_not_where_it_lies(tmp_path: Path) -> None:
    def keyed(path: Path, text: str) -> str:
        path.write_text(text)
        return run_key(Config(dataset=DatasetConfig(name="isic2018", root="x", split=str(path))))

    first = keyed(tmp_path / "a.json", "one")
    assert keyed(tmp_path / "b.json", "one") == first
    assert keyed(tmp_path / "a.json", "another") != first


def test_names_are_safe_for_files() -> None:
    config = normalised(
        parse(
            arguments=[
                *("--dataset.name", "folder", "--dataset.root", "/x/my: images é"),
                *("--degradation", " + ".join(["blur 3 2"] * 60), "--segmentation.encoder", "resnet18"),
            ]
        )
    )
    name = run_name(config)
    assert name.startswith("my__images__-blur32+blur32+")
    assert name.endswith(f"-{run_key(config)[:12]}")
    assert len(name) == 113
    assert "unsup-w0.25-soft-cone0.5-s3-" in run_name(
        replace(
            config,
            degradation="none",
            supervision="unsupervised",
            promotion=PromotionConfig(weight=0.25, gate="soft", max_ratio=0.5),
            training=replace(config.training, seed=3),
        )
    )


def test_where_the_images_are(write: Write, tmp_path: Path) -> None:
    base = "base: {segmentation: {encoder: resnet18}, dataset: {name: camus, root: here}}\n"
    plan = read_plan(write("axes: {dataset: [camus, isic2018, brain_mr, {name: folder, root: mine}]}", base=base))
    roots = [run.config.dataset.root for run in expand(plan)]
    assert roots == ["here", None, None, "mine"]
    roots = [run.config.dataset.root for run in expand(plan, data=tmp_path)]
    assert roots == [str(tmp_path / "camus"), str(tmp_path / "isic2018"), None, "mine"]


def test_a_run_of_two_plans_is_one(write: Write) -> None:
    one = expand(read_plan(write("axes: {seed: [0, 1]}\ntest_on: [brain_mr]", "one.yaml")))
    two = expand(
        read_plan(
            write(
                "axes: {seed: [1, 2]}\ntest_on: [camus]\n" + judged("size: 16"),
                "two.yaml",
            )
        )
    )
    runs = merged([one, two])
    assert axes_of(runs, "seed") == [(0,), (1,), (2,)]
    assert [run.plans for run in runs] == [("one",), ("one", "two"), ("two",)]
    assert [set(run.test_on) for run in runs] == [{"brain_mr"}, {"brain_mr", "camus"}, {"camus"}]
    assert [run.reader is None for run in runs] == [True, False, False]
    three = expand(
        read_plan(
            write(
                "reader: {diagnosis: {encoder: vgg11}, segmentation: {encoder: vgg11}, training: {size: 24}}",
                "three.yaml",
            )
        )
    )
    assert len(merged([one, three])) == 2
    four = expand(
        read_plan(
            write(
                "reader: {diagnosis: {encoder: vgg11}, segmentation: {encoder: vgg11}, training: {size: 40}}",
                "four.yaml",
            )
        )
    )
    with pytest.raises(UserError, match=r"^plans three and four have run isic2018\S+ judged by different readers"):
        merged([three, four])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("axes: {weigth: [1]}", "there is no axis 'weigth': expected some of dataset, degradation"),
        ("axis: {weight: [1]}", "'axis' is not part of a plan: expected one of name, title"),
        ("axes: {weight: []}", "axis 'weight' is empty"),
        ("axes:\n  weight:", "axis 'weight' is empty"),
        ("axes: [weight]", "axes holds ['weight']: expected names"),
        ("extra: [{axes: [weight]}]", "axes holds ['weight']: expected names"),
        ("axes: {weight: [-1]}", "axis 'weight' has value -1: expected a number of at least 0"),
        ("axes: {weight: [true]}", "axis 'weight' has value True"),
        ("axes: {seed: [0.5]}", "axis 'seed' has value 0.5: expected a whole number"),
        ("axes: {strategy: [gradpromm]}", "axis 'strategy' has value 'gradpromm': expected one of enhancer_only"),
        ("axes: {auxiliary: [null]}", "axis 'auxiliary' has value None: expected one of none, diagnosis"),
        ("axes: {gate: [hart]}", "axis 'gate' has value 'hart': expected one of hard, soft"),
        ("axes: {gate: [cone]}", "axis 'gate' has value 'cone'"),
        ("axes: {gate: [cone 0]}", "axis 'gate' has value 'cone 0'"),
        ("axes: {gate: [hard cone 1 2]}", "axis 'gate' has value 'hard cone 1 2'"),
        ("axes: {gate: ['']}", "axis 'gate' has value ''"),
        ("axes: {degradation: [noise 3]}", "degradation 'noise' is unknown"),
        ("axes: {degradation: [{gaussian: 1}]}", "axis 'degradation' has value {'gaussian': 1}: expected a text"),
        ("axes: {dataset: [{max_side: 3}]}", "axis 'dataset' has value {'max_side': 3}: expected a name"),
        ("axes: {weight: [1]}\nexclude: [{gait: hard}]", "exclude names axis 'gait', which the plan has not"),
        ("axes: {weight: [1]}\nexclude: [{gate: hard}]", "exclude names axis 'gate', which the plan has not"),
        ("axes: {weight: [1]}\nexclude: {weight: 1}", "exclude is not understood"),
        ("axes: {weight: [1]}\nexclude: [{}]", "exclude is not understood"),
        ("extra: [{axis: {}}]", "extra is not understood"),
        ("extra: [{base: [1]}]", "base holds [1]: expected names"),
        ("extra: [{scales: {desktop: {}}}]", "scales has 'desktop': expected laptop or paper"),
        ("name: a/b", "name is 'a/b': expected letters, digits"),
        ("scales: {desktop: {}}", "scales has 'desktop': expected laptop or paper"),
        ("test_on: [imagenet]", "test_on has 'imagenet': expected names of datasets"),
        ("reader: [resnet18]", "reader is ['resnet18']: expected options"),
        ("axes: *all", "the configuration uses YAML aliases"),
        ("axes: {weight: [1", "is not a plan in YAML"),
        ("axes: !!python/object/apply:os.getcwd []", "is not a plan in YAML"),
    ],
)
def test_bad_plans(write: Write, text: str, sentence: str) -> None:
    path = write(text)
    with pytest.raises(UserError) as raised:
        read_plan(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "3"])
def test_files_that_are_no_plans(write: Write, text: str) -> None:
    with pytest.raises(UserError, match="holds no plan"):
        read_plan(write(text, base=""))


def test_files_that_are_not_even_text(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a plan in YAML"):
        read_plan(tmp_path / "plan.yaml")
    with pytest.raises(UserError, match="no such plan"):
        read_plan(tmp_path)


def test_plans_that_extend_each_other(write: Write) -> None:
    write("extends: b.yaml", "a.yaml", base="")
    path = write("extends: a", "b.yaml", base="")
    with pytest.raises(UserError, match=r"extends itself \(b\.yaml extends a\.yaml extends b\.yaml\)"):
        read_plan(path)
    with pytest.raises(UserError, match="nothing: no such plan"):
        read_plan(write("extends: nothing", "c.yaml", base=""))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("axes: {weight: [1]}\nexclude: [{weight: 1}]", "plan plan has no run"),
        ("axes: {strategy: [joint], gate: [soft]}", "plan plan has no run"),
        ("axes: {strategy: [gradprom], auxiliary: [none]}", "plan plan has no run"),
        ("scales: {paper: {}}", "plan plan has no scale 'laptop': it has paper"),
        ("scales: {laptop: {training: {sise: 3}}}", "plan plan: there is no option 'training.sise'"),
        (
            "axes: {seed: [1]}\nscales: {laptop: {training: {size: x}}}",
            "plan plan, seed 1: training.size: expected a whole",
        ),
        ("axes: {weight: [1], seed: [2]}\nscales: {laptop: {training: {size: 0}}}", "plan plan, weight 1.0, seed 2: "),
        ("axes: {enhancer: [{name: unet, blocks: 2}]}", "enhancer.blocks is set, but enhancer 'unet' has no such"),
        ("axes: {dataset: [imagenet]}", "dataset.name"),
        (
            "axes: {dataset: [camus]}",
            "dataset camus has no truths for diagnosis: exclude that, or set diagnosis to null",
        ),
        ("reader: {training: {cascade: {steps: -1}}}", "plan plan: its reader: training.cascade has -1 steps"),
        ("reader: {diagnosis: null, segmentation: null}", "strategy 'recognizer_only' needs a recognizer"),
        (
            "scales: {laptop: {training: {devices: 2}}}",
            "training.devices is 2 and training.nodes 1: an experiment trains each run on one",
        ),
        (
            "scales: {laptop: {diagnosis: null}}\naxes: {auxiliary: [both]}",
            "plan plan, auxiliary both: auxiliary both needs a recognizer for diagnosis: give base",
        ),
    ],
)
def test_plans_that_cannot_be_carried_out(write: Write, text: str, sentence: str) -> None:
    plan = read_plan(write(text))
    with pytest.raises(UserError) as raised:
        expand(plan)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_plans_from_python() -> None:
    grid = Grid({"strategy": ("joint",), "auxiliary": ("segmentation",), "recognizer": ("resnet18",)})
    (run,) = expand(Plan("mine", "Mine", None, {}, {}, (grid,)))
    assert run.config.tasks == {"segmentation": RecognizerConfig("resnet18")}


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_all_shipped_plans_go_together(scale: str, tmp_path: Path) -> None:
    plans = [expand(plan, scale, tmp_path) for plan in shipped_plans()]
    runs = merged(plans)
    assert len(runs) < sum(map(len, plans))  # what they share is done once
    readers = {run.reader.key for run in runs if run.reader is not None}
    assert not readers & {run.key for run in runs}


def test_a_reader_of_another_split_or_the_same_architecture_is_refused() -> None:
    base = {"segmentation": {"encoder": "resnet18"}}
    plan = Plan("own", "own", None, base, {}, (Grid({"strategy": ("joint",)}),))
    with pytest.raises(UserError, match="encoder resnet18 of the recognizer that it is to be independent of"):
        expand(replace(plan, reader={}))
    other = {"segmentation": {"encoder": "resnet34"}, "dataset": {"split_seed": 7}}
    with pytest.raises(UserError, match="another split of the images"):
        expand(replace(plan, reader=other))
    del other["dataset"]
    (run,) = expand(replace(plan, reader=other | {"scales": {"paper": {"training": {"pretrain": {"steps": 7}}}}}))
    assert run.reader is not None
    assert run.reader.config.training.pretrain.steps == 1000  # this is the other scale


def test_blocks_that_differ_by_what_no_axis_names_are_refused() -> None:
    grids = tuple(Grid({"strategy": ("enhancer_only",)}, (), {"training": {"batch_size": size}}) for size in (2, 4))
    with pytest.raises(UserError, match=r"could not tell apart: no axis names what they differ in"):
        expand(Plan("own", "own", None, {}, {}, grids))


@pytest.mark.parametrize("scale", ["laptop", "paper"])
@pytest.mark.parametrize("name", [plan.name for plan in shipped_plans()])
def test_every_shipped_plan_works_at_both_scales(name: str, scale: str, tmp_path: Path) -> None:
    runs = expand(read_plan(name), scale, tmp_path)
    strategies = {run.config.strategy for run in runs}
    assert {"enhancer_only", "gradprom"} <= strategies  # what everything is compared with, and what is compared
    assert all(run.reader is not None and run.config.dataset.root is not None for run in runs)
    sizes = {run.config.enhancer.name for run in runs if run.config.strategy != "recognizer_only"}
    assert sizes == {"laptop": {"residual_unet"}, "paper": {"srresnet"}}[scale]
