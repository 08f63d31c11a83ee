"""Compiled models: names of weights, going on with a run, and machines where nothing can be compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch._functorch.config
import torch._inductor.config
from torch import nn

from gradprom.errors import UserError
from gradprom.training import loop
from gradprom.training._compile import compile_models, uncompiled
from gradprom.training.run import resume, train
from gradprom.weights import read_weights


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything but the code generation, which takes a minute."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    with torch._functorch.config.patch(donated_buffer=True):
        yield
    torch._dynamo.reset()


# of torch itself, which looks at .grad of whatever goes into a compiled model
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@pytest.mark.usefixtures("quickly")
def test_a_compiled_run(
    make_config, trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"strategy": "enhancer_only", "training.compile": "true"})
    whole = train(config, tmp_path / "whole")
    step, calls = loop.Trainer._step, []

    def interrupted(self: loop.Trainer, *batch: object) -> object:
        calls.append(1)
        if len(calls) == 9:  # of 12 + 5; the last checkpoint was after 6
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts")
    resume(tmp_path / "parts")
    one, two, eager = (
        read_weights(folder / "enhancer.safetensors")
        for folder in (whole, tmp_path / "parts", trained("enhancer_only"))
    )
    assert one.keys() == two.keys() == eager.keys()
    for key in eager:
        assert torch.equal(one[key], two[key])
        torch.testing.assert_close(one[key], eager[key], rtol=0, atol=1e-3)


@pytest.mark.usefixtures("quickly")
def test_models_run_as_written_where_it_is_asked_for() -> None:
    seen: list[bool] = []

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.compiler.is_compiling())
            return x + 1

    model = Model()
    compile_models({"enhancer": model}, torch.device("cpu"))
    with uncompiled(True):
        assert torch.equal(model(torch.zeros(3)), torch.ones(3))
    assert seen == [False]
    assert torch.equal(model(torch.zeros(2)), torch.ones(2))
    assert seen[1:] != [False]


def test_a_machine_without_a_compiler_is_told_of_before_a_run_begins(make_config, tmp_path: Path) -> None:
    torch._dynamo.reset()
    config = make_config({"training.compile": "true"})
    missing = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with missing, pytest.raises(UserError, match=r"training\.compile is true.*no-such-compiler.*install a C\+\+"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
