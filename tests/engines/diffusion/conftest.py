"""A toy tokenizer, random schemas, a model of random logits for scaffolds, and a tiny model on disk."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers, trainers

from carrara.engines.contract import Contract
from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.commit import CommitRule, confidence_threshold
from carrara.engines.diffusion.reader import looking
from carrara.engines.diffusion.refine import Schedule, refine
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import targets

WORDS = (
    *(
        '{"',
        '":',
        '",',
        '"}',
        "},",
        "[]",
        "[",
        "]}",
        "}}",
        '["',
        "null",
        "true",
        "false",
        "--",
        "::",
    ),
    *("the", "of", "and", "name", "kind", "10", "20", "00", "-0", ".5", "é", "ü", "東", "😀"),
    *(
        "\\n",
        '\\"',
        "\\\\",
        "|\n",
        "\n-",
        "\n  -",
        "\n|",
        "| ",
        " |",
        ' "',
        " {",
        " null",
        " a",
        " the",
        " -",
        " 1",
    ),
)


class ToyTokenizer:
    """Every byte is a token, some common pieces are longer ones; encoding takes the longest piece."""

    def __init__(self) -> None:
        torn = ["é".encode()[:1] + b"x", "東".encode()[1:], "a東".encode()[:3]]
        singles = [bytes([byte]) for byte in range(256)]
        pieces = dict.fromkeys([*singles, *(word.encode() for word in WORDS), *torn])
        self.vocabulary = (b"", b"", b"", *pieces)
        self.eos_ids, self.mask_id, self.slot_pad_id = frozenset({0}), 1, 2
        self._ids = {piece: number for number, piece in enumerate(self.vocabulary) if piece}
        self._longest = max(map(len, self.vocabulary))

    def encode(self, text: str) -> list[int]:
        rest, found = text.encode(), []
        while rest:
            size = next(n for n in range(self._longest, 0, -1) if rest[:n] in self._ids)
            found.append(self._ids[rest[:size]])
            rest = rest[size:]
        return found


@dataclass
class Filled:
    text: str
    value: Any
    passes: int
    clean: list[int] = field(repr=False)
    tree: Tree = field(repr=False)


@dataclass
class Filler:
    """Fills the scaffold of a contract from random logits and parses what comes out."""

    lexicon: Lexicon

    def __call__(
        self,
        contract: Contract,
        seed: int = 0,
        budget: Budget | None = None,
        rule: CommitRule | None = None,
        steps: int | None = None,
        grow: bool = False,
        spread: float = 4.0,
    ) -> Filled:
        noise = np.random.default_rng(seed)
        tree = Tree(Scaffold(compiled(contract), self.lexicon), budget or Budget(300, 64, 8))
        canvas = ScaffoldCanvas(tree, grow=grow)
        clean: list[int] = []

        def forward(tokens: list[int], view: View) -> torch.Tensor:
            clean.extend(tokens)
            size = (len(view.offsets), len(self.lexicon.tokenizer.vocabulary))
            return torch.from_numpy(noise.standard_normal(size) * spread)

        done = refine(canvas, looking(forward), rule or confidence_threshold(0.3), Schedule(steps))
        clean += canvas.take_clean()
        text = read.text(tree.root)
        return Filled(text, contract.parse(text), done.passes, clean, tree)


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    return Lexicon(ToyTokenizer())


@pytest.fixture(scope="session")
def fill(lexicon: Lexicon) -> Filler:
    return Filler(lexicon)


@pytest.fixture(scope="session")
def random_schema() -> Callable[[int], dict[str, Any]]:
    return lambda seed: SchemaMaker(random.Random(seed)).root()


TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers with random weights and a byte-level tokenizer, as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tiny")
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<mask>", "<|slot_pad|>"]
    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=controls, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(
        ['{"name": "the cat", "age": null}', "the cat sat on the mat"], trainer
    )
    inner.save(str(folder / "tokenizer.json"))
    config = TINY | {"vocab_size": inner.get_vocab_size(), "eos_token_id": 2, "bos_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"eos_token": "<|im_end|>", "chat_template": CHAT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = Llama.random(LlamaConfig.from_dict(config), seed=5, spread=0.3)
    save_file({name: t.clone() for name, t in targets(model).items()}, folder / "model.safetensors")
    return folder


class SchemaMaker:
    """Random JSON Schemas of everything that pydantic writes, and some that it does not."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.defs: dict[str, Any] = {}

    def root(self) -> dict[str, Any]:
        if self.chance.random() < 0.3:
            self._recursive()
        schema = self.value(self.chance.choice((1, 2, 3, 3, 4)))
        return {**schema, "$defs": self.defs} if self.defs else schema

    def value(self, depth: int) -> dict[str, Any]:
        plain = [
            self.string,
            self.string,
            self.number,
            self.boolean,
            self.null,
            self.enum,
            self.const,
            self.anything,
        ]
        nested = [
            self.object,
            self.object,
            self.array,
            self.tuple,
            self.mapping,
            self.union,
            self.nullable,
            self.tagged,
            self.merged,
            self.closed,
            self.patterned,
            self.open_tuple,
            self.optional,
            self.merged_lists,
            self.merged_closed,
            self.apart,
        ]
        makers = plain if depth <= 0 else [*nested, *nested, *plain]
        if self.defs and self.chance.random() < 0.15:
            return self.annotated(self.reference())
        return self.annotated(self.chance.choice(makers)(depth - 1))

    def reference(self) -> dict[str, Any]:
        ref = {"$ref": f"#/$defs/{self.chance.choice(list(self.defs))}"}
        return self.chance.choice((ref, {"allOf": [ref]}))

    def annotated(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The same, now and then with a keyword that asks nothing of a value, or with null allowed."""
        notes = (
            {"x-order": self.chance.randrange(9)},
            {"description": f"number {self.chance.randrange(9)}", "title": "T"},
            {"xml": {"name": "a"}, "example": [1]},
            {"nullable": True},
            {"nullable": False, "then": {"type": "null"}},
        )
        return schema | self.chance.choice(notes) if self.chance.random() < 0.15 else schema

    def string(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        match self.chance.randrange(6):
            case 0:
                names = (
                    "date",
                    "time",
                    "date-time",
                    "uuid",
                    "email",
                    "uri",
                    "duration",
                    "ipv4",
                    "ipv6",
                    "hostname",
                    "json-pointer",
                    "binary",
                )
                schema["format"] = self.chance.choice(names)
            case 1:
                schema["maxLength"] = self.chance.choice((0, 1, 3, 10, 5000))
            case 2:
                least = self.chance.randrange(5)
                schema |= {"minLength": least, "maxLength": least + self.chance.randrange(4)}
            case 3:
                schema["pattern"] = self.chance.choice(
                    (
                        r"^[A-Z]{2}\d{3}$",
                        r"a",
                        r"^\w+$",
                        r'^"?\\*$',
                        r"^(x|yy)+z?",
                        r"\d$",
                        "^[^\\s]{2,4}$",
                    )
                )
            case 4:
                schema |= {"pattern": r"^[a-z]*$", "minLength": 2, "maxLength": 6}
        return schema

    def number(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": self.chance.choice(("integer", "number"))}
        low = self.chance.choice((None, -3, 0, 7, -1000, 12))
        if low is not None:
            schema[self.chance.choice(("minimum", "exclusiveMinimum"))] = low
        if self.chance.random() < 0.5:
            width = self.chance.choice((2, 5, 100, 12345))
            schema[self.chance.choice(("maximum", "exclusiveMaximum"))] = (low or 0) + width
        if self.chance.random() < 0.2:
            schema["multipleOf"] = self.chance.choice((1, 2, 3.0)) if "maximum" not in schema else 1
        elif self.chance.random() < 0.2:
            schema = {"type": "number", "multipleOf": self.chance.choice((0.1, 0.01, 0.25))}
            if self.chance.random() < 0.5:
                schema |= {"minimum": -0.75, "exclusiveMaximum": 12}
        return schema

    def boolean(self, depth: int) -> dict[str, Any]:
        return {"type": "boolean"}

    def null(self, depth: int) -> dict[str, Any]:
        return {"type": "null"}

    def anything(self, depth: int) -> dict[str, Any]:
        return {}

    def enum(self, depth: int) -> dict[str, Any]:
        values = ["a", "ab", 'say "hi"', "", 1, 2.5, None, True, ["x"], {"k": 0}, "höh"]
        if self.chance.random() < 0.1:
            values += [f"option {number}" for number in range(300)]
            return {"enum": self.chance.sample(values, 200)}
        return {"enum": self.chance.sample(values, self.chance.randrange(1, 6))}

    def const(self, depth: int) -> dict[str, Any]:
        return {"const": self.chance.choice(["one", 3, False, None])}

    def nullable(self, depth: int) -> dict[str, Any]:
        if self.chance.random() < 0.3:
            return {"type": [self.chance.choice(("string", "integer", "object")), "null"]}
        return {"anyOf": [self.value(depth), {"type": "null"}]}

    def union(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self.value(depth) for _ in range(self.chance.randrange(2, 4))]}

    def merged(self, depth: int) -> dict[str, Any]:
        extra = {"properties": {"more": self.value(depth)}, "required": ["more"]}
        return {
            "allOf": [
                {**self.object(depth), "additionalProperties": True},
                {"type": "object", **extra},
            ]
        }

    def optional(self, depth: int) -> dict[str, Any]:
        """Objects of which no member has to be there."""
        schema = self.object(depth)
        return {key: value for key, value in schema.items() if key != "required"}

    def merged_lists(self, depth: int) -> dict[str, Any]:
        """Lists out of two schemas, the items of one behind named ones of the other."""
        any_item, item = {"type": "array", "items": self.value(depth)}, self.value(0)
        fixed = {"type": "array", "prefixItems": [any_item["items"], {}]}
        return {"allOf": [fixed, self.chance.choice((any_item, {"items": item}, {"minItems": 1}))]}

    def merged_closed(self, depth: int) -> dict[str, Any]:
        """Objects out of two schemas of which one is closed, and knows the members of both or not."""
        inner = self.object(depth)
        inner.pop("additionalProperties", None)
        inner["unevaluatedProperties"] = False
        other: dict[str, Any] = {"properties": {"z": self.value(0)}}
        if self.chance.random() < 0.3:
            other["patternProperties"] = {"^x-": {"type": "string"}}
        if self.chance.random() < 0.3:
            other["additionalProperties"] = self.value(0)
        return {"allOf": [inner, other]}

    def apart(self, depth: int) -> dict[str, Any]:
        """Scalars of which a value fits one at most."""
        unions = (
            [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 6}],
            [{"type": "number", "exclusiveMaximum": 0}, {"type": "integer", "minimum": 0}],
            [{"type": "string", "format": name} for name in ("date", "date-time", "uuid")],
            [{"type": "string", "maxLength": 2}, {"type": "string", "minLength": 3}],
            [{"enum": ["a", 1]}, {"const": True}, {"type": "integer", "minimum": 2}],
            [{"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}],
        )
        return {"oneOf": self.chance.choice(unions)}

    def tagged(self, depth: int) -> dict[str, Any]:
        branches = []
        for tag in ("cat", "dog", "bird")[: self.chance.randrange(2, 4)]:
            branch = self.object(depth)
            branch["properties"] = {**branch["properties"], "tag": {"const": tag}}
            branch["required"] = [*branch.get("required", []), "tag"]
            branches.append(branch)
        return {"oneOf": branches, "discriminator": {"propertyName": "tag"}}

    def object(self, depth: int) -> dict[str, Any]:
        names = self.chance.sample(
            ["a", "b c", "name", 'q"q', "list", "ü"], self.chance.randrange(1, 5)
        )
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: self.value(depth) for name in names},
            "required": [name for name in names if self.chance.random() < 0.6],
        }
        if self.chance.random() < 0.4:
            schema["additionalProperties"] = False
        if self.chance.random() < 0.1:
            schema["minProperties"] = 1
        return schema

    def array(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array"}
        if self.chance.random() < 0.9:
            schema["items"] = self.value(depth)
        if self.chance.random() < 0.4:
            schema["minItems"] = self.chance.randrange(3)
        if self.chance.random() < 0.4:
            schema["maxItems"] = schema.get("minItems", 0) + self.chance.randrange(3)
        if self.chance.random() < 0.2 and schema.get("minItems", 0) < 2:
            schema["uniqueItems"] = True
        return schema

    def tuple(self, depth: int) -> dict[str, Any]:
        items = [self.value(depth) for _ in range(self.chance.randrange(1, 4))]
        return {
            "type": "array",
            "prefixItems": items,
            "minItems": len(items),
            "maxItems": len(items),
        }

    def closed(self, depth: int) -> dict[str, Any]:
        """Objects with limits on their number of members, closed in the other way."""
        schema = self.object(depth)
        schema.pop("additionalProperties", None)
        schema["unevaluatedProperties"] = False
        count = len(schema["properties"])
        schema["minProperties"] = self.chance.randrange(count + 1)
        if self.chance.random() < 0.5:
            schema["maxProperties"] = self.chance.randrange(schema["minProperties"], count + 1)
        return schema

    def patterned(self, depth: int) -> dict[str, Any]:
        pattern = self.chance.choice(("^x-[a-z]+$", "^.{1,4}$", "[0-9]"))
        schema = {"type": "object", "patternProperties": {pattern: self.value(depth)}}
        return schema | ({"additionalProperties": False} if self.chance.random() < 0.5 else {})

    def open_tuple(self, depth: int) -> dict[str, Any]:
        items = [self.value(depth) for _ in range(self.chance.randrange(1, 3))]
        rest = {"items": self.value(depth)} if self.chance.random() < 0.5 else {}
        least = {"minItems": self.chance.randrange(4)} if self.chance.random() < 0.5 else {}
        none = {"unevaluatedItems": False} if not rest and not least else {}
        return {"type": "array", "prefixItems": items, **rest, **least, **none}

    def mapping(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object", "additionalProperties": self.value(depth)}
        if self.chance.random() < 0.3:
            names = (
                {"enum": ["k", "l"]},
                {"pattern": "^[a-z_]+$"},
                {"minLength": 2, "maxLength": 5},
            )
            schema["propertyNames"] = self.chance.choice(names)
        if self.chance.random() < 0.2:
            schema["minProperties"] = 1
        return schema

    def _recursive(self) -> None:
        ref = {"$ref": "#/$defs/Tree"}
        way = self.chance.choice(
            (
                {"anyOf": [ref, {"type": "null"}]},
                {"type": "array", "items": ref},
                {"type": "object", "additionalProperties": ref},
                {"anyOf": [{"type": "string"}, {"type": "array", "items": ref}, ref]},
            )
        )
        self.defs["Tree"] = {
            "type": "object",
            "properties": {"v": self.string(0), "below": way},
            "required": ["v", "below"] if self.chance.random() < 0.7 else ["v"],
        }
        leaf = {"anyOf": [{"$ref": "#/$defs/Leaf"}, {"type": "null"}]}
        self.defs["Leaf"] = {"type": "object", "properties": {"below": leaf, "w": self.number(0)}}
        self.defs["Both"] = {"allOf": [{"$ref": "#/$defs/Leaf"}, {"$ref": "#/$defs/Grown"}]}
        self.defs["Grown"] = {
            "type": "object",
            "properties": {"below": {"anyOf": [{"$ref": "#/$defs/Grown"}, {"type": "null"}]}},
        }
        self.defs["Any"] = {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"$ref": "#/$defs/Any"}},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/Any"}},
            ]
        }
