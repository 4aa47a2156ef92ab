"""The certificate library: pure functions, one module for each idea (spec: collection-certificate-generator)."""
