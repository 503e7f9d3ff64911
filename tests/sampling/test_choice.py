"""`serve=auto`: the choice between two trials."""

from rft.sampling.choice import Trial, choose

ADAPTER = Trial(load_s=0.1, tokens_per_s=1000.0)
MERGED = Trial(load_s=0.6, tokens_per_s=2000.0)


def test_much_sampling_is_for_merging_and_little_for_the_adapter() -> None:
    """Equal where 0.1 + n / 1000 = 0.6 + n / 2000: at n = 1000."""
    assert choose(ADAPTER, MERGED, tokens_per_sync=1001)[0] == "merged"
    assert choose(ADAPTER, MERGED, tokens_per_sync=999)[0] == "adapter"
    assert choose(ADAPTER, ADAPTER, tokens_per_sync=10)[0] == "adapter"


def test_the_reason_holds_the_figures() -> None:
    assert choose(ADAPTER, MERGED, tokens_per_sync=4000)[1] == (
        "a sync and the 4000 tokens after it take adapter 4.1 s (load 0.1 s, 1000 tokens/s), "
        "merged 2.6 s (load 0.6 s, 2000 tokens/s)"
    )
