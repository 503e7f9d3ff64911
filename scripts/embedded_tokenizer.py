"""The character-level tokenizer of the embedded models, with the chat template of the smaller one."""

from collections.abc import Sequence

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


def make_tokenizer(
    special: Sequence[str] = (), marks: Sequence[str] = (), chat_template: str = CHAT_TEMPLATE
) -> PreTrainedTokenizerFast:
    """Make the tokenizer: printable ASCII, newline and the two thinking marks, each one token.

    Args:
        special: Further special tokens, which end the vocabulary.
        marks: Further ordinary tokens, which end the vocabulary.
        chat_template: The chat template.
    """
    characters = ["\n", *map(chr, range(32, 127))]
    tokens = [*SPECIAL, THINK, END_THINK, *characters, *special, *marks]
    # The marks are plain vocabulary, not added tokens: every decoder then shows them, with no space around.
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=SPECIAL[0]))
    any_mark = "|".join((THINK, END_THINK, *marks))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{any_mark}|[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([*SPECIAL, *special])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[1],
        eos_token=END,
        extra_special_tokens=[*SPECIAL[3:], *special],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
        chat_template=chat_template,
    )
