"""Running a model from a convolution on, again and again, on one batch whose lower layers ran once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from fedmend.errors import ModelError


class Tail:
    """The part of a model after a convolution.

    torch.fx cuts the model there. A model that it can't trace runs whole every time, with the convolution's output
    replaced: slower, with the same answers.

    Args:
        model: a copy that may be changed, in eval mode.
        layer: the convolution's name. norms: names of the normalisations that follow it.
    """

    def __init__(self, model: nn.Module, layer: str, norms: Iterable[str]) -> None:
        self._model, self._layer = model, layer
        self._norms = [model.get_submodule(name) for name in norms]
        self._kept: dict[fx.Node, Any] = {}
        self._pixels = torch.empty(0)
        try:
            self._graph: fx.GraphModule | None = fx.symbolic_trace(model)
        except Exception:
            self._graph = None

    def activations(self, pixels: Tensor) -> Tensor:
        """The convolution's output for a batch, float (N, C, ...); remembers what the rest of the model needs."""
        self._pixels = pixels
        if self._graph is None:
            taken: list[Tensor] = []
            hook = self._model.get_submodule(self._layer).register_forward_hook(
                lambda _module, _inputs, output: taken.append(output.clone())
            )
            try:
                self._model(pixels)
            finally:
                hook.remove()
            return taken[-1]
        nodes = list(self._graph.graph.nodes)
        self._cut = max(index for index, node in enumerate(nodes) if node.target == self._layer)
        interpreter = fx.Interpreter(self._graph, garbage_collect_values=False)
        interpreter.args_iter = iter([pixels])
        for node in nodes[: self._cut + 1]:
            interpreter.env[node] = interpreter.run_node(node)
        later = {user for node in nodes[self._cut + 1 :] for user in node.all_input_nodes}
        self._kept = {
            node: interpreter.env[node] if node in later else None for node in nodes[: self._cut + 1]
        }
        output: Tensor = self._kept[nodes[self._cut]]
        return output

    def prune(self, channels: list[int], activations: Tensor) -> None:
        """Set channels of the convolution's output and of its normalisations to zero, in place."""
        activations[:, channels] = 0
        for norm in self._norms:
            parameters = list(norm.parameters(recurse=False))
            if not parameters:
                raise ModelError(
                    f"can't prune before {type(norm).__name__} without affine parameters: a zero wouldn't stay one"
                )
            for parameter in parameters:
                parameter[channels] = 0

    def logits(self, activations: Tensor) -> Tensor:
        """The model's answers to the batch, (N, classes), with these activations in the convolution's place."""
        answer: Tensor
        if self._graph is None:
            hook = self._model.get_submodule(self._layer).register_forward_hook(
                lambda _module, _inputs, _output: activations.clone()
            )
            try:
                answer = self._model(self._pixels)
            finally:
                hook.remove()
            return answer
        nodes = list(self._graph.graph.nodes)
        start = {
            node: value.clone() if isinstance(value, Tensor) else value for node, value in self._kept.items()
        }
        start[nodes[self._cut]] = activations.clone()
        answer = fx.Interpreter(self._graph).run(self._pixels, initial_env=start)
        return answer
