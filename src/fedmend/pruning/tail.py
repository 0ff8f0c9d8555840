"""Runs the part of a model after a convolution many times, on a batch whose lower layers ran once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from fedmend.errors import ModelError
from fedmend.pruning.pruning_mask import require_prunable


class Tail:
    """The part of a model after a convolution.

    torch.fx cuts the model there. If it can't trace the model, or traces it wrongly, the whole model runs every time
    with the convolution's output replaced: slower, with the same logits.

    Args:
        model: a copy that may be changed, in eval mode.
        layer: the convolution's name. norms: names of the normalisations that follow it.
        pixels: the batch, float (N, C, H, W).

    Attributes:
        activations: the convolution's output for the batch, float (N, channels, ...).

    Raises:
        ModelError: the convolution runs more than once, or zeros wouldn't stay zero.
    """

    def __init__(self, model: nn.Module, layer: str, norms: Iterable[str], pixels: Tensor) -> None:
        self._model, self._layer, self._pixels = model, layer, pixels
        self._norms = [model.get_submodule(name) for name in norms]
        self._graph: fx.GraphModule | None = None
        self.activations: Tensor
        try:
            leaf = model.get_submodule(layer)
            graph = fx.GraphModule(model, _Tracer([leaf, *self._norms]).trace(model))
            same = torch.allclose(graph(pixels[:2].clone()), model(pixels[:2].clone()), rtol=1e-4, atol=1e-5)
        except Exception:
            same = False
        if same:
            self._graph = graph
            self._cut()
        else:
            self.activations = self._hooked()

    def prune(self, channels: list[int]) -> None:
        """Set channels to zero, in the activations and in the normalisations that follow."""
        self.activations[:, channels] = 0
        for norm in self._norms if channels else ():
            require_prunable(norm)
            for parameter in norm.parameters(recurse=False):
                parameter[channels] = 0

    def logits(self) -> Tensor:
        """The model's logits for the batch, (N, classes)."""
        logits: Tensor
        if self._graph is None:
            hook = self._model.get_submodule(self._layer).register_forward_hook(
                lambda _module, _inputs, _output: self.activations.clone()
            )
            try:
                logits = self._model(self._pixels.clone())
            finally:
                hook.remove()
            return logits
        start = {node: _own(value) for node, value in self._kept.items()}
        start[self._convolution] = self.activations.clone()
        logits = fx.Interpreter(self._graph).run(self._pixels.clone(), initial_env=start)
        return logits

    def _cut(self) -> None:
        """Run up to the convolution, and keep the values that the rest of the model needs."""
        assert self._graph is not None
        nodes = list(self._graph.graph.nodes)
        places = [index for index, node in enumerate(nodes) if node.target == self._layer]
        if len(places) != 1:
            raise self._runs(len(places))
        (cut,) = places
        interpreter = fx.Interpreter(self._graph, garbage_collect_values=False)
        interpreter.args_iter = iter([self._pixels.clone()])
        for node in nodes[: cut + 1]:
            interpreter.env[node] = interpreter.run_node(node)
        later = {used for node in nodes[cut + 1 :] for used in node.all_input_nodes}
        self._kept: dict[fx.Node, Any] = {
            node: interpreter.env[node] if node in later else None for node in nodes[:cut]
        }
        self._convolution = nodes[cut]
        self.activations = interpreter.env[self._convolution]

    def _hooked(self) -> Tensor:
        taken: list[Tensor] = []
        hook = self._model.get_submodule(self._layer).register_forward_hook(
            lambda _module, _inputs, output: taken.append(output.clone())
        )
        try:
            self._model(self._pixels.clone())
        finally:
            hook.remove()
        if len(taken) != 1:
            raise self._runs(len(taken))
        return taken[0]

    def _runs(self, times: int) -> ModelError:
        return ModelError(
            f"{self._layer} runs {times} times in one pass, so its channels can't be pruned one by one; name another "
            "layer"
        )


class _Tracer(fx.Tracer):
    """Keeps these modules whole, even subclasses of torch's own."""

    def __init__(self, leaves: list[nn.Module]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return any(m is leaf for leaf in self._leaves) or super().is_leaf_module(m, module_qualified_name)


def _own(value: Any) -> Any:
    """A copy, since later modules may work in place."""
    return value.clone() if isinstance(value, Tensor) else value
