"""The jobs, one module each, and what runs them."""
