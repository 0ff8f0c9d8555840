"""Networks that return something other than logits, in one mode or both."""

import sys
from collections import namedtuple
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import cross_entropy, log_softmax, sigmoid, softmax

from fedmend.errors import ModelError
from fedmend.models import adapt, probe
from fedmend.seeds import generator

Outputs = namedtuple("Outputs", ["logits", "aux_logits"])
IMAGES = torch.rand(5, 1, 3, 3, generator=generator(3))


class Net(nn.Module):
    """One linear layer; ``returns`` makes of its outputs, and of the features, what the network returns."""

    def __init__(self, returns: Callable[..., Any], outputs: int = 3, only_in: bool | None = None) -> None:
        super().__init__()
        self.normalize, self.head = nn.BatchNorm2d(1), nn.Linear(9, outputs)
        self.returns, self.only_in = returns, only_in

    def forward(self, images: Tensor) -> Any:
        features = self.normalize(images).flatten(1)
        logits = self.head(features)
        return logits if self.only_in == (not self.training) else self.returns(logits, features)


def net(returns: Callable[..., Any], outputs: int = 3, only_in: bool | None = None) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Net(returns, outputs, only_in)


def adapted(model: Net, classes: int = 3) -> nn.Module:
    return adapt(model, num_classes=classes, in_channels=1, image_size=(3, 3))


def plain(logits: Tensor, _features: Tensor) -> Tensor:
    return logits


RETURNS = {
    "tuple": lambda logits, features: (logits, features),
    "features first": lambda logits, features: [features, logits],
    "auxiliary heads": lambda logits, _: Outputs(logits, -logits),
    "dict": lambda logits, features: {"features": features, "scores": logits},
    "dict with a usual name": lambda logits, _: {"aux": -logits, "out": logits},
    "object": lambda logits, features: SimpleNamespace(logits=logits, hidden=features),
    "softmax": lambda logits, _: softmax(logits, 1),
    "log-softmax": lambda logits, _: log_softmax(logits, 1),
    "softmax in a tuple": lambda logits, features: (features, softmax(logits, 1)),
}


@pytest.mark.parametrize("only_in", [None, True, False], ids=["always", "training", "evaluating"])
@pytest.mark.parametrize("name", RETURNS)
def test_logits_are_found_and_converted(name: str, only_in: bool | None) -> None:
    expected, model = net(plain), adapted(net(RETURNS[name], only_in=only_in))
    for training in (False, True):
        for each in (expected, model):
            each.train(training)
        found, wanted = model(IMAGES), expected(IMAGES)
        assert torch.allclose(log_softmax(found, 1), log_softmax(wanted, 1), atol=1e-5)
    cross_entropy(found, torch.zeros(5, dtype=torch.int64)).backward()
    assert model.head.weight.grad.abs().sum() > 0
    assert probe(model, 1, (3, 3), training=True) == 3


@pytest.mark.parametrize("form", ["sigmoid", "logit"])
@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_one_output_becomes_two_classes(form: str, shape: tuple[int, ...]) -> None:
    convert = sigmoid if form == "sigmoid" else lambda values: values
    model = adapted(net(lambda logits, _: convert(logits).view(shape), outputs=1), classes=2).eval()
    second = sigmoid(net(plain, outputs=1).eval()(IMAGES)).flatten()
    assert torch.allclose(model(IMAGES).softmax(1), torch.stack([1 - second, second], 1), atol=1e-5)
    assert probe(model, 1, (3, 3)) == 2


def test_a_sigmoid_for_each_class_becomes_its_logits() -> None:
    model = adapted(net(lambda logits, _: sigmoid(logits)))
    assert torch.allclose(model.eval()(IMAGES), net(plain).eval()(IMAGES), atol=1e-5)


@pytest.mark.parametrize("start", ["as it is", "zero head", "small positive"])
def test_logits_that_look_like_probabilities_by_chance_stay(start: str) -> None:
    for outputs in (1, 3):
        model = net(plain, outputs=outputs)
        with torch.no_grad():
            if start != "as it is":
                model.head.weight.zero_()
                model.head.bias.fill_(1 / 3 if start == "small positive" else 0)
        before = deepcopy(model.state_dict())
        adapted(model, classes=max(2, outputs))
        assert len(model._forward_hooks) == (outputs == 1)
        if outputs == 3:
            assert torch.equal(model.eval()(IMAGES), net_with(before).eval()(IMAGES))
        elif start == "small positive":
            assert torch.allclose(model.eval()(IMAGES)[:, 1], torch.full((5,), 1 / 6))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def net_with(state: dict[str, Tensor]) -> Net:
    model = net(plain)
    model.load_state_dict(state)
    return model


def test_a_model_is_left_as_found() -> None:
    model = net(lambda logits, features: (nn.functional.dropout(logits), features))
    model.normalize.eval()
    before, random = deepcopy(model.state_dict()), torch.get_rng_state()
    adapted(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == [True, False, True]


def test_a_converted_model_can_be_copied_and_traced() -> None:
    model = adapted(net(RETURNS["softmax in a tuple"])).eval()
    assert torch.equal(deepcopy(model)(IMAGES), model(IMAGES))
    assert torch.equal(fx.symbolic_trace(nn.Sequential(model))(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda logits, _: logits.argmax(1), "int64"),
        (lambda logits, features: (features, features), r"tuple \(0: torch.float32 \(2, 9\)"),
        (lambda logits, _: {"first": logits, "second": -logits}, "dict"),
        (lambda logits, _: logits[:1], r"for N = 2 .*\(1, 3\)"),
        (lambda logits, _: logits[:, 0], r"for N = 2 .*\(2,\)"),
        (lambda logits, _: logits.to("meta"), "on the device meta"),
        (lambda logits, _: None, "NoneType"),
        (lambda logits, _: sys.exit(0), "failed .*SystemExit: 0"),
        (lambda logits, _: interrupt(), "failed .*KeyboardInterrupt"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(returns: Any, message: str) -> None:
    model = adapted(net(returns))
    with pytest.raises(ModelError, match=message) as caught:
        probe(model, 1, (3, 3))
    assert "\n" not in str(caught.value)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_failure_in_train_mode_is_noticed_by_a_probe_of_it() -> None:
    model = adapted(net(lambda logits, _: 1 / 0, only_in=True))
    assert probe(model, 1, (3, 3)) == 3
    with pytest.raises(ModelError, match=r"in train mode failed .*ZeroDivisionError"):
        probe(model, 1, (3, 3), training=True)
    assert model.normalize.num_batches_tracked == 0


def test_a_model_that_cannot_be_trained_is_noticed() -> None:
    model = adapted(net(lambda logits, _: logits.detach()))
    assert probe(model, 1, (3, 3)) == 3
    with pytest.raises(ModelError, match="can't be trained: its logits have no gradient"):
        probe(model, 1, (3, 3), training=True)


class Two(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1)
        return flat[:, :3], flat


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer torch would rather have torch.export
def test_torchscript_is_used_as_it_is_or_refused() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(9, 3)))
    assert probe(adapt(scripted, num_classes=3, in_channels=1, image_size=(3, 3)), 1, (3, 3)) == 3
    with pytest.raises(ModelError, match="TorchScript can't be converted"):
        adapt(torch.jit.script(Two()), num_classes=3, in_channels=1, image_size=(3, 3))
