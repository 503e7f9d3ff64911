"""The memory of one rank of the learner, part by part.

The bytes of saved activations follow from the tensors that autograd keeps for one decoder layer of Transformers:
`tests/memory/test_activations.py` counts them. A pass through the model is largest at the start of its backward pass,
when all layers' activations and the first tile of the logits' gradient exist at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from rft.memory.model_shape import ModelShape

LIBRARIES_ON_GPU_BYTES = 700_000_000
"""CUDA context, kernels and workspaces of cuBLAS. An estimate: it differs between GPUs."""
LIBRARIES_ON_CPU_BYTES = 25_000_000
"""Memory that torch, Transformers and TRL take at their first use, after their import; measured."""
HEAP_BYTES = 32 * 1024 * 1024
"""Smaller tensors on a CPU come from the heap of glibc, larger ones from the kernel."""
HEAP_FACTOR = 1.65
"""Memory that activations take on the heap, relative to their bytes: freed tensors between kept ones leave gaps.
benchmarks/memory_forecast.py measured it; without the heap (MALLOC_MMAP_THRESHOLD_) there are no gaps."""
TILE_TOKENS, TILE_VOCABULARY = 4096, 32_768
"""TRL projects hidden states to logits in tiles of this many tokens and rows of the output matrix."""
TILES_ON_CPU = 8.25
"""Tiles in float32 that exist at once in the backward pass without Triton: the logits, their scaled, normalized and
exponential values, the gradient, the mask of the targets, and two intermediate results."""
WHOLE_LOGITS = 3
"""Tensors of all logits in float32 that exist at once in the backward pass without tiles: the log-probabilities, their
gradient, and that of the logits; measured."""
OPTIMIZER_BYTES = 12
"""A trained weight has a gradient and two moments of Adam, all in float32."""
MOMENTS_BYTES = 8
"""The moments, which remain after a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The completions of one forward and backward pass.

    Example:
        MicroBatch(rows=8, prompt_tokens=250, completion_tokens=512, gradient_checkpointing=False)
    """

    rows: int
    """Completions."""
    prompt_tokens: int
    """Longest prompt."""
    completion_tokens: int
    """Longest completion."""
    gradient_checkpointing: bool
    """Whether the backward pass computes the activations of each layer again."""
    whole_logits: bool = False
    """Whether the loss needs the logits of the whole vocabulary at once, as with `teacher.top_logprobs`."""

    @property
    def tokens(self) -> int:
        """Tokens, padding included."""
        return self.rows * (self.prompt_tokens + self.completion_tokens)


NF4_BYTES = 0.5 + 4 / 64
"""A weight in 4 bits, and its share of the float32 scale of a block."""
INT8_BYTES = 1
"""A weight in 8 bits; one scale for each output is negligible."""


def weight_bytes(shape: ModelShape, *, dtype: str, base: str | None) -> int:
    """Return the bytes of a frozen base model.

    Args:
        shape: Of the model.
        dtype: float32, bfloat16 or float16.
        base: `learner.base`: the quantization of the linear layers.
    """
    size = 4 if dtype == "float32" else 2
    if base is None:
        return shape.num_weights * size
    quantized = shape.num_linear_weights
    # A pass multiplies by one dequantized layer at a time.
    largest = size * shape.hidden * max(shape.intermediate, shape.attention)
    return (
        int(quantized * (NF4_BYTES if base == "nf4" else INT8_BYTES)) + (shape.num_weights - quantized) * size + largest
    )


def fixed_bytes(
    shape: ModelShape, *, lora_rank: int | None, dtype: str, on_gpu: bool, base: str | None = None
) -> dict[str, int]:
    """Return the bytes that do not depend on the micro-batch, by part.

    Args:
        shape: Of the model.
        lora_rank: Rank of the adapter; None if all weights are trained.
        dtype: Of the base model: float32, bfloat16 or float16.
        on_gpu: Whether the learner has a GPU.
        base: `learner.base`: the quantization of the base model.
    """
    is_mixed = on_gpu and dtype != "float32"
    if lora_rank is None:
        # float32; under autocast the matrices exist in 16 bits as well, from the forward to the backward pass.
        parts = {"weights": shape.num_weights * (6 if is_mixed else 4)}
        num_trained = shape.num_weights
    else:
        num_trained = lora_rank * shape.adapter_width
        parts = {
            "weights": weight_bytes(shape, dtype=dtype, base=base),
            "adapter": num_trained * (6 if is_mixed else 4),
        }
    libraries = LIBRARIES_ON_GPU_BYTES if on_gpu else LIBRARIES_ON_CPU_BYTES
    return parts | {"optimizer": num_trained * OPTIMIZER_BYTES, "libraries": libraries}


def resting_bytes(shape: ModelShape, *, lora_rank: int | None, dtype: str, base: str | None = None) -> int:
    """Return the bytes that a learner on a GPU keeps between two steps: no activations, gradients or 16-bit copies.

    Arguments like `fixed_bytes`.
    """
    trained = shape.num_weights if lora_rank is None else lora_rank * shape.adapter_width
    frozen = 0 if lora_rank is None else weight_bytes(shape, dtype=dtype, base=base)
    return frozen + trained * (4 + MOMENTS_BYTES) + LIBRARIES_ON_GPU_BYTES


def pass_bytes(
    shape: ModelShape, batch: MicroBatch, *, lora_rank: int | None, dtype: str, on_gpu: bool
) -> dict[str, int]:
    """Return the bytes of a forward and backward pass, by part, or of the score of the canaries if that needs more.

    Arguments like `fixed_bytes`.
    """
    is_mixed = on_gpu and dtype != "float32"
    per_layer = saved_bytes_per_layer(
        shape,
        sequence_tokens=batch.prompt_tokens + batch.completion_tokens,
        lora_rank=lora_rank,
        is_mixed=is_mixed,
    )
    if batch.gradient_checkpointing:
        kept = shape.num_layers * shape.hidden * (4 if lora_rank is None or not is_mixed else 2)
        per_token = kept + 2 * per_layer
    else:
        # The backward pass of a layer needs about as much as the layer has saved.
        per_token = (shape.num_layers + 1) * per_layer
    activations = batch.tokens * per_token
    if not on_gpu and batch.tokens * shape.intermediate * 4 < HEAP_BYTES:
        activations = int(HEAP_FACTOR * activations)
    logits = _logits_bytes(shape, batch, lora_rank=lora_rank, on_gpu=on_gpu)
    if dtype != "float32":
        if lora_rank is not None:  # the loss converts the output matrix to float32 tile by tile
            logits += 4 * min(shape.vocabulary, TILE_VOCABULARY) * shape.hidden
        # Canaries are scored without activations, but with the whole output matrix in float32; if it is trained, it is
        # rounded to 16 bits before.
        matrix = shape.vocabulary * shape.hidden * (6 if lora_rank is None else 4)
        logits = max(logits, matrix - activations)
    return {"activations": activations, "logits": logits}


def saved_bytes_per_layer(shape: ModelShape, *, sequence_tokens: int, lora_rank: int | None, is_mixed: bool) -> int:
    """Return the bytes that autograd saves for one token in one decoder layer.

    Args:
        shape: Of the model.
        sequence_tokens: Length of the sequences; each token has a row of the attention's mask.
        lora_rank: Rank of the adapters on all linear layers; None if all weights are trained.
        is_mixed: Whether the layer computes in 16 bits under autocast, instead of in float32.
    """
    hidden, attention, size = shape.hidden, shape.attention, 2 if is_mixed else 4
    # The activation's input and output, the gate's product with the other branch, and that branch.
    feed_forward = shape.intermediate * (4 if shape.is_gated else 2)
    # Two inputs of norms in float32, and queries, keys, values and output of the attention. Keys and values are
    # repeated for all heads, because attention with a padding mask takes no groups of heads.
    saved = 8 * hidden + size * (4 * attention + feed_forward + sequence_tokens)
    if not is_mixed:
        # Linear layers with the same input share its tensor; a trained norm saves its input as well.
        saved += 8 * hidden if lora_rank is not None else 16 * hidden
    else:
        # Autocast gives each linear layer a copy of its own.
        saved += 2 * 5 * hidden
        # PEFT casts the attention's output to float32, so autocast copies it, too; trained norms save their results.
        saved += 2 * attention if lora_rank is not None else 8 * hidden
    if lora_rank is not None:
        saved += size * lora_rank * shape.num_matrices // max(1, shape.num_layers)
    return saved


def _logits_bytes(shape: ModelShape, batch: MicroBatch, *, lora_rank: int | None, on_gpu: bool) -> int:
    if batch.whole_logits:
        matrix = 4 * shape.vocabulary * shape.hidden if lora_rank is None else 0
        return WHOLE_LOGITS * 4 * batch.rows * batch.completion_tokens * shape.vocabulary + matrix
    # Only Triton's kernels, hence only GPUs, skip prompts and padding.
    scored = batch.rows * (batch.completion_tokens if on_gpu else batch.prompt_tokens + batch.completion_tokens)
    tile = min(scored, TILE_TOKENS) * min(shape.vocabulary, TILE_VOCABULARY)
    tiles = tile * 4 if on_gpu else int(tile * 4 * TILES_ON_CPU)
    # In float32: hidden states and their gradient, and the gradient of the output matrix if it is trained.
    states = scored * shape.hidden * 8
    return tiles + states + (4 * shape.vocabulary * shape.hidden if lora_rank is None else 0)
