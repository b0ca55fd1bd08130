"""From a GGUF file to bfloat16 safetensors, once."""

import ctypes
import gc
import json
import shutil
import threading
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from kit.serving import weights
from kit.serving.weights import Model

# One thread at a time: two would leave each other's reader in place.
READING = threading.Lock()


@contextmanager
def _read_once():
    """Keep what transformers reads of a GGUF.

    It opens the file four times for one model, and a vocabulary takes 10 to 25 s each time.
    """
    import gguf

    with READING:
        reader = gguf.GGUFReader
        gguf.GGUFReader = lru_cache(reader)
        try:
            yield
        finally:
            gguf.GGUFReader = reader


def _save(model: Model, folder: Path) -> None:
    """Write the weights of a GGUF and its tokenizer as transformers does."""
    import torch
    from tokenizers.decoders import ByteLevel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    source = {"pretrained_model_name_or_path": str(model.gguf.parent), "gguf_file": model.file}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.eos_token = model.end
    tokenizer.pad_token = model.pad
    tokenizer.backend_tokenizer.decoder = ByteLevel()
    # Cleaning up would eat spaces in code.
    tokenizer.clean_up_tokenization_spaces = False

    # The weights are dense from here on, but save_pretrained would still refuse.
    net = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    net.hf_quantizer = None
    net.is_quantized = False
    config = net.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config

    # The publishers tie input and output embeddings. A GGUF may hold them twice, the output one
    # quantised finer.
    if not config.tie_word_embeddings:
        net.get_input_embeddings().weight = net.get_output_embeddings().weight
        config.tie_word_embeddings = True

    # Nothing is said about sampling: a run says that itself.
    ends = tokenizer.convert_tokens_to_ids([model.end, "<|endoftext|>"])
    config.eos_token_id = ends[0]
    config.pad_token_id = tokenizer.pad_token_id
    net.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    tokenizer.model_max_length = config.max_position_embeddings
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _convert(model: Model, source: str) -> None:
    """GGUF to bfloat16 safetensors, in a folder that appears when it is complete."""
    weights.say(f"{model.name}: converting to bfloat16 safetensors, once")
    coming = model.folder.with_name(f"{model.name}.coming")
    shutil.rmtree(coming, ignore_errors=True)
    coming.mkdir(parents=True)
    try:
        with _read_once():
            _save(model, coming)
        # The note says that the folder is complete, and how it was made.
        made = {"recipe": weights.RECIPE, "source": source}
        (coming / "kit.json").write_text(json.dumps(made))
        shutil.rmtree(model.folder, ignore_errors=True)
        coming.replace(model.folder)
    finally:
        shutil.rmtree(coming, ignore_errors=True)
        # The weights leave memory before anyone loads them again. glibc would keep 4 GB of them
        # for later; other C libraries have no malloc_trim.
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def converted(model: Model) -> Path:
    """The folder of a model of the table, made if it is not there."""
    if not model.made():
        need = f"{model.name} (about {5 * model.bytes / 1e9:.1f} GB)"
        with weights.named_if_full(need, "KIT_CACHE"), weights.alone(model.name):
            # Another process may have made it while this one waited.
            if not model.made():
                _convert(model, weights.fetch_gguf(model))
    return model.folder
