"""Python snippets for the model card. They use a result and run unchanged in any folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rft.config.samplers.vllm import LORA_RANKS

QUESTION = "What is 17 + 25?"
"""The prompt of the snippets."""

_PEFT = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = {folder}  # or its hub id after an upload
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
{generate}"""

_TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder}  # or its hub id after an upload
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
{generate}"""

_CHAT = """\
prompt = tokenizer.apply_chat_template(
    {messages},
    add_generation_prompt=True,
    return_dict=True,
    return_tensors="pt",{more}
)"""
_RAW = """\
prompt = tokenizer({question}, return_tensors="pt", return_token_type_ids=False)"""
_GENERATE = """\
{prompt}
output = model.generate(**prompt, max_new_tokens={max_tokens}{more})
print(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))"""

_VLLM = """\
from vllm import LLM, SamplingParams{imports}

if __name__ == "__main__":  # the processes that vLLM starts import this file
    folder = {folder}{engine}
    outputs = llm.{method}(
        {prompt},
        SamplingParams(temperature={temperature:g}, max_tokens={max_tokens}{stop}),{more}
    )
    print(outputs[0].outputs[0].text)"""

_WITH_ADAPTER = """
    llm = LLM({base}, enable_lora=True, max_lora_rank={rank}, kv_cache_memory_bytes=2 << 30)"""
_ALONE = """
    llm = LLM(folder, kv_cache_memory_bytes=2 << 30)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippets:
    """Shared settings of the snippets of one result.

    Example:
        Snippets(folder=Path("/runs/1/adapter"), max_tokens=48, temperature=1.0, system="Be brief.")
    """

    folder: Path
    """Absolute folder of the adapter or model."""
    max_tokens: int
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Sampling temperature of training."""
    system: str | None = None
    """System message of the training prompts."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Additional variables of the chat template, such as `enable_thinking`."""
    is_raw: bool = False
    """Whether prompts are sent unchanged, without a chat template."""
    stop: Sequence[str] = ()
    """Strings that end a completion."""

    def peft(self) -> str:
        """Return code that uses the adapter with PEFT."""
        return _PEFT.format(folder=self._folder, generate=self._generate())

    def transformers(self) -> str:
        """Return code that uses the whole model with Transformers."""
        return _TRANSFORMERS.format(folder=self._folder, generate=self._generate())

    def vllm(self) -> str:
        """Return code that uses the whole model with vLLM."""
        return self._vllm(engine=_ALONE, imports="", more=[])

    def vllm_with_adapter(self, base_model: str, rank: int) -> str:
        """Return code that uses the adapter with vLLM.

        Args:
            base_model: Hub id or absolute folder of the base model.
            rank: Rank of the adapter.
        """
        template = [] if self.is_raw else ['chat_template=open(folder + "/chat_template.jinja").read()']
        allowed = next(one for one in LORA_RANKS if one >= rank)
        return self._vllm(
            engine=_WITH_ADAPTER.format(base=json.dumps(base_model), rank=allowed),
            imports="\nfrom vllm.lora.request import LoRARequest",
            more=['lora_request=LoRARequest("adapter", 1, folder)', *template],
        )

    @property
    def _folder(self) -> str:
        return json.dumps(str(self.folder))

    @property
    def _messages(self) -> str:
        messages = [{"role": "user", "content": QUESTION}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return json.dumps(messages, ensure_ascii=False)

    def _generate(self) -> str:
        options = "".join(f"\n    {name}={value!r}," for name, value in self.template_options.items())
        chat = _CHAT.format(messages=self._messages, more=options)
        return _GENERATE.format(
            prompt=_RAW.format(question=json.dumps(QUESTION)) if self.is_raw else chat,
            max_tokens=self.max_tokens,
            more=f", stop_strings={list(self.stop)!r}, tokenizer=tokenizer" if self.stop else "",
        )

    def _vllm(self, *, engine: str, imports: str, more: list[str]) -> str:
        if self.template_options:
            more = [*more, f"chat_template_kwargs={dict(self.template_options)!r}"]
        return _VLLM.format(
            folder=self._folder,
            engine=engine,
            imports=imports,
            method="generate" if self.is_raw else "chat",
            prompt=json.dumps([QUESTION]) if self.is_raw else self._messages,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            stop=f", stop={list(self.stop)!r}" if self.stop else "",
            more="".join(f"\n        {one}," for one in more),
        )


def serve_model(folder: Path) -> str:
    """Return the command that serves a whole model with vLLM."""
    return shlex.join(["vllm", "serve", str(folder)])


def serve_adapter(base_model: str, folder: Path, config: Mapping[str, Any], *, rank: int) -> str:
    """Return the command that serves an adapter beside its base model with vLLM; empty if vLLM serves no such adapter.

    Args:
        base_model: Hub id or folder of the base model.
        folder: Folder of the adapter.
        config: Its adapter_config.json.
        rank: Its highest rank.
    """
    allowed = next((one for one in LORA_RANKS if one >= rank), None)
    if (
        allowed is None
        or config.get("use_dora")
        or config.get("modules_to_save")
        or config.get("bias", "none") != "none"
    ):
        return ""
    template = folder / "chat_template.jinja"
    return shlex.join(
        [
            *("vllm", "serve", base_model, "--enable-lora", "--max-lora-rank", str(allowed)),
            *("--lora-modules", f"tuned={folder}"),
            *(("--chat-template", str(template)) if template.is_file() else ()),
        ]
    )
