"""The character-level tokenizer of the embedded model, with its chat template."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONTEXT = 320
THINK, END_THINK, END = "<think>", "</think>", "<|end|>"
SPECIAL = ["<unk>", "<|pad|>", END, "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('Roles are system, user and assistant, not ' + message['role']) -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make the character-level tokenizer: printable ASCII, newline and the two thinking marks, each one token."""
    characters = ["\n", *map(chr, range(32, 127))]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, THINK, END_THINK, *characters])}
    # The thinking marks are plain vocabulary, not added tokens: every decoder then shows them, with no space around.
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{THINK}|{END_THINK}|[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[1],
        eos_token=END,
        extra_special_tokens=SPECIAL[3:],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
