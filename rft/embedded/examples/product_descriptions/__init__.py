"""Product descriptions: shop texts that may state the given facts only."""
