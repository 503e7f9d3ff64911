"""The tokenizer of the embedded model that knows tools: three more tokens, and a chat template with tools."""

from embedded_tokenizer import make_tokenizer
from transformers import PreTrainedTokenizerFast

USER, ASSISTANT, TOOL = "<|user|>", "<|assistant|>", "<|tool|>"
CALL, END_CALL = "<call>", "</call>"
# Tools are announced by their names alone. A call whose only argument is a text is written as name(text).
CHAT_TEMPLATE = """\
{%- for tool in tools or [] -%}
    {{- '<|tool|>' + (tool.function or tool).name + '<|end|>' -}}
{%- endfor -%}
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
        {{- raise_exception('Roles are system, user, assistant and tool, not ' + message['role']) -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>' + (message['content'] or '') -}}
    {%- for call in message['tool_calls'] or [] -%}
        {%- set called = call.function or call -%}
        {%- set given = called.arguments -%}
        {%- set values = given.values() | list if given is mapping else [] -%}
        {{- '<call>' -}}
        {%- if values | length == 1 and values[0] is string -%}
            {{- called.name + '(' + values[0] + ')' -}}
        {%- else -%}
            {{- {'name': called.name, 'arguments': given} | tojson -}}
        {%- endif -%}
        {{- '</call>' -}}
    {%- endfor -%}
    {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def make_agent_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer; tokens of both models have the same ids."""
    return make_tokenizer(special=[TOOL], marks=[CALL, END_CALL], chat_template=CHAT_TEMPLATE)
