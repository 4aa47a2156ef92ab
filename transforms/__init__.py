"""How it is computed: rules as plain functions, and the PTransforms that wire them."""
