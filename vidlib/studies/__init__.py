"""What a notebook says of its runs."""
