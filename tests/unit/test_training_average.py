"""The average follows its formula, is what the model holds meanwhile, and leaves the weights as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raysft.config.sections import TrainSection
from raysft.model.groups import Group
from raysft.training.average import Average


def test_averages_follow_the_formula_in_float64() -> None:
    """a_t = sum over s of (1 - d_s) w_s times all later d, plus the product of all d times the start."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    average = Average({"w": weight}, 0.9)
    expected = weight.detach().double()
    draw = torch.Generator().manual_seed(0)
    for step in range(1, 201):
        with torch.no_grad():
            weight.add_(torch.randn(2, generator=draw))
        average.update(step)
        decay = min(0.9, step / (step + 9))
        expected = decay * expected + (1 - decay) * weight.detach().double()
    # float32 rounds each of 200 updates of numbers near 10 by 1e-6 at most; the decay forgets all but the last ten.
    torch.testing.assert_close(average.state()["w"].double(), expected, rtol=1e-6, atol=1e-5)


def test_three_steps_by_hand() -> None:
    weight = nn.Parameter(torch.zeros(1))
    average = Average({"w": weight}, 0.15)
    found = []
    for step, value in enumerate((1.0, 0.0, 1.0), start=1):
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)
        found.append(average.state()["w"].item())
    # d = 1/10, then 0.15 where 2/11 and 3/12 would be more.
    assert found == pytest.approx([0.9, 0.135, 0.15 * 0.135 + 0.85])


def test_the_model_holds_the_averages_meanwhile_and_its_own_weights_after() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average = Average(dict(model.named_parameters()), 0.5)
    memory = [parameter.data_ptr() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update(1)
    own = [parameter.detach().clone() for parameter in model.parameters()]
    kept = [tensor.clone() for tensor in average.state().values()]
    with pytest.raises(ValueError, match="meanwhile"), average.in_place():  # an evaluation that fails
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept, strict=True))
        raise ValueError("meanwhile")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), own, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(average.state().values(), kept, strict=True))
    assert [parameter.data_ptr() for parameter in model.parameters()] == memory


def test_it_is_of_the_weights_that_train_and_of_none_without_a_decay() -> None:
    model = nn.Linear(3, 2)
    groups = [Group(1e-3, 0.0, [model.bias])]
    settings = TrainSection(average=0.9)
    assert list(Average.of(model, groups, settings.average).state()) == ["bias"]
    nothing = Average.of(model, groups, TrainSection().average)
    nothing.update(1)
    with nothing.in_place():
        assert nothing.state() == {}
