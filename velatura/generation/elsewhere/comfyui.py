"""Pictures of ComfyUI: the graph that was run, followed from its sampler back to texts, LoRAs, base and size.

The chunk `prompt` holds it: `{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "model": ["4", 0]}}}`, where a list
is the output of another node. The chunk `workflow` is the drawing of it, and is not needed. Nodes are known by their
inputs rather than by their names, since there are thousands; what a way leads through and is not known is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from velatura.generation.carriers import Embedded
from velatura.generation.elsewhere.foreign import (
    Foreign,
    lora_mark,
    sampler,
    schedule,
    settled,
    size,
    stem,
    tree,
)
from velatura.generation.infotext import Infotext

Node = Mapping[str, Any]

TEXTS = ("text", "text_g", "t5xxl", "clip_l", "text_l", "prompt", "string", "value", "positive")
"""Inputs that hold a prompt, in the order of trust."""

VALUES = ("value", "int", "float", "string", "seed", "text")
"""Inputs of nodes that hold nothing but a value."""

PASSED = frozenset(
    [
        "CLIPTextEncode",
        "CLIPTextEncodeSDXL",
        "CLIPTextEncodeFlux",
        "FluxGuidance",
        "BasicGuider",
        "CFGGuider",
        "KSamplerSelect",
        "BasicScheduler",
        "RandomNoise",
        "EmptyLatentImage",
        "EmptySD3LatentImage",
        "EmptyFluxLatentImage",
        "CheckpointLoaderSimple",
        "CheckpointLoader",
        "UNETLoader",
        "UnetLoaderGGUF",
        "DualCLIPLoader",
        "CLIPLoader",
        "VAELoader",
        "LoraLoader",
        "LoraLoaderModelOnly",
        "KSampler",
        "KSamplerAdvanced",
        "SamplerCustomAdvanced",
        "CLIPSetLastLayer",
        "ModelSamplingFlux",
        "PrimitiveNode",
        "Reroute",
    ]
)
"""Nodes that are wholly understood."""


def read(told: Embedded) -> Foreign | None:
    """What the graph's last sampler paints."""
    graph = tree(told.chunks.get("prompt"))
    if not isinstance(graph, dict):
        return None
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict) and "inputs" in node}
    key = _last_sampler(nodes)
    return None if key is None else _Walk(nodes).read(key)


def _last_sampler(nodes: Mapping[str, Node]) -> str | None:
    """The sampler from which no other sampler's latents come."""
    found = [key for key, node in nodes.items() if _samples(node)]
    links = {key: nodes[key]["inputs"]["latent_image"] for key in found}
    before = {other for key, link in links.items() for other in _behind(nodes, link) if other != key}
    last = [key for key in found if key not in before]
    return last[-1] if last else None


def _samples(node: Node) -> bool:
    inputs = node["inputs"]
    return "latent_image" in inputs and bool({"sampler_name", "sampler"} & set(inputs))


def _behind(nodes: Mapping[str, Node], link: object) -> Iterator[str]:
    """The nodes that a link leads back to, near ones first."""
    waiting, seen = [link], set[str]()
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, list) or not one or (key := str(one[0])) in seen or key not in nodes:
            continue
        seen.add(key)
        yield key
        waiting += list(nodes[key]["inputs"].values())


class _Walk:
    """One graph, and what of it could not be told."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self.lost: list[str] = []

    def read(self, key: str) -> Foreign:
        inputs = self.nodes[key]["inputs"]
        guider = self.node(inputs.get("guider")) or {}
        positive = inputs.get("positive", guider.get("positive", guider.get("conditioning")))
        negative = inputs.get("negative", guider.get("negative"))
        model = inputs.get("model", guider.get("model"))
        steps = inputs if "steps" in inputs else self.node(inputs.get("sigmas")) or {}
        noise = self.node(inputs.get("noise")) or {}
        chosen = self.node(inputs.get("sampler")) or inputs
        latents = inputs.get("latent_image")
        denoise = self.number(steps.get("denoise", 1.0))
        if denoise is not None and denoise < 1:
            self.lost.append(f"it was painted from other latents at denoising {denoise:g}")
        settings = {
            "Steps": self.number(steps.get("steps")),
            "Sampler": sampler(self.value(chosen.get("sampler_name")), self.lost),
            "Schedule type": schedule(self.value(steps.get("scheduler")), self.lost),
            "CFG scale": self.number(inputs.get("cfg", guider.get("cfg"))),
            "Distilled CFG Scale": self.found(positive, "guidance"),
            "Seed": self.number(inputs.get("seed", inputs.get("noise_seed", noise.get("noise_seed")))),
            "Size": size(self.found(latents, "width"), self.found(latents, "height")),
            "Model": self.model(model),
            "VAE": self.vae(),
            "Clip skip": self.clip_skip(positive),
            "RNG": "CPU",
        }
        words = self.text(positive) + self.loras(model, positive)
        self.passed(key)
        infotext = Infotext(words, self.text(negative), settled(settings))
        return Foreign("ComfyUI", infotext, tuple(dict.fromkeys(self.lost)))

    def node(self, link: object) -> Mapping[str, Any] | None:
        """The inputs of the node that a link leads to."""
        found = self.nodes.get(str(link[0])) if isinstance(link, list) and link else None
        return None if found is None else found["inputs"]

    def value(self, given: object) -> object:
        """What is written into an input, or into the node that is linked to it."""
        seen = 0
        while isinstance(given, list) and seen < 20:
            inputs, seen = self.node(given) or {}, seen + 1
            given = next((inputs[name] for name in VALUES if name in inputs), None)
        return given

    def number(self, given: object) -> float | int | None:
        found = self.value(given)
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def found(self, link: object, name: str) -> float | int | None:
        """The nearest node behind a link that has such an input."""
        keys = (key for key in _behind(self.nodes, link) if name in self.nodes[key]["inputs"])
        return next((self.number(self.nodes[key]["inputs"][name]) for key in keys), None)

    def text(self, link: object) -> str:
        """The nearest text behind a link."""
        for key in _behind(self.nodes, link):
            inputs = self.nodes[key]["inputs"]
            for name in (name for name in TEXTS if name in inputs):
                found = self.value(inputs[name])
                if isinstance(found, str):
                    return found
        return ""

    def model(self, link: object) -> str | None:
        """The nearest base behind a link."""
        for key in _behind(self.nodes, link):
            inputs = self.nodes[key]["inputs"]
            for name in ("ckpt_name", "unet_name", "model_name", "base_ckpt_name"):
                if isinstance(inputs.get(name), str):
                    return stem(inputs[name])
        return None

    def vae(self) -> str | None:
        """The autoencoder that is loaded apart."""
        names = (node["inputs"].get("vae_name") for node in self.nodes.values())
        return next((stem(name) for name in names if isinstance(name, str)), None)

    def clip_skip(self, link: object) -> int | None:
        found = self.found(link, "stop_at_clip_layer")
        return None if found is None else -int(found)

    def loras(self, *links: object) -> str:
        """LoRAs on the way, the one that was loaded first in front."""
        keys = dict.fromkeys(key for link in links for key in _behind(self.nodes, link))
        marks = [mark for key in keys for mark in self.marks(self.nodes[key]["inputs"])]
        return "".join(f" {mark}" for mark in reversed(marks))

    def marks(self, inputs: Node) -> Iterator[str]:
        if isinstance(inputs.get("lora_name"), str) and inputs["lora_name"] != "None":
            strength = self.number(inputs.get("strength_model", inputs.get("strength", 1.0)))
            text = self.number(inputs["strength_clip"]) if "strength_clip" in inputs else None
            own = 0.0 if "clip" not in inputs and "strength_clip" not in inputs else text
            yield lora_mark(stem(inputs["lora_name"]), 1.0 if strength is None else float(strength), own)
        # rgthree's Power Lora Loader: {"lora_1": {"on": true, "lora": "ink.safetensors", "strength": 0.8}}
        for told in reversed([value for value in inputs.values() if isinstance(value, dict)]):
            if told.get("on") and isinstance(told.get("lora"), str):
                strength, text = float(told.get("strength", 1.0)), told.get("strengthTwo")
                yield lora_mark(stem(told["lora"]), strength, None if text is None else float(text))

    def passed(self, key: str) -> None:
        """Tell of nodes on the way that are not known."""
        for other in (key, *_behind(self.nodes, [key])):
            node = self.nodes[other]
            kind = str(node.get("class_type", ""))
            if kind not in PASSED and not any(self.marks(node["inputs"])):
                self.lost.append(f"the node {kind}")
