"""What a configuration may say, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gradprom.errors import UserError
from gradprom.training.check import check
from gradprom.training.config import (
    Config,
    DatasetConfig,
    EnhancerConfig,
    PromotionConfig,
    RecognizerConfig,
    StageConfig,
    TrainingConfig,
    parse,
    stage_key,
    to_dict,
)

SEGMENTATION = RecognizerConfig("resnet18")
WRONG: list[tuple[Config, str]] = [
    (Config(degradation="gaussian -0.1"), r"sigma -0\.1"),
    (Config(degradation="gaussian nan"), r"sigma nan"),
    (Config(degradation="gaussian inf"), r"sigma inf"),
    (Config(degradation="gaussian"), r"followed by sigma"),
    (
        Config(segmentation=SEGMENTATION, promotion=PromotionConfig(gate="per_tensor", gate_at="interface")),
        r"per_tensor judges the enhancer's tensors: set promotion\.gate_at to parameters",
    ),
    (
        Config(segmentation=SEGMENTATION, promotion=PromotionConfig(gate_per="sample")),
        r"gate_per sample needs promotion\.gate_at interface",
    ),
    (
        Config(segmentation=SEGMENTATION, promotion=PromotionConfig(gate="per_tensor", gate_at="last_layer")),
        r"per_tensor judges the enhancer's tensors: set promotion\.gate_at to parameters",
    ),
    (
        Config(segmentation=SEGMENTATION, promotion=PromotionConfig(gate_per="sample", gate_at="last_layer")),
        r"gate_per sample needs promotion\.gate_at interface",
    ),
    (Config(degradation="fog 2"), r"degradation 'fog' is unknown"),
    (Config(degradation="downsample 4", training=TrainingConfig(size=98)), r"98 pixels.*multiple of 4"),
    (Config(training=TrainingConfig(batch_size=0)), r"training\.batch_size is 0"),
    (Config(training=TrainingConfig(size=-1)), r"training\.size is -1"),
    (Config(training=TrainingConfig(devices=0)), r"training\.devices is 0"),
    (Config(training=TrainingConfig(clip_norm=0)), r"training\.clip_norm is 0"),
    (Config(training=TrainingConfig(validate_every=0)), r"training\.validate_every is 0"),
    (Config(training=TrainingConfig(checkpoint_every=0)), r"training\.checkpoint_every is 0"),
    (Config(training=TrainingConfig(max_skipped=0)), r"training\.max_skipped is 0"),
    (Config(training=TrainingConfig(cache_gb=0)), r"training\.cache_gb is 0"),
    (Config(dataset=DatasetConfig(validation_images=0)), r"dataset\.validation_images is 0"),
    (Config(promotion=PromotionConfig(max_ratio=0)), r"promotion\.max_ratio is 0"),
    (Config(promotion=PromotionConfig(weight=-1)), r"promotion\.weight is -1"),
    (Config(promotion=PromotionConfig(weight=float("inf"))), r"promotion\.weight is inf"),
    (Config(training=TrainingConfig(seed=-1)), r"training\.seed is -1"),
    (Config(dataset=DatasetConfig(split_seed=-1)), r"dataset\.split_seed is -1"),
    (Config(enhancer=EnhancerConfig(blocks=0)), r"enhancer\.blocks is 0"),
    (Config(enhancer=EnhancerConfig(channels=0)), r"enhancer\.channels is 0"),
    (Config(training=TrainingConfig(rotate=1.5)), r"training\.rotate is 1\.5"),
    (Config(training=TrainingConfig(dim=2)), r"training\.dim is 2"),
    (Config(training=TrainingConfig(foreign=-0.1)), r"training\.foreign is -0\.1"),
    (Config(dataset=DatasetConfig(test_fraction=-0.1)), r"dataset\.test_fraction is -0\.1"),
    (Config(training=TrainingConfig(warmup=StageConfig(steps=-1))), r"training\.warmup has -1 steps"),
    (Config(training=TrainingConfig(pretrain=StageConfig(learning_rate=0))), r"training\.pretrain has .* rate 0"),
    (Config(training=TrainingConfig(cascade=StageConfig(learning_rate=float("nan")))), r"training\.cascade has"),
    (Config(training=TrainingConfig(devices=3)), r"training\.batch_size 8 cannot be dealt evenly to 3 devices"),
    (
        Config(training=TrainingConfig(devices=2, nodes=8)),
        r"training\.batch_size 8 cannot be dealt evenly to 16 devices",
    ),
    (Config(training=TrainingConfig(nodes=0)), r"training\.nodes is 0"),
    (Config(), "strategy 'gradprom' needs a recognizer"),
    (Config(strategy="recognizer_only"), "strategy 'recognizer_only' needs a recognizer"),
    (Config(strategy="joint", segmentation=SEGMENTATION, promotion=PromotionConfig(gate="soft")), "not to 'joint'"),
    (Config(strategy="frozen", segmentation=SEGMENTATION, promotion=PromotionConfig(combine="any")), "not to 'frozen'"),
    (Config(diagnosis=RecognizerConfig()), r"diagnosis needs training\.view whole"),
    (
        Config(segmentation=SEGMENTATION, training=TrainingConfig(compile=True, recompute="all")),
        r"training\.recompute all does not go with training\.compile",
    ),
    (
        Config(strategy="recognizer_only", supervision="unsupervised", segmentation=SEGMENTATION),
        "recognizer_only needs supervision supervised",
    ),
    (
        Config(segmentation=SEGMENTATION, enhancer=EnhancerConfig(encoder="resnet18")),
        r"enhancer\.encoder is set, but enhancer 'srresnet' has no such option",
    ),
]


@pytest.mark.parametrize(("config", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_work_is_refused(config: Config, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        check(config)
    assert "\n" not in str(raised.value)


def full() -> Config:
    """A configuration with no value at its default."""
    return Config(
        dataset=DatasetConfig(
            "folder", "a: b #c é\n'x'", 1, "random", 0.25, 7, "2CH", "all", 3, max_pixels=9, max_side=512
        ),
        degradation="gaussian 1e-05",
        enhancer=EnhancerConfig("unet", encoder="resnet18", pretrained="123"),
        diagnosis=RecognizerConfig("resnet34", "imagenet"),
        segmentation=RecognizerConfig("true", "[x]"),
        supervision="unsupervised",
        promotion=PromotionConfig(1e-9, "projection", "any", 0.5),
        training=TrainingConfig(
            seed=3,
            batch_size=6,
            size=99,
            view="whole",
            augment=False,
            rotate=1e-7,
            dim=0.25,
            foreign=0.5,
            enhancement_loss="l1",
            consistency_loss="mse",
            target="live",
            warmup=StageConfig(0, 3e-6, "cosine", "crop", 96),
            pretrain=StageConfig(1, 1e-4, "constant"),
            cascade=StageConfig(2, 0.1, "cosine"),
            clip_norm=0.5,
            precision="16-mixed",
            compile=True,
            accelerator="cpu",
            devices=2,
            nodes=3,
            validate_every=1,
            checkpoint_every=2,
            max_skipped=3,
            cache_gb=0.125,
            stages="stages",
        ),
    )


def written(config: Config, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("config", [full(), Config(strategy="enhancer_only")], ids=["full", "defaults"])
def test_a_written_configuration_reads_back_the_same(config: Config, tmp_path: Path) -> None:
    assert parse(written(config, tmp_path)) == config


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = written(full(), tmp_path)
    changed = parse(path, ["--training.warmup.steps", "5", "--dataset.channels", "null", "--degradation=poisson 0.1"])
    expected = full()
    expected.training.warmup.steps, expected.dataset.channels, expected.degradation = 5, None, "poisson 0.1"
    assert changed == expected
    assert parse(path, ["--diagnosis", "null"]).diagnosis is None


FILES = [
    ("nonsense: 1", "there is no option 'nonsense'"),
    ("training: {nonsense: 1}", "there is no option 'training.nonsense'"),
    ("training: {warmup: {nonsense: 1}}", "there is no option 'training.warmup.nonsense'"),
    ("segmentation: {encodr: resnet18}", "in segmentation, there is no option 'encodr'"),
    ("training: {warmup: {steps: many}}", r"training\.warmup\.steps: expected a whole number, found many"),
    ("training: {warmup: {steps: 1.5}}", r"training\.warmup\.steps: expected a whole number, found 1\.5"),
    ("training: {warmup: {steps: true}}", r"training\.warmup\.steps: expected a whole number, found True"),
    ("training: {augment: 3}", r"training\.augment: expected true or false, found 3"),
    ("dataset: {root: 3}", r"dataset\.root: expected a text, found 3"),
    ("dataset: {channels: 2}", r"dataset\.channels: expected one of 1, 3, found 2"),
    ("strategy: best", "strategy: expected one of 'enhancer_only', .*, found best"),
    ("segmentation: {encoder: 3}", "in segmentation, encoder: expected a text, found 3"),
    ("segmentation: resnet18", "segmentation: "),
    ("training: 3", "training: there is a single value, or none, where a group of options belongs"),
    ("training: null", "training: there is a single value, or none"),
    ("training: {warmup: 3}", "there is a single value, or none"),
    ("[1, 2]", "the configuration file holds no options"),
    ("", "the configuration file holds no options"),
    ("a: [", "Problems parsing config"),
    ("a: \0", "Problems parsing config"),
    ("config: other.yaml", "option 'config' is not accepted"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_wrong_file_is_refused_in_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        parse(path)
    assert "\n" not in str(raised.value)
    assert "see gradprom train --help" in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.yaml: no such configuration file"):
        parse(tmp_path / "missing.yaml")


def bomb() -> str:
    """Ten lines that stand for three billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


def test_aliases_are_refused_before_they_are_expanded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(bomb())
    with pytest.raises(UserError, match="uses YAML aliases"):
        parse(path)


@pytest.mark.parametrize(
    "line",
    [
        "degradation: !!python/object/apply:pathlib.Path.touch [{marker}]",
        "degradation: !!python/object/new:os.system ['touch {marker}']",
        "degradation: {{class_path: touches_a_file.Touch}}",
        "segmentation: {{class_path: touches_a_file.Touch, init_args: {{encoder: a}}}}",
        "training: {{warmup: {{class_path: touches_a_file.Touch}}}}",
    ],
)
def test_a_file_executes_and_imports_nothing(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, path = tmp_path / "marker", tmp_path / "config.yaml"
    (tmp_path / "touches_a_file.py").write_text(f"open({str(marker)!r}, 'w')\nclass Touch: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path.write_text(line.format(marker=marker) + "\n")
    with pytest.raises(UserError):
        parse(path)
    assert not marker.exists()


def changes() -> list[Callable[[Config], None]]:
    def warmup_steps(config: Config) -> None:
        config.training.warmup.steps += 1

    def sigma(config: Config) -> None:
        config.degradation = "gaussian 0.7"

    def enhancer(config: Config) -> None:
        config.enhancer.channels = 9

    def loss(config: Config) -> None:
        config.training.enhancement_loss = "l1"

    return [warmup_steps, sigma, enhancer, loss]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_stages_are_told_apart_by_what_they_depend_on(change: Callable[[Config], None]) -> None:
    one, other = Config(segmentation=SEGMENTATION), Config(segmentation=SEGMENTATION)
    change(other)
    assert stage_key(one, "warmup") != stage_key(other, "warmup")
    assert stage_key(one, "pretrain", "segmentation") == stage_key(other, "pretrain", "segmentation")


def test_stages_are_shared_where_the_rest_differs() -> None:
    one = Config(segmentation=SEGMENTATION)
    other = dataclasses.replace(one, strategy="joint", supervision="unsupervised", promotion=PromotionConfig(1.0))
    for task in ("diagnosis", "segmentation"):
        assert stage_key(one, "pretrain", task) == stage_key(other, "pretrain", task)
    assert stage_key(one, "warmup") == stage_key(other, "warmup")
    assert stage_key(one, "pretrain", "diagnosis") != stage_key(one, "pretrain", "segmentation")
